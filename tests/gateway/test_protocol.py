"""What may be sent: targets, hosts, framing, sizes. On asyncio's loop and on uvloop, which the gateway runs on."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from bff.gateway.protocol import _address
from tests.gateway.wire import OK, Running, echo, respond, serving, start

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module", params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: Any) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture
async def server() -> AsyncIterator[Running]:
    async with serving(echo, hosts=("a", "b", "c.example")) as running:
        yield running


def get(rest: bytes = b"", *, target: bytes = b"/", host: bytes = b"Host: a\r\n", version: bytes = b"1.1") -> bytes:
    return b"GET " + target + b" HTTP/" + version + b"\r\n" + host + rest + b"\r\n"


def post(rest: bytes) -> bytes:
    return b"POST / HTTP/1.1\r\nHost: a\r\n" + rest


async def test_a_request_reaches_the_application(server: Running) -> None:
    answer = await server.ask(get(target=b"/caf%C3%A9/x?q=%41"))
    assert answer.status == 200
    assert answer.body == "GET|/café/x|q=%41|a|".encode()
    assert "date" in answer.headers
    assert "server" not in answer.headers
    assert "connection" not in answer.headers


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (get(host=b""), 400),
        (get(host=b"Host: a\r\nHost: a\r\n"), 400),
        (get(host=b"", version=b"1.0"), 400),
        (get(host=b"Host: a b\r\n"), 400),
        (get(host=b"Host:\r\n"), 400),
        (get(host=b"Host: other\r\n"), 421),
        (get(target=b"http://other/"), 421),
        (get(target=b"http://u@a/"), 400),
        (get(target=b"*"), 400),
        (get(target=b"/a#b"), 400),
        (get(target=b"ftp://a/"), 400),
        (get(target=b"/caf\xc3\xa9"), 400),
        (get(target=b"/a b"), 400),
        (b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 501),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"NON/SENSE / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00", 400),
        (get(version=b"2.0"), 505),
        (get(version=b"0.9"), 505),
        (get(version=b"1.2"), 400),
        (get(b"X: a\r\n b\r\n"), 400),
        (get(b"X : a\r\n"), 400),
        (get(b"X\r\n"), 400),
        (get(b": a\r\n"), 400),
        (get(b"X: a\0b\r\n"), 400),
        (get(b"X: a\x01b\r\n"), 400),
        (get(b"X: a\rY: b\r\n"), 400),
        (b"GET / HTTP/1.1\nHost: a\n\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", 400),
        (post(b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 400),
        (post(b"Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n0\r\n\r\n"), 400),
        (post(b"Content-Length: 1\r\nContent-Length: 1\r\n\r\na"), 400),
        (post(b"Content-Length: 1, 1\r\n\r\na"), 400),
        (post(b"Content-Length: +1\r\n\r\na"), 400),
        (post(b"Content-Length: 1_0\r\n\r\na"), 400),
        (post(b"Content-Length: 0x1\r\n\r\na"), 400),
        (post(b"Content-Length: -1\r\n\r\na"), 400),
        (post(b"Content-Length:\r\n\r\na"), 400),
        (post(b"Content-Length: 99999999999999999999\r\n\r\na"), 400),
        (post(b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"), 501),
        (post(b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"), 501),
        (post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 400),
        (b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (post(b"Transfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n"), 400),
        (post(b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\na\r\n"), 400),
        (post(b"Transfer-Encoding: chunked\r\n\r\n1\na\n0\n\n"), 400),
        (post(b"Transfer-Encoding: chunked\r\n\r\n1;\nx\r\na\r\n0\r\n\r\n"), 400),
        (post(b"Transfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n0\r\n\r\n"), 400),
        (get(b"X: y\r\n" * 257), 431),
        (get(b"X: " + b"y" * 65536 + b"\r\n"), 431),
        (get(b"X: " + b"y" * 400_000 + b"\r\n"), 431),
        (get(target=b"/" + b"y" * 8192), 414),
    ],
)
async def test_what_is_malformed_is_refused_and_the_connection_ends(server: Running, data: bytes, status: int) -> None:
    client = await server.connect()
    answer = await client.ask(data)
    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["connection"] == "close"
    assert b'"status": %d' % status in answer.body
    assert await client.rest() == b""


@pytest.mark.parametrize("path", [b"/_bff/livez", b"/_bff/readyz", b"/_bff/metrics"])
async def test_probes_are_answered_under_any_host(server: Running, path: bytes) -> None:
    assert (await server.ask(get(target=path, host=b"Host: 10.0.0.7:80\r\n"))).status == 200


async def test_the_absolute_form_names_the_host(server: Running) -> None:
    answer = await server.ask(get(target=b"http://c.example:81/x?y", host=b"Host: other\r\n"))
    assert answer.body == b"GET|/x|y|c.example:81|"


async def test_heads_up_to_the_limits_are_answered(server: Running) -> None:
    client = await server.connect()
    assert (await client.ask(get(b"X: " + b"y" * 60_000 + b"\r\n"))).status == 200
    assert (await client.ask(get(b"X: y\r\n" * 255))).status == 200
    assert (await client.ask(get(target=b"/" + b"y" * 8191))).status == 200


async def test_a_head_may_come_in_any_pieces(server: Running) -> None:
    client = await server.connect()
    for byte in get(b"X-Long: " + b"y" * 50 + b" \r\n", target=b"/pieces"):
        await client.send(bytes([byte]))
    assert (await client.answer()).body == b"GET|/pieces||a|"


async def test_a_head_that_begins_behind_another_is_measured_too(server: Running) -> None:
    client = await server.connect()
    await client.send(OK + get(b"X: " + b"y" * 65_530 + b"\r\n"))
    assert (await client.answer()).status == 200
    assert (await client.answer()).status == 431


async def test_many_pipelined_heads_are_not_one_large_head(server: Running) -> None:
    client = await server.connect()
    await client.send(OK * 4000)
    for _ in range(4000):
        assert (await client.answer()).status == 200


async def test_blank_lines_before_a_request_are_skipped_but_not_for_ever(server: Running) -> None:
    client = await server.connect()
    assert (await client.ask(b"\r\n\r\n" + OK)).status == 200
    assert (await client.ask(b"\r\n" * 40_000)).status == 431


@pytest.mark.parametrize(
    "framing",
    [b"Content-Length: 5\r\n\r\nhello", b"Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n"],
)
async def test_a_body_ends_where_it_says(server: Running, framing: bytes) -> None:
    client = await server.connect()
    await client.send(post(framing) + OK)
    assert (await client.answer()).body == b"POST|/||a|hello"
    assert (await client.answer()).body == b"GET|/||a|"


async def test_trailers_are_dropped(server: Running) -> None:
    client = await server.connect()
    answer = await client.ask(post(b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nHost: evil\r\n\r\n"))
    assert answer.body == b"POST|/||a|a"


async def test_trailers_and_chunk_extensions_are_bounded(server: Running) -> None:
    client = await server.connect()
    await client.send(post(b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX: "))
    await client.send(b"y" * 600_000)
    assert (await client.answer()).status == 431


async def test_junk_after_a_request_is_refused_after_its_answer(server: Running) -> None:
    client = await server.connect()
    await client.send(OK + b"junk\r\n\r\n")
    assert (await client.answer()).status == 200
    assert (await client.answer()).status == 400
    assert await client.rest() == b""


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 5\r\n\r\nhello", b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"]
)
async def test_an_upgrade_with_a_body_is_ignored(server: Running, framing: bytes) -> None:
    client = await server.connect()
    await client.send(
        post(b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n" + framing) + OK
    )
    assert (await client.answer()).body == b"POST|/||a|hello"
    assert (await client.answer()).body == b"GET|/||a|"


UPGRADE = b"Upgrade: websocket\r\nConnection: upgrade"


async def test_an_upgrade_is_answered_before_what_comes_behind_it_is_refused(server: Running) -> None:
    client = await server.connect()
    await client.send(get(UPGRADE + b"\r\n") + b"\x81\x05hello")
    assert (await client.answer()).body == b"GET|/||a|"
    assert (await client.answer()).status == 400
    assert await client.rest() == b""


async def test_an_upgrade_on_a_connection_that_ends_is_answered_and_nothing_behind_it(server: Running) -> None:
    client = await server.connect()
    await client.send(get(UPGRADE + b", close\r\n") + OK)
    assert (await client.answer()).body == b"GET|/||a|"
    assert await client.rest() == b""


async def test_upgrades_by_the_thousand_in_one_read_are_answered_each(server: Running) -> None:
    client = await server.connect()
    await client.send(get(UPGRADE + b"\r\n") * 2000)
    for _ in range(2000):
        assert (await client.answer()).status == 200
    assert (await client.ask()).status == 200


async def test_an_upgrade_never_reaches_the_application() -> None:
    seen: list[bytes] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.extend(name for name, _ in scope["headers"])
        await respond()(scope, receive, send)

    async with serving(app) as running:
        client = await running.connect()
        await client.send(get(b"Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n") + OK)
        assert (await client.answer()).status == 200
        assert (await client.answer()).status == 200
    assert b"upgrade" not in seen


async def test_header_names_are_lower_case_and_values_trimmed() -> None:
    seen: list[tuple[bytes, bytes]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.extend(scope["headers"])
        await respond()(scope, receive, send)

    async with serving(app) as running:
        await running.ask(get(b"X-Abc:  d e \t\r\n"))
    assert seen == [(b"host", b"a"), (b"x-abc", b"d e")]


async def test_after_the_last_request_nothing_is_read(server: Running) -> None:
    client = await server.connect()
    await client.send(get(b"Connection: close\r\n") + OK)
    assert (await client.answer()).headers["connection"] == "close"
    assert await client.rest() == b""


async def test_a_request_of_http_1_0_gets_no_chunks_and_ends_the_connection() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await start(send)
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        await send({"type": "http.response.body", "body": b"b"})

    async with serving(app) as running:
        client = await running.connect()
        answer = await client.ask(get(version=b"1.0"))
        assert answer.body == b"ab"
        assert answer.headers["connection"] == "close"
        assert "transfer-encoding" not in answer.headers


async def test_no_more_connections_are_taken_than_there_is_room_for() -> None:
    async with serving(respond()) as running:
        running.server.shared.capacity = 1
        client = await running.connect()
        assert (await client.ask()).status == 200
        assert await (await running.connect()).rest() == b""
        assert running.shed == ["connections"]
        assert (await client.ask()).status == 200


def test_a_unix_peer_has_no_address() -> None:
    assert _address("") is None
    assert _address(("::1", 80, 0, 0)) == ("::1", 80)


@pytest.mark.parametrize("method", [b"BREW", b"purge", b"DESCRIBE", b"X-Y_Z", b"GETX"])
async def test_a_method_that_nobody_knows_is_a_method(server: Running, method: bytes) -> None:
    client = await server.connect()
    for _ in range(2):
        answer = await client.ask(method + b" /p?q HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")
        assert (answer.status, answer.body) == (200, method + b"|/p|q|a|abc")
    assert (await client.ask(b"\r\n" + method + b" / HTTP/1.1\r\nHost: a\r\n\r\n")).body == method + b"|/||a|"
    assert (await client.ask()).body.startswith(b"GET|")


@pytest.mark.parametrize(
    "data", [b"BR EW / HTTP/1.1\r\nHost: a\r\n\r\n", b"B" * 40 + b" / HTTP/1.1\r\nHost: a\r\n\r\n"]
)
async def test_what_is_no_method_is_malformed(server: Running, data: bytes) -> None:
    assert (await server.ask(data)).status == 400
