"""Exchanges end to end over real sockets: what is sent, on which connection, who waits, and that nothing is left behind."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest
import uvloop

from bff.model import Ask, Bounds, Failure, Reason, Reply, Upstream
from bff.timer import Timer
from bff.upstream.client import MET, Client, Stats
from bff.upstream.exchange import HEADS, LONG, Heads
from tests.upstream.wire import OK, TIMEOUT, Fake, MovableClock, Peer, answering, ask, close, connecting, serving, until

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[MovableClock, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": request.param}


def stats(client: Client, fake: Fake) -> Stats:
    return client.stats()[f"http://{fake.upstream.authority}"]


class Gate:
    """A script that answers when told to."""

    def __init__(self) -> None:
        self.asked: asyncio.Queue[Peer] = asyncio.Queue()

    async def __call__(self, peer: Peer) -> None:
        while await peer.head():
            self.asked.put_nowait(peer)

    async def answer(self, raw: bytes = OK) -> None:
        await (await self.asked.get()).send(raw)


def unused_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def at(port: int, host: str = "127.0.0.1", **options: Any) -> Upstream:
    return Upstream(scheme="http", host=host, port=port, authority=f"{host}:{port}", **options)


# --- what is sent


async def sent(fake: Fake, client: Client, target: str = "/", **options: Any) -> None:
    reply = await ask(client, fake.upstream, target, **options).reply()
    assert reply.status == 200


async def test_a_get_is_written_as_it_was_asked() -> None:
    heads: list[bytes] = []

    async def script(peer: Peer) -> None:
        heads.append(await peer.head())
        await peer.send(OK)

    async with serving(script) as fake, connecting() as client:
        await sent(fake, client, "/a%20b/?c=d&e=%C3%A9", headers=b"accept: text/html\r\nx-request-id: 1\r\n")
        assert heads[0] == (
            b"GET /a%20b/?c=d&e=%C3%A9 HTTP/1.1\r\nHost: " + fake.upstream.authority.encode() + b"\r\n"
            b"Accept-Encoding: identity\r\naccept: text/html\r\nx-request-id: 1\r\n\r\n"
        )


@pytest.mark.parametrize(
    ("method", "body", "length"),
    [("POST", b"a=b", b"3"), ("POST", b"", b"0"), ("PUT", b"", b"0"), ("PATCH", b"", b"0"), ("DELETE", b"x", b"1")],
)
async def test_a_body_is_framed_by_its_length(method: str, body: bytes, length: bytes) -> None:
    seen: list[bytes] = []

    async def script(peer: Peer) -> None:
        head = await peer.head()
        seen.extend([head, await peer.reader.readexactly(len(body))])
        await peer.send(OK)

    async with serving(script) as fake, connecting() as client:
        await sent(fake, client, method=method, body=body)
        assert b"\r\nContent-Length: " + length + b"\r\n\r\n" in seen[0]
        assert seen[1] == body


async def test_no_length_is_sent_without_a_body() -> None:
    heads: list[bytes] = []

    async def script(peer: Peer) -> None:
        heads.append(await peer.head())
        await peer.send(OK)

    async with serving(script) as fake, connecting() as client:
        await sent(fake, client, method="DELETE")
        assert b"Content-Length" not in heads[0]


@pytest.mark.parametrize("method", ["M-SEARCH", "VERSION-CONTROL", "get"])
async def test_any_method_is_sent_as_it_is_written(method: str) -> None:
    """They are tokens, and case counts (RFC 9110 §9.1)."""
    heads: list[bytes] = []

    async def script(peer: Peer) -> None:
        heads.append(await peer.head())
        await peer.send(OK)

    async with serving(script) as fake, connecting() as client:
        await sent(fake, client, method=method)
        assert heads[0].startswith(f"{method} / HTTP/1.1\r\n".encode())


@pytest.mark.parametrize(
    "options",
    [
        {"target": "/a b"},
        {"target": "/a\r\nX: y"},
        {"target": "/a\0"},
        {"target": "/é"},
        {"target": "/a#b"},
        {"target": ""},
        {"target": "http://127.0.0.1/"},
        {"method": "GET /"},
        {"method": "CONNECT"},
        {"method": "GE(T"},
        {"method": ""},
        {"headers": b"a: b\r\n\r\nGET /x HTTP/1.1\r\n"},
        {"headers": b"a: b\n\nGET /x HTTP/1.1\r\n"},
        {"headers": b"\r\n"},
        {"headers": b"a: b"},
    ],
)
async def test_what_would_say_something_else_is_refused_unsent(options: dict[str, Any]) -> None:
    async with connecting() as client:
        failure = await ask(client, at(1), **options).failure()
        assert (failure.reason, failure.status) == (Reason.REFUSED, "refused")
        assert client.stats()["http://127.0.0.1:1"] == Stats(active=0, queued=0, idle=0, connections=0)


@pytest.mark.parametrize("authority", ["a b", "a/b", "a\r\nX: y", "é", ""])
async def test_an_authority_that_is_none_is_refused(authority: str) -> None:
    upstream = Upstream(scheme="http", host="127.0.0.1", port=1, authority=authority)
    async with connecting() as client:
        assert (await ask(client, upstream).failure()).reason is Reason.REFUSED


async def test_a_refusal_can_be_cancelled() -> None:
    async with connecting() as client:
        asked = ask(client, at(1), "no path")
        asked.exchange.cancel()
        asked.exchange.cancel()
        await ask(client, at(1), "no path").failure()
        assert asked.calls == []


async def test_heads_are_kept_up_to_a_bound() -> None:
    heads = Heads("a")
    assert heads["/1"] is heads["/1"]
    assert heads["/" + "x" * LONG] == b"GET /" + b"x" * LONG + b" HTTP/1.1\r\nHost: a\r\nAccept-Encoding: identity\r\n"
    assert list(heads) == ["/1"]
    for n in range(HEADS + 1):
        assert heads[f"/{n}"].startswith(b"GET /%d " % n)
    assert 0 < len(heads) <= HEADS


async def test_upstreams_met_are_kept_up_to_a_bound() -> None:
    async with connecting() as client:
        for n in range(MET + 2):
            await ask(client, at(1, base=f"/{n}"), "no path").failure()
        assert 0 < len(client._met) <= MET
        assert len(client.stats()) == 1


async def test_proxies_of_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    async with serving(answering(OK)) as fake, connecting() as client:
        await sent(fake, client)


# --- which connection


async def test_a_burst_opens_as_many_as_it_needs_and_keeps_them() -> None:
    gate = Gate()
    async with serving(gate) as fake, connecting() as client:
        asked = [ask(client, fake.upstream) for _ in range(5)]
        peers = [await gate.asked.get() for _ in range(5)]
        assert stats(client, fake) == Stats(active=5, queued=0, idle=0, connections=5)
        for peer in peers:
            await peer.send(OK)
        for each in asked:
            await each.reply()
        assert stats(client, fake) == Stats(active=0, queued=0, idle=5, connections=5)


async def test_one_answer_may_ask_the_next_on_the_same_connection() -> None:
    async with serving(answering(OK)) as fake, connecting() as client:
        loop = asyncio.get_running_loop()
        ended = loop.create_future()
        left = 100

        def done(outcome: Reply | Failure) -> None:
            nonlocal left
            left -= 1
            if left:
                again()
            else:
                ended.set_result(outcome)

        def again() -> None:
            client.start(Ask(fake.upstream, "GET", "/", b"", Bounds(TIMEOUT, 9, 1, optional=True)), done)

        again()
        assert isinstance(await ended, Reply)
        assert len(fake.peers) == 1


async def test_contexts_on_one_origin_share_its_pool() -> None:
    async with serving(answering(OK)) as fake, connecting() as client:
        port = fake.upstream.port
        for base in ("", "/a", "/b"):
            await ask(client, at(port, base=base), base + "/").reply()
        assert len(client.stats()) == 1
        assert len(fake.peers) == 1


async def test_origins_that_were_left_are_forgotten() -> None:
    async with connecting() as client:
        for port in (1, 2, 3):
            await ask(client, at(port), "no path").failure()
        assert list(client.stats()) == ["http://127.0.0.1:3"]


async def test_an_idle_connection_that_ends_is_not_used_again() -> None:
    async with serving(answering(OK)) as fake, connecting() as client:
        await sent(fake, client)
        (connection,) = client._origins[next(iter(client._origins))].pool.idle
        fake.peers[0].writer.close()
        await until(lambda: not stats(client, fake).connections)
        assert stats(client, fake).idle == 0
        await sent(fake, client)
        assert len(fake.peers) == 2
        connection.end("again, which does nothing")


async def test_bytes_on_an_idle_connection_end_it_and_go_to_nobody() -> None:
    async with serving(answering(OK)) as fake, connecting() as client:
        await sent(fake, client)
        await fake.peers[0].send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
        await until(lambda: not stats(client, fake).connections)
        assert (await ask(client, fake.upstream).reply()).body == b"hi"


def stale(then: bytes) -> Any:
    """A script: the first connection answers once and ends as soon as it is asked again; others answer `then`."""

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(then if peer.number else OK)
        await peer.head()
        if peer.number == 0:
            peer.reset()

    return script


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_kept_connection_that_ends_unheard_is_tried_once_more_on_a_fresh_one(method: str) -> None:
    async with serving(stale(OK)) as fake, connecting() as client:
        await sent(fake, client)
        await sent(fake, client, method=method)
        assert len(fake.peers) == 2


@pytest.mark.parametrize("asked", [{"method": "POST"}, {"once": True}])
async def test_what_begins_something_is_not_sent_twice(asked: dict[str, Any]) -> None:
    async with serving(stale(OK)) as fake, connecting() as client:
        await sent(fake, client)
        failure = await ask(client, fake.upstream, **asked).failure()
        assert failure.reason is Reason.TORN
        assert len(fake.peers) == 1


async def test_once_more_is_not_twice() -> None:
    async with serving(stale(b"")) as fake, connecting() as client:
        await sent(fake, client)
        asked = ask(client, fake.upstream)
        await until(lambda: len(fake.peers) == 2 and stats(client, fake).connections)
        fake.peers[1].reset()
        assert (await asked.failure()).reason is Reason.TORN
        assert len(fake.peers) == 2


async def test_a_kept_connection_that_ends_after_a_byte_is_torn() -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(OK)
        await peer.head()
        await peer.send(b"H")
        peer.writer.close()

    async with serving(script) as fake, connecting() as client:
        await sent(fake, client)
        assert (await ask(client, fake.upstream).failure()).reason is Reason.TORN


async def test_an_answer_before_the_whole_request_was_sent_ends_the_connection() -> None:
    async def script(peer: Peer) -> None:
        peer.reader._limit = 1  # type: ignore[attr-defined] # stop reading soon
        await peer.reader.read(1)
        await peer.send(OK)
        await peer.ended()

    async with serving(script) as fake, connecting() as client:
        await sent(fake, client, method="POST", body=bytes(8 << 20))
        assert stats(client, fake).idle == 0


# --- who waits


async def test_over_the_limit_optional_ones_fail_at_once_and_others_wait() -> None:
    gate = Gate()
    async with serving(gate) as fake, connecting() as client:
        running = [ask(client, fake.upstream, limit=4, optional=True) for _ in range(3)]
        refused = await ask(client, fake.upstream, limit=4, optional=True).failure()
        assert (refused.reason, refused.status) == (Reason.CONCURRENCY, "refused")
        others = [ask(client, fake.upstream, limit=4) for _ in range(5)]
        assert (await ask(client, fake.upstream, limit=4).failure()).reason is Reason.CONCURRENCY
        assert stats(client, fake).queued == 4
        for _ in range(8):
            await gate.answer()
        assert [(await each.reply()).body for each in running + others] == [b"hi"] * 8
        assert stats(client, fake) == Stats(active=0, queued=0, idle=4, connections=4)


async def test_the_queue_goes_on_when_a_connection_is_closed_by_its_answer() -> None:
    raw = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi"
    async with serving(answering(raw, after=close)) as fake, connecting(connections=1) as client:
        asked = [ask(client, fake.upstream, optional=True) for _ in range(5)]
        for each in asked:
            assert (await each.reply()).timing.queued >= 0
        assert len(fake.peers) == 5


async def test_those_that_wait_start_in_the_order_they_came() -> None:
    targets: list[bytes] = []

    async def script(peer: Peer) -> None:
        while head := await peer.head():
            targets.append(head.split()[1])
            await peer.send(OK)

    async with serving(script) as fake, connecting(connections=1) as client:
        asked = [ask(client, fake.upstream, f"/{n}") for n in range(6)]
        asked[2].exchange.cancel()
        for each in asked[:2] + asked[3:]:
            await each.reply()
        assert targets == [b"/0", b"/1", b"/3", b"/4", b"/5"]


async def test_a_post_closes_the_oldest_where_it_needs_a_place_for_a_fresh_connection() -> None:
    gate = Gate()
    async with serving(gate) as fake, connecting(connections=2) as client:
        client_origin = client
        asked = [ask(client, fake.upstream) for _ in range(2)]
        for _ in asked:
            await gate.answer()
        for each in asked:
            await each.reply()
        pool = client_origin._origins[next(iter(client._origins))].pool
        for connection in pool.idle:
            pool.idle[connection] -= 2.0
        posted = ask(client, fake.upstream, method="POST")
        await gate.answer()
        await posted.reply()
        assert (len(fake.peers), stats(client, fake).idle) == (3, 2)


# --- cancellation


async def test_cancelled_under_way_the_connection_is_closed_and_nobody_told() -> None:
    gate = Gate()
    async with serving(gate) as fake, connecting() as client:
        asked = ask(client, fake.upstream)
        peer = await gate.asked.get()
        asked.exchange.cancel()
        assert stats(client, fake).active == 0
        await peer.over.wait()
        assert asked.calls == []


async def test_cancelled_in_the_body_too() -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\nhalf")
        await peer.ended()

    async with serving(script) as fake, connecting() as client:
        asked = ask(client, fake.upstream)
        await until(lambda: stats(client, fake).connections)
        asked.exchange.cancel()
        assert stats(client, fake).active == 0


async def test_cancelled_after_its_end_it_does_not_touch_the_next_one() -> None:
    gate = Gate()
    async with serving(gate) as fake, connecting() as client:
        first = ask(client, fake.upstream)
        await gate.answer()
        await first.reply()
        second = ask(client, fake.upstream)
        first.exchange.cancel()
        await gate.answer()
        await second.reply()
        assert len(fake.peers) == 1


async def test_cancelled_at_any_turn_of_connecting_nothing_is_left() -> None:
    async with serving(answering(OK)) as fake, connecting() as client:
        for turns in range(12):
            asked = ask(client, fake.upstream)
            for _ in range(turns):
                await asyncio.sleep(0)
            asked.exchange.cancel()
            if not asked.calls:
                assert stats(client, fake).active == 0
        await sent(fake, client)


async def test_two_thousand_cancelled_exchanges_leave_nothing() -> None:
    async with serving(answering(OK)) as fake, connecting(connections=16) as client:
        await sent(fake, client)
        files = open_files()
        told = []
        for round_ in range(100):
            asked = [ask(client, fake.upstream, limit=64, optional=n % 2 == 0) for n in range(20)]
            for _ in range(round_ % 9):
                await asyncio.sleep(0)
            for each in asked:
                each.exchange.cancel()
            told += [len(each.calls) for each in asked]
            assert (stats(client, fake).active, stats(client, fake).queued) == (0, 0)
        assert max(told) <= 1
        await sent(fake, client)
        await until(lambda: stats(client, fake).connections == stats(client, fake).idle)
        await until(lambda: open_files() <= files + 2 * 16)  # both ends are ours
        assert not client._origins[next(iter(client._origins))]._dials


# --- where to


async def test_a_closed_port_is_connect() -> None:
    async with connecting() as client:
        failure = await ask(client, at(unused_port())).failure()
        assert (failure.reason, failure.status) == (Reason.CONNECT, "connect")
        assert "refused" in failure.detail.lower()


async def test_a_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    async with serving(answering(OK), path=path) as fake, connecting() as client:
        for _ in range(2):
            assert (await ask(client, fake.upstream).reply()).body == b"hi"
        assert client.stats() == {path: Stats(active=0, queued=0, idle=1, connections=1)}


async def test_a_missing_unix_socket_is_connect(tmp_path: Path) -> None:
    upstream = Upstream(scheme="http", host="x", port=80, authority="x", socket=str(tmp_path / "none"))
    async with connecting() as client:
        assert (await ask(client, upstream).failure()).reason is Reason.CONNECT


async def test_an_ipv6_literal() -> None:
    async with serving(answering(OK), host="::1") as fake, connecting() as client:
        assert fake.upstream.authority.startswith("[::1]:")
        await sent(fake, client)


async def test_a_name_whose_first_address_does_not_listen() -> None:
    async with serving(answering(OK), name="localhost") as fake, connecting() as client:
        await sent(fake, client)


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a..b", "x" * 300])
async def test_a_name_without_address_is_connect(host: str) -> None:
    upstream = Upstream(scheme="http", host=host, port=80, authority="x")
    async with connecting() as client:
        assert (await ask(client, upstream).failure()).reason is Reason.CONNECT


# --- the end, and what `done` raises


async def test_what_done_raises_harms_no_connection() -> None:
    heard: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context))

    def done(_: Reply | Failure) -> None:
        raise LookupError("a bug of the caller")

    async with serving(answering(OK)) as fake, connecting() as client:
        client.start(Ask(fake.upstream, "GET", "/", b"", Bounds(TIMEOUT, 9, 9)), done)
        await until(lambda: heard)
        await sent(fake, client)
        assert len(fake.peers) == 1
        assert isinstance(heard[0]["exception"], LookupError)


async def test_closing_ends_everything_and_tells_everybody_once() -> None:
    gate = Gate()
    async with serving(gate) as fake:
        loop = asyncio.get_running_loop()
        timer = Timer(loop)
        client = Client(loop, timer, connections=3)
        kept = ask(client, fake.upstream)
        await gate.answer()
        await kept.reply()
        under_way = ask(client, fake.upstream)
        await gate.asked.get()
        dialling = [ask(client, fake.upstream) for _ in range(2)]
        queued = ask(client, fake.upstream)
        await client.aclose()
        for each in (under_way, *dialling, queued):
            failure = await each.failure()
            assert (failure.reason, len(each.calls)) == (Reason.REFUSED, 1)
        assert stats(client, fake) == Stats(active=0, queued=0, idle=0, connections=0)
        assert (await ask(client, fake.upstream).failure()).detail == "the client was closed"
        await client.aclose()
        assert not any(timer._buckets.values())
        timer.close()
