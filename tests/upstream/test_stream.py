"""Streamed exchanges over real sockets: framing, flow both ways in bytes, interim answers, ends of every kind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from bff.model import Failure, Reason, Timeout
from bff.upstream.client import Client
from bff.upstream.stream import HIGH, Body, Head, Stream, Streams, Torn
from tests.upstream.wire import TIMEOUT, Fake, MovableClock, Peer, advance, answering, connecting, serving, until

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    if request.param == "uvloop":
        return "asyncio", {"use_uvloop": True}
    return "asyncio"


def start(client: Client, fake: Fake, method: str = "GET", *, body: Body | None = None, **more: Any) -> Stream:
    options: dict[str, Any] = {"timeout": TIMEOUT, "limit": 8, "lines": [(b"x-a", b"1")], "target": "/t"} | more
    return Streams(client)(fake.upstream, method, body=body, **options)


async def whole(stream: Stream) -> bytes:
    found = b""
    while piece := await stream.read():
        found += piece
    return found


async def headed(stream: Stream) -> Head:
    head = await stream.head()
    assert isinstance(head, Head), head
    return head


async def failed(stream: Stream) -> Failure:
    failure = await stream.head()
    assert isinstance(failure, Failure), failure
    return failure


@pytest.mark.parametrize(
    ("answer", "body", "length"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-B: c\r\n\r\nhello", b"hello", 5),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\nX-T: 1\r\n\r\n",
            b"hello",
            None,
        ),
        (
            b"HTTP/1.1 103 Early\r\nLink: </x>\r\n\r\nHTTP/1.1 102 P\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            b"",
            0,
        ),
        (b"HTTP/1.1 204 No\r\n\r\n", b"", None),
        (b"HTTP/1.1 304 No\r\nContent-Length: 7\r\n\r\n", b"", None),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi", b"hi", 2),
    ],
)
async def test_answers_of_every_framing_leave_their_connection_to_the_next(
    answer: bytes, body: bytes, length: int | None
) -> None:
    async with serving(answering(answer)) as fake, connecting() as client:
        for _ in range(2):
            stream = start(client, fake)
            head = await headed(stream)
            assert (await whole(stream), head.length) == (body, length)
            assert not any(name == b"x-t" for name, _ in head.headers)
            assert await stream.read() == b""
            stream.cancel()
        assert len(fake.peers) == 1


async def test_the_request_as_the_upstream_reads_it() -> None:
    heads: list[bytes] = []

    async def script(peer: Peer) -> None:
        heads.append(await peer.head())
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        heads.append(await peer.head())
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async with serving(script) as fake, connecting() as client:
        await headed(start(client, fake, "M-SEARCH"))
        await headed(start(client, fake, "POST"))
        host = fake.upstream.authority.encode()
    assert heads[0] == b"M-SEARCH /t HTTP/1.1\r\nhost: %b\r\nx-a: 1\r\n\r\n" % host
    assert heads[1] == b"POST /t HTTP/1.1\r\nhost: %b\r\ncontent-length: 0\r\nx-a: 1\r\n\r\n" % host


async def test_the_head_of_a_head_request_ends_its_answer() -> None:
    async with serving(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")) as fake, connecting() as client:
        for _ in range(2):
            stream = start(client, fake, "HEAD")
            assert (await headed(stream)).length is None
            assert await whole(stream) == b""
        assert len(fake.peers) == 1


async def test_a_body_where_none_may_be_is_nobodys() -> None:
    async with serving(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")) as fake, connecting() as client:
        for _ in range(2):
            stream = start(client, fake, "HEAD")
            await headed(stream)
            assert await whole(stream) == b""
        assert len(fake.peers) == 2


async def test_a_head_may_come_with_more_than_a_heads_worth_of_body() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + b"x" * 200000
    async with serving(answering(answer)) as fake, connecting() as client:
        for _ in range(2):
            stream = start(client, fake)
            await headed(stream)
            assert await whole(stream) == b"x" * 200000
        assert len(fake.peers) == 1


async def test_a_body_until_the_end_of_the_connection() -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\nall of it")

    async with serving(script) as fake, connecting() as client:
        stream = start(client, fake)
        await headed(stream)
        assert await whole(stream) == b"all of it"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi junk",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi",
    ],
)
async def test_what_follows_an_answer_is_nobodys(answer: bytes) -> None:
    async with serving(answering(answer)) as fake, connecting() as client:
        for _ in range(2):
            stream = start(client, fake)
            await headed(stream)
            assert await whole(stream) == b"hi"
        assert len(fake.peers) == 2


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n", Reason.REFUSED),
        (b"HTTP/1.1 199 ?\r\n\r\nHTTP/1.1 700 ?\r\n\r\n", Reason.REFUSED),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", Reason.TORN),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", Reason.TORN),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", Reason.TORN),
        (b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Reason.TORN),
        (b"HTTP/1.9 200 OK\r\nContent-Length: 0\r\n\r\n", Reason.TORN),
        (b"garbage\r\n\r\n", Reason.TORN),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000 + b"\r\n\r\n", Reason.TOO_LARGE),
        (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 300 + b"\r\n", Reason.TOO_LARGE),
        (b"HTTP/1.1 100 C\r\n\r\n" * 6000, Reason.TOO_LARGE),
        (b"HTTP/1.1 200 OK\r\nContent", Reason.TORN),
    ],
)
async def test_what_is_no_answer_breaks(answer: bytes, reason: Reason) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(answer)

    async with serving(script) as fake, connecting() as client:
        assert (await failed(start(client, fake))).reason is reason


@pytest.mark.parametrize("framing", [b"Content-Length: 9", b"Transfer-Encoding: chunked"])
@pytest.mark.parametrize("reset", [False, True])
async def test_a_body_that_ends_early_is_torn(framing: bytes, reset: bool) -> None:
    go = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(
            b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n" + (b"" if b"Len" in framing else b"9\r\n") + b"part"
        )
        await go.wait()
        if reset:
            peer.reset()

    async with serving(script) as fake, connecting() as client:
        stream = start(client, fake)
        await headed(stream)
        assert await stream.read() == b"part"
        go.set()
        with pytest.raises(Torn) as torn:
            await stream.read()
        assert torn.value.failure.reason is Reason.TORN
        assert stream.failure is torn.value.failure


async def test_endless_framing_without_content_breaks() -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n" + b"t: v\r\n" * 40_000)

    async with serving(script) as fake, connecting() as client:
        stream = start(client, fake)
        await headed(stream)
        assert await stream.read() == b"x"
        with pytest.raises(Torn):
            await stream.read()


async def test_a_slow_reader_holds_the_upstream() -> None:
    sent = 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (64 << 20))
        for _ in range(64 * 16):
            await peer.send(b"x" * 65536)
            sent += 65536

    async with serving(script) as fake, connecting() as client:
        stream = start(client, fake)
        await headed(stream)
        await until(lambda: stream._wire is not None and stream._wire._held)
        before = -1
        while before != sent:  # until the kernel's buffers are full too
            before = sent
            for _ in range(200):
                await asyncio.sleep(0)
        assert sent < 16 << 20
        assert HIGH <= stream._size <= HIGH + (256 << 10)
        total = 0
        while piece := await stream.read():
            total += len(piece)
            assert stream._size <= HIGH + (256 << 10)
        assert total == 64 << 20


async def test_a_slow_upstream_holds_the_writer() -> None:
    go = asyncio.Event()
    got = 0

    async def script(peer: Peer) -> None:
        nonlocal got
        await peer.head()
        await go.wait()
        while got < 32 << 20:
            got += len(await peer.reader.read(1 << 20))
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async with serving(script) as fake, connecting() as client:
        stream = start(client, fake, "PUT", body=Body(32 << 20))
        written = 0

        async def upload() -> None:
            nonlocal written
            while written < 32 << 20:
                assert await stream.write(b"y" * 65536)
                written += 65536
            await stream.finish()

        task = asyncio.ensure_future(upload())
        await until(lambda: stream._full)
        for _ in range(100):
            await asyncio.sleep(0)
        assert written < 16 << 20, "the kernel's buffers and ours, no more"
        go.set()
        assert (await headed(stream)).status == 200
        await task
        assert got == 32 << 20


async def test_chunks_where_the_length_is_unknown() -> None:
    body = b""

    async def script(peer: Peer) -> None:
        nonlocal body
        head = await peer.head()
        assert b"transfer-encoding: chunked\r\n" in head
        body = await peer.reader.readuntil(b"0\r\n\r\n")
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        assert await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async with serving(script) as fake, connecting() as client:
        stream = start(client, fake, "POST", body=Body(None))
        assert await stream.wanted()
        for piece in (b"abc", b"", b"defg"):
            assert await stream.write(piece)
        await stream.finish()
        await headed(stream)
        assert await whole(stream) == b""
        assert not await stream.write(b"more")
        await stream.finish()
        await headed(start(client, fake))
        assert len(fake.peers) == 1
    assert body == b"3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n"


async def test_100_continue_is_waited_for() -> None:
    asked = asyncio.Event()
    go = asyncio.Event()

    async def script(peer: Peer) -> None:
        assert b"expect: 100-continue\r\n" in await peer.head()
        asked.set()
        await go.wait()
        await peer.send(b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n")
        assert await peer.reader.readexactly(2) == b"hi"
        await peer.send(b"HTTP/1.1 201 Made\r\nContent-Length: 0\r\n\r\n")

    async with serving(script) as fake, connecting() as client:
        stream = start(client, fake, "POST", body=Body(2, expects=True))
        wanted = asyncio.ensure_future(stream.wanted())
        await asked.wait()
        assert not wanted.done()
        go.set()
        assert await wanted
        assert await stream.write(b"hi")
        await stream.finish()
        assert (await headed(stream)).status == 201


async def test_a_final_answer_instead_of_100() -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n")
        assert await peer.ended()

    async with serving(script) as fake, connecting() as client:
        stream = start(client, fake, "POST", body=Body(2, expects=True))
        assert not await stream.wanted()
        assert (await headed(stream)).status == 417
        await fake.peers[0].over.wait()


async def test_an_early_answer_ends_the_upload() -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.reader.readexactly(3)
        await peer.send(b"HTTP/1.1 413 Large\r\nContent-Length: 3\r\n\r\nbig")
        assert await peer.ended()

    async with serving(script) as fake, connecting() as client:
        stream = start(client, fake, "POST", body=Body(1 << 30))
        assert await stream.write(b"abc")
        assert (await headed(stream)).status == 413
        assert await whole(stream) == b"big"
        assert not await stream.write(b"x")
        await fake.peers[0].over.wait()


async def test_cancelling_closes_the_connection_and_wakes_whoever_waits() -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
        assert await peer.ended()

    async with serving(script) as fake, connecting() as client:
        stream = start(client, fake)
        await headed(stream)
        reading = asyncio.ensure_future(stream.read())
        await asyncio.sleep(0)
        stream.cancel()
        stream.cancel()
        with pytest.raises(Torn):
            await reading
        await fake.peers[0].over.wait()


async def test_refusals() -> None:
    async with serving(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")) as fake, connecting() as client:
        bad: list[dict[str, Any]] = [
            {"target": "*"},
            {"target": "/a b"},
            {"lines": [(b"a", b"b\r\nc: d")]},
            {"lines": [(b"a b", b"c")]},
        ]
        for each in bad:
            assert (await failed(start(client, fake, **each))).reason is Reason.REFUSED
        assert (await failed(start(client, fake, "CONNECT"))).reason is Reason.REFUSED
        assert fake.peers == []


async def test_places_are_shared_and_waited_for() -> None:
    async def script(peer: Peer) -> None:
        while await peer.head():
            await gate.wait()
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    gate = asyncio.Event()
    async with serving(script) as fake, connecting() as client:
        first, waiting = start(client, fake, limit=1), start(client, fake, "POST", body=Body(1), limit=1)
        assert (await failed(start(client, fake, limit=1))).reason is Reason.CONCURRENCY
        writing = asyncio.ensure_future(waiting.write(b"x"))
        await asyncio.sleep(0)
        waiting.cancel()
        assert not await writing
        second = start(client, fake, limit=1)
        gate.set()
        await headed(first)
        await headed(second)
        assert len(fake.peers) == 1


async def test_a_closed_client_refuses() -> None:
    async with serving(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")) as fake:
        async with connecting() as client:
            pass
        assert (await failed(start(client, fake))).reason is Reason.REFUSED


async def test_a_kept_connection_that_ended_unheard_is_tried_once_more() -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        if peer.number == 0:
            await peer.head()
            peer.reset()
        else:
            await peer.head()

    async with serving(script) as fake, connecting() as client:
        await headed(start(client, fake))
        await headed(start(client, fake))
        assert len(fake.peers) == 2
        assert (await failed(start(client, fake, "POST", body=Body(0)))).reason is Reason.TORN


async def test_no_connection() -> None:
    async with serving(answering(b"")) as fake:
        pass
    async with connecting() as client:
        assert (await failed(start(client, fake))).reason is Reason.CONNECT


# --- time -------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def asked(script: Callable[[Peer], Any]) -> AsyncIterator[tuple[Client, Fake]]:
    async with serving(script) as fake, connecting() as client:
        yield client, fake


BRISK = Timeout(connect=1.0, first_byte=5.0, total=8.0)


class TestTime:
    """On a loop whose clock moves when told to."""

    @pytest.fixture
    def anyio_backend(self) -> Any:
        return "asyncio", {"loop_factory": MovableClock}

    async def test_the_head_must_begin_in_time(self) -> None:
        async def script(peer: Peer) -> None:
            await peer.head()
            assert await peer.ended()

        async with asked(script) as (client, fake):
            stream = start(client, fake, timeout=BRISK)
            await until(lambda: fake.peers and stream._wire)
            await advance(4.9)
            assert stream.failure is None
            await advance(0.3)
            assert (await failed(stream)).reason is Reason.TIMEOUT

    async def test_an_upload_may_take_as_long_as_it_moves(self) -> None:
        async def script(peer: Peer) -> None:
            await peer.head()
            await peer.reader.readexactly(3)
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

        async with asked(script) as (client, fake):
            stream = start(client, fake, "PUT", body=Body(3), timeout=BRISK)
            for piece in (b"a", b"b", b"c"):
                assert await stream.write(piece)
                await advance(20)
            await stream.finish()
            assert (await headed(stream)).status == 200

    async def test_an_upstream_that_takes_nothing_is_given_up(self) -> None:
        async def script(peer: Peer) -> None:
            await peer.head()
            await peer.over.wait()

        async with asked(script) as (client, fake):
            stream = start(client, fake, "PUT", body=Body(None), timeout=BRISK)

            async def upload() -> None:
                while await stream.write(b"z" * 65536):
                    pass

            task = asyncio.ensure_future(upload())
            await until(lambda: stream._full)
            for _ in range(100):
                await asyncio.sleep(0)
            await advance(8.2)
            await task
            assert (await failed(stream)).reason is Reason.TIMEOUT

    async def test_a_body_may_pause_for_total_but_go_on_for_longer(self) -> None:
        more = asyncio.Event()

        async def script(peer: Peer) -> None:
            await peer.head()
            await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            for _ in range(3):
                await peer.send(b"1\r\nx\r\n")
                await more.wait()
                more.clear()
            assert await peer.ended()

        async with asked(script) as (client, fake):
            stream = start(client, fake, timeout=BRISK)
            await headed(stream)
            for _ in range(2):
                assert await stream.read() == b"x"
                await advance(7)
                more.set()
            assert await stream.read() == b"x"
            await advance(8.2)
            with pytest.raises(Torn) as torn:
                await stream.read()
            assert torn.value.failure.reason is Reason.TIMEOUT

    async def test_a_head_that_trickles_in_ends_too(self) -> None:
        async def script(peer: Peer) -> None:
            await peer.head()
            await peer.send(b"HTTP/1.1 20")
            assert await peer.ended()

        async with asked(script) as (client, fake):
            stream = start(client, fake, timeout=BRISK)
            await until(lambda: stream._began)
            await advance(6)
            assert stream.failure is None
            await advance(2.2)
            assert (await failed(stream)).reason is Reason.TIMEOUT

    async def test_a_reader_who_is_behind_costs_the_upstream_no_time(self) -> None:
        async def script(peer: Peer) -> None:
            await peer.head()
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (1 << 20) + b"x" * (1 << 20))

        async with asked(script) as (client, fake):
            stream = start(client, fake, timeout=BRISK)
            await until(lambda: stream._wire is not None and stream._wire._held)
            for _ in range(5):
                await advance(9)
            assert len(await whole(stream)) == 1 << 20

    async def test_100_continue_that_never_comes_is_not_waited_for_long(self) -> None:
        async def script(peer: Peer) -> None:
            await peer.head()
            assert await peer.reader.readexactly(1) == b"x"
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

        async with asked(script) as (client, fake):
            stream = start(client, fake, "POST", body=Body(1, expects=True), timeout=BRISK)
            wanted = asyncio.ensure_future(stream.wanted())
            await until(lambda: stream._wire)
            await asyncio.sleep(0)
            await advance(1.1)
            assert await wanted
            assert await stream.write(b"x")
            await stream.finish()
            await headed(stream)
