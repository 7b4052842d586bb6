"""Open redirects: a visitor is sent to this origin, or to one that the registration was granted, by nobody else's word."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.attacks.ground import Ground, ground, registration
from tests.gateway.proxies import said

pytestmark = pytest.mark.anyio

ELSEWHERE = [
    "//evil.example", "///evil.example", "////evil.example/%2e%2e", "/\\evil.example", "\\\\evil.example", "\\/evil.example",
    "/\t/evil.example", "/\x0b/evil.example", "https://evil.example", "https:evil.example", "https:/evil.example",
    "https:\\\\evil.example", "HTTPS://EVIL.EXAMPLE", "http://pay.example", "https://pay.example@evil.example",
    "https://pay.example:443@evil.example", "https://pay.example.evil.example", "https://pay.example:8443/", "https://evilpay.example",
    "https://pay.example\\@evil.example", "https://pay.example%2eevil.example", "javascript:alert(1)", "JaVaScRiPt:alert(1)",
    "data:text/html,x", "vbscript:x", "ftp://pay.example/", "blob:https://pay.example/x", "http://[", "https://[::1",
]  # fmt: skip
GRANT = {"redirects": ["https://pay.example"]}
PRIMARY = '<bff-fragment name="shop/card" primary></bff-fragment>'
SHOP = registration(PRIMARY, grant=GRANT, proxy=[{"path": "/api/{rest:path}", "to": "/{rest}", "methods": "*"}])


@pytest.fixture(scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ground]:
    """One gateway for all tests that begin with `renewed`."""
    async with ground(tmp_path_factory.mktemp("site"), SHOP) as here:
        yield here


def hosts(location: str) -> str:
    """The host that a browser would go to from https://shop.example/, by the URL standard's rules; "" for its own."""
    text = location.strip().translate({9: None, 10: None, 13: None}).replace("\\", "/")
    scheme, colon, rest = text.partition(":")
    if colon and scheme.lower() in ("http", "https"):
        return rest.lstrip("/").partition("/")[0].rpartition("@")[2].lower()
    if colon and scheme.isalpha():
        return f"{scheme.lower()}:"
    return text[2:].partition("/")[0].lower() if text.startswith("//") else ""


@pytest.mark.parametrize("stated", ELSEWHERE)
async def test_a_context_sends_nobody_where_it_may_not(site: Ground, stated: str) -> None:
    here = await site.renewed()
    for status in ("302 Found", "201 Created", "307 Temporary Redirect"):
        here.context.answers["/card"] = said(b"", status, content_type="text/html", location=stated)
        for target, method in (("/page", "GET"), ("/page", "POST"), ("/api/card", "GET"), ("/api/card", "POST")):
            answer = await here.ask(target, method, b"x" if method == "POST" else b"")
            assert hosts(answer.headers.get("location", "/")) in ("", "pay.example"), (
                target,
                method,
                answer.headers,
            )
            assert answer.status < 300 or answer.status >= 400


@pytest.mark.parametrize("stated", ELSEWHERE)
async def test_nor_by_a_header_that_a_library_obeys(site: Ground, stated: str) -> None:
    here = await site.renewed()
    for name in ("hx_redirect", "hx_location", "refresh"):
        text = f"0; url={stated}" if name == "refresh" else stated
        here.context.answers["/card"] = said(b"<p>x</p>", content_type="text/html", **{name: text})
        for target, method in (("/page", "GET"), ("/page", "POST"), ("/api/card", "GET")):
            answer = await here.ask(target, method, b"x" if method == "POST" else b"")
            assert name.replace("_", "-") not in answer.headers, (target, method)


@pytest.mark.parametrize(
    "stated", ["/a", "/a?next=//evil.example", "https://pay.example/x?y", "/%2F%2Fevil.example", "/.//evil"]
)
async def test_a_path_of_ours_and_a_granted_origin_pass(site: Ground, stated: str) -> None:
    here = await site.renewed()
    here.context.answers["/card"] = said(b"", "302 Found", location=stated)
    for target, method in (("/page", "GET"), ("/page", "POST"), ("/api/card", "GET")):
        answer = await here.ask(target, method, b"x" if method == "POST" else b"")
        assert (answer.status, answer.headers["location"]) == (302, stated)


@pytest.mark.parametrize(
    "target", ["//evil.example", "///evil.example/..", "/%5cevil.example", "//evil.example/page", "/./", "/page/"]
)
async def test_the_gateway_itself_redirects_nobody(site: Ground, target: str) -> None:
    """No slash is added or taken away, no case or scheme mended: what is not there is 404."""
    here = await site.renewed()
    answer = await here.ask(target)
    assert (answer.status, "location" in answer.headers) == (404, False)
