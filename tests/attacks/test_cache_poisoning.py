"""Cache poisoning: nothing that is not in the key reaches a context, and nothing that failed takes a good entry's place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.attacks.ground import KEEP, ground, registration
from tests.gateway.proxies import Asked, said

pytestmark = pytest.mark.anyio

UNKEYED = {
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Scheme": "nothttps",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Port": "6",
    "X-Forwarded-Prefix": "/evil",
    "X-Forwarded-Server": "evil.example",
    "Forwarded": "host=evil.example;proto=https",
    "X-Host": "evil.example",
    "X-Original-URL": "/admin",
    "X-Rewrite-URL": "/admin",
    "X-Http-Method-Override": "POST",
    "X-Middleware-Subrequest": "middleware",
    "Bff-Deadline": "1",
    "Bff-Changed": "everything",
    "X-Request-Id": "evil",
    "User-Agent": "evil",
    "Origin": "https://evil.example",
    "Referer": "https://evil.example",
    "Accept-Language": "xx",
    "Range": "bytes=0-1",
    "If-None-Match": "*",
}


def echo(asked: Asked) -> bytes:
    """All that a context saw, in an answer that may be kept: what an attacker would have in the store."""
    body = json.dumps([asked.line, asked.headers]).replace("<", "")
    return said(f"<p>{body}</p>".encode(), content_type="text/html", cache_control=KEEP)


async def test_unkeyed_headers_never_reach_a_context(tmp_path: Path) -> None:
    async with ground(tmp_path, settings={"trusted_proxies": []}) as here:
        here.context.answers["/card"] = echo
        await here.page(**{name.replace("-", "_"): text for name, text in UNKEYED.items()})
        (asked,) = here.context.asked
        assert set(asked.headers) == {
            "host", "accept-encoding", "accept", "user-agent", "traceparent", "x-request-id", "bff-deadline",
        }  # fmt: skip
        assert "evil" not in json.dumps(asked.headers)
        assert int(asked.headers["bff-deadline"]) > 1


async def test_a_poisoned_request_leaves_nothing_for_the_next_visitor(tmp_path: Path) -> None:
    async with ground(tmp_path, settings={"trusted_proxies": []}) as here:
        here.context.answers["/card"] = echo
        await here.page(**{name.replace("-", "_"): text for name, text in UNKEYED.items()})
        page = await here.page()
        assert "fresh" in page
        assert "evil" not in page
        assert len(here.context.asked) == 1


async def test_a_fat_get_changes_neither_a_page_nor_the_store(tmp_path: Path) -> None:
    async with ground(tmp_path) as here:
        here.context.answers["/card"] = echo
        answer = await here.ask(body=b"n=666&evil=1", headers={"Content-Type": "application/x-www-form-urlencoded"})
        assert answer.status == 200
        assert here.context.asked[0].body == b""
        assert "content-length" not in here.context.asked[0].headers
        await here.page()
        assert len(here.context.asked) == 1


async def test_a_fat_get_through_a_proxy_route_is_neither_kept_nor_answered_from_the_store(tmp_path: Path) -> None:
    shop = registration(
        proxy=[{"path": "/api/{rest:path}", "to": "/api/{rest}", "policy": {"cache": {"mode": "http"}}}]
    )
    async with ground(tmp_path, shop) as here:
        here.context.answers["/api/x"] = lambda asked: said(b"saw " + asked.body, cache_control=KEEP)
        assert (await here.ask("/api/x", body=b"evil")).body == b"saw evil"
        assert (await here.ask("/api/x")).body == b"saw "
        assert (await here.ask("/api/x")).body == b"saw "
        assert len(here.context.asked) == 2


QUERIES = [
    "a=1;n=666",
    "n=1;n=666",
    "n=1%26n=666",
    "utm_source=x&n=1",
    "n=1#n=666",
    "N=666&n=1",
    "n[]=666&n=1",
    "n%00=6&n=1",
]


@pytest.mark.parametrize("query", QUERIES)
async def test_cloaked_parameters_are_never_sent(tmp_path: Path, query: str) -> None:
    """What is no declared parameter, in whatever disguise, is neither keyed nor sent; ambiguity is 400."""
    fragments = {"card": {"path": "/card", "params": {"n": {"type": "str", "default": ""}}, "query": {"n": "{n}"}}}
    page = {"query": {"n": {"type": "str", "default": ""}}}
    slot = '<bff-fragment name="shop/card" n="{query.n}"></bff-fragment>'
    async with ground(tmp_path, registration(slot, fragments, page)) as here:
        answer = await here.ask(f"/page?{query.replace('#', '%23')}")
        for asked in here.context.asked:
            sent = asked.target.partition("?")[2]
            assert sent.count("n=") == 1
            assert "&" not in sent
            assert "666" not in sent.replace("%23n%3D666", "").replace("%26n%3D666", "").replace("%3Bn%3D666", "")
        assert answer.status in (200, 400)


async def test_a_parameter_given_twice_is_refused_not_chosen(tmp_path: Path) -> None:
    page = {"query": {"n": {"type": "int", "default": 1}}}
    async with ground(tmp_path, registration(page=page)) as here:
        assert (await here.ask("/page?n=1&n=2")).status == 400
        assert (await here.ask("/page?n=1&%6E=2")).status == 400
        assert here.context.asked == []


async def test_one_value_has_one_spelling(tmp_path: Path) -> None:
    """Otherwise anybody could fill the store with copies of one answer, or find an entry under another's name."""
    fragments = {"card": {"path": "/card/{n}", "params": {"n": {"type": "int"}}}}
    async with ground(tmp_path, registration("", fragments)) as here:
        here.context.html("/card/1", "<p>one</p>", cache_control=KEEP)
        assert (await here.ask("/_bff/fragments/shop/card?n=1")).status == 200
        for other in ("01", "+1", "%201", "1%20", "1.0", "1e0", "0x1", "%D9%A1", "1_0"):
            assert (await here.ask(f"/_bff/fragments/shop/card?n={other}")).status == 400, other
        assert (await here.ask("/_bff/fragments/shop/card?n=%31")).headers["bff-reason"] == "hit"
        assert len(here.context.asked) == 1


async def test_two_hosts_never_share_a_proxied_answer(tmp_path: Path) -> None:
    shop = registration(proxy=[{"path": "/api/{rest:path}", "to": "/api/{rest}"}])
    async with ground(tmp_path, shop) as here:
        here.context.answers["/api/x"] = lambda asked: said(
            asked.headers["x-forwarded-host"].encode(), cache_control=KEEP
        )
        for host in ("a.example", "b.example", "a.example", "b.example"):
            assert (await here.ask("/api/x", headers={"Host": host})).body.decode() == host
        assert len(here.context.asked) == 2


async def test_a_host_that_is_none_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    async with ground(tmp_path, settings={"hosts": ["shop.example"]}) as here:
        for host, status in {
            "evil.example": 421, "shop.example.evil.example": 421, "shop.example@evil.example": 400, "x/evil?y": 400,
            "shop.example, evil.example": 400, "shop.example:80:80": 400, "shop.example#": 400, "": 400,
        }.items():  # fmt: skip
            assert (await here.ask(headers={"Host": host})).status == status, host
        assert (await here.ask(headers={"Host": "SHOP.example:9"})).status == 200


ERRORS = ["400 Bad Request", "401 Unauthorized", "403 Forbidden", "429 Too Many Requests", "431 x", "500 x", "503 x"]


@pytest.mark.parametrize("status", ERRORS)
async def test_an_error_that_a_request_provokes_never_replaces_what_was_good(tmp_path: Path, status: str) -> None:
    """Cache-poisoned denial of service: an oversized or odd header makes the origin fail, and the failure is kept."""
    async with ground(tmp_path, registration(fragments={"card": {"path": "/card", "policy": STALE}})) as here:
        here.context.html("/card", "<p>good</p>", cache_control="max-age=0")
        await here.page()
        here.context.answers["/card"] = said(b"<p>evil</p>", status, content_type="text/html", cache_control=KEEP)
        await here.page(x_oversized="y" * 40_000, x_meta="\x7f")
        here.context.html("/card", "<p>good again</p>", cache_control="max-age=0")
        page = await here.page()
        assert "evil" not in page
        assert "good" in page


STALE = {"cache": {"stale_if_error": "1h"}}


@pytest.mark.parametrize(
    "headers",
    [
        {"vary": "*"},
        {"set_cookie": "session=victim"},
        {"cache_control": "no-store"},
        {"cache_control": "private, max-age=60"},
    ],
    ids=str,
)
async def test_what_must_not_be_kept_is_asked_for_anew(tmp_path: Path, headers: dict[str, str]) -> None:
    async with ground(tmp_path) as here:
        here.context.html("/card", "<p>x</p>", **({"cache_control": KEEP} | headers))
        await here.page()
        page = await here.page()
        assert "age=" not in page
        assert len(here.context.asked) == 2


@pytest.mark.parametrize("status", ["206 Partial Content", "304 Not Modified", "301 Moved Permanently"])
async def test_a_part_a_304_or_a_redirect_is_no_content(tmp_path: Path, status: str) -> None:
    async with ground(tmp_path) as here:
        body = b"" if status.startswith("304") else b"<p>part</p>"
        here.context.answers["/card"] = said(body, status, content_type="text/html", cache_control=KEEP)
        assert "part" not in await here.page()
        here.context.html("/card", "<p>whole</p>")
        assert "whole" in await here.page()


async def test_a_browsers_no_cache_forces_nothing(tmp_path: Path) -> None:
    async with ground(tmp_path) as here:
        here.context.html("/card", "<p>kept</p>", cache_control=KEEP)
        for _ in range(3):
            await here.page(cache_control="no-cache, max-age=0", pragma="no-cache")
        assert len(here.context.asked) == 1


async def test_a_context_tags_purge_nothing_of_anothers(tmp_path: Path) -> None:
    other = {"fragments": {"main": {"path": "/main", "tags": ["course:1"]}}}
    slots = '<bff-fragment name="blog/main"></bff-fragment><bff-fragment name="shop/card" primary></bff-fragment>'
    async with ground(tmp_path, registration(slots), others={"blog": other}) as here:
        here.context.html("/main", "<p>kept</p>", cache_control=KEEP)
        here.context.html("/card", "<p>x</p>", bff_changed="course:1 blog:course:1 *", surrogate_key="course:1")
        await here.page()
        assert (await here.ask(method="POST", body=b"x")).status == 200
        await here.page()
        assert len(here.context.to("/main")) == 1


async def test_no_host_of_a_visitors_is_in_a_fragment(tmp_path: Path) -> None:
    async with ground(tmp_path) as here:
        here.context.answers["/card"] = echo
        await here.page(host="a.example")
        await here.page(host="b.example")
        (asked,) = here.context.asked
        assert asked.headers["host"].startswith("127.0.0.1:")
