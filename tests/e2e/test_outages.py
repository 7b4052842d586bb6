"""What the store is for when something is away: the context, the process itself, or the shared store; over real processes."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from contextlib import AsyncExitStack, closing
from pathlib import Path

import pytest

from tests.e2e.crowd import ONE, PAGE, PATIENT, Crowd, doomed, eventually, gateways, numbers, page, settings, told
from tests.e2e.gateway import Process, Site
from tests.fakes import FakeContext, Seen, until
from tests.redis import redis_server

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

FRESH = {"cache-control": "max-age=3600"}
RESERVE = {"cache-control": "max-age=50, stale-if-error=3600", "age": "100"}
SQLITE = "sqlite:///bff.sqlite"


def register(site: Site, upstream: str, *, forward: dict[str, str] | None = None, **fragment: object) -> None:
    one = {"path": "/one", "policy": PATIENT} | fragment
    site.page(ONE, {"one": one}, upstream=upstream, page=PAGE, forward=forward or {})


def numbered(site: Site, upstream: str) -> None:
    """A page for every number, each with an answer of its own."""
    params = {"n": {"type": "int"}}
    one = {"path": "/one/{n}", "params": params, "policy": PATIENT, "tags": ["number:{n}"]}
    slot = '<bff-fragment name="shop/one" n="{path.n}"></bff-fragment>'
    site.page(slot, {"one": one}, upstream=upstream, page=PAGE | {"path": "/page/{n}"})


def written(site: Site) -> int:
    """Records in the file."""
    with closing(sqlite3.connect(site.root / "bff.sqlite")) as file:
        return int(file.execute("SELECT count(*) FROM records").fetchone()[0])


# --- the process ------------------------------------------------------------------------------------------------------


async def test_a_gateway_that_was_killed_serves_what_it_had_while_its_context_is_down(site: Site) -> None:
    settings(site, store=SQLITE)
    async with FakeContext() as context:
        context.route("/one", "<p>fresh still</p>", headers=FRESH)
        context.route("/two", "<p>for errors</p>", headers=RESERVE)
        fragments = {name: {"path": f"/{name}", "policy": PATIENT} for name in ("one", "two")}
        site.page(ONE + ONE.replace("one", "two"), fragments, upstream=context.origin, page=PAGE)
        async with doomed(site) as gateway:
            await page(gateway)
            await until(lambda: written(site) == 2, "both written")
    async with gateways(site) as (gateway,):
        shown = await page(gateway)
    assert "<p>fresh still</p>" in shown
    assert "<p>for errors</p>" in shown
    assert (shown.count('state="fresh"'), shown.count('state="stale"')) == (1, 1)


async def test_a_copy_of_another_registration_is_stale(site: Site, context: FakeContext) -> None:
    one = context.route("/one", "<p>as it was</p>", headers=FRESH)
    settings(site, store=SQLITE)
    register(site, context.origin)
    async with doomed(site) as gateway:
        await page(gateway)
        await until(lambda: written(site) == 1, "it is written")
    register(site, context.origin, query={"more": "1"})
    one.answer.status = 503
    async with gateways(site) as (gateway,):
        shown = await page(gateway)
        assert "<p>as it was</p>" in shown
        assert 'state="stale"' in shown
        one.answer.status, one.answer.body = 200, "<p>as it is</p>"

        async def renewed() -> bool:
            return "<p>as it is</p>" in await page(gateway)

        await eventually(renewed, "the answer to the other question")
        assert one.requests[-1].query == "more=1"


# --- the shared store -------------------------------------------------------------------------------------------------


async def test_redis_stops_dies_and_forgets_without_a_visitor_noticing(
    site: Site, context: FakeContext, tmp_path: Path
) -> None:
    for number in range(60):
        context.route(f"/one/{number}", f"<p>number {number}.</p>", headers=FRESH)
    numbered(site, context.origin)
    async with redis_server(tmp_path) as redis:
        settings(site, store=redis.url)
        async with gateways(site, 2, patient=False) as (here, there):

            async def ten(first: int) -> None:
                """Pages that nobody has had, and pages that one of them has had."""
                for number in range(first, first + 10):
                    for gateway in (here, there, here):
                        began = time.monotonic()
                        shown = await page(gateway, f"/page/{number}")
                        assert f"<p>number {number}.</p>" in shown
                        assert 'state="fresh"' in shown
                        assert time.monotonic() - began < 5, "a visitor waited for the store"

            await ten(0)
            redis.pause()
            await ten(10)
            redis.go_on()
            await ten(20)
            await redis.stop()
            await ten(30)
            await redis.start()
            await ten(40)
            await reached(here)
            await reached(there)
            before = len(context.routes["/one/50"].requests)
            await page(here, "/page/50")
            await eventually(lambda: has(redis.port), "it is written again")
            assert "<p>number 50.</p>" in await page(there, "/page/50")
            assert len(context.routes["/one/50"].requests) == before + 1, "they share it again"
            assert await numbers(here, "bff_store_failures_total") > 0


async def reached(gateway: Process) -> None:
    async def again() -> bool:
        headers = {"authorization": "Bearer operators-own"}
        async with await gateway.ask("/_bff/admin/status", headers=headers) as answer:
            return bool(json.loads(await answer.rest())["store"]["reached"])

    await eventually(again, "the store is reached again")


async def has(port: int) -> bool:
    """Whether a Redis holds records."""
    return bool(await raw(port, "KEYS bff:record:*") != b"*0\r\n")


async def raw(port: int, command: str) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"{command}\r\n".encode())
        return await reader.readline()
    finally:
        writer.close()


async def test_a_flushed_redis_is_filled_again(site: Site, context: FakeContext, tmp_path: Path) -> None:
    one = context.route("/one", "<p>it</p>", headers=FRESH)
    register(site, context.origin)
    async with redis_server(tmp_path) as redis:
        settings(site, store=redis.url)
        async with gateways(site, 2) as (here, there):
            await page(here)
            await eventually(lambda: has(redis.port), "it is written")
            assert await raw(redis.port, "FLUSHALL") == b"+OK\r\n"
            assert "<p>it</p>" in await page(here)
            assert len(one.requests) == 1, "memory has it still"
            assert "<p>it</p>" in await page(there)
            assert len(one.requests) == 2, "and nobody else"
            await eventually(lambda: has(redis.port), "it is written again")


# --- purges -----------------------------------------------------------------------------------------------------------


async def test_a_fetch_begun_before_a_purge_brings_nothing_back(
    site: Site, context: FakeContext, tmp_path: Path
) -> None:
    """Purged by one gateway while the other is fetching: whoever waited is shown it, and nobody after."""
    one = context.route("/one", "<p>old</p>", headers=FRESH, gated=True)
    register(site, context.origin, tags=["thing"])
    async with redis_server(tmp_path) as redis:
        settings(site, store=redis.url)
        async with gateways(site, 2) as (here, there):
            async with Crowd.coming(here, count=1) as crowd:
                await one.asked()
                await told(there, "/_bff/admin/purge", b'{"tag": "thing"}')
                one.answer.body = "<p>new</p>"
                one.open()
                await crowd.pages()
            assert "<p>new</p>" in await page(there)
            assert len(one.requests) == 2

            async def asked_again() -> bool:
                return "<p>new</p>" in await page(here)

            await eventually(asked_again, "the other has heard of it")


async def test_a_purge_reaches_every_gateway(site: Site, context: FakeContext, tmp_path: Path) -> None:
    one = context.route("/one", "<p>old</p>", headers=FRESH)
    register(site, context.origin, tags=["thing"])
    async with redis_server(tmp_path) as redis:
        settings(site, store=redis.url)
        async with gateways(site, 2) as (here, there):
            for gateway in (here, there):
                assert "<p>old</p>" in await page(gateway)
            one.answer.body = "<p>new</p>"
            await told(here, "/_bff/admin/purge", b'{"tag": "thing"}')
            assert "<p>new</p>" in await page(here), "here at once"

            async def reaches() -> bool:
                return "<p>new</p>" in await page(there)

            await eventually(reaches, "the other has heard of it")


# --- two identities ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["memory", "sqlite", "redis"])
async def test_what_is_somebodys_own_is_shown_to_nobody_else(
    kind: str, site: Site, context: FakeContext, tmp_path: Path
) -> None:
    """A crowd of two people over every store, then each alone, then after a restart."""

    def whose(seen: Seen) -> str:
        return f"<p>of {seen.headers.get('x-user', 'nobody')}.</p>"

    one = context.route("/one", whose, headers={"cache-control": "private, max-age=3600"}, gated=True)
    register(site, context.origin, forward={"principal": "X-User"})
    people = ("ada", "ben")
    async with AsyncExitStack() as stack:
        store: dict[str, object] = {"store": SQLITE, "workers": 2} if kind == "sqlite" else {}
        if kind == "redis":
            store = {"store": (await stack.enter_async_context(redis_server(tmp_path))).url}
        settings(site, **store)
        async with gateways(site, 1 if kind != "redis" else 2) as origins:
            async with Crowd.coming(*origins, count=40, who=lambda number: people[number // 2 % 2]) as crowd:
                await one.asked(2)
                one.open()
                for number, shown in enumerate(await crowd.pages()):
                    assert f"<p>of {people[number // 2 % 2]}.</p>" in shown
            assert len(one.requests) == 2
            for gateway in origins:
                for who in people:
                    assert f"<p>of {who}.</p>" in await page(gateway, x_forwarded_user=who)
                assert "<p>of nobody.</p>" in await page(gateway)
            assert len(one.requests) == 2 + len(origins), "nobody's own is kept for nobody"
        async with gateways(site) as (again,):
            asked = len(one.requests)
            for who in people:
                assert f"<p>of {who}.</p>" in await page(again, x_forwarded_user=who)
            assert "<p>of nobody.</p>" in await page(again)
            assert "<p>of carl.</p>" in await page(again, x_forwarded_user="carl")
            assert len(one.requests) - asked == (4 if kind == "memory" else 2)
