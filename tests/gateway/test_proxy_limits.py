"""Proxy routes are asked as gently as fragments: second tries of a GET, breakers, and what a client is told meanwhile."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bff.rules.limits.breaker import State
from tests.fakes import until
from tests.gateway.proxies import ROUTE, Upstream, request, said, site
from tests.upstream.wire import Peer

pytestmark = pytest.mark.anyio

DOWN = said(b"", "503 No")
QUICK = ROUTE.replace("methods", "policy: {breaker: {min_requests: 4, open: 60s}}, methods")


async def test_a_get_is_asked_again_where_its_failure_may_pass(tmp_path: Path) -> None:
    upstream = Upstream([DOWN, said(b"well")])
    async with site(tmp_path, upstream) as shop:
        answer = await shop.ask()
        numbers = (await shop.ask("/_bff/metrics")).body.decode()
    assert (answer.status, answer.body) == (200, b"well")
    assert len(upstream.asked) == 2
    assert 'bff_retries_total{context="shop"} 1.0' in numbers
    assert 'bff_upstream_requests_total{context="shop",status="503"} 1.0' in numbers
    assert 'bff_upstream_requests_total{context="shop",status="200"} 1.0' in numbers
    assert 'bff_upstream_inflight{context="shop"} 0.0' in numbers
    assert 'bff_breaker_state{fragment="shop/proxy"} 0.0' in numbers


@pytest.mark.parametrize(
    ("method", "body", "status"),
    [("POST", b"x", "503 No"), ("DELETE", b"", "503 No"), ("GET", b"x", "503 No"), ("GET", b"", "500 No")],
)
async def test_nothing_else_is(tmp_path: Path, method: str, body: bytes, status: str) -> None:
    upstream = Upstream([said(b"", status), said(b"well")])
    async with site(tmp_path, upstream) as shop:
        answer = await shop.ask(method=method, body=body)
    assert answer.status == int(status[:3])
    assert len(upstream.asked) == 1


async def test_a_client_that_goes_between_two_tries_leaves_nothing_behind(tmp_path: Path) -> None:
    upstream = Upstream([said(b"", "503 No", retry_after="1"), said(b"well")])
    async with site(tmp_path, upstream, ROUTE.replace("methods", "policy: {timeout: {total: 9s}}, methods")) as shop:
        client = await shop.connect()
        await client.send(request(headers={"Cache-Control": "no-store"}))
        await until(lambda: upstream.asked, "the first try")
        await client.close()
        flights = shop.running.proxy._ground.flights._all
        await until(lambda: not flights, "its end")
        numbers = (await shop.ask("/_bff/metrics")).body.decode()
    assert len(upstream.asked) == 1
    assert 'bff_upstream_inflight{context="shop"} 0.0' in numbers


async def test_an_open_breaker_asks_nobody(tmp_path: Path) -> None:
    upstream = Upstream([said(b"", "500 No")])
    async with site(tmp_path, upstream, QUICK) as shop:
        for _ in range(4):
            assert (await shop.ask()).status == 500
        refused = await shop.ask(headers={"Accept": "application/json"})
        posted = await shop.ask(method="POST", body=b"x")
        numbers = (await shop.ask("/_bff/metrics")).body.decode()
    assert len(upstream.asked) == 4
    assert (refused.status, refused.headers["retry-after"]) == (503, "60")
    assert refused.headers["cache-status"] == "bff; fwd=uri-miss; detail=breaker"
    assert posted.status == 503
    assert 'bff_breaker_state{fragment="shop/proxy"} 2.0' in numbers
    assert 'bff_upstream_inflight{context="shop"} 0.0' in numbers


@pytest.mark.parametrize(
    ("head", "counted"), [(b"connection: close\r\n\r\n", (1, 0)), (b"content-length: 9\r\n\r\n", (1, 1))]
)
async def test_an_answer_counts_once_it_has_ended(tmp_path: Path, head: bytes, counted: tuple[int, int]) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\n" + head + b"half")

    async with site(tmp_path, script) as shop:
        client = await shop.connect()
        await client.send(request())
        if counted[1]:
            await client.rest()
        else:
            await client.answer()
        (live,) = shop.running.guarded.states()
    assert (live.requests, live.failures) == counted


async def test_a_probe_is_over_with_the_head_of_its_answer(tmp_path: Path) -> None:
    stream = asyncio.Event()

    async def script(peer: Peer) -> None:
        while await peer.head():
            if peer.number < 4:
                await peer.send(said(b"", "500 No", connection="close"))
                return
            await peer.send(b"HTTP/1.1 200 OK\r\n\r\nan endless")
            await stream.wait()
            return

    async with site(tmp_path, script, QUICK.replace("60s", "100ms")) as shop:
        for _ in range(4):
            await shop.ask()
        states = shop.running.guarded.states
        assert next(states()).state is State.OPEN
        await until(lambda: next(states()).state is State.HALF_OPEN, "the time for a probe")
        client = await shop.connect()
        await client.send(request())
        await until(lambda: next(states()).state is State.CLOSED, "the probe's answer")
        stream.set()


async def test_where_its_limit_adapts_all_is_given_back(tmp_path: Path) -> None:
    route = ROUTE.replace("methods", "policy: {adaptive: on, timeout: {total: 9s}, cache: {mode: off}}, methods")
    upstream = Upstream([said(b"well"), DOWN, said(b"again"), DOWN, said(b"", "503 No", retry_after="1")])
    async with site(tmp_path, upstream, route) as shop:
        assert [(await shop.ask()).body for _ in range(2)] == [b"well", b"again"]
        adaptive = shop.running.guarded._paces["shop"].adaptive
        assert adaptive._answers == 3, "each of its tries has told something"
        assert (await shop.ask(method="POST", body=b"x")).status == 503
        assert (adaptive.under, adaptive._answers, adaptive._rejected) == (0, 4, 2)
        client = await shop.connect()
        await client.send(request(headers={"Cache-Control": "no-store"}))
        await until(lambda: len(upstream.asked) == 5, "the first try")
        await client.close()
        flights = shop.running.proxy._ground.flights._all
        await until(lambda: not flights, "its end")
        assert adaptive.under == 0
        explained = (await shop.ask("/_bff/metrics")).body.decode()
    assert 'bff_upstream_limit{context="shop"} 64.0' in explained
