"""Composition: what a fragment or a visitor writes is never an instruction to the gateway, and cannot be repeated without end."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from selectolax.lexbor import LexborHTMLParser

from tests.attacks.ground import ground, registration

pytestmark = pytest.mark.anyio

INCLUDES = [
    '<esi:include src="http://169.254.169.254/"/>',
    '<!--esi <esi:include src="/secret"/> -->',
    '<!--#include virtual="/secret" -->',
    '<!--#exec cmd="id" -->',
    "<esi:vars>$(HTTP_COOKIE)</esi:vars>",
    '<bff-fragment name="shop/secret"></bff-fragment>',
    '<bff-fragment name="shop/card"></bff-fragment>',
    '<bff-fragment name="shop/secret" id="{principal}"></bff-fragment>',
    "{{ 7*191 }}{% include 'secret' %}",
    "{path.n}{query.n}{principal}",
    '<template for="s2">hijack</template>',
    '<?start name="s2"><p>hijack</p><?end>',
    '</template><template for="s2.abcdef">hijack</template>',
    '<div><?start name="s2.abcdef"?></div>',
]
TWO = '<bff-fragment name="shop/card"></bff-fragment><bff-fragment name="shop/other"></bff-fragment>'
FRAGMENTS = {"card": {"path": "/card"}, "other": {"path": "/other"}, "secret": {"path": "/secret"}}


@pytest.mark.parametrize("text", INCLUDES)
async def test_an_instruction_in_a_fragment_is_inert(tmp_path: Path, text: str) -> None:
    async with ground(tmp_path, registration(TWO, FRAGMENTS)) as here:
        here.context.html("/secret", "<p>the secret</p>")
        here.context.html("/other", "<p>other</p>")
        here.context.html("/card", f"<p>before</p>{text}<p>after</p>")
        page = await here.page()
        assert "the secret" not in page
        assert "1337" not in page
        assert not here.context.to("/secret")
        assert len(here.context.to("/card")) == 1
        tree = LexborHTMLParser(page)
        assert [each.text() for each in tree.css("footer")] == ["the end"]
        other = re.findall(r'data-slot="s2" state="fresh"><p>other</p>', page)
        assert len(other) == 1
        assert "hijack" not in re.sub(
            r"<template for=\"s1\.[^>]*>.*?</bff-fragment></template>", "", page, flags=re.DOTALL
        )


async def test_an_instruction_in_a_url_is_inert(tmp_path: Path) -> None:
    """A reflected parameter is text: in the slot's own address, in its JSON, and to its context."""
    fragments = {"card": {"path": "/card", "params": {"n": {"type": "str"}}, "query": {"n": "{n}"}}}
    page = {"query": {"n": {"type": "str", "default": ""}}}
    slot = '<bff-fragment name="shop/card" n="{query.n}" load="client"></bff-fragment>'
    async with ground(tmp_path, registration(slot, fragments, page)) as here:
        text = "%22%3E%3Cesi:include%20src=%22/x%22/%3E%3C?start%20name=%22s1%22%3E%7B%7B7*191%7D%7D%7Bprincipal%7D"
        made = await here.page(f"/page?n={text}", x_forwarded_user="ann")
        assert "<esi:include" not in made
        assert "1337" not in made
        assert "ann" not in made
        assert made.count("<?start") == 0


async def test_markers_of_one_response_mean_nothing_in_another(tmp_path: Path) -> None:
    async with ground(tmp_path, registration(TWO, FRAGMENTS)) as here:
        here.context.html("/other", "<p>other</p>")
        first = await here.page()
        (mark,) = set(re.findall(r'<\?start name="s2\.([0-9a-z]{6,})">', first))
        here.context.html("/card", f'<p>a</p><template for="s2.{mark}">hijack</template>')
        second = await here.page()
        assert mark not in re.findall(r'<\?start name="s2\.([0-9a-z]{6,})">', second)
        assert "hijack" not in second


async def test_embedding_is_declared_bounded_and_never_recurses_without_end(tmp_path: Path) -> None:
    fragments = {"card": {"path": "/card", "embeds": ["shop/card"]}}
    async with ground(tmp_path, registration(fragments=fragments)) as here:
        here.context.html("/card", '<p>a</p><bff-fragment name="shop/card"></bff-fragment>' * 2)
        page = await here.page()
        assert page.count("<p>a</p>") <= 2 * (1 + 2 + 4 + 8)
        assert len(here.context.asked) <= 8
        here.context.html("/card", '<bff-fragment name="shop/card"></bff-fragment>' * 2000)
        page = await here.page()
        assert page.count("<bff-fragment") <= 52 * 51  # fifty are asked for; what those hold is left out
        assert len(here.context.asked) <= 2 * 60


async def test_a_page_answers_within_its_deadline_though_its_fragments_ask_for_it(tmp_path: Path) -> None:
    """A registration that leads back to the gateway itself is slow, not endless."""
    async with ground(tmp_path, registration(page={"deadline": "500ms"})) as here:
        here.context.gate.clear()
        page = await here.page()
        assert "the end" in page
        assert 'state="omitted"' in page or 'state="pending"' in page
        here.context.gate.set()
