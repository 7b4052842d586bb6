"""Pages for programs over real processes: what an app is told, in which order, by whom it may be read, and what it costs."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import time
import warnings
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey

from bff.paths import static_folder
from tests.apps import App, Problem
from tests.e2e.browsers import View, seen
from tests.e2e.gateway import Process, Serve, Site
from tests.e2e.stage import Stage
from tests.fakes import FakeContext

pytestmark = pytest.mark.anyio

CLOSED = {"cache": {"mode": "off"}}
FRAGMENTS = {
    "first": {"path": "/first", "policy": CLOSED},
    "price": {"path": "/price", "source": "json", "policy": CLOSED},
    "list": {
        "path": "/list",
        "source": "json",
        "query": {"page": "{page}"},
        "params": {"page": {"type": "int", "default": 1}},
        "paginate": "drf",
        "policy": CLOSED,
    },
    "later": {"path": "/later", "policy": CLOSED},
    "export": {"path": "/export", "starts_task": True},
}
SLOTS = (
    '<bff-fragment name="shop/first" as="hero"></bff-fragment><bff-fragment name="shop/price" load="client"></bff-fragment>'
    '<bff-fragment name="shop/list" load="client"></bff-fragment><bff-fragment name="shop/later"></bff-fragment>'
    '<bff-fragment name="shop/export" load="click">Export</bff-fragment>'
)


def token(key: ECKey, principal: str) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return jwt.encode(
            {"alg": "ES256"}, {"sub": principal, "exp": int(time.time()) + 600}, key, algorithms=["ES256"]
        )


@pytest.fixture
def key() -> ECKey:
    return ECKey.generate_key("P-256")


@pytest.fixture
async def shop(site: Site, context: FakeContext, serve: Serve, key: ECKey, tmp_path: Path) -> Process:
    (tmp_path / "keys.json").write_text(json.dumps({"keys": [key.as_dict(private=False)]}))
    identity = {"jwt": {"keys": str(tmp_path / "keys.json"), "claim": "sub", "issuer": "", "audience": ""}}
    site.settings({"identity": identity, "cors": {"origins": ["http://app.example"]}, "secret": "s" * 32})
    context.route("/first", "<p>first</p>")
    context.route("/price", '{"amount": 19.90}', type="application/json")
    context.route("/later", "<p>later</p>")
    context.route("/list", lambda seen: listed(context, seen.query), type="application/json")
    context.route("/export", "{}", status=202, type="application/json", headers={"Location": "/jobs/1"})
    context.route("/jobs/1", '{"state": "In Progress", "progress": 0.5}', type="application/json")
    site.page(SLOTS, FRAGMENTS, upstream=context.origin)
    return await serve()


def listed(context: FakeContext, query: str) -> str:
    following = None if "page=2" in query else f"{context.origin}/list?page=2"
    return json.dumps({"results": [query], "next": following, "previous": None})


# --- in Python --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("accept", ["application/x-ndjson", "application/json"])
async def test_an_app_gets_every_slot_and_acts_on_what_it_is_told(
    shop: Process, context: FakeContext, key: ECKey, accept: str
) -> None:
    app = App(origin=shop.origin, token=token(key, "ada"), accept=accept)
    told = [slot async for slot in app.page("/page")]
    assert app.plan["page"] == "shop/page"
    assert app.plan["principal"] is True
    last = {slot["as"]: slot for slot in told}
    assert {name: slot["outcome"] for name, slot in last.items()} == {
        "hero": "fresh",
        "price": "fresh",
        "list": "fresh",
        "later": "fresh",
        "export": "pending",
    }
    assert last["price"]["data"] == {"amount": 19.9}
    assert last["hero"]["html"] == "<p>first</p>"
    assert (last["export"]["load"], last["export"]["reason"]) == ("click", "load")
    assert context.routes["/export"].requests == [], "a page that is read begins no work"
    more = await app.load(last["list"] | {"src": last["list"]["next"]})
    assert more["data"]["results"] == ["page=2"]
    assert "next" not in more
    begun = await app.load(last["export"])
    assert (begun["outcome"], begun["reason"]) == ("pending", "task")
    said = await app.task(begun["task"])
    assert (said["state"], said["progress"], said["result"]) == ("running", 0.5, None)
    with pytest.raises(Problem, match="task"):
        await App(origin=shop.origin).task(begun["task"])


async def test_keys_survive_a_new_slot(site: Site, context: FakeContext, serve: Serve) -> None:
    context.route("/first", "<p>first</p>")
    context.route("/later", "<p>later</p>")
    named = '<bff-fragment name="shop/first" as="hero"></bff-fragment>'
    site.page(named, {name: FRAGMENTS[name] for name in ("first", "later")}, upstream=context.origin)
    gateway = await serve()
    async with await gateway.get("/page", accept="application/json") as answer:
        before = json.loads(await answer.rest())["slots"]
    more = '<bff-fragment name="shop/later" as="new"></bff-fragment><bff-fragment name="shop/first"></bff-fragment>'
    site.page(more + named, {name: FRAGMENTS[name] for name in ("first", "later")}, upstream=context.origin)

    async def slots() -> Any:
        async with await gateway.get("/page", accept="application/json") as answer:
            return json.loads(await answer.rest())["slots"]

    async with asyncio.timeout(10):
        while len(after := await slots()) == 1:  # noqa: ASYNC110 - the folder is watched, which no event tells
            await asyncio.sleep(0.05)
    assert after.keys() == {"new", "first", "hero"}
    assert after["hero"]["html"] == before["hero"]["html"]


async def test_errors_are_problems_that_other_origins_can_read(shop: Process) -> None:
    for accept in ("application/json", "application/x-ndjson"):
        async with await shop.get("/nowhere", accept=accept, origin="http://app.example") as answer:
            said = json.loads(await answer.rest())
        assert (answer.status, said["status"], answer.headers["content-type"]) == (404, 404, "application/problem+json")
        assert answer.headers["access-control-allow-origin"] == "http://app.example"
    ask = {"access-control-request-method": "GET", "access-control-request-headers": "authorization"}
    for path in ("/page", "/nowhere", "/_bff/fragments/shop/first"):
        headers = {"origin": "http://app.example", **ask}
        async with await shop.ask(path, method="OPTIONS", headers=headers) as answer:
            assert (answer.status, answer.headers["access-control-allow-headers"]) == (204, "authorization")
    async with await shop.get("/page", accept="application/json", origin="http://other.example") as answer:
        await answer.rest()
        assert "access-control-allow-origin" not in answer.headers


async def test_a_token_that_is_none_is_nobodys(shop: Process) -> None:
    app = App(origin=shop.origin, token="x.y.z")
    async for _ in app.page("/page"):
        pass
    assert app.plan["principal"] is False


async def test_heads_and_codings_of_the_forms(shop: Process) -> None:
    for accept in ("application/json", "application/x-ndjson"):
        async with await shop.ask("/page", method="HEAD", headers={"accept": accept}) as answer:
            assert (answer.status, answer.headers["content-type"], answer.body) == (200, accept, b"")
        async with await shop.get("/page", accept=accept, accept_encoding="gzip") as answer:
            await answer.whole()
            packed = answer.headers.get("content-encoding") == "gzip"
            said = gzip.decompress(answer.body) if packed else answer.body
        assert b"first" in said
        assert packed == (len(said) >= 1024 or "ndjson" in accept)
        assert answer.headers["cache-control"] == "no-store"
        assert "Accept" in answer.headers["vary"]
    async with await shop.get("/page", accept="image/png") as answer:
        assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
        await answer.rest()


def resident(process: Process) -> int:
    """Bytes that the process holds in memory."""
    status = Path(f"/proc/{process.process.pid}/status").read_text()
    return 1024 * int(status.partition("VmRSS:")[2].split()[0])


async def test_a_reader_that_does_not_read_costs_little_and_is_let_go(
    site: Site, context: FakeContext, serve: Serve
) -> None:
    """Forty readers of a page of 12 MiB take nothing: each holds a piece, not the page, until `write` ends it."""
    size, readers = 1 << 20, 40
    names = [f"part{number}" for number in range(12)]
    for name in names:
        context.route(f"/{name}", f"<p>{'x' * size}</p>")
    fragments = {name: {"path": f"/{name}", "policy": {"max_body": "2MiB", "cache": {"fresh": "1h"}}} for name in names}
    site.settings({"limits": {"write": "3s"}})
    slots = "".join(f'<bff-fragment name="shop/{name}"></bff-fragment>' for name in names)
    site.page(slots, fragments, upstream=context.origin)
    gateway = await serve()
    async with await gateway.get("/page", accept="application/json") as answer:
        assert len(await answer.rest()) > 12 * size
    before = resident(gateway)
    host, port = gateway.origin.removeprefix("http://").split(":")
    held = []
    for _ in range(readers):
        reader = socket.socket()
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.connect((host, int(port)))
        reader.sendall(b"GET /page HTTP/1.1\r\nHost: a\r\nAccept: application/x-ndjson\r\n\r\n")
        held.append(reader)
    try:
        async with await gateway.get("/page", accept="application/x-ndjson") as answer:
            assert '"done":true' in await answer.rest(), "others are served meanwhile"
        assert resident(gateway) - before < readers * 6 * size, "twelve each, were they buffered"
        async with asyncio.timeout(20):
            while "bff_streams 1.0" not in await numbers(gateway):  # noqa: ASYNC110 - another process's; the one is the question itself
                await asyncio.sleep(0.1)
    finally:
        for reader in held:
            reader.close()


async def numbers(gateway: Process) -> str:
    async with await gateway.get("/_bff/metrics") as answer:
        return await answer.rest()


# --- in browsers ------------------------------------------------------------------------------------------------------


def test_the_client_fits_into_one_and_a_half_kibibytes() -> None:
    assert len(gzip.compress((static_folder() / "bff-client.js").read_bytes(), 9)) <= 1536


@pytest.fixture
async def elsewhere() -> AsyncIterator[Stage]:
    """A page of the gateway's origin is not needed: an app has its own."""
    async with Stage() as stage:
        stage.push("<!doctype html><title>App</title>")
        stage.finish()
        yield stage


COLLECT = """(async () => {{
  const {{ page, load, task }} = await import("/_bff/static/bff-client.js");
  const told = [];
  let plan;
  for await (const slot of page("{path}", {{ token: "{token}", begun: (it) => (plan = it) }})) told.push(slot);
  const last = Object.fromEntries(told.map((slot) => [slot.as, slot]));
  const more = await load({{ ...last.list, src: last.list.next }}, {{ token: "{token}" }});
  const begun = await load(last.export, {{ token: "{token}" }});
  let work;
  for await (work of task(begun.task, {{ token: "{token}" }})) break;
  return {{ plan, order: told.map((slot) => slot.as + " " + slot.outcome), last, more, begun, work }};
}})()"""


@pytest.mark.browser
async def test_the_client_in_both_browsers(shop: Process, any_browser: View, key: ECKey) -> None:
    await any_browser.goto(f"{shop.origin}/page")
    await seen(any_browser, "document.readyState == 'complete'")
    made = await any_browser.evaluate(COLLECT.format(path="/page", token=token(key, "ada")))
    assert made["plan"]["principal"] is True
    assert sorted(made["order"])[:3] == ["export pending", "hero fresh", "later fresh"]
    assert made["last"]["price"]["data"] == {"amount": 19.9}
    assert made["last"]["price"]["outcome"] == "fresh"
    assert made["more"]["data"]["results"] == ["page=2"]
    assert made["begun"]["reason"] == "task"
    assert made["begun"]["task"].startswith(f"{shop.origin}/_bff/tasks/")
    assert (made["work"]["state"], made["work"]["progress"]) == ("running", 0.5)


@pytest.mark.browser
async def test_slots_come_before_the_page_is_complete_and_a_loop_can_be_left(
    shop: Process, context: FakeContext, any_browser: View
) -> None:
    await any_browser.goto(f"{shop.origin}/page")
    await seen(any_browser, "document.readyState == 'complete'")
    late = context.route("/later", "<p>later</p>", gated=True)
    first = await any_browser.evaluate(
        """(async () => {
          const { page } = await import("/_bff/static/bff-client.js");
          for await (const slot of page("/page", { follow: false })) if (slot.as == "hero") return slot.html;
        })()"""
    )
    assert first == "<p>first</p>"
    async with asyncio.timeout(10):
        while not late.abandoned:  # noqa: ASYNC110 - who left the loop waits for nothing
            await asyncio.sleep(0.02)
    late.open()
    said = await any_browser.evaluate(
        """(async () => {
          const { page } = await import("/_bff/static/bff-client.js");
          const stop = AbortSignal.abort(new Error("enough"));
          const why = async (url, options) => { try { for await (const _ of page(url, options)); } catch (error) { return error; } };
          const gone = await why("/nowhere");
          return [(await why("/page", { signal: stop })).message, gone.message, gone.answer.status];
        })()"""
    )
    assert said == ["enough", "There is no page at this address.", 404]
