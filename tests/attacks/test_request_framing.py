"""Request smuggling: a connection holds the requests that the gateway and whoever is in front of it agree on, or it ends."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.attacks.ground import Ground, ground, registration
from tests.fakes import PATIENCE
from tests.gateway.proxies import said

pytestmark = pytest.mark.anyio

HOST = b"Host: shop.example\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\n" + HOST + b"\r\n"


@pytest.fixture(scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ground]:
    """One gateway for all tests that begin with `renewed`."""
    async with ground(tmp_path_factory.mktemp("site"), registration(proxy=API)) as here:
        yield here


def post(framing: bytes, body: bytes) -> bytes:
    return b"POST /api/x HTTP/1.1\r\n" + HOST + framing + b"\r\n" + body


def get(lines: bytes = HOST, target: bytes = b"/page", version: bytes = b"HTTP/1.1") -> bytes:
    return b"GET " + target + b" " + version + b"\r\n" + lines + b"\r\n"


TE = b"Transfer-Encoding: chunked\r\n"
REFUSED = {
    "cl-te": post(b"Content-Length: 6\r\n" + TE, b"0\r\n\r\nG"),
    "te-cl": post(TE + b"Content-Length: 4\r\n", b"5c\r\nGPOST"),
    "te-te": post(TE + b"Transfer-Encoding: identity\r\n", b"0\r\n\r\n"),
    "te-obscured-tab": post(b"Transfer-Encoding:\tchunked\r\nContent-Length: 4\r\n", b"0\r\n\r\n"),
    "te-obscured-vertical-tab": post(b"Transfer-Encoding: \x0bchunked\r\n", b"0\r\n\r\n"),
    "te-obscured-comma": post(b"Transfer-Encoding: ,chunked\r\n", b"0\r\n\r\n"),
    "te-obscured-quotes": post(b'Transfer-Encoding: "chunked"\r\n', b"0\r\n\r\n"),
    "te-space-before-colon": post(b"Transfer-Encoding : chunked\r\nContent-Length: 3\r\n", b"0\r\n\r\n"),
    "te-line-feed-before": post(b"X: y\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"),
    "te-folded": post(b"Transfer-Encoding:\r\n chunked\r\n", b"0\r\n\r\n"),
    "te-http-1.0": b"POST /api/x HTTP/1.0\r\n" + HOST + TE + b"\r\n0\r\n\r\n",
    "cl-cl": post(b"Content-Length: 5\r\nContent-Length: 6\r\n", b"hello!"),
    "cl-cl-equal": post(b"Content-Length: 5\r\nContent-Length: 5\r\n", b"hello"),
    "cl-list": post(b"Content-Length: 5, 5\r\n", b"hello"),
    "cl-plus": post(b"Content-Length: +5\r\n", b"hello"),
    "cl-minus": post(b"Content-Length: -5\r\n", b"hello"),
    "cl-hex": post(b"Content-Length: 0x5\r\n", b"hello"),
    "cl-underscore": post(b"Content-Length: 0_5\r\n", b"hello"),
    "cl-overflow": post(b"Content-Length: 18446744073709551621\r\n", b"hello"),
    "cl-empty": post(b"Content-Length: \r\n", b"hello"),
    "chunk-size-overflow": post(TE, b"10000000000000005\r\nhello\r\n0\r\n\r\n"),
    "chunk-size-negative": post(TE, b"-5\r\nhello\r\n0\r\n\r\n"),
    "chunk-size-0x": post(TE, b"0x5\r\nhello\r\n0\r\n\r\n"),
    "chunk-size-empty": post(TE, b"\r\nhello\r\n0\r\n\r\n"),
    "chunk-size-space": post(TE, b"5 \r\nhello\r\n0\r\n\r\n"),
    "chunk-data-too-long": post(TE, b"5\r\nhello!\r\n0\r\n\r\n"),
    "chunk-data-without-crlf": post(TE, b"5\r\nhello0\r\n\r\n"),
    "chunk-ends-in-line-feed": post(TE, b"5\nhello\r\n0\r\n\r\n"),
    "chunk-extension-line-feed": post(TE, b"5;a=\nxx\r\nhello\r\n0\r\n\r\n"),
    "chunk-extension-carriage-return": post(TE, b"5;a=\rxx\r\nhello\r\n0\r\n\r\n"),
    "two-hosts": get(HOST * 2),
    "two-hosts-one-with-space": get(HOST + b"Host : evil.example\r\n"),
    "no-host": get(b""),
    "host-list": get(b"Host: shop.example, evil.example\r\n"),
    "host-userinfo": get(b"Host: a@shop.example\r\n"),
    "host-path": get(b"Host: shop.example/evil?y\r\n"),
    "obs-fold": get(HOST + b"X: a\r\n b\r\n"),
    "obs-fold-first": get(b" X: a\r\n" + HOST),
    "bare-line-feed": b"GET /page HTTP/1.1\nHost: shop.example\n\n",
    "bare-line-feed-in-head": get(HOST + b"X: a\nY: b\r\n"),
    "bare-carriage-return": get(HOST + b"X: a\rY: b\r\n"),
    "nul": get(HOST + b"X: a\0b\r\n"),
    "name-with-space": get(HOST + b"X Y: a\r\n"),
    "no-colon": get(HOST + b"X\r\n"),
    "empty-name": get(HOST + b": a\r\n"),
    "target-space": get(target=b"/page evil"),
    "target-tab": get(target=b"/page\tevil"),
    "target-fragment": get(target=b"/page#evil"),
    "target-asterisk": get(target=b"*"),
    "target-userinfo": get(target=b"http://a@shop.example/page"),
    "target-scheme": get(target=b"ftp://shop.example/page"),
    "target-bytes": get(target=b"/\xff"),
    "connect": b"CONNECT shop.example:80 HTTP/1.1\r\n" + HOST + b"\r\n",
    "version-0.9": b"GET /page\r\n\r\n",
    "version-1.2": get(version=b"HTTP/1.2"),
    "version-2": get(version=b"HTTP/2.0"),
    "h2-preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}


@pytest.mark.parametrize("name", REFUSED)
async def test_what_two_servers_could_read_differently_is_refused_and_nothing_behind_it_is_read(
    site: Ground, name: str
) -> None:
    here = await site.renewed()
    client = await here.server.connect()
    await client.send(REFUSED[name] + SMUGGLED)
    async with asyncio.timeout(PATIENCE):
        said_ = await client.rest()
    assert said_.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 501 ", b"HTTP/1.1 505 ", b"HTTP/1.1 421 ")), said_[:60]
    assert len(re.findall(rb"HTTP/1\.1 [0-9]", said_)) == 1
    assert b"smuggled" not in said_
    assert here.context.asked == []


API = [{"path": "/api/{rest:path}", "to": "/api/{rest}", "methods": "*"}]


async def test_a_body_passes_whole_and_what_follows_is_the_next_request(tmp_path: Path) -> None:
    async with ground(tmp_path, registration(proxy=API)) as here:
        here.context.answers["/api/x"] = lambda asked: said(b"saw " + asked.body)
        client = await here.server.connect()
        inner = b"GET /evil HTTP/1.1\r\n\r\n"
        await client.send(post(b"Content-Length: %d\r\n" % len(inner), inner) + get())
        async with asyncio.timeout(PATIENCE):
            assert (await client.answer()).body == b"saw " + inner
            assert b"the end" in (await client.answer()).body
        assert [each.target for each in here.context.asked] == ["/api/x", "/card"]


async def test_chunks_extensions_and_trailers_end_at_the_gateway(tmp_path: Path) -> None:
    async with ground(tmp_path, registration(proxy=API)) as here:
        here.context.answers["/api/x"] = lambda asked: said(b"saw " + asked.body)
        client = await here.server.connect()
        chunks = b"5;evil=1\r\nhello\r\n0\r\nX-Forwarded-User: root\r\nX-Tenant: evil\r\n\r\n"
        await client.send(post(TE, chunks) + get())
        async with asyncio.timeout(PATIENCE):
            assert (await client.answer()).body == b"saw hello"
            assert (await client.answer()).status == 200
        for asked in here.context.asked:
            assert not {"x-forwarded-user", "x-tenant"} & set(asked.headers)


@pytest.mark.parametrize("protocol", [b"h2c", b"websocket", b"TLS/1.0", b"smuggle"])
async def test_no_upgrade_passes_and_its_bytes_are_no_tunnel(tmp_path: Path, protocol: bytes) -> None:
    lines = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: " + protocol + b"\r\nHTTP2-Settings: AAMAAABk\r\n"
    async with ground(tmp_path, registration(proxy=API)) as here:
        here.context.answers["/api/x"] = said(b"ok")
        client = await here.server.connect()
        await client.send(get(HOST + lines, b"/api/x") + get())
        async with asyncio.timeout(PATIENCE):
            assert (await client.answer()).status == 200
            assert (await client.answer()).status == 200
        for asked in here.context.asked:
            assert not {"upgrade", "http2-settings", "connection"} & set(asked.headers)


async def test_a_context_that_switches_protocols_is_not_followed(tmp_path: Path) -> None:
    async with ground(tmp_path, registration(proxy=API)) as here:
        here.context.answers["/api/x"] = (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n"
        )
        assert (await here.ask("/api/x", headers={"Connection": "upgrade", "Upgrade": "h2c"})).status == 502


async def test_the_absolute_forms_authority_is_the_host(tmp_path: Path) -> None:
    async with ground(tmp_path, registration(proxy=API), settings={"hosts": ["shop.example"]}) as here:
        here.context.answers["/api/x"] = said(b"ok")
        answer = await here.raw(b"GET http://shop.example/api/x HTTP/1.1\r\nHost: evil.example\r\n\r\n")
        assert answer.status == 200
        assert here.context.asked[0].headers["x-forwarded-host"] == "shop.example"
        evil = b"GET http://evil.example/api/x HTTP/1.1\r\nHost: shop.example\r\n\r\n"
        assert (await here.raw(evil)).status == 421


async def test_a_body_that_nobody_reads_is_never_the_next_request(tmp_path: Path) -> None:
    async with ground(tmp_path) as here:
        client = await here.server.connect()
        await client.send(b"GET /page HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % len(SMUGGLED) + SMUGGLED)
        await client.send(get(target=b"/nowhere"))
        async with asyncio.timeout(PATIENCE):
            assert (await client.answer()).status == 200
            assert (await client.answer()).status == 404
        assert len(here.context.asked) == 1
