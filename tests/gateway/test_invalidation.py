"""A gateway that hears of changes: what it keeps is purged, and fetched ahead where it is only stale."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable
from pathlib import Path
from random import Random

import httpx2
import pytest
from redis.asyncio import Redis

from bff.config.options import Settings
from bff.events.signature import sign
from bff.gateway.admin import MOST
from bff.gateway.invalidation import Changes
from bff.gateway.process import lead, with_token
from bff.model import Purge
from bff.page.refresh import QUEUED, Refresher
from bff.store.entry import Entry
from bff.store.memory import MemoryStore
from bff.store.purger import Purger
from tests.build import World
from tests.events.telling import CATALOG, TOPIC, captured
from tests.fakes import until
from tests.gateway.test_app import Site
from tests.redis import redis_server
from tests.store.entries import entry

pytestmark = pytest.mark.anyio

TOKEN = {"authorization": "Bearer operators-own"}
CONTEXT = f"""\
owner: team-shop
upstream: http://127.0.0.1:9
fragments:
  main: {{path: "/main/{{n}}", params: {{n: {{type: int}}}}, tags: ["main:{{n}}"], policy: {{cache: {{fresh: 1h}}}}}}
  side: {{path: /side, tags: ["course:course-v1:HarborX+NAV101+R1"], policy: {{cache: {{fresh: 1h}}}}}}
pages:
  home: {{path: "/p/{{n}}", template: pages/home.html}}
events:
  - {{type: shop.changed, tags: ["main:{{n}}"]}}
  - {{type: shop.gone, tags: ["main:{{n}}"], action: purge}}
  - {{type: {CATALOG}, topic: {TOPIC}, tags: ["course:{{catalog_info.course_key}}"], action: purge}}
"""


def made(folder: Path, **settings: str) -> Site:
    site = Site(folder, admin="{token: operators-own}", **settings)
    (site.shop / "context.yaml").write_text(CONTEXT)
    site.registry.load()
    return site


async def loaded(site: Site, client: httpx2.AsyncClient) -> None:
    """A page, so that its fragments are kept."""
    asked = asyncio.ensure_future(client.get("/p/1"))
    await site.answer("/main/1")
    await site.answer("/side")
    assert (await asked).status_code == 200


async def tell(client: httpx2.AsyncClient, type_: str) -> int:
    told = {"specversion": "1.0", "type": type_, "id": "1", "source": "/shop", "data": {"n": 1}}
    body, now = json.dumps(told).encode(), f"{time.time():.0f}"
    headers = {"content-type": "application/cloudevents+json", "bff-signature": f"t={now},v1={sign(now, body, 'hush')}"}
    return (await client.post("/_bff/events", content=body, headers=headers)).status_code


async def entries(client: httpx2.AsyncClient) -> int:
    status = (await client.get("/_bff/admin/status", headers=TOKEN)).json()
    assert status["store"]["tier"] == "memory"
    return int(status["store"]["entries"])


async def test_an_event_marks_stale_and_fetches_ahead(tmp_path: Path) -> None:
    site = made(tmp_path, events="{webhook_secret: hush}")
    async with site.running() as client:
        await loaded(site, client)
        assert await tell(client, "shop.changed") == 202
        await site.answer("/main/1", b"<p>changed</p>")  # nobody has asked for a page
        assert "<p>changed</p>" in (await client.get("/p/1")).text
        assert await entries(client) == 2
        numbers = (await client.get("/_bff/metrics")).text
        assert 'bff_events_total{result="applied",type="shop.changed"} 1.0' in numbers
        assert "bff_events_lag_seconds_count 0.0" in numbers, "it did not say when it happened"


async def test_of_very_much_that_is_stale_what_was_used_last_is_fetched_ahead() -> None:
    world, told = World(), list[Purge]()
    store = MemoryStore(1 << 30)
    numbers = [*range(2 * QUEUED + 1)]
    Random(1).shuffle(numbers)
    for number in numbers:
        store.put(entry(f"k{number}", 0, used=float(number)))

    class Ahead(Refresher):
        def soon(self, entries: Iterable[Entry]) -> None:
            self.chosen = {each.used for each in entries}

    ahead = Ahead(world.resolver, store, lambda _seconds, _then: None, lambda: world.planner)
    purger = Purger(store, None, clock=time.monotonic)
    changes = Changes(
        store=store, resolver=world.resolver, purger=purger, refresher=ahead, heard=lambda each, _: told.append(each)
    )
    purge = Purge(kind="all", soft=True)
    assert await changes.purge(purge, True) == len(numbers)
    assert ahead.chosen == {*map(float, range(QUEUED + 1, 2 * QUEUED + 1))}
    assert told == [purge]


async def test_an_event_purges(tmp_path: Path) -> None:
    site = made(tmp_path, events="{webhook_secret: hush}")
    async with site.running() as client:
        await loaded(site, client)
        assert await tell(client, "shop.gone") == 202
        assert await entries(client) == 1
        assert not site.upstreams.open


async def test_operators_purge(tmp_path: Path) -> None:
    site = made(tmp_path)
    async with site.running() as client:
        await loaded(site, client)
        purged = await client.post("/_bff/admin/purge", json={"tag": "main:1", "soft": True}, headers=TOKEN)
        assert purged.json()["entries"] == 1
        await site.answer("/main/1", b"<p>fetched ahead</p>")
        assert "<p>fetched ahead</p>" in (await client.get("/p/1")).text
        purged = await client.post("/_bff/admin/purge", json={"fragment": "shop/side"}, headers=TOKEN)
        assert (purged.json()["entries"], await entries(client)) == (1, 1)
        purged = await client.post("/_bff/admin/purge", json={"all": True}, headers=TOKEN)
        assert (purged.json()["entries"], await entries(client)) == (1, 0)
        assert await tell(client, "shop.gone") == 404, "no secret, no webhook"


async def test_operators_purge_very_many_tags_at_once(tmp_path: Path) -> None:
    site = made(tmp_path)
    async with site.running() as client:
        await loaded(site, client)
        tags = [*(f"main:{number}" for number in range(MOST, 1, -1)), "main:1"]
        purged = await client.post("/_bff/admin/purge", json={"tag": tags}, headers=TOKEN)
        assert (purged.json()["entries"], await entries(client)) == (1, 1)


async def test_a_page_is_explained_with_the_breakers_of_its_fragments(tmp_path: Path) -> None:
    site = made(tmp_path)
    async with site.running() as client:
        await loaded(site, client)
        said = (await client.get("/_bff/admin/explain?name=shop/home", headers=TOKEN)).json()["lines"]
        changed = {"target": "shop/side", "set": {"state": "stored"}, "for": "1h", "reason": "a test"}
        assert (await client.post("/_bff/admin/overrides", json=changed, headers=TOKEN)).status_code == 200
        side = (await client.get("/_bff/admin/explain?name=shop/side", headers=TOKEN)).json()["lines"]
    assert said[0].startswith("page shop/home")
    assert [line.split("  ")[:2] for line in said[-2:]] == [
        ["now shop/main", "breaker closed, 0 of 1 failed"],
        ["now shop/side", "breaker closed, 0 of 1 failed"],
    ]
    assert "budget of shop: 0 retries to 2 requests" in said[-1]
    assert any(line.split()[:2] == ["state", "stored"] and "override" in line for line in side)


async def test_a_limit_that_adapts_is_shown_while_it_does(tmp_path: Path) -> None:
    site = made(tmp_path)

    async def shown(client: httpx2.AsyncClient) -> tuple[str, bool]:
        lines = (await client.get("/_bff/admin/explain?name=shop/side", headers=TOKEN)).json()["lines"]
        numbers = (await client.get("/_bff/metrics")).text
        return lines[-1].split("  ")[-1], 'bff_upstream_limit{context="shop"} 64.0' in numbers

    async with site.running() as client:
        changed = {"target": "shop", "set": {"adaptive": "on"}, "for": "1h", "reason": "a test"}
        assert (await client.post("/_bff/admin/overrides", json=changed, headers=TOKEN)).status_code == 200
        await loaded(site, client)
        assert await shown(client) == ("limit of shop: 64, 0 under way", True)
        (context,) = (await client.get("/_bff/admin/status", headers=TOKEN)).json()["contexts"]
        assert context["limit"] == 64
        assert (await client.delete("/_bff/admin/overrides?target=shop", headers=TOKEN)).status_code == 200
        await client.post("/_bff/admin/purge", json={"all": True}, headers=TOKEN)
        await loaded(site, client)
        assert await shown(client) == ("budget of shop: 0 retries to 4 requests", False)


async def test_trust_that_is_taken_holds_from_the_next_page_on(tmp_path: Path) -> None:
    site = made(tmp_path)
    async with site.running() as client:
        asked = asyncio.ensure_future(client.get("/p/1"))
        await site.answer("/main/1", b'<p id="mine" onclick="x()">checked</p>')
        await site.answer("/side")
        assert "onclick" in (await asked).text
        changed = {"target": "shop", "set": {"trust": "sanitized"}, "for": "1h", "reason": "a test"}
        assert (await client.post("/_bff/admin/overrides", json=changed, headers=TOKEN)).status_code == 200
        main = (await client.get("/_bff/admin/explain?name=shop/main", headers=TOKEN)).json()["lines"]
        assert any(line.split()[:2] == ["trust", "sanitized"] and "override" in line for line in main)
        asked = asyncio.ensure_future(client.get("/p/1"))
        await site.answer("/main/1", b'<p id="mine" onclick="x()">sanitized</p>')
        await site.answer("/side")
        page = (await asked).text
        assert "<p>sanitized</p>" in page
        assert "onclick" not in page
        await client.delete("/_bff/admin/overrides?target=shop", headers=TOKEN)
        asked = asyncio.ensure_future(client.get("/p/1"))
        await site.answer("/main/1", b'<p onclick="x()">again</p>')
        await site.answer("/side")
        assert "onclick" in (await asked).text


async def test_trust_that_is_taken_holds_though_a_fetch_is_under_way(tmp_path: Path) -> None:
    site = made(tmp_path)
    async with site.running() as client:
        before = asyncio.ensure_future(client.get("/p/1"))
        await until(lambda: len(site.upstreams.open) == 2, "the fetches of a page begun before")
        main, side = site.upstreams.open
        changed = {"target": "shop", "set": {"trust": "sanitized"}, "for": "1h", "reason": "a test"}
        assert (await client.post("/_bff/admin/overrides", json=changed, headers=TOKEN)).status_code == 200
        after = asyncio.ensure_future(client.get("/p/1"))
        await until(lambda: len(site.upstreams.open) == 4, "its own fetches")
        main.reply(b'<p onclick="x()">main</p>')
        side.reply(b'<p onclick="x()">side</p>')
        assert (await before).text.count("onclick") == 2, "as it was when it was begun"
        await site.answer("/main/1", b'<p onclick="x()">main</p>')
        await site.answer("/side", b'<p onclick="x()">side</p>')
        page = (await after).text
        assert "<p>main</p>" in page
        assert "<p>side</p>" in page
        assert "onclick" not in page
        assert "onclick" not in (await client.get("/p/1")).text, "what is kept was read under the trust of now"


async def test_the_bus_is_read_and_registrations_may_change_meanwhile(tmp_path: Path) -> None:
    async with redis_server(tmp_path) as server, Redis.from_url(server.url) as redis:
        (tmp_path / "site").mkdir()
        site = made(tmp_path / "site", events=f"{{bus: '{server.url}', prefix: dev}}")
        async with site.running() as client:
            listener = site.gateway.live.invalidation.listener
            assert listener is not None
            await until(lambda: listener.connected, "the bus")
            await loaded(site, client)
            stream, fields = captured(0)
            await redis.xadd(stream, fields)
            await until(lambda: site.gateway.live.store.entries == 1, "the purge")
            status = (await client.get("/_bff/admin/status", headers=TOKEN)).json()
            assert status["events"]["bus"]["connected"] is True
            (site.shop / "context.yaml").write_text(CONTEXT.replace(TOPIC, "another"))
            site.gateway.reload()
            await until(lambda: "another" in listener.positions, "the other topic")


async def test_with_a_port_for_operators_the_public_one_has_nothing_of_theirs(tmp_path: Path) -> None:
    site = Site(tmp_path, admin="{token: operators-own, listen: '127.0.0.1:9000'}")
    paths = ("/_bff/livez", "/_bff/readyz", "/_bff/metrics", "/_bff/admin/status")
    async with site.running() as client:
        assert [(await client.get(path, headers=TOKEN)).status_code for path in paths] == [404] * 4
        transport = httpx2.ASGITransport(site.gateway.operations)
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:9000") as operators:
            assert [(await operators.get(path, headers=TOKEN)).status_code for path in paths] == [200] * 4
            assert (await operators.get("/p/1")).status_code == 404


def test_developers_are_given_a_token(capsys: pytest.CaptureFixture[str]) -> None:
    settings = with_token(Settings())
    assert len(settings.admin.token) == 24
    assert settings.admin.token in capsys.readouterr().err
    for own in ({"token": "x"}, {"tokens": {"a": {"token": "long-enough", "scope": "*"}}}):
        given = Settings.model_validate({"admin": own})
        assert with_token(given) == given
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("listen", "url", "told"),
    [
        ("", "http://127.0.0.1:8000", "dashboard: http://127.0.0.1:8000/_bff/admin/#hush\n"),
        ("127.0.0.1:9000", "http://127.0.0.1:8000", "dashboard: http://127.0.0.1:9000/_bff/admin/#hush\n"),
        ("127.0.0.1:9000", "unix:/run/bff", "dashboard: http://127.0.0.1:9000/_bff/admin/#hush\n"),
        ("", "unix:/run/bff", ""),
    ],
)
def test_developers_are_led_to_the_dashboard(
    listen: str, url: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lead(Settings.model_validate({"admin": {"token": "hush", "listen": listen}}), url)
    assert capsys.readouterr().err == told
