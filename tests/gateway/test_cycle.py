"""One request and its answer: framing, bodies, news of a lost client. Over real sockets."""

import asyncio
import logging
from typing import Any

import pytest

from tests.gateway.wire import OK, echo, respond, serving, start, until

pytestmark = pytest.mark.anyio

POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
HEAD = b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"


def body(data: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


async def test_a_body_without_a_length_goes_out_in_chunks() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await start(send)
        for piece in (b"a", b"", b"b" * 100_000):
            await send(body(piece, more=True))
        await send(body(b"c"))

    async with serving(app) as running:
        client = await running.connect()
        for _ in range(2):
            answer = await client.ask()
            assert answer.headers["transfer-encoding"] == "chunked"
            assert answer.body == b"a" + b"b" * 100_000 + b"c"


async def test_an_empty_last_piece_ends_the_chunks() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await start(send)
        await send(body(b"", more=True))
        await send({"type": "http.response.body"})

    async with serving(app) as running:
        assert (await running.ask()).body == b""


@pytest.mark.parametrize("size", [0, 10, 100_000])
async def test_a_body_of_known_length_is_sent_as_it_is(size: int) -> None:
    async with serving(respond(body=b"x" * size)) as running:
        client = await running.connect()
        for _ in range(2):
            answer = await client.ask()
            assert answer.body == b"x" * size
            assert "transfer-encoding" not in answer.headers


async def test_the_head_is_written_with_the_first_of_the_body() -> None:
    went_on = asyncio.Event()
    goes_on = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await start(send)
        went_on.set()
        await goes_on.wait()
        await send(body(b"a" * 40_000, more=True))
        await send(body(b"b" * 40_000))

    async with serving(app) as running:
        client = await running.connect()
        await client.send(OK)
        await went_on.wait()
        goes_on.set()
        assert len((await client.answer()).body) == 80_000


@pytest.mark.parametrize("status", [204, 304])
async def test_some_statuses_have_no_body(status: int) -> None:
    async with serving(respond(status, [], b"never")) as running:
        client = await running.connect()
        for _ in range(2):
            answer = await client.ask()
            assert answer.status == status
            assert "transfer-encoding" not in answer.headers


async def test_head_gets_the_head_alone() -> None:
    async with serving(respond()) as running:
        client = await running.connect()
        await client.send(HEAD + OK)
        assert (await client.answer(head=True)).headers["content-length"] == "4"
        assert (await client.answer()).body == b"well"


async def test_the_application_may_end_the_connection() -> None:
    async with serving(respond(headers=[(b"connection", b"close"), (b"content-length", b"4")])) as running:
        client = await running.connect()
        answer = await client.ask()
        assert answer.names.count("connection") == 1
        assert await client.rest() == b""


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [body(b"")],
        [{"type": "nonsense"}],
        [{"type": "http.response.start", "status": 200, "headers": [(b"a", b"b\r\nc: d")]}],
        [{"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1")]}, body(b"22")],
        [{"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"3")]}, body(b"22")],
        [{"type": "http.response.start", "status": 200}],
        [{"type": "http.response.start", "status": 200}, {"type": "http.response.start", "status": 200}],
    ],
)
async def test_an_application_that_fails_before_its_first_byte_is_a_500(
    messages: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)

    async with serving(app) as running:
        client = await running.connect()
        answer = await client.ask()
        assert answer.status == 500
        assert answer.headers["content-type"] == "application/problem+json"
        assert await client.rest() == b""
        assert running.server.shared.drain.streams == 0


async def test_a_failure_is_logged_without_the_query(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise LookupError("oh")

    with caplog.at_level(logging.ERROR):
        async with serving(app) as running:
            assert (await running.ask(b"GET /a?secret HTTP/1.1\r\nHost: a\r\n\r\n")).status == 500
    assert "the application failed on GET /a" in caplog.text
    assert "LookupError: oh" in caplog.text
    assert "secret" not in caplog.text


async def test_a_response_that_breaks_off_is_not_ended(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await start(send)
        await send(body(b"a", more=True))
        raise LookupError("oh")

    async with serving(app) as running:
        client = await running.connect()
        await client.send(OK)
        said = await client.rest()
        assert said.endswith(b"\r\n\r\n1\r\na\r\n")
        assert running.server.shared.drain.streams == 0


async def test_nothing_can_be_sent_after_the_end(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond()(scope, receive, send)
        await send(body(b"more"))

    async with serving(app) as running:
        client = await running.connect()
        assert (await client.ask()).body == b"well"
        assert (await client.ask()).body == b"well"
    assert "complete already" in caplog.text


async def test_the_client_is_told_to_go_on_when_the_application_reads() -> None:
    reads = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await reads.wait()
        await echo(scope, receive, send)

    async with serving(app) as running:
        client = await running.connect()
        await client.send(POST + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        reads.set()
        assert (await client.answer()).status == 100
        assert (await client.ask(b"hi")).body == b"POST|/||a|hi"


async def test_a_body_that_was_not_asked_for_ends_the_connection() -> None:
    async with serving(respond()) as running:
        client = await running.connect()
        answer = await client.ask(POST + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert answer.headers["connection"] == "close"
        assert await client.rest() == b""


async def test_a_body_sent_in_spite_of_the_question_is_fine() -> None:
    async with serving(respond()) as running:
        client = await running.connect()
        for _ in range(2):
            answer = await client.ask(POST + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\nhi")
            assert "connection" not in answer.headers


async def test_a_large_body_waits_for_its_reader() -> None:
    reads = asyncio.Event()
    sizes: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await reads.wait()
        more = True
        while more:
            message = await receive()
            sizes.append(len(message["body"]))
            more = message["more_body"]
        await respond()(scope, receive, send)

    async with serving(app) as running:
        client = await running.connect()
        size = 8_000_000
        sending = asyncio.ensure_future(client.send(POST + b"Content-Length: %d\r\n\r\n" % size + b"x" * size))
        await until(lambda: any(len(cycle._body) > 65536 for cycle in running.server.shared.cycles))
        assert not sending.done()
        reads.set()
        assert (await client.answer()).body == b"well"
        await sending
        assert sum(sizes) == size
        assert max(sizes) < 600_000


async def test_receive_tells_the_end_of_the_connection_and_of_the_response() -> None:
    seen: list[str] = []
    ended = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((await receive())["type"])
        if scope["path"] == "/answer":
            await respond()(scope, receive, send)
        seen.append((await receive())["type"])
        ended.set()

    async with serving(app) as running:
        assert (await running.ask(b"GET /answer HTTP/1.1\r\nHost: a\r\n\r\n")).status == 200
        await ended.wait()
        ended.clear()
        client = await running.connect()
        await client.send(OK)
        await until(lambda: len(seen) == 3)
        client.reset()
        await ended.wait()
    assert seen == ["http.request", "http.disconnect"] * 2


async def test_a_lost_client_is_told_once_to_everyone_who_asked(caplog: pytest.LogCaptureFixture) -> None:
    calls: list[str] = []
    waits, ended = asyncio.Event(), asyncio.Event()

    def fails() -> None:
        calls.append("fails")
        raise LookupError("oh")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        closed = scope["extensions"]["bff.closed"]
        gone = asyncio.Event()
        closed(fails)
        closed(gone.set)
        waits.set()
        await gone.wait()
        closed(lambda: calls.append("late"))
        await start(send)
        await send(body(b"nobody"))
        ended.set()

    async with serving(app) as running:
        client = await running.connect()
        await client.send(OK)
        await waits.wait()
        assert running.server.shared.drain.streams == 1
        await client.close()
        await ended.wait()
        assert running.server.shared.drain.streams == 0
    assert calls == ["fails", "late"]
    assert "a callback on a lost client failed" in caplog.text


async def test_nobody_is_told_of_a_client_that_leaves_after_its_answer() -> None:
    calls: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        closed = scope["extensions"]["bff.closed"]
        closed(lambda: calls.append("early"))
        await respond()(scope, receive, send)
        closed(lambda: calls.append("late"))

    async with serving(app) as running:
        client = await running.connect()
        assert (await client.ask()).status == 200
        await client.close()
        await until(lambda: not running.server.shared.connections)
    assert calls == []
