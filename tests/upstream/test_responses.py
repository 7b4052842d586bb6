"""What a connection makes of the bytes of an upstream: every framing, every cap, nothing left for the next one."""

from __future__ import annotations

import pytest
import uvloop

from bff.model import Failure, Reason, Reply
from bff.upstream.connection import KNOWN, SHORT, Head, Known
from tests.upstream.wire import OK, MovableClock, Peer, answering, ask, close, connecting, serving

pytestmark = pytest.mark.anyio
HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture(params=[MovableClock, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": request.param}


# --- complete answers

WHOLE = {
    "a length": (HEAD + b"Content-Length: 2\r\n\r\nhi", 200, b"hi"),
    "no body": (HEAD + b"Content-Length: 0\r\n\r\n", 200, b""),
    "chunks": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\nh\r\n1\r\ni\r\n1\r\n!\r\n0\r\n\r\n", 200, b"hi!"),
    "204 has none": (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
    "304 has none": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 99999999\r\n\r\n", 304, b""),
    "no reason phrase": (b"HTTP/1.1 404\r\nContent-Length: 2\r\n\r\nhi", 404, b"hi"),
    "1.0 kept alive": (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi", 200, b"hi"),
    "identity": (HEAD + b"Content-Encoding: Identity\r\nContent-Length: 2\r\n\r\nhi", 200, b"hi"),
    "a redirect is not followed": (b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", 302, b""),
}


@pytest.mark.parametrize("case", WHOLE)
async def test_a_framed_answer_is_whole_and_its_connection_serves_again(case: str) -> None:
    raw, status, body = WHOLE[case]
    async with serving(answering(raw)) as fake, connecting() as client:
        for _ in range(2):
            reply = await ask(client, fake.upstream).reply()
            assert (reply.status, reply.body) == (status, body)
        assert len(fake.peers) == 1


@pytest.mark.parametrize("case", WHOLE)
async def test_an_answer_may_come_a_byte_at_a_time(case: str) -> None:
    raw, status, body = WHOLE[case]

    async def script(peer: Peer) -> None:
        await peer.head()
        peer.writer.get_extra_info("socket").setsockopt(6, 1, 1)  # TCP_NODELAY
        for index in range(len(raw)):
            await peer.send(raw[index : index + 1])
        await peer.ended()

    async with serving(script) as fake, connecting() as client:
        reply = await ask(client, fake.upstream).reply()
        assert (reply.status, reply.body) == (status, body)


async def heard(*reads: bytes, method: str = "GET", max_body: int = 64) -> Reply | Failure:
    """What the second of two requests hears, where an OK has answered the first."""
    answers = iter([(OK,), reads])

    async def script(peer: Peer) -> None:
        for pieces in answers:
            await peer.head()
            for piece in pieces:
                await peer.send(piece)
        await peer.ended()

    async with serving(script) as fake, connecting() as client:
        await ask(client, fake.upstream).reply()
        return await ask(client, fake.upstream, method=method, max_body=max_body).outcome


async def test_a_head_that_comes_again_says_the_same_of_another_body() -> None:
    reply = await heard(OK[:-2] + b"yo")
    assert isinstance(reply, Reply)
    assert (reply.status, reply.body, reply.found) == (200, b"yo", {b"content-length": b"2"})
    assert list(reply.headers) == [(b"content-length", b"2")]


async def test_a_head_that_comes_again_without_all_of_its_body_is_read_on() -> None:
    reply = await heard(OK[:-1], b"o")
    assert isinstance(reply, Reply)
    assert reply.body == b"ho"


async def test_a_head_that_comes_again_is_under_the_cap_of_its_own_request() -> None:
    failure = await heard(OK, max_body=1)
    assert isinstance(failure, Failure)
    assert failure.reason is Reason.TOO_LARGE


async def test_a_head_that_comes_again_has_no_body_where_none_was_asked_for() -> None:
    reply = await heard(OK[:-2], method="HEAD")
    assert isinstance(reply, Reply)
    assert reply.body == b""


def test_only_so_many_heads_are_remembered_and_no_long_ones() -> None:
    known, head = Known(), Head(200, [], {}, 0)
    for number in range(KNOWN):
        known.learn(b"%d" % number, head)
    assert len(known) == KNOWN
    known.learn(b"x" * (SHORT + 1), head)
    assert len(known) == KNOWN
    known.learn(b"x" * SHORT, head)
    assert [*known] == [b"x" * SHORT]


ONCE = {
    "delimited by its end": (HEAD + b"\r\nhi", b"hi"),
    "1.0": (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", b"hi"),
    "1.0 delimited by its end": (b"HTTP/1.0 200 OK\r\n\r\nhi", b"hi"),
    "says it closes": (HEAD + b"Connection: close\r\nContent-Length: 2\r\n\r\nhi", b"hi"),
    "trailers": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX: y\r\n\r\n", b"hi"),
    "one byte too many": (OK + b"!", b"hi"),
    "a line too many": (OK + b"\r\n", b"hi"),
    "chunks and a line too many": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n\r\n", b"hi"),
    "another answer": (OK + HEAD + b"Content-Length: 6\r\n\r\npoison", b"hi"),
    "another head": (OK + HEAD, b"hi"),
    "another answer after none": (b"HTTP/1.1 204 No Content\r\n\r\n" + OK, b""),
    "a body for 204": (b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nhi", b""),
}


@pytest.mark.parametrize("case", ONCE)
async def test_a_connection_that_may_hold_more_is_not_used_again(case: str) -> None:
    raw, body = ONCE[case]

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(raw)
        peer.writer.write_eof()

    async with serving(script) as fake, connecting() as client:
        for _ in range(2):
            reply = await ask(client, fake.upstream).reply()
            assert (reply.status in (200, 204), reply.body) == (True, body)
            assert client.stats()[f"http://{fake.upstream.authority}"].idle == 0
        assert len(fake.peers) == 2


async def test_trailers_are_no_headers() -> None:
    raw = HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Encoding: gzip\r\n\r\n"
    async with serving(answering(raw)) as fake, connecting() as client:
        reply = await ask(client, fake.upstream).reply()
        assert reply.headers == [(b"transfer-encoding", b"chunked")]


async def test_names_are_lower_case_and_values_are_stripped() -> None:
    raw = HEAD + b"X-Twice: a\r\nx-TWICE:  b \t\r\nEmpty:\r\nContent-Length: 0 \r\n\r\n"
    async with serving(answering(raw)) as fake, connecting() as client:
        reply = await ask(client, fake.upstream).reply()
        assert reply.headers == [(b"x-twice", b"a"), (b"x-twice", b"b"), (b"empty", b""), (b"content-length", b"0")]


async def test_interim_answers_are_skipped() -> None:
    interim = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\nContent-Length: 7\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"
    async with serving(answering(interim + HEAD + b"\r\nhi", after=close)) as fake, connecting() as client:
        reply = await ask(client, fake.upstream).reply()
        assert (reply.status, reply.headers, reply.body) == (200, [], b"hi")


async def test_head_has_no_body_whatever_it_announces() -> None:
    answers = (HEAD + b"Content-Length: 99999999\r\n\r\n", OK)
    async with serving(answering(*answers)) as fake, connecting() as client:
        reply = await ask(client, fake.upstream, method="HEAD").reply()
        assert (reply.status, reply.body) == (200, b"")
        assert (await ask(client, fake.upstream).reply()).body == b"hi"
        assert len(fake.peers) == 1


@pytest.mark.parametrize("extra", [b"hi", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"])
async def test_a_body_for_head_is_given_to_nobody(extra: bytes) -> None:
    async with (
        serving(answering(HEAD + b"Content-Length: 2\r\n\r\n" + extra, OK)) as fake,
        connecting() as client,
    ):
        assert (await ask(client, fake.upstream, method="HEAD").reply()).body == b""
        await ask(client, fake.upstream).reply()
        assert len(fake.peers) == 2


# --- answers that are none

TORN = {
    "two lengths": HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nhi!",
    "the same length twice": HEAD + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nhi",
    "a length and chunks": HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and a length": HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n",
    "chunked twice": HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "gzip and chunks": HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "another coding": HEAD + b"Transfer-Encoding: gzip\r\n\r\nhi",
    "chunks in 1.0": b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a signed length": HEAD + b"Content-Length: +2\r\n\r\nhi",
    "a list of lengths": HEAD + b"Content-Length: 2, 2\r\n\r\nhi",
    "no length": HEAD + b"Content-Length:\r\n\r\nhi",
    "a folded header": HEAD + b"X: a\r\n b\r\nContent-Length: 2\r\n\r\nhi",
    "a space before the colon": HEAD + b"Content-Length : 2\r\n\r\nhi",
    "bare line feeds": b"HTTP/1.1 200 OK\nContent-Length: 2\n\nhi",
    "a bare carriage return": HEAD + b"X: a\rb\r\nContent-Length: 2\r\n\r\nhi",
    "a NUL": HEAD + b"X: a\0b\r\nContent-Length: 2\r\n\r\nhi",
    "a bad chunk size": HEAD + b"Transfer-Encoding: chunked\r\n\r\n0x2\r\nhi\r\n0\r\n\r\n",
    "a chunk too long": HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi!\r\n0\r\n\r\n",
    "a line feed in a chunk's extension": HEAD + b"Transfer-Encoding: chunked\r\n\r\n2;a\nb\r\nhi\r\n0\r\n\r\n",
    "garbage": b"hello\r\n\r\n",
    "HTTP/0.9": b"HTTP/0.9 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    "HTTP/2": b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    "status 099": b"HTTP/1.1 099 No\r\nContent-Length: 2\r\n\r\nhi",
    "status 600": b"HTTP/1.1 600 No\r\nContent-Length: 2\r\n\r\nhi",
    "status 2000": b"HTTP/1.1 2000 No\r\nContent-Length: 2\r\n\r\nhi",
    "nothing": b"",
    "half a head": HEAD + b"Content-Le",
    "half a body": HEAD + b"Content-Length: 3\r\n\r\nhi",
    "half the chunks": HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n",
    "only an interim answer": b"HTTP/1.1 100 Continue\r\n\r\n",
}


@pytest.mark.parametrize("case", TORN)
async def test_what_is_not_framed_beyond_doubt_is_torn(case: str) -> None:
    async with serving(answering(TORN[case], after=close)) as fake, connecting() as client:
        failure = await ask(client, fake.upstream).failure()
        assert (failure.reason, failure.status) == (Reason.TORN, "reset"), failure
        assert client.stats()[f"http://{fake.upstream.authority}"].idle == 0


async def test_a_reset_in_the_body_is_torn() -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(HEAD + b"\r\nhalf")
        peer.reset()

    async with serving(script) as fake, connecting() as client:
        assert (await ask(client, fake.upstream).failure()).reason is Reason.TORN


@pytest.mark.parametrize(
    "raw",
    [
        HEAD + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\nhi",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n",
    ],
)
async def test_what_was_not_asked_for_is_refused(raw: bytes) -> None:
    async with serving(answering(raw)) as fake, connecting() as client:
        failure = await ask(client, fake.upstream).failure()
        assert (failure.reason, failure.status) == (Reason.REFUSED, "refused"), failure


# --- caps

BODY = {
    "announced": HEAD + b"Content-Length: 11\r\n\r\n",
    "counted": HEAD + b"\r\n" + b"x" * 11,
    "counted in chunks": HEAD + b"Transfer-Encoding: chunked\r\n\r\n6\r\nxxxxxx\r\n5\r\nxxxxx\r\n",
}


@pytest.mark.parametrize("case", BODY)
async def test_a_body_over_the_cap_is_too_large(case: str) -> None:
    async with serving(answering(BODY[case])) as fake, connecting() as client:
        failure = await ask(client, fake.upstream, max_body=10).failure()
        assert failure.reason is Reason.TOO_LARGE, failure


async def test_a_body_as_large_as_the_cap_is_not() -> None:
    async with serving(answering(HEAD + b"Content-Length: 10\r\n\r\n" + b"x" * 10)) as fake, connecting() as client:
        assert len((await ask(client, fake.upstream, max_body=10).reply()).body) == 10


FILLER = b"X: " + b"y" * 100 + b"\r\n"


@pytest.mark.parametrize(
    "raw",
    [
        HEAD + FILLER * 20 + b"\r\n",
        HEAD + b"X: " + b"y" * 5000,
        (b"HTTP/1.1 103 Early Hints\r\n" + FILLER + b"\r\n") * 20 + OK,
        b"H" * 5000,
    ],
    ids=["fields", "one field", "interim answers", "garbage"],
)
async def test_heads_over_the_cap_are_too_large(raw: bytes) -> None:
    async with serving(answering(raw)) as fake, connecting(header_bytes=1000) as client:
        failure = await ask(client, fake.upstream).failure()
        assert failure.reason is (Reason.TORN if raw.startswith(b"HH") else Reason.TOO_LARGE), failure


async def test_a_body_in_the_same_read_is_not_counted_as_head() -> None:
    raw = HEAD + b"Content-Length: 5000\r\n\r\n" + b"x" * 5000
    async with serving(answering(raw)) as fake, connecting(header_bytes=1000) as client:
        for _ in range(2):
            assert len((await ask(client, fake.upstream).reply()).body) == 5000
        assert len(fake.peers) == 1


async def test_too_many_fields_are_too_large() -> None:
    async with (
        serving(answering(HEAD + b"X: y\r\n" * 256 + b"\r\n", HEAD + b"X: y\r\n" * 257 + b"\r\n", after=close)) as fake,
        connecting() as client,
    ):
        assert len((await ask(client, fake.upstream).reply()).headers) == 256
    async with serving(answering(HEAD + b"X: y\r\n" * 257 + b"\r\n")) as fake, connecting() as client:
        assert (await ask(client, fake.upstream).failure()).reason is Reason.TOO_LARGE


@pytest.mark.parametrize(
    "piece", [b"1;" + b"e" * 100 + b"\r\nx\r\n", b"0\r\nX: " + b"y" * 10000], ids=["chunks", "trailer"]
)
async def test_framing_may_not_outgrow_content(piece: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + piece)
        for _ in range(100):
            await peer.send(piece if piece.startswith(b"1") else b"y" * 1000)
        assert await peer.ended()

    async with serving(script) as fake, connecting(header_bytes=1000) as client:
        failure = await ask(client, fake.upstream).failure()
        assert failure.reason is Reason.TOO_LARGE, failure
