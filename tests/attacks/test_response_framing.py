"""Response splitting and queue poisoning: bytes of one answer are never another's, whatever a context sends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.attacks.ground import Ground, ground, registration
from tests.gateway.proxies import said

pytestmark = pytest.mark.anyio

POISON = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 13\r\n\r\n<p>poison</p>"
HTML = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nCache-Control: max-age=60\r\n"
ANSWERS = {
    "two responses": HTML + b"Content-Length: 9\r\n\r\n<p>a</p> " + POISON,
    "longer than its length": HTML + b"Content-Length: 8\r\n\r\n<p>a</p>" + POISON,
    "length and chunks": HTML + b"Content-Length: 8\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + POISON,
    "two lengths": HTML + b"Content-Length: 8\r\nContent-Length: 90\r\n\r\n<p>a</p>" + POISON,
    "a list of lengths": HTML + b"Content-Length: 8, 90\r\n\r\n<p>a</p>" + POISON,
    "a negative length": HTML + b"Content-Length: -1\r\n\r\n" + POISON,
    "another coding": HTML + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + POISON,
    "chunks in HTTP/1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + POISON,
    "a chunk that lies": HTML + b"Transfer-Encoding: chunked\r\n\r\n2\r\n<p>a</p>\r\n0\r\n\r\n" + POISON,
    "a bare line feed": b"HTTP/1.1 200 OK\nContent-Length: 0\n\n" + POISON,
    "a folded field": HTML + b"X: a\r\n b\r\nContent-Length: 0\r\n\r\n" + POISON,
    "a carriage return in a field": HTML + b"X: a\rSet-Cookie: b\r\nContent-Length: 0\r\n\r\n" + POISON,
    "a NUL in a field": HTML + b"X: a\0b\r\nContent-Length: 0\r\n\r\n" + POISON,
    "a body of a 304": b"HTTP/1.1 304 Not Modified\r\n\r\n" + POISON,
    "a body of a 204": b"HTTP/1.1 204 No Content\r\n\r\n" + POISON,
    "interim answers": b"HTTP/1.1 103 Early Hints\r\nX: a\r\n\r\n" * 3 + HTML + b"Content-Length: 0\r\n\r\n" + POISON,
    "another version": b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n" + POISON,
    "no HTTP": b"<p>a</p>\r\n\r\n" + POISON,
    "a status beyond": b"HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n" + POISON,
}


SHOP = registration(
    '<bff-fragment name="shop/card" core></bff-fragment><bff-fragment name="shop/next" core></bff-fragment>',
    {"card": {"path": "/card"}, "next": {"path": "/next"}},
    proxy=[{"path": "/api/{rest:path}", "to": "/{rest}"}],
)


@pytest.fixture(scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ground]:
    """One gateway for all tests that begin with `renewed`: its connections have seen the answers before."""
    async with ground(tmp_path_factory.mktemp("site"), SHOP) as here:
        yield here


@pytest.mark.parametrize("name", ANSWERS)
async def test_what_follows_an_answer_is_given_to_nobody(site: Ground, name: str) -> None:
    """Neither this visitor nor the next one sees it, on this connection or from the store."""
    here = await site.renewed()
    here.context.answers["/card"] = ANSWERS[name]
    for _ in range(3):
        here.context.html("/next", "<p>next</p>")
        page = await here.page()
        assert "poison" not in page
        assert "<p>next</p>" in page


@pytest.mark.parametrize("name", ANSWERS)
async def test_a_proxied_answer_is_one_answer(site: Ground, name: str) -> None:
    here = await site.renewed()
    here.context.answers["/card"] = ANSWERS[name]
    for _ in range(2):
        client = await here.server.connect()
        await client.send(b"GET /api/card HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        raw = await client.rest()
        assert b"poison" not in raw
        assert raw.count(b"HTTP/1.1 2") + raw.count(b"HTTP/1.1 5") + raw.count(b"HTTP/1.1 3") <= 1 + raw.count(b" 103 ")


SPLITTING = [
    "a\r\nSet-Cookie: evil=1",
    "a\nSet-Cookie: evil=1",
    "a\rSet-Cookie: evil=1",
    "a\0",
    "a%0d%0aSet-Cookie:%20evil=1",
]


@pytest.mark.parametrize("text", SPLITTING)
async def test_no_line_of_a_contexts_ends_a_line_of_ours(tmp_path: Path, text: str) -> None:
    """Through every field that a context may fill: Location, tags, its own validators, a list's next page."""
    slot = '<bff-fragment name="shop/card" primary></bff-fragment>'
    shop = registration(slot, proxy=[{"path": "/api/{rest:path}", "to": "/{rest}"}])
    async with ground(tmp_path, shop) as here:
        for name in ("location", "etag", "surrogate_key", "link", "content_language", "bff_changed"):
            answer = said(b"<p>x</p>", "200 OK", content_type="text/html", **{name: text})
            here.context.answers["/card"] = answer
            for target in ("/page", "/_bff/fragments/shop/card", "/api/card"):
                client = await here.server.connect()
                await client.send(f"GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
                head = (await client.rest()).partition(b"\r\n\r\n")[0].lower()
                assert b"\nset-cookie" not in head
                assert b"\0" not in head
                assert head.count(b"\r") == head.count(b"\n")


@pytest.mark.parametrize("text", SPLITTING)
async def test_no_line_of_a_visitors_ends_a_line_of_a_request(tmp_path: Path, text: str) -> None:
    """Through every value that is sent on: a parameter, the principal, a cookie, a header, a request id."""
    forward = {"headers": ["x-tenant", "accept-language"], "cookies": ["theme"], "principal": "x-user"}
    fragments = {"card": {"path": "/card", "params": {"n": {"type": "str", "default": ""}}, "query": {"n": "{n}"}}}
    async with ground(tmp_path, registration("", fragments, forward=forward)) as here:
        encoded = text.replace("\r", "%0d").replace("\n", "%0a").replace("\0", "%00").replace(" ", "%20")
        raw = text.encode("latin-1")
        for line in (b"X-Tenant: ", b"Accept-Language: ", b"Cookie: theme=", b"X-Forwarded-User: ", b"X-Request-Id: "):
            client = await here.server.connect()
            await client.send(
                b"GET /_bff/fragments/shop/card?n="
                + encoded.encode()
                + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
                + line
                + raw
                + b"\r\n\r\n"
            )
            await client.rest()
        for asked in here.context.asked:
            assert "set-cookie" not in asked.headers
            assert not any("\0" in each or "\r" in each for each in asked.lines)
