"""The order of answers, the time anything may take, answers at once, and the way out. Over real sockets."""

import asyncio
from typing import Any

import pytest

from bff.gateway.state import Drain
from tests.gateway.wire import OK, Handler, echo, respond, serving, start, until

pytestmark = pytest.mark.anyio

SOON = 0.06  # seconds: long enough for a busy machine to be punctual, short enough to wait for
POST = b"POST / HTTP/1.1\r\nHost: a\r\n"


class Held:
    """An application whose answers wait for the test."""

    def __init__(self) -> None:
        self.asked: asyncio.Queue[str] = asyncio.Queue()
        self.release = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked.put_nowait(scope["path"])
        await self.release.wait()
        await echo(scope, receive, send)


class AtOnce:
    """An application with an answer at hand for every path but `/slow`."""

    def __init__(self, answer: Any = (200, [], b"now"), then: Handler = echo) -> None:
        self._answer = answer
        self._then = then

    def now(self, scope: Any) -> Any:
        if scope["path"] == "/fails":
            raise LookupError("oh")
        return None if scope["path"] == "/slow" else self._answer

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._then(scope, receive, send)


def get(path: bytes, rest: bytes = b"") -> bytes:
    return b"GET " + path + b" HTTP/1.1\r\nHost: a\r\n" + rest + b"\r\n"


# --- order ------------------------------------------------------------------------------------------------------------


async def test_pipelined_requests_are_answered_in_order_one_at_a_time() -> None:
    app = Held()
    async with serving(app) as running:
        client = await running.connect()
        await client.send(get(b"/1") + get(b"/2") + get(b"/3"))
        assert await app.asked.get() == "/1"
        assert running.server.shared.drain.streams == 1
        assert app.asked.empty()
        app.release.set()
        assert [(await client.answer()).body for _ in range(3)] == [b"GET|/%d||a|" % n for n in (1, 2, 3)]
        assert (await client.ask(get(b"/4"))).body == b"GET|/4||a|"


async def test_the_loop_turns_between_thousands_of_requests_in_one_read() -> None:
    """Else one client could hold up all others for a second by 250 KB."""
    told: list[int] = []

    class Counting(AtOnce):
        asked = 0

        def now(self, scope: Any) -> Any:
            self.asked += 1
            if self.asked == 1:
                asyncio.get_running_loop().call_soon(lambda: told.append(self.asked))
            return super().now(scope)

    async with serving(Counting()) as running:
        client = await running.connect()
        await client.send(get(b"/") * 3000)
        assert [(await client.answer()).body for _ in range(3000)] == [b"now"] * 3000
        assert told[0] < 200
        assert (await client.ask(get(b"/"))).body == b"now"


@pytest.mark.parametrize("length", [0, 5, 4000, 9000, 70_000])
async def test_bodies_among_thousands_of_requests_stay_whole(length: int) -> None:
    body = b"x" * length
    async with serving(AtOnce()) as running:
        client = await running.connect()
        one = get(b"/") + POST + b"Content-Length: %d\r\n\r\n" % length + body + get(b"/slow") + b"\r\n"
        sent = asyncio.ensure_future(client.send(one * 20))
        for _ in range(20):
            answers = [(await client.answer()).body for _ in range(3)]
            assert answers[0] in {b"now", b"GET|/||a|"}, "at once or behind another one"
            assert answers[1:] == [b"POST|/||a|" + body, b"GET|/slow||a|"]
        await sent


async def test_who_leaves_in_the_midst_of_thousands_of_requests_leaves_nothing() -> None:
    app = Held()
    async with serving(app) as running:
        client = await running.connect()
        await client.send(get(b"/1") * 3000)
        assert await app.asked.get() == "/1"
        client.reset()
        app.release.set()
        await until(lambda: not running.server.shared.connections)
        assert running.server.shared.drain.streams == 0


async def test_a_pipelined_body_waits_its_turn() -> None:
    app = Held()
    async with serving(app) as running:
        client = await running.connect()
        await client.send(get(b"/1") + POST + b"Content-Length: 4\r\n\r\nab")
        assert await app.asked.get() == "/1"
        app.release.set()
        assert (await client.answer()).body == b"GET|/1||a|"
        assert (await client.ask(b"cd")).body == b"POST|/||a|abcd"


async def test_a_broken_body_gives_way_to_its_error_where_nothing_was_written() -> None:
    app = Held()
    async with serving(app) as running:
        client = await running.connect()
        await client.send(POST + b"Transfer-Encoding: chunked\r\n\r\n")
        await app.asked.get()
        await client.send(b"nonsense\r\n")
        assert (await client.answer()).status == 400
        assert running.server.shared.drain.streams == 0
        app.release.set()
        assert await client.rest() == b""


async def test_a_broken_body_ends_an_answer_under_way() -> None:
    begun, ends = asyncio.Event(), asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await start(send)
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        begun.set()
        await ends.wait()

    async with serving(app) as running:
        client = await running.connect()
        await client.send(POST + b"Transfer-Encoding: chunked\r\n\r\n")
        await begun.wait()
        await client.send(b"nonsense\r\n")
        assert (await client.rest()).endswith(b"1\r\na\r\n")
        ends.set()


async def test_a_broken_body_that_waits_its_turn_is_refused_in_its_turn() -> None:
    app = Held()
    async with serving(app) as running:
        client = await running.connect()
        await client.send(get(b"/1") + POST + b"Transfer-Encoding: chunked\r\n\r\nnonsense\r\n")
        await app.asked.get()
        app.release.set()
        assert (await client.answer()).status == 200
        assert (await client.answer()).status == 400
        assert app.asked.empty()


@pytest.mark.parametrize("size", [10, 100_000])
async def test_a_body_that_nobody_reads_does_not_confuse_the_next_request(size: int) -> None:
    async with serving(respond()) as running:
        client = await running.connect()
        for _ in range(2):
            await client.send(b"GET /fat HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
            assert (await client.answer()).body == b"well"
            await client.send(b"G" * size)


async def test_a_large_body_that_nobody_reads_ends_the_connection() -> None:
    async with serving(respond()) as running:
        client = await running.connect()
        await client.send(POST + b"Content-Length: 2000000\r\n\r\n")
        assert (await client.answer()).body == b"well"
        await client.send(b"x" * 1_000_000)
        assert await client.rest() == b""


async def test_a_body_behind_a_last_answer_is_let_in_so_that_the_answer_gets_out() -> None:
    async with serving(respond(headers=[(b"connection", b"close"), (b"content-length", b"4")])) as running:
        client = await running.connect()
        await client.send(POST + b"Content-Length: 2000000\r\n\r\n")
        answer = await client.answer()
        assert answer.body == b"well"
        await client.send(b"x" * 100_000)
        assert await client.rest() == b""


# --- answers at once --------------------------------------------------------------------------------------------------


async def test_an_answer_at_hand_takes_no_task() -> None:
    async with serving(AtOnce()) as running:
        client = await running.connect()
        await client.send(get(b"/1") + get(b"/slow") + get(b"/2") + b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n" + get(b"/3"))
        assert (await client.answer()).body == b"now"
        assert (await client.answer()).body == b"GET|/slow||a|"
        assert (await client.answer()).body == b"GET|/2||a|"  # behind one that waits, everything waits
        assert (await client.answer(head=True)).status == 200
        assert (await client.answer()).status == 200
        answer = await client.ask(get(b"/4"))
        assert (answer.body, answer.headers["content-length"]) == (b"now", "3")
        assert running.server.shared.drain.streams == 0


@pytest.mark.parametrize("data", [POST + b"Content-Length: 0\r\n\r\n", get(b"/", b"Content-Length: 1\r\n") + b"x"])
async def test_only_a_get_without_a_body_is_answered_at_once(data: bytes) -> None:
    async with serving(AtOnce()) as running:
        assert (await running.ask(data)).body != b"now"


async def test_head_is_answered_at_once_without_its_body() -> None:
    async with serving(AtOnce((200, [(b"content-length", b"3")], b"now"))) as running:
        client = await running.connect()
        await client.send(b"HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n" + OK)
        assert (await client.answer(head=True)).headers["content-length"] == "3"
        assert (await client.answer()).body == b"now"


async def test_a_head_at_once_says_no_length_that_is_not_known() -> None:
    async with serving(AtOnce((200, [], b""))) as running:
        client = await running.connect()
        await client.send(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n" + OK)
        assert "content-length" not in (await client.answer(head=True)).headers  # RFC 9110 §8.6: what a GET would have
        assert (await client.answer()).headers["content-length"] == "0"


async def test_a_304_at_once_has_no_body_and_no_length() -> None:
    async with serving(AtOnce((304, [(b"etag", b'"a"')], b""))) as running:
        client = await running.connect()
        for _ in range(2):
            assert "content-length" not in (await client.ask()).headers


@pytest.mark.parametrize("rest", [b"Connection: close\r\n", b""])
async def test_an_answer_at_once_may_be_the_last(rest: bytes) -> None:
    headers = [] if rest else [(b"connection", b"close")]
    async with serving(AtOnce((200, headers, b"now"))) as running:
        client = await running.connect()
        answer = await client.ask(get(b"/", rest))
        assert answer.names.count("connection") == 1
        assert await client.rest() == b""


@pytest.mark.parametrize("answer", [(200, [(b"a", b"b\r\nc: d")], b""), (200, [], "no bytes")])
async def test_a_failure_at_once_is_a_500(answer: Any, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(AtOnce(answer)) as running:
        for path in (b"/", b"/fails?secret"):
            client = await running.connect()
            assert (await client.ask(get(path))).status == 500
            assert await client.rest() == b""
    assert "the application failed on GET /fails" in caplog.text
    assert "secret" not in caplog.text


# --- limits -----------------------------------------------------------------------------------------------------------


async def test_beyond_the_cap_a_request_is_shed() -> None:
    app = Held()
    async with serving(app, streams=1) as running:
        first = await running.connect()
        await first.send(OK)
        await app.asked.get()
        second = await running.connect()
        answer = await second.ask(b"GET / HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\n\r\n")
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert answer.headers["content-type"] == "application/problem+json"
        assert running.shed == ["streams"]
        third = await running.connect()
        await third.send(get(b"/_bff/livez"))
        assert await app.asked.get() == "/_bff/livez"
        app.release.set()
        assert (await third.answer()).status == 200
        assert (await first.answer()).status == 200
        assert (await first.ask()).status == 200
        assert running.server.shared.drain.streams == 0


async def test_beyond_the_cap_nothing_is_begun_at_once() -> None:
    async with serving(AtOnce(), streams=0) as running:
        assert (await running.ask()).status == 503
        assert (await running.ask(get(b"/_bff/livez"))).status == 200


async def test_under_overload_no_page_is_begun_and_browsers_are_told_so_in_html() -> None:
    app = AtOnce()
    async with serving(app) as running:
        limit = {b"/": "memory"}
        running.server.shared.overloaded = lambda path: limit.get(path, "")
        answer = await running.ask(b"GET / HTTP/1.1\r\nHost: a\r\nAccept: text/html\r\n\r\n")
        assert (answer.status, answer.headers["retry-after"]) == (503, "2")
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert running.shed == ["memory"]
        assert (await running.ask(get(b"/_bff/readyz"))).status == 200
        assert (await running.ask(get(b"/_bff/admin/status"))).status == 200
        limit.clear()
        assert (await running.ask()).status == 200


async def test_a_head_that_never_ends_ends_the_connection() -> None:
    async with serving(respond(), head=SOON) as running:
        silent, half = await running.connect(), await running.connect()
        await half.send(b"GET / HTTP/1.1\r\nHo")
        assert await silent.rest() == b""
        assert await half.rest() == b""


async def test_a_later_head_has_its_own_time_from_its_first_byte() -> None:
    async with serving(respond(), head=SOON) as running:
        client = await running.connect()
        await client.send(OK + b"GET / HT")
        assert (await client.answer()).status == 200
        assert await client.rest() == b""
        client = await running.connect()
        assert (await client.ask()).status == 200
        await client.send(b"\r\n")
        assert await client.rest() == b""


async def test_trickling_does_not_prolong_a_head() -> None:
    async with serving(respond(), head=SOON) as running:
        client = await running.connect()
        await client.send(b"GET / HTTP/1.1\r\n")
        ended = asyncio.ensure_future(client.rest())
        while not ended.done():
            await client.send(b"X: y\r\n")
            await asyncio.wait([ended], timeout=0.01)
        assert await ended == b""


async def test_an_idle_connection_is_kept_for_a_while() -> None:
    async with serving(AtOnce(), keepalive=SOON) as running:
        client = await running.connect()
        assert (await client.ask()).body == b"now"
        assert (await client.ask(get(b"/slow"))).status == 200
        assert await client.rest() == b""


async def test_a_reader_that_never_reads_is_dropped_and_the_application_told() -> None:
    gone = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["extensions"]["bff.closed"](gone.set)
        await start(send)
        while not gone.is_set():
            await send({"type": "http.response.body", "body": b"x" * 100_000, "more_body": True})

    async with serving(app, write=SOON) as running:
        client = await running.connect()
        client.stop_reading()
        await client.send(OK)
        await gone.wait()
        assert running.server.shared.drain.streams == 0


async def test_a_slow_reader_is_served_as_long_as_it_reads_at_all() -> None:
    async with serving(respond(body=b"x" * 40_000_000)) as running:  # far more than sockets hold
        client = await running.connect()
        await client.send(OK)
        await client.some(1)
        (connection,) = running.server.shared.connections
        for _ in range(3):
            while connection.transport.get_write_buffer_size() == connection._unsent:
                await client.some(10_000)
            now = connection.deadline
            connection.expire(now)
            assert connection.deadline == now + 20
        client.stop_reading()
        while (unsent := connection.transport.get_write_buffer_size()) != connection._unsent:
            connection.expire(connection.deadline)
            await asyncio.sleep(0)
        assert unsent > 0
        connection.expire(connection.deadline)
        client.read_on()
        assert len(await client.rest()) < 34_000_000


async def test_an_answer_at_once_waits_for_a_reader_that_does_not_read() -> None:
    async with serving(AtOnce((200, [], b"x" * 8_000_000), then=respond())) as running:
        client = await running.connect()
        client.stop_reading()
        await client.send(OK * 3)
        await until(lambda: any(one.waiting for one in running.server.shared.connections))
        client.read_on()
        assert len((await client.answer()).body) == 8_000_000
        assert [(await client.answer()).body for _ in range(2)] == [b"well", b"well"]


async def test_a_body_that_stops_coming_ends_the_wait_for_it() -> None:
    seen: asyncio.Queue[str] = asyncio.Queue()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (message := await receive())["type"] == "http.request":
            seen.put_nowait(message["body"].decode())
        seen.put_nowait("gone")

    async with serving(app, write=SOON) as running:
        client = await running.connect()
        await client.send(POST + b"Content-Length: 100\r\n\r\nabc")
        assert await seen.get() == "abc"
        assert await seen.get() == "gone"
        assert await client.rest() == b""


async def test_an_answered_request_whose_body_never_ends_does_not_hold_the_connection() -> None:
    async with serving(respond()) as running:
        client = await running.connect()
        await client.send(POST + b"Content-Length: 100\r\n\r\n")
        assert (await client.answer()).status == 200
        (connection,) = running.server.shared.connections
        connection.expire(connection.deadline)
        assert await client.rest() == b""


# --- leaving ----------------------------------------------------------------------------------------------------------


async def test_leaving_ends_idle_connections_and_waits_for_the_others() -> None:
    app, drain = Held(), Drain()
    async with serving(app, leaving=drain) as running:
        idle, busy, half = await running.connect(), await running.connect(), await running.connect()
        await half.send(b"GET / HT")
        await busy.send(get(b"/1") + get(b"/2"))
        await app.asked.get()
        leaving = asyncio.ensure_future(running.server.leave())
        assert await idle.rest() == b""
        assert await half.rest() == b""
        assert drain.draining
        assert not leaving.done()
        app.release.set()
        answer = await busy.answer()
        assert answer.headers["connection"] == "close"
        assert await busy.rest() == b""
        await leaving
        with pytest.raises(ConnectionRefusedError):
            await running.connect()


async def test_leaving_is_told_to_probes_and_nothing_else_begins_while_something_is_under_way() -> None:
    app, drain = Held(), Drain()
    async with serving(app, leaving=drain) as running:
        busy, probe, idle = await running.connect(), await running.connect(), None
        await busy.send(get(b"/busy"))
        assert await app.asked.get() == "/busy"
        leaving = asyncio.ensure_future(running.server.leave())
        assert await probe.rest() == b""  # it was idle
        probe, late, idle = await running.connect(), await running.connect(), await running.connect()
        refused = await late.ask(get(b"/late"))
        assert (refused.status, refused.headers["retry-after"], refused.headers["connection"]) == (503, "1", "close")
        assert await late.rest() == b""
        await probe.send(get(b"/_bff/readyz"))
        assert await app.asked.get() == "/_bff/readyz"
        app.release.set()
        assert (await probe.answer()).headers["connection"] == "close"
        assert (await busy.answer()).status == 200
        await leaving
        assert await idle.rest() == b""
        assert running.shed == ["drain"]
        assert not running.server.shared.connections


async def test_leaving_ends_what_does_not_end() -> None:
    app = Held()
    async with serving(app, drain=SOON) as running:
        client = await running.connect()
        await client.send(OK)
        await app.asked.get()
        await running.server.leave()
        assert (await client.answer()).status == 503
        assert await client.rest() == b""


async def test_a_request_while_leaving_is_the_last_on_its_connection() -> None:
    drain = Drain()
    async with serving(AtOnce(), leaving=drain) as running:
        clients = [await running.connect(), await running.connect()]
        drain.draining = True
        for client, path in zip(clients, (b"/", b"/slow"), strict=True):
            assert (await client.ask(get(path))).headers["connection"] == "close"
            assert await client.rest() == b""
