"""Proxy routes with a second tier: two gateways with one store, counted at the upstream they share."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bff.gateway.keeping import TOLD
from bff.model import Purge
from bff.store.record import Record
from tests.fakes import PATIENCE
from tests.gateway.proxies import ROUTE, Site, Upstream, beside, said, site
from tests.upstream.wire import until

pytestmark = pytest.mark.anyio

STORE = "store: sqlite:///store.sqlite\n"


async def written(shop: Site) -> None:
    """All that is to be in the second tier is there."""
    archive = shop.running.proxy._ground.keeping.archive
    assert archive is not None
    await until(lambda: not archive._all and not shop.running.proxy._ground.flights._all)


async def test_what_one_process_has_kept_another_gives(tmp_path: Path) -> None:
    one = said(b"one", cache_control="max-age=60", etag='"1"', vary="accept-language", cache_tag="k")
    upstream = Upstream([one, said(b"two", cache_control="max-age=60")])
    async with site(tmp_path, upstream, settings=STORE) as shop, beside(tmp_path, shop.fake) as other:
        await shop.ask(headers={"Accept-Language": "de"})
        await written(shop)
        answer = await other.ask(headers={"Accept-Language": "de"})
        assert (answer.body, answer.headers["etag"]) == (b"one", '"1"')
        assert "hit" in answer.headers["cache-status"]
        assert "bff-selected" not in answer.headers
        assert (await other.ask(headers={"Accept-Language": "en"})).body == b"two"
        await written(other)
        assert await other.running.invalidation.changes.purge(Purge(kind="tag", value="k")) == 1
    assert len(upstream.asked) == 2


async def test_a_restart_keeps_what_was_kept(tmp_path: Path) -> None:
    upstream = Upstream([said(b"", "301 Moved Permanently", location="/shop/api/y", cache_control="max-age=60")])
    async with site(tmp_path, upstream, settings=STORE) as shop:
        await shop.ask()
        async with beside(tmp_path, shop.fake) as again:
            answer = await again.ask()
            assert (answer.status, answer.headers["location"]) == (301, "/shop/api/y")
    assert len(upstream.asked) == 1


async def test_two_processes_on_a_cold_entry_make_one_request(tmp_path: Path) -> None:
    upstream = Upstream([said(b"shared", cache_control="max-age=60")])
    async with site(tmp_path, upstream, settings=STORE) as shop, beside(tmp_path, shop.fake) as other:
        upstream.gate.clear()
        first = [asyncio.ensure_future(shop.ask()) for _ in range(5)]
        await until(lambda: upstream.asked)
        second = [asyncio.ensure_future(other.ask()) for _ in range(5)]
        await until(lambda: len(other.server.server.shared.cycles) == 5)
        upstream.gate.set()
        assert {(await each).body for each in [*first, *second]} == {b"shared"}
    assert len(upstream.asked) == 1


async def test_who_waits_for_another_process_asks_once_that_has_given_up(tmp_path: Path) -> None:
    upstream = Upstream([said(cache_control="no-store")])
    async with site(tmp_path, upstream, settings=STORE) as shop, beside(tmp_path, shop.fake) as other:
        upstream.gate.clear()
        first = asyncio.ensure_future(shop.ask())
        await until(lambda: upstream.asked)
        second = asyncio.ensure_future(other.ask())
        await until(lambda: other.server.server.shared.cycles)
        upstream.gate.set()
        assert (await first).status == (await second).status == 200
    assert len(upstream.asked) == 2


async def test_what_a_change_makes_doubtful_is_forgotten_in_both_tiers(tmp_path: Path) -> None:
    upstream = Upstream([said(b"old", cache_control="max-age=60"), said(b""), said(b"new", cache_control="max-age=60")])
    async with site(tmp_path, upstream, settings=STORE) as shop, beside(tmp_path, shop.fake) as other:
        await shop.ask()
        await written(shop)
        await shop.ask(method="POST")
        await written(shop)
        assert (await other.ask()).body == b"new"
        await written(other)
        assert (await shop.ask()).body == b"new", "and what came after it is there"
    assert len(upstream.asked) == 3


@pytest.mark.parametrize("names", [{}, {"location": "/shop/api/y"}, {"content_location": "/shop/api/y"}])
async def test_what_a_change_makes_doubtful_is_forgotten_in_every_memory(tmp_path: Path, names: dict[str, str]) -> None:
    old, new = said(b"old", cache_control="max-age=3600"), said(b"new", cache_control="max-age=3600")
    target = "/shop/api/y" if names else "/shop/api/x"
    upstream = Upstream([old])
    async with site(tmp_path, upstream, settings=STORE) as shop, beside(tmp_path, shop.fake) as other:
        for each in (shop, other):
            assert (await each.ask(target)).body == b"old"
            assert (await each.ask("/shop/api/z")).body == b"old"
            await written(each)
        upstream.answers = [said(b"", "303 See Other", **names) if names else said(b""), new]
        await shop.ask(method="POST")
        await until_new(other, target)
        assert (await shop.ask(target)).body == b"new"
        for each in (shop, other):
            assert (await each.ask("/shop/api/z")).body == b"old"
    assert len(upstream.asked) == 4, "each once, the change, and what it made doubtful once"


async def until_new(of: Site, target: str) -> None:
    async with asyncio.timeout(PATIENCE):
        while (await of.ask(target)).body != b"new":  # noqa: ASYNC110 - what another process has changed
            await asyncio.sleep(0.01)


async def test_what_clients_make_up_does_not_fill_what_all_share(tmp_path: Path) -> None:
    old, new = said(b"old", cache_control="max-age=3600"), said(b"new", cache_control="max-age=3600")
    upstream = Upstream([old])
    async with site(tmp_path, upstream, settings=STORE) as shop, beside(tmp_path, shop.fake) as other:
        for target in ("/shop/api/0", "/shop/api/z"):
            assert (await other.ask(target)).body == b"old"
        await written(other)
        ground = shop.running.proxy._ground
        for number in range(TOLD[0]):
            assert ground.keeping._told.take(f"http://shop.example/shop/api/{number}", ground.clock())
        upstream.answers = [said(b""), said(b""), new]
        for target in ("/shop/api/z", "/shop/api/0"):
            await shop.ask(target, method="POST")
        await written(shop)
        await until_new(other, "/shop/api/0")
        assert (await other.ask("/shop/api/z")).body == b"old", "as long as it is fresh, as in any other cache"
        assert (await shop.ask("/shop/api/z")).body == b"new", "here and in the second tier it is forgotten"
    assert len(upstream.asked) == 6


async def test_a_renewed_answer_is_renewed_for_all(tmp_path: Path) -> None:
    upstream = Upstream(
        [
            said(b"one", cache_control="max-age=0", etag='"1"'),
            said(b"", "304 Not Modified", etag='"1"', cache_control="max-age=60", content_length=""),
        ]
    )
    async with site(tmp_path, upstream, settings=STORE) as shop, beside(tmp_path, shop.fake) as other:
        await shop.ask()
        await written(shop)
        assert (await other.ask()).body == b"one"
        await written(other)
        assert (await shop.ask()).body == b"one"
    assert len(upstream.asked) == 2


async def test_what_is_in_the_store_leads_no_further_than_the_registration_allows(tmp_path: Path) -> None:
    upstream = Upstream([said(b"own", cache_control="max-age=60")])
    async with site(tmp_path, upstream, settings=STORE) as shop:
        assert shop.running.tier is not None
        key = "shop/proxy?GET http://shop.example/shop/api/x"
        evil = Record(
            key=key, fragment="shop/proxy", version="", status=301, born=2e9, body=b"",
            headers=((b"location", b"https://evil.example/"), (b"cache-control", b"max-age=60"), (b"bff-selected", b"")),
        )  # fmt: skip
        await shop.running.tier.put(evil, keep=60, began=1e12)
        assert (await shop.ask()).body == b"own"


async def test_private_answers_stay_private_in_the_store(tmp_path: Path) -> None:
    private = ROUTE.replace("methods", "forward: {principal: x-user}, methods")
    trusting = "trusted_proxies: [127.0.0.1]\nidentity: {header: {name: x-forwarded-user}}\n"
    upstream = Upstream([said(b"ada", cache_control="max-age=60"), said(b"bob", cache_control="max-age=60")])
    async with site(tmp_path, upstream, private, STORE + trusting) as shop, beside(tmp_path, shop.fake) as other:
        assert (await shop.ask(headers={"X-Forwarded-User": "ada"})).body == b"ada"
        await written(shop)
        assert (await other.ask(headers={"X-Forwarded-User": "bob"})).body == b"bob"
        assert (await other.ask(headers={"X-Forwarded-User": "ada"})).body == b"ada"
    assert len(upstream.asked) == 2


async def test_who_wants_nobody_to_be_asked_gets_what_the_second_tier_has(tmp_path: Path) -> None:
    upstream = Upstream([said(b"one", cache_control="max-age=60")])
    async with site(tmp_path, upstream, settings=STORE) as shop, beside(tmp_path, shop.fake) as other:
        await shop.ask()
        await written(shop)
        only = {"Cache-Control": "only-if-cached"}
        assert (await other.ask(headers=only)).body == b"one"
        assert (await other.ask("/shop/api/y", headers=only)).status == 504
    assert len(upstream.asked) == 1


async def test_a_route_that_is_not_to_ask_shows_what_the_second_tier_has(tmp_path: Path) -> None:
    upstream = Upstream([said(b"one", cache_control="max-age=0", etag='"1"')])
    async with site(tmp_path, upstream, settings=STORE) as shop:
        await shop.ask()
        await written(shop)
        registration = tmp_path / "fragments" / "shop" / "context.yaml"
        registration.write_text(registration.read_text().replace("to:", "policy: {state: stored}, to:"))
        async with beside(tmp_path, shop.fake) as other:
            assert (await other.ask()).body == b"one"
            assert (await other.ask("/shop/api/y")).status == 503
    assert len(upstream.asked) == 1


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("GET", {"If-None-Match": '"1"'}, 304),
        ("GET", {"If-None-Match": '"2"'}, 200),
        ("GET", {"Range": "bytes=1-1"}, 206),
        ("HEAD", {}, 200),
    ],
)
@pytest.mark.parametrize("kept", ["max-age=60", "max-age=0"])
async def test_conditions_ranges_and_head_are_answered_from_the_second_tier(
    tmp_path: Path, method: str, headers: dict[str, str], status: int, kept: str
) -> None:
    """After a restart, while the context fails: browsers ask with the tags they have."""
    upstream = Upstream([said(b"one", cache_control=kept, etag='"1"'), said(b"", "503 Down")])
    async with site(tmp_path, upstream, settings=STORE) as shop:
        await shop.ask()
        await written(shop)
        async with beside(tmp_path, shop.fake) as again:
            answer = await again.ask(method=method, headers=headers)
            assert answer.status == status
            assert "bff; hit" in answer.headers["cache-status"]
    assert (len(upstream.asked) == 1) is (kept == "max-age=60")
