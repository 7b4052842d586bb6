"""A second try beside a slow one on proxy routes: when it goes, whose answer counts, and that nothing is left of the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bff.rules.limits.breaker import State
from tests.fakes import PATIENCE, until
from tests.gateway import wire as front
from tests.gateway.proxies import ROUTE, Asked, Site, parsed, request, said, site
from tests.upstream.wire import Peer

pytestmark = pytest.mark.anyio

CLOSE = {"connection": "close"}
SHORT = "timeout: {first_byte: 300ms, total: 300ms}"


@dataclass(eq=False)
class Held:
    """One request at the upstream: what it is sent, piece by piece; b"" ends it."""

    asked: Asked
    pieces: asyncio.Queue[bytes] = field(default_factory=asyncio.Queue)
    gone: bool = False  # the gateway has ended it

    def say(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.pieces.put_nowait(piece)


class Slow:
    """An upstream that answers each request when the test says so, on a connection of its own."""

    def __init__(self) -> None:
        self.asked: list[Held] = []

    async def __call__(self, peer: Peer) -> None:
        head = await peer.head()
        if not head:
            return
        held = Held(parsed(head))
        await peer.reader.readexactly(int(held.asked.headers.get("content-length", "0")))
        self.asked.append(held)
        ended = asyncio.ensure_future(peer.ended())
        try:
            while True:
                piece = asyncio.ensure_future(held.pieces.get())
                await asyncio.wait((ended, piece), return_when=asyncio.FIRST_COMPLETED)
                if ended.done():
                    held.gone = True
                    piece.cancel()
                    return
                if not piece.result():
                    return
                await peer.send(piece.result())
        finally:
            ended.cancel()

    async def by_now(self, number: int) -> list[Held]:
        await until(lambda: len(self.asked) >= number, f"{number} requests")
        return self.asked


def well(body: bytes = b"well", status: str = "200 OK") -> tuple[bytes, bytes]:
    return said(body, status, **CLOSE), b""


def hedging(after: str = "20ms", budget: str = "100%", more: str = "") -> str:
    return ROUTE.replace("methods", f"policy: {{hedge: {{after: {after}, budget: {budget}}}, {more}}}, methods")


@asynccontextmanager
async def hedged(folder: Path, route: str = "") -> AsyncIterator[tuple[Site, Slow]]:
    slow = Slow()
    async with site(folder, slow, route or hedging()) as shop:
        yield shop, slow


async def asking(shop: Site, method: str = "GET", body: bytes = b"", **headers: str) -> asyncio.Task[front.Answer]:
    return asyncio.create_task(
        shop.ask(method=method, body=body, headers={name.replace("_", "-"): text for name, text in headers.items()})
    )


async def numbers(shop: Site) -> list[str]:
    """What was counted of second tries and of how exchanges ended, when all of them have."""
    await until(lambda: not shop.running.proxy._ground.flights._all, "the end of all")
    await until(lambda: not any(s.active or s.queued for s in shop.running.client.stats().values()), "free places")
    lines = (await shop.ask("/_bff/metrics")).body.decode().splitlines()
    assert 'bff_upstream_inflight{context="shop"} 0.0' in lines
    found = [line for line in lines if line.startswith(("bff_hedges_total", "bff_retries_total", "bff_upstream_req"))]
    return sorted(line.replace('context="shop",', "").removesuffix(".0") for line in found if not line.endswith(" 0.0"))


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_the_second_one_counts_where_it_answers_first(tmp_path: Path, method: str) -> None:
    async with hedged(tmp_path) as (shop, slow):
        answer = await asking(shop, method)
        first, second = await slow.by_now(2)
        assert second.asked.line == first.asked.line
        assert second.asked.lines == first.asked.lines
        second.say(said(b"well" if method == "GET" else b"", **CLOSE), b"")
        assert ((await answer).status, (await answer).body) == (200, b"well" if method == "GET" else b"")
        await until(lambda: first.gone, "the end of the other one")
        assert await numbers(shop) == [
            'bff_hedges_total{won="true"} 1',
            'bff_upstream_requests_total{status="200"} 1',
            'bff_upstream_requests_total{status="cancelled"} 1',
        ]
    assert len(slow.asked) == 2


async def test_the_first_may_still_be_the_first(tmp_path: Path) -> None:
    async with hedged(tmp_path) as (shop, slow):
        answer = await asking(shop)
        first, second = await slow.by_now(2)
        first.say(*well())
        assert (await answer).body == b"well"
        await until(lambda: second.gone, "the end of the other one")
        assert await numbers(shop) == [
            'bff_hedges_total{won="false"} 1',
            'bff_upstream_requests_total{status="200"} 1',
            'bff_upstream_requests_total{status="cancelled"} 1',
        ]


async def test_what_streams_goes_on_streaming(tmp_path: Path) -> None:
    async with hedged(tmp_path) as (shop, slow):
        client = await shop.connect()
        await client.send(request(headers={"Cache-Control": "no-store"}))
        _, second = await slow.by_now(2)
        second.say(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n", b"a first piece, ")
        async with asyncio.timeout(PATIENCE):
            assert b"200 OK" in await client._reader.readuntil(b"a first piece, ")
            second.say(b"and a second", b"")
            assert b"and a second" in await client._reader.readuntil(b"0\r\n\r\n")
        (live,) = shop.running.guarded.states()
        assert (live.requests, live.failures, live.hedges) == (1, 0, (1, 1))


@pytest.mark.parametrize(("failing", "other"), [(0, 1), (1, 0)])
async def test_one_that_fails_leaves_it_to_the_other(tmp_path: Path, failing: int, other: int) -> None:
    async with hedged(tmp_path) as (shop, slow):
        answer = await asking(shop)
        both = await slow.by_now(2)
        both[failing].say(*well(b"no", "503 No"))
        await until(lambda: next(shop.running.guarded.states()).failures, "the failure")
        both[other].say(*well())
        assert (await answer).body == b"well"
        assert await numbers(shop) == [
            f'bff_hedges_total{{won="{"true" if other else "false"}"}} 1',
            'bff_upstream_requests_total{status="200"} 1',
            'bff_upstream_requests_total{status="503"} 1',
        ]


async def test_where_both_fail_the_later_end_counts_and_nothing_is_sent_again(tmp_path: Path) -> None:
    async with hedged(tmp_path) as (shop, slow):
        answer = await asking(shop)
        first, second = await slow.by_now(2)
        second.say(*well(b"the second", "503 No"))
        await until(lambda: next(shop.running.guarded.states()).failures, "the failure")
        first.say(*well(b"the first", "502 No"))
        assert ((await answer).status, (await answer).body) == (502, b"the first")
        assert await numbers(shop) == [
            'bff_hedges_total{won="false"} 1',
            'bff_upstream_requests_total{status="502"} 1',
            'bff_upstream_requests_total{status="503"} 1',
        ]
    assert len(slow.asked) == 2


async def test_a_second_one_that_finds_no_place_says_nothing(tmp_path: Path) -> None:
    async with hedged(tmp_path, hedging(more="concurrency: 1, retry: {extra: 0}")) as (shop, slow):
        answer = await asking(shop)
        (first,) = await slow.by_now(1)
        await until(lambda: next(shop.running.guarded.states()).hedges[1], "the second one")
        first.say(*well(b"no", "503 No"))
        assert ((await answer).status, (await answer).body) == (503, b"no")
    assert len(slow.asked) == 1


@pytest.mark.parametrize(
    ("method", "body"), [("POST", b""), ("DELETE", b""), ("OPTIONS", b""), ("GET", b"x"), ("POST", b"x")]
)
async def test_only_what_asks_and_brings_nothing_is_sent_twice(tmp_path: Path, method: str, body: bytes) -> None:
    async with hedged(tmp_path, hedging("1ms", more=SHORT)) as (shop, slow):
        answer = await asking(shop, method, body)
        assert (await answer).status == 504
        assert next(shop.running.guarded.states()).hedges == (0, 0)
    assert len(slow.asked) == 1


async def test_nothing_goes_beside_what_has_begun_to_answer(tmp_path: Path) -> None:
    async with hedged(tmp_path, hedging("200ms", more="timeout: {first_byte: 400ms, total: 400ms}")) as (shop, slow):
        client = await shop.connect()
        await client.send(request())
        (first,) = await slow.by_now(1)
        first.say(b"HTTP/1.1 103 Early Hints\r\nlink: </x.css>\r\n\r\n")
        assert (await client.answer()).status == 103
        assert (await client.answer()).status == 504
        answer = await asking(shop)
        (_, begun) = await slow.by_now(2)
        begun.say(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf")
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await answer
    assert len(slow.asked) == 2


@pytest.mark.parametrize(
    "route",
    [
        ROUTE.replace("methods", f"policy: {{{SHORT}}}, methods"),
        hedging("20ms", "5%", SHORT),
        hedging("p95", "100%", SHORT),
        hedging("290ms", "100%", SHORT),
    ],
    ids=["off", "beyond its budget", "of too few answers", "too late"],
)
async def test_there_is_no_second_one(tmp_path: Path, route: str) -> None:
    async with hedged(tmp_path, route) as (shop, slow):
        assert (await shop.ask()).status == 504
        assert not [line for line in await numbers(shop) if "hedges" in line]
    assert len(slow.asked) == 1


async def test_a_percentile_is_that_of_the_heads_that_came(tmp_path: Path) -> None:
    async with hedged(tmp_path, hedging("p50")) as (shop, slow):
        for number in range(1, 21):
            answer = await asking(shop)
            (*_, last) = await slow.by_now(number)
            last.say(*well())
            assert (await answer).status == 200
        answer = await asking(shop)
        *_, first, second = await slow.by_now(22)
        assert not first.gone
        second.say(*well(b"quicker"))
        assert (await answer).body == b"quicker"


async def test_a_client_that_goes_ends_both(tmp_path: Path) -> None:
    async with hedged(tmp_path, hedging(more="cache: {mode: 'off'}")) as (shop, slow):
        client = await shop.connect()
        await client.send(request())
        both = await slow.by_now(2)
        await client.close()
        await until(lambda: all(held.gone for held in both), "the end of both")
        assert await numbers(shop) == ['bff_hedges_total{won="false"} 1']


async def test_those_who_share_it_share_what_was_quicker(tmp_path: Path) -> None:
    async with hedged(tmp_path) as (shop, slow):
        answers = [await asking(shop) for _ in range(5)]
        _, second = await slow.by_now(2)
        await until(lambda: len(shop.server.server.shared.cycles) == 5, "all of them")
        second.say(said(b"shared", cache_control="max-age=60", **CLOSE), b"")
        assert {(await answer).body for answer in answers} == {b"shared"}
        assert "hit" in (await shop.ask()).headers["cache-status"]
    assert len(slow.asked) == 2


# --- a second one after it --------------------------------------------------------------------------------------------


async def test_a_retry_has_the_time_that_is_left(tmp_path: Path) -> None:
    route = ROUTE.replace("methods", "policy: {timeout: {first_byte: 9s, total: 500ms}}, methods")
    async with hedged(tmp_path, route) as (shop, slow):
        answer = await asking(shop)
        (first,) = await slow.by_now(1)
        first.say(*well(b"", "503 No"))
        await slow.by_now(2)
        async with asyncio.timeout(8):
            assert (await answer).status == 504


async def test_a_retry_is_not_made_once_the_breaker_has_opened(tmp_path: Path) -> None:
    route = ROUTE.replace("methods", "policy: {breaker: {min_requests: 2, open: 60s}, timeout: {total: 9s}}, methods")
    async with hedged(tmp_path, route) as (shop, slow):
        answer = await asking(shop, cache_control="no-store")
        (first,) = await slow.by_now(1)
        first.say(said(b"", "503 No", retry_after="1", **CLOSE), b"")
        await until(lambda: next(shop.running.guarded.states()).failures, "its failure")
        other = await asking(shop, "POST")
        (_, second) = await slow.by_now(2)
        second.say(*well(b"", "500 No"))
        assert (await other).status == 500
        assert next(shop.running.guarded.states()).state is State.OPEN
        assert (await answer).status == 503
        assert "detail=breaker" in (await answer).headers["cache-status"]
    assert len(slow.asked) == 2


# --- those who wait ---------------------------------------------------------------------------------------------------


async def test_those_who_wait_for_one_exchange_in_vain_open_its_breaker(tmp_path: Path) -> None:
    route = ROUTE.replace("methods", "policy: {timeout: {first_byte: 300ms}, breaker: {open: 1s}}, methods")
    async with hedged(tmp_path, route) as (shop, slow):
        while not slow.asked or next(shop.running.guarded.states()).state is State.CLOSED:
            answers = await asyncio.gather(*(shop.ask() for _ in range(50)))
            assert {answer.status for answer in answers} <= {504, 503}
        before = len(slow.asked)
        assert before < 20
        assert (await shop.ask()).status == 503
        assert len(slow.asked) == before
        await until(lambda: next(shop.running.guarded.states()).state is State.HALF_OPEN, "the time for a probe")
        probe = await asking(shop)
        (*_, last) = await slow.by_now(before + 1)
        assert (await shop.ask()).status == 503, "nobody waits for whoever finds out"
        last.say(said(b"well", cache_control="max-age=60", **CLOSE), b"")
        assert (await probe).body == b"well"
        assert (await shop.ask()).body == b"well"
    assert len(slow.asked) == before + 1
