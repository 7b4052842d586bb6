"""Cache deception: no shape of a URL makes somebody's own page public."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.attacks.ground import KEEP, Ground, ground, registration
from tests.gateway.proxies import said

pytestmark = pytest.mark.anyio

SUFFIXES = [
    "/x.css", "/x.js", ".css", ";x.css", "%3bx.css", "%3b/x.css", "%00.css", "%0a.css", "%23x.css", "%3fx.css", "/..%2fx.css",
    "/%2e%2e/static/x.css", "//x.css", "%2fx.css", "%252fx.css", "?x.css", "?_=/x.css", "/.css", "/~x.css",
]  # fmt: skip
OWN = {"principal": "x-user"}


@pytest.fixture(scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ground]:
    """One gateway for all tests that begin with `renewed`."""
    async with ground(tmp_path_factory.mktemp("site"), registration(forward=OWN)) as here:
        yield here


@pytest.mark.parametrize("suffix", SUFFIXES)
async def test_a_page_is_private_whatever_its_url_looks_like(site: Ground, suffix: str) -> None:
    here = await site.renewed()
    here.context.answers["/card"] = lambda asked: said(
        f"<p>secret of {asked.headers.get('x-user')}</p>".encode(), content_type="text/html", cache_control=KEEP
    )
    victim = await here.ask(f"/page{suffix}", headers={"Accept": "text/html", "X-Forwarded-User": "ann"})
    assert victim.status in (200, 400, 404)
    assert victim.headers["cache-control"] in ("private, no-cache", "no-store")
    assert "etag" not in victim.headers
    attacker = await here.ask(f"/page{suffix}", headers={"Accept": "text/html"})
    assert b"secret of ann" not in attacker.body


@pytest.mark.parametrize("suffix", [suffix for suffix in SUFFIXES if not suffix.startswith(("?", "/", "//"))])
async def test_a_parameter_that_looks_like_a_file_is_a_parameter(tmp_path: Path, suffix: str) -> None:
    fragments = {"card": {"path": "/card/{n}", "params": {"n": {"type": "str"}}}}
    page = {"path": "/page/{n}"}
    slot = '<bff-fragment name="shop/card" n="{path.n}"></bff-fragment>'
    async with ground(tmp_path, registration(slot, fragments, page, forward=OWN)) as here:
        answer = await here.ask(f"/page/7{suffix}", headers={"Accept": "text/html", "X-Forwarded-User": "ann"})
        assert answer.headers["cache-control"] in ("private, no-cache", "no-store")
        for asked in here.context.asked:
            assert asked.target.count("/") == 2, asked.target


async def test_a_private_fragment_is_private_at_its_endpoint_too(tmp_path: Path) -> None:
    async with ground(tmp_path, registration(forward=OWN)) as here:
        here.context.html("/card", "<p>own</p>", cache_control="public, max-age=60")
        answer = await here.ask("/_bff/fragments/shop/card", headers={"X-Forwarded-User": "ann"})
        assert (answer.status, answer.headers["cache-control"]) == (200, "private, no-cache")
        for path in (
            "/_bff/fragments/shop/card/x.css",
            "/_bff/fragments/shop/card;x.css",
            "/_bff/fragments/shop/card%2ex",
        ):
            assert (await here.ask(path, headers={"X-Forwarded-User": "ann"})).status == 404


async def test_a_proxied_answer_of_somebodys_is_told_to_others_caches_as_its_context_says(tmp_path: Path) -> None:
    """And is kept here under its principal alone, whatever the path ends with."""
    proxy = [{"path": "/api/{rest:path}", "to": "/api/{rest}", "forward": {"principal": "x-user"}}]
    async with ground(tmp_path, registration(proxy=proxy)) as here:
        here.context.answers["/api/me/x.css"] = lambda asked: said(
            asked.headers.get("x-user", "nobody").encode(), cache_control="private, max-age=60"
        )
        ann = {"X-Forwarded-User": "ann"}
        assert (await here.ask("/api/me/x.css", headers=ann)).body == b"ann"
        assert (await here.ask("/api/me/x.css")).body == b"nobody"
        answer = await here.ask("/api/me/x.css", headers=ann)
        assert (answer.body, answer.headers["cache-control"]) == (b"ann", "private, max-age=60")
