"""Nonces: one for each response, from the system's generator, in no store and no shared answer."""

from __future__ import annotations

import gzip
import re
from collections.abc import AsyncIterator

import brotli
import pytest

from tests.attacks.ground import KEEP, Ground, ground, registration

pytestmark = pytest.mark.anyio

SCRIPT = "<script>let x</script><style>p{}</style>"
HTML = {"Accept": "text/html"}
SHOP = registration('<bff-fragment name="shop/card"></bff-fragment><bff-fragment name="shop/card" core></bff-fragment>')


@pytest.fixture(scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ground]:
    async with ground(tmp_path_factory.mktemp("site"), SHOP, settings={"trusted_proxies": []}) as made:
        yield made


def nonces(text: str) -> set[str]:
    return {*re.findall(r'nonce="([^"]*)"', text)}


def announced(policy: str) -> set[str]:
    return {*re.findall(r"'nonce-([^']*)'", policy)}


async def test_each_response_has_a_nonce_of_its_own_in_its_head_and_on_its_scripts(site: Ground) -> None:
    here = await site.renewed()
    here.context.html("/card", SCRIPT, cache_control=KEEP)
    seen: set[str] = set()
    for _ in range(20):
        answer = await here.ask(headers=HTML)
        (nonce,) = announced(answer.headers["content-security-policy"])
        assert nonces(answer.body.decode()) == {nonce}
        assert re.fullmatch(r"[0-9a-f]{32}", nonce)
        seen.add(nonce)
    assert len(seen) == 20
    assert len(here.context.asked) == 1


@pytest.mark.parametrize("coding", ["gzip", "br"])
async def test_a_compressed_page_from_the_store_has_a_fresh_one_too(site: Ground, coding: str) -> None:
    here = await site.renewed()
    here.context.html("/card", SCRIPT + "<p>x</p>" * 200, cache_control=KEEP)
    seen: set[str] = set()
    for _ in range(5):
        answer = await here.ask(headers=HTML | {"Accept-Encoding": coding})
        assert answer.headers["content-encoding"] == coding
        unpacked: bytes = gzip.decompress(answer.body) if coding == "gzip" else brotli.decompress(answer.body)
        text = unpacked.decode()
        assert nonces(text) == announced(answer.headers["content-security-policy"])
        seen |= nonces(text)
    assert len(seen) == 5


async def test_nothing_that_is_kept_or_shared_has_one(site: Ground) -> None:
    here = await site.renewed()
    here.context.html("/card", SCRIPT, cache_control=KEEP)
    page = await here.page()
    (nonce,) = nonces(page)
    for target, accept in (
        ("/_bff/fragments/shop/card", "text/html"),
        ("/page", "application/json"),
        ("/page", "application/x-ndjson"),
    ):
        answer = await here.ask(target, headers={"Accept": accept})
        assert b"nonce=" not in answer.body
        assert "nonce-" not in answer.headers.get("content-security-policy", "")
    for entry in [*here.running.store._cache.live.values()]:
        assert nonce not in repr(entry)


async def test_a_context_never_sees_or_brings_one(site: Ground) -> None:
    """A nonce of its own, of an older page or guessed, is taken off; a page's own is sent to nobody."""
    here = await site.renewed()
    (old,) = nonces(await here.page()) or {"x"}
    here.context.html(
        "/card",
        f'<script nonce="{old}">let y</script><script nonce=x NONCE=z>let z</script><style nonce="{old}"></style>',
    )
    answer = await here.ask(headers=HTML)
    assert nonces(answer.body.decode()) == announced(answer.headers["content-security-policy"])
    assert old not in answer.body.decode()
    assert all("nonce" not in "".join(asked.lines).lower() for asked in here.context.asked)


async def test_a_visitor_chooses_none(site: Ground) -> None:
    here = await site.renewed()
    here.context.html("/card", SCRIPT)
    chosen = "0" * 32
    sent = {
        "X-Request-Id": chosen,
        "Traceparent": f"00-{chosen}-{'0' * 16}-01",
        "X-Nonce": chosen,
        "Content-Security-Policy": f"'nonce-{chosen}'",
    }
    answer = await here.ask(headers=HTML | sent)
    assert chosen not in announced(answer.headers["content-security-policy"])
    assert answer.headers["x-request-id"] != chosen
