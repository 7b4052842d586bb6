"""Cross-origin reading: only the origins that the operator names, byte for byte, and never a page or the admin API."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.attacks.ground import Ground, ground, registration
from tests.gateway.proxies import said

pytestmark = pytest.mark.anyio

ORIGINS = ["https://app.example"]
STRANGERS = [
    "https://evil.example", "http://app.example", "https://app.example.evil.example", "https://evilapp.example", "https://app.example:8443",
    "https://APP.example", "https://app.example/", "null", "https://sub.app.example", "https://app.example%00.evil",
    "https://app.example, https://evil.example", "*", "https://app.example_.evil.example", "file://",
]  # fmt: skip
READABLE = ["/page", "/_bff/fragments/shop/card", "/api/x", "/_bff/tasks/x"]


@pytest.fixture(scope="module")
async def here(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ground]:
    shop = registration(proxy=[{"path": "/api/{rest:path}", "to": "/{rest}", "methods": "*"}])
    settings = {"cors": {"origins": ORIGINS, "credentials": True}, "admin": {"token": "a token of ours"}}
    async with ground(tmp_path_factory.mktemp("site"), shop, settings=settings) as made:
        made.context.answers["/x"] = said(
            b"x", access_control_allow_origin="*", access_control_allow_credentials="true"
        )
        yield made


@pytest.mark.parametrize("origin", STRANGERS)
async def test_a_stranger_reads_nothing_with_a_visitors_credentials(here: Ground, origin: str) -> None:
    for target in READABLE:
        answer = await here.ask(target, headers={"Origin": origin, "Accept": "application/json"})
        assert not [name for name in answer.names if name.startswith("access-control-")], target
        asked = {"Origin": origin, "Access-Control-Request-Method": "GET", "Accept": "application/json"}
        answer = await here.ask(target, "OPTIONS", headers=asked)
        assert "access-control-allow-origin" not in answer.headers, target


async def test_who_is_named_reads_what_is_for_programs_and_no_page(here: Ground) -> None:
    for target in READABLE:
        answer = await here.ask(target, headers={"Origin": ORIGINS[0], "Accept": "application/json"})
        assert answer.headers["access-control-allow-origin"] == ORIGINS[0]
        assert "Origin" in answer.headers["vary"]
    for target in ("/page", "/_bff/admin/status", "/_bff/metrics", "/_bff/events"):
        answer = await here.ask(target, headers={"Origin": ORIGINS[0], "Accept": "text/html"})
        assert "access-control-allow-origin" not in answer.headers, target


async def test_another_origin_writes_nothing_though_it_may_read(here: Ground) -> None:
    before = len(here.context.asked)
    for target in ("/page", "/api/x"):
        answer = await here.ask(target, "POST", b"x", {"Origin": ORIGINS[0], "Sec-Fetch-Site": "cross-site"})
        assert answer.status in (403, 405)
    assert len(here.context.asked) == before


async def test_no_header_that_is_none_is_allowed(here: Ground) -> None:
    for wanted in ("x\r\nset-cookie: a", "*, <script>", "x" * 5000, "x y"):
        raw = f"OPTIONS /page HTTP/1.1\r\nHost: a\r\nOrigin: {ORIGINS[0]}\r\nAccess-Control-Request-Method: GET\r\nAccess-Control-Request-Headers: {wanted}\r\n\r\n"
        answer = await here.raw(raw.encode())
        assert "set-cookie" not in answer.headers
        assert "<script>" not in answer.headers.get("access-control-allow-headers", "")
