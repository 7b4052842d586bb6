"""Deadlines by wall clock, under a clock that the test moves."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from bff.model import Reason, Timeout, Upstream
from tests.upstream.wire import OK, MovableClock, Peer, advance, answering, ask, connecting, serving

pytestmark = pytest.mark.anyio
TIMEOUT = Timeout(connect=2.0, first_byte=10.0, total=20.0)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": MovableClock}


class Silent:
    """A script that answers with what it has, then says nothing more."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = pieces
        self.asked = asyncio.Event()
        self.more = asyncio.Event()

    async def __call__(self, peer: Peer) -> None:
        await peer.head()
        for piece in self.pieces:
            await peer.send(piece)
        self.asked.set()
        await self.more.wait()
        await peer.send(OK)
        await peer.ended()


@pytest.fixture
def full() -> Iterator[Upstream]:
    """An upstream that never accepts: its backlog is full."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        port = listening.getsockname()[1]
        waiting = []
        for _ in range(3):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
            waiting.append(one)
        yield Upstream(scheme="http", host="127.0.0.1", port=port, authority=f"127.0.0.1:{port}")
        for one in waiting:
            one.close()


async def read(client: object) -> None:
    """Let what was sent arrive: a few turns over loopback."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_silent_upstream_ends_at_first_byte_not_before() -> None:
    script = Silent()
    async with serving(script) as fake, connecting() as client:
        asked = ask(client, fake.upstream, timeout=TIMEOUT)
        await script.asked.wait()
        await advance(9.9)
        assert not asked.calls
        await advance(0.2)
        failure = await asked.failure()
        assert (failure.reason, failure.status) == (Reason.TIMEOUT, "timeout")
        assert failure.timing.total >= 10.0
        assert failure.timing.first_byte == 0.0
        assert "first byte" in failure.detail


@pytest.mark.parametrize(
    "start",
    [b"H", b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"],
    ids=["head", "to its end", "length"],
)
async def test_an_answer_that_trickles_ends_at_total(start: bytes) -> None:
    script = Silent(start)
    async with serving(script) as fake, connecting() as client:
        asked = ask(client, fake.upstream, timeout=TIMEOUT)
        await script.asked.wait()
        await read(client)
        await advance(10.1)
        await advance(9.7)
        assert not asked.calls
        await advance(0.3)
        failure = await asked.failure()
        assert failure.reason is Reason.TIMEOUT
        assert failure.timing.first_byte > 0.0
        assert "not complete" in failure.detail


async def test_interim_answers_put_nothing_off() -> None:
    script = Silent(b"HTTP/1.1 103 Early Hints\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\n\r\n")
    async with serving(script) as fake, connecting() as client:
        asked = ask(client, fake.upstream, timeout=TIMEOUT)
        await script.asked.wait()
        await read(client)
        await advance(10.1)
        assert "first byte" in (await asked.failure()).detail


async def test_total_may_be_the_shortest() -> None:
    script = Silent()
    async with serving(script) as fake, connecting() as client:
        asked = ask(client, fake.upstream, timeout=Timeout(connect=9.0, first_byte=9.0, total=1.0))
        await script.asked.wait()
        await advance(1.1)
        assert (await asked.failure()).reason is Reason.TIMEOUT


async def test_no_connection_in_time_is_connect(full: Upstream) -> None:
    async with connecting() as client:
        asked = ask(client, full, timeout=TIMEOUT)
        await read(client)
        await advance(1.9)
        assert not asked.calls
        await advance(0.2)
        failure = await asked.failure()
        assert (failure.reason, failure.status) == (Reason.CONNECT, "connect")


async def test_waiting_for_a_place_ends_at_first_byte() -> None:
    script = Silent()
    async with serving(script) as fake, connecting(connections=1) as client:
        first = ask(client, fake.upstream, timeout=Timeout(connect=9.0, first_byte=19.0, total=19.0))
        await script.asked.wait()
        queued = ask(client, fake.upstream, timeout=TIMEOUT)
        await advance(10.1)
        failure = await queued.failure()
        assert (failure.reason, failure.status) == (Reason.CONCURRENCY, "refused")
        script.more.set()
        await first.reply()


async def test_time_in_the_queue_counts_but_not_towards_connecting() -> None:
    script = Silent()
    async with serving(script) as fake, connecting(connections=1) as client:
        first = ask(client, fake.upstream, timeout=TIMEOUT)
        await script.asked.wait()
        queued = ask(client, fake.upstream, timeout=TIMEOUT)
        await advance(5.0)  # longer than `connect`
        first.exchange.cancel()
        script.more.set()
        reply = await queued.reply()
        assert reply.timing.queued >= 5.0
        assert reply.timing.queued <= reply.timing.connected <= reply.timing.first_byte <= reply.timing.total


async def test_times_of_an_answer_on_a_kept_connection_begin_at_the_ask() -> None:
    async with serving(answering(OK)) as fake, connecting() as client:
        await ask(client, fake.upstream).reply()
        await advance(1.0)
        timing = (await ask(client, fake.upstream).reply()).timing
        assert timing.queued == timing.connected == 0.0
        assert 0.0 <= timing.first_byte <= timing.total < 1.0


async def test_idle_connections_are_closed_after_a_while() -> None:
    async with serving(answering(OK)) as fake, connecting(idle=4.0) as client:
        name = f"http://{fake.upstream.authority}"
        both = [ask(client, fake.upstream) for _ in range(2)]
        for each in both:
            await each.reply()
        await advance(3.0)
        assert client.stats()[name].idle == 2
        await ask(client, fake.upstream).reply()  # keeps one of them
        await advance(1.6)
        assert client.stats()[name].idle == 1
        await advance(4.6)
        assert client.stats()[name].idle == 0
        await ask(client, fake.upstream).reply()
        assert len(fake.peers) == 3


async def test_what_must_not_be_sent_twice_takes_only_a_warm_connection() -> None:
    async with serving(answering(OK)) as fake, connecting() as client:
        await ask(client, fake.upstream).reply()
        await ask(client, fake.upstream, method="POST").reply()
        assert len(fake.peers) == 1
        await advance(1.5)
        await ask(client, fake.upstream, method="POST").reply()
        assert len(fake.peers) == 2


async def test_a_deadline_that_has_passed_touches_no_later_exchange() -> None:
    async with serving(answering(OK)) as fake, connecting() as client:
        await ask(client, fake.upstream, timeout=TIMEOUT).reply()
        script = Silent()
        async with serving(script) as other:
            asked = ask(client, other.upstream, timeout=Timeout(connect=99.0, first_byte=99.0, total=99.0))
            await script.asked.wait()
            await advance(30.0)
            assert not asked.calls
            asked.exchange.cancel()
            await advance(99.0)
            assert not asked.calls
