"""HTML: a fragment stays in its slot, acts as far as its trust goes, and costs about what it weighs."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import AsyncIterator
from html import unescape

import pytest
from selectolax.lexbor import LexborHTMLParser

from bff.markup.check import Checker
from tests.attacks.ground import Ground, ground, registration
from tests.gateway.proxies import Asked, said

pytestmark = pytest.mark.anyio

SHOP = registration(
    '<bff-fragment name="shop/checked"></bff-fragment><bff-fragment name="shop/sanitized" core></bff-fragment>'
    '<bff-fragment name="shop/sandboxed" core></bff-fragment><bff-fragment name="shop/last"></bff-fragment>',
    {
        "checked": {"path": "/card"},
        "sanitized": {"path": "/card", "trust": "sanitized", "params": {"n": {"type": "int", "default": 1}}, "query": {"n": "{n}"}},
        "sandboxed": {"path": "/card", "trust": "sandboxed"},
        "last": {"path": "/last"},
    },
)  # fmt: skip
BREAKOUTS = [
    "</main></body></html><script>alert(1)</script>", "</bff-fragment></bff-fragment><h1>out</h1>", "<!-- never closed", "<!--> <!-- -->",
    "<script>never closed", "<style>never closed", "<textarea>never closed", "<title>never closed", "<plaintext>", "<xmp>never closed",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>", "<iframe srcdoc='never closed", "<svg><style><!--</style><img src=x>",
    "<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=x onerror=alert(1)&gt;'>",
    "<svg></p><style><a id='</style><img src=1 onerror=alert(1)>'>", "<form><math><mtext></form><form><mglyph><style></math><img src>",
    "<table><tr><td></table></div></div>", "<select><option><script>x", "<template><template></template>", "<frameset><frame>",
    "<base href='//evil'>", "<meta http-equiv=refresh content='0;url=//evil'>", "<meta http-equiv=Content-Security-Policy content=x>",
    "<link rel=canonical href=//evil>", "<a><a><a>", "<p><p><div></p>", "<b><p></b></p>", "<img src='", "<img alt=`<", "<div a='1' a='2", "<!DOCTYPE x>",
    "<?start name='s4'?>", "<?php x ?>", "<![CDATA[x", "</p></p></div>", "\x00<script>", "<scr\x00ipt>alert(1)</script>", "\ufeff<p>x",
    "<p>" * 300, "<template for=s4>x</template>", "<div><template shadowrootmode=open><slot></slot>", "<image>", "<isindex>", "<keygen><menuitem>",
    "<body onload=alert(1)>", "<html><head><title>x</title></head><body bgcolor=red>", "<script><!--<script></script>", "<noembed></noframes>",
]  # fmt: skip


@pytest.fixture(scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ground]:
    async with ground(tmp_path_factory.mktemp("site"), SHOP) as made:
        yield made


@pytest.mark.parametrize("text", BREAKOUTS)
async def test_no_fragment_leaves_its_slot(site: Ground, text: str) -> None:
    """Whatever it writes, in place and late: what follows is there, is where it belongs, and is nobody else's."""
    here = await site.renewed()
    here.context.html("/card", f"<p>before</p>{text}")
    here.context.html("/last", "<p>the last</p>")
    for ordered in ("", "?_bff=ordered"):
        page = await here.page(f"/page{ordered}")
        tree = LexborHTMLParser(page)
        assert [each.text() for each in tree.css("body > footer")] == ["the end"]
        assert len(tree.css("main > bff-fragment[data-slot=s1]")) == 1
        assert len(tree.css("body > bff-fragment")) == 0
        assert "<p>the last</p>" in page
        assert not tree.css("base")
        assert not tree.css("meta[http-equiv]")
        assert len(tree.css("head > title")) == 1
        found = tree.css_first("[data-slot=s2]")
        assert found is not None
        acting = "script, style, form, iframe, object, embed, [id], [name], [style], [onerror], [onload], template"
        assert [each.tag for each in found.css(acting)] == ["bff-fragment"]  # itself, which has a name


ACTS = [
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "<svg onload=alert(1)>", "<a href='javascript:alert(1)'>x</a>",
    "<a href='jav&#x09;ascript:alert(1)'>x</a>", "<a href=' javascript:alert(1)'>x</a>", "<a href='data:text/html,x'>x</a>",
    "<form action=//evil><button formaction=//evil>", "<input autofocus onfocus=alert(1)>", "<iframe src=//evil></iframe>",
    "<object data=//evil></object>", "<embed src=//evil>", "<link rel=stylesheet href=//evil>", "<style>*{background:url(//evil)}</style>",
    "<p style='background:url(//evil)'>x</p>", "<meta http-equiv=refresh content=0>", "<base href=//evil>", "<video src=x onerror=alert(1)>",
    "<details open ontoggle=alert(1)>", "<math href=javascript:alert(1)>x</math>", "<svg><a xlink:href=javascript:alert(1)><text>x",
    "<noscript><p title='</noscript><script>alert(1)</script>'>", "<template><script>alert(1)</script></template>",
    "<svg><animate onbegin=alert(1) attributeName=x>", "<svg><use href=data:image/svg+xml,x>", "<svg><foreignObject><script>alert(1)</script>",
    "<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;/mglyph&gt;&lt;img src=1 onerror=alert(1)&gt;'>",
    "<form><math><mtext></form><form><mglyph><style></math><img src onerror=alert(1)>", "<svg></p><style><a title='</style><img src onerror=alert(1)>'>",
    "<x onclick=alert(1) id=x name=y>", "<a id=config name=config href=//x>", "<img name=cookie>", "<form id=x><input name=action></form>",
    "<bff-fragment name='shop/last'>", "<portal src=//evil>", "<a href='vbscript:x'>", '<a href="java\nscript:alert(1)">x</a>',
]  # fmt: skip


@pytest.mark.parametrize("text", ACTS)
def test_nothing_of_a_sanitized_fragment_acts(text: str) -> None:
    """Read once as it is written, and once more as scripts would read its innerHTML (mutation XSS): the same tree, inert."""
    written = Checker().repair(text.encode(), trust="sanitized").flat
    assert written is not None
    for _ in range(3):
        tree = LexborHTMLParser(b"<!doctype html><body>" + written)
        body = tree.body
        assert body is not None
        assert not body.css(
            "script,style,form,iframe,object,embed,link,meta,base,template,bff-fragment,svg,math,input,button,portal"
        )
        for node in body.css("*"):
            for name, value in node.attributes.items():
                assert not name.startswith("on"), (text, written)
                assert name not in ("id", "name", "style", "srcdoc", "action", "formaction", "xlink:href"), (
                    text,
                    written,
                )
                if name in ("href", "src", "cite"):
                    assert not re.match(r"[\s\x00-\x20]*[a-z]+script:|\s*data:", unescape(value or "").lower()), (
                        text,
                        written,
                    )
        again = (body.inner_html or "").encode()
        assert again == written or LexborHTMLParser(b"<!doctype html><body>" + again).html == tree.html
        written = again


@pytest.mark.parametrize("text", ACTS)
async def test_nothing_of_a_sandboxed_fragment_is_in_the_page(site: Ground, text: str) -> None:
    here = await site.renewed()
    here.context.html("/card", f"<p>inside</p>{text}")
    page = LexborHTMLParser(await here.page())
    slot = page.css_first("[data-slot=s3]")
    assert slot is not None
    assert [each.tag for each in slot.css("*")] == ["bff-fragment", "iframe"]
    frame = slot.css_first("iframe")
    assert frame is not None
    assert frame.attributes["sandbox"] == "allow-scripts"
    answer = await here.ask(frame.attributes["src"] or "")
    assert answer.headers["content-security-policy"] == "sandbox allow-scripts"


async def test_an_identifier_of_a_checked_fragment_is_its_own_affair_and_no_name_of_ours(site: Ground) -> None:
    """DOM clobbering is not prevented for `checked`, and is told so; nothing that the gateway writes is looked up by an id."""
    here = await site.renewed()
    here.context.html("/card", '<form id=bff name=nonce><input name=attributes id="s1"></form>')
    page = await here.page()
    assert "data-slot" in page
    assert ' id="s' not in page.replace('id="s1"', "", 1)


BOMBS = {
    "nesting": "<div>" * 16_666,
    "formatting": "<b><i><u>" * 5_000,
    "formatting-and-blocks": "<b><p>" * 8_333,
    "tables": "<table><tr><td>" * 5_000,
    "attributes": "<p " + " ".join(f"a{n}=1" for n in range(7_000)) + ">",
    "entities": "<p>" + "&amp;" * 20_000 + "&" * 20_000 + "</p>",
    "comments": "<!--" * 20_000,
    "lists": "<ul><li>" * 10_000,
    "svg": "<svg><g>" * 10_000,
    "select": "<select><option>" * 6_666,
    "adoption": "<a>" * 20_000 + "</a>" * 6_666,
    "quotes": '<p a="' * 13_333,
    "angles": "<" * 80_000,
    "raw": "<style><!--" * 6_666,
    "templates": "<template>" * 8_333,
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
async def test_a_nesting_bomb_costs_about_what_it_weighs_and_never_the_loop(site: Ground, name: str) -> None:
    """80 KiB of any of these are read off the loop, within a page's deadline, while the loop goes on."""
    here = await site.renewed()
    threads: list[str] = []
    repair = here.running.checker.repair

    def watched(*given: object, **named: object) -> object:
        threads.append(threading.current_thread().name)
        return repair(*given, **named)  # type: ignore[arg-type] # as it is called

    here.running.checker.repair = watched  # type: ignore[method-assign, assignment] # looked at, not changed
    try:
        numbers = iter(range(100))
        here.context.answers["/card"] = lambda asked: bomb(name, asked, next(numbers))
        began = time.process_time()
        page = await here.page()
        assert time.process_time() - began < 10
    finally:
        del here.running.checker.repair
    assert [each.text() for each in LexborHTMLParser(page).css("body > footer")] == ["the end"]
    assert threading.main_thread().name not in threads


def bomb(name: str, asked: Asked, number: int) -> bytes:
    return said(f"<p>{number}</p>{BOMBS[name]}".encode(), content_type="text/html")


def test_depth_is_bounded_at_every_level_of_trust() -> None:
    for trust in ("checked", "sanitized", "sandboxed"):
        made = Checker().repair(b"<div>" * 1000 + b"x", trust=trust)
        text = b"".join(part for part in made.parts if isinstance(part, bytes))
        assert text.count(b"<div>") <= 256
        assert b"x" in text
