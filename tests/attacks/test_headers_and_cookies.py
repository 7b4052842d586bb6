"""Headers and cookies: of a visitor's a context gets what its registration names, of a context's a visitor what it is granted."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.attacks.ground import ground, registration
from tests.gateway.proxies import said

pytestmark = pytest.mark.anyio

PRIMARY = '<bff-fragment name="shop/card" primary></bff-fragment>'
API = [{"path": "/api/{rest:path}", "to": "/{rest}", "methods": "*", "forward": {"headers": "*"}}]
HOP_BY_HOP = {
    "Connection": "X-Forwarded-For, X-Request-Id, Via, Traceparent, Host, X-Forwarded-Host, X-Mine", "Keep-Alive": "timeout=9",
    "Proxy-Authorization": "Basic eA==", "Proxy-Connection": "keep-alive", "TE": "trailers", "Trailer": "X-Evil",
    "X-Mine": "1",
}  # fmt: skip


async def test_hop_by_hop_headers_end_here_and_cannot_take_ours_along(tmp_path: Path) -> None:
    async with ground(tmp_path, registration(proxy=API)) as here:
        here.context.answers["/x"] = said(b"ok")
        assert (await here.ask("/api/x", headers=HOP_BY_HOP)).status == 200
        (asked,) = here.context.asked
        assert not {name.lower() for name in HOP_BY_HOP} & set(asked.headers)
        for ours in ("host", "via", "traceparent", "x-request-id", "x-forwarded-for", "x-forwarded-host"):
            assert asked.headers[ours]


async def test_no_credential_reaches_a_context_that_did_not_ask_for_it(tmp_path: Path) -> None:
    sent = {"Cookie": "session=secret; theme=dark", "Authorization": "Bearer secret", "Proxy-Authorization": "secret"}
    async with ground(tmp_path, registration(PRIMARY, proxy=API)) as here:
        here.context.answers["/x"] = said(b"ok")
        await here.ask("/page", headers=sent)
        await here.ask("/page", "POST", b"x", sent)
        await here.ask("/api/x", headers=sent)
        await here.ask("/_bff/fragments/shop/card", headers=sent)
        assert len(here.context.asked) == 4
        for asked in here.context.asked:
            assert "secret" not in "".join(asked.lines)


async def test_of_two_cookies_with_one_name_one_is_sent_and_a_value_hides_no_other(tmp_path: Path) -> None:
    """Cookie tossing: a sibling site sets a second `theme`; a value that looks like another cookie stays a value."""
    async with ground(tmp_path, registration(PRIMARY, forward={"cookies": ["theme"]})) as here:
        await here.ask(
            "/page", headers={"Cookie": 'theme=mine; theme=tossed; other="; theme=quoted; theme_x=1; __Host-theme=2'}
        )
        (asked,) = here.context.asked
        assert asked.headers["cookie"] == "theme=mine"


COOKIES = [
    "session=stolen", "csrftoken2=1", "__Host-session=1; Path=/; Secure", "CSRFTOKEN=1", " =csrftoken=1", "csrftoken", "=x", "",
    "csrftoken\x0b=1", "x=1, csrftoken=2",
]  # fmt: skip


@pytest.mark.parametrize("cookie", COOKIES)
async def test_a_cookie_beyond_the_grant_is_dropped(tmp_path: Path, cookie: str) -> None:
    grant = {"cookies": ["csrftoken"]}
    shop = registration(PRIMARY, grant=grant, proxy=API)
    async with ground(tmp_path, shop) as here:
        here.context.html("/card", "<p>x</p>", set_cookie=cookie)
        here.context.answers["/x"] = said(b"ok", set_cookie=cookie)
        for target, method in (("/page", "GET"), ("/page", "POST"), ("/api/x", "GET"), ("/api/x", "POST")):
            answer = await here.ask(target, method, b"x" if method == "POST" else b"")
            assert "set-cookie" not in answer.headers, (target, method)
        assert "set-cookie" not in (await here.ask("/_bff/fragments/shop/card")).headers


async def test_a_granted_cookie_is_of_the_gateways_host_alone(tmp_path: Path) -> None:
    shop = registration(PRIMARY, grant={"cookies": ["csrftoken"]}, proxy=API)
    async with ground(tmp_path, shop) as here:
        for attribute in (
            "Domain=.example.org",
            "domain=example.org",
            " DOMAIN = example.org",
            "Domain",
            "Domain=",
            "DoMaIn=x",
        ):
            cookie = f"csrftoken=1; Path=/; {attribute}; Secure; HttpOnly; SameSite=Lax"
            here.context.html("/card", "<p>x</p>", set_cookie=cookie)
            here.context.answers["/x"] = said(b"ok", set_cookie=cookie)
            for target in ("/page", "/api/x"):
                answer = await here.ask(target)
                assert answer.headers["set-cookie"] == "csrftoken=1; Path=/; Secure; HttpOnly; SameSite=Lax"


async def test_a_secondary_fragment_sets_no_cookie_though_its_context_may(tmp_path: Path) -> None:
    async with ground(tmp_path, registration(grant={"cookies": ["csrftoken"]})) as here:
        here.context.html("/card", "<p>x</p>", set_cookie="csrftoken=1")
        assert "set-cookie" not in (await here.ask()).headers


async def test_a_context_keeps_no_cookies_between_visitors(tmp_path: Path) -> None:
    """No jar: what one answer sets is sent with no later request, on the same connection or another."""
    async with ground(tmp_path, registration(PRIMARY, forward={"cookies": ["session"]}, proxy=API)) as here:
        here.context.html("/card", "<p>x</p>", set_cookie="session=victim")
        for _ in range(3):
            await here.ask("/page")
        assert all("cookie" not in asked.headers for asked in here.context.asked)


ORIGIN_WIDE = {
    "clear_site_data": '"*"', "strict_transport_security": "max-age=0", "origin_agent_cluster": "?0", "service_worker_allowed": "/",
    "refresh": "0;url=//evil", "alt_svc": 'h2="evil:443"', "access_control_allow_origin": "*", "nel": "x", "report_to": "x",
    "bff_outcome": "fresh", "access_control_allow_credentials": "true", "content_security_policy": "default-src *",
    "x_frame_options": "ALLOWALL", "server": "evil", "www_authenticate": "Basic", "location": "https://evil.example",
}  # fmt: skip


async def test_nothing_of_a_fragments_head_is_its_pages(tmp_path: Path) -> None:
    async with ground(tmp_path) as here:
        plain = set((await here.ask()).names)
        here.context.html("/card", "<p>x</p>", **ORIGIN_WIDE)
        answer = await here.ask()
        assert set(answer.names) == plain
        assert answer.headers["content-security-policy"].startswith("default-src 'self'")


async def test_what_would_hold_for_the_whole_origin_does_not_pass_a_proxy_route_or_a_form(tmp_path: Path) -> None:
    async with ground(tmp_path, registration(PRIMARY, proxy=API)) as here:
        wide = {k: v for k, v in ORIGIN_WIDE.items() if k not in ("location", "www_authenticate", "server")}
        here.context.answers["/x"] = said(b"ok", **wide)
        here.context.html("/card", "<p>x</p>", **wide)
        refused = {name.replace("_", "-") for name in wide} - {"content-security-policy", "x-frame-options"}
        assert not refused & set((await here.ask("/api/x")).names)
        assert not refused & set((await here.ask(method="POST", body=b"x")).names)


async def test_a_page_says_what_browsers_need_to_hear(tmp_path: Path) -> None:
    async with ground(tmp_path) as here:
        heads = (await here.ask(headers={"Accept": "text/html"})).headers
        policy = dict(part.strip().partition(" ")[::2] for part in heads["content-security-policy"].split(";"))
        assert policy["base-uri"] == policy["object-src"] == "'none'"
        assert policy["form-action"] == policy["frame-ancestors"] == "'self'"
        assert "unsafe" not in heads["content-security-policy"]
        assert heads["x-content-type-options"] == "nosniff"
        assert heads["referrer-policy"] == "strict-origin-when-cross-origin"
        assert "server" not in heads
        assert "x-powered-by" not in heads
