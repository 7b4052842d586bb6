"""Whatever a fragment's body is, what is written of it is one tree, and as much of it as a browser would show."""

import time

import pytest

from bff.markup.check import Checker
from bff.markup.repair import balanced
from bff.markup.walk import DEPTH, walk
from bff.model import Markup, Trust

from .browser import stands_alone


def repair(body: bytes, *, trust: Trust = "checked", embeds: tuple[str, ...] = (), head: bool = False) -> Markup:
    return Checker().repair(body, trust=trust, embeds=embeds, head=head)


def text(markup: Markup) -> bytes:
    """As it goes out, with `N` for the nonce."""
    return b"".join(part if isinstance(part, bytes) else b"N" for part in markup.parts)


REPAIRED = [
    (b"<p>a", b"<p>a</p>"),
    (b"<ul><li>a<li>b</ul>", b"<ul><li>a</li><li>b</li></ul>"),
    (b"<b>x<p>y</b>z", b"<b>x</b><p><b>y</b>z</p>"),
    (b"<p>a<div>b</div>", b"<p>a</p><div>b</div>"),
    (b"<a href=1>a<a href=2>b</a>", b'<a href="1">a</a><a href="2">b</a>'),
    (b"<tr><td>x", b"<tr><td>x</td></tr>"),
    (b"<table><div>x</div><tr><td>y", b"<div>x</div><table><tbody><tr><td>y</td></tr></tbody></table>"),
    (b"<table><col><td>y</table>", b"<table><colgroup><col></colgroup><tbody><tr><td>y</td></tr></tbody></table>"),
    (b"<div/>x", b"<div>x</div>"),
    (b"<image src=x>", b'<img src="x">'),
    (b"<select><option>a<option>b</select>", b"<select><option>a</option><option>b</option></select>"),
    (b"<svg><path d=M0></svg>", b'<svg><path d="M0"></path></svg>'),
    (b"<svg><p>x</svg>", b"<svg></svg><p>x</p>"),
    (b"a\0b\xff", "a�b�".encode()),
    (b"\xef\xbb\xbfa", b"a"),
    (b"\xef\xbb\xbf\xef\xbb\xbfa", b"a"),
    (b"<!doctype html>\xef\xbb\xbfa", b"a"),
    (b"", b""),
]
# reference lists of hostile fragments: markers, breakouts, unclosed raw text, page-wide elements, mutation by re-parsing
HOSTILE = [
    (b'x<template for="b">HIJACK</template>y', b"xy"),
    (b'</template><template for="b">HIJACK</template>y', b"y"),
    (b'A<?start name="b">trap<?end>', b"Atrap"),
    (b"A<!--?start name='b'-->B", b"AB"),
    (b"<p>a</p><!-- x", b"<p>a</p><!-- x-->"),
    (b"<p>a</p><script>alert(1)", b"<p>a</p>"),
    (b"a<script><!--<script></script>", b'a<script nonce="N"><\\!--<script></script>'),
    (b"<style>a", b'<style nonce="N">a</style>'),
    (b"<textarea>a<p>", b"<textarea>a&lt;p&gt;</textarea>"),
    (b"<title>a", b""),
    (b"a<plaintext>b</p>", b"ab"),
    (b"a<xmp><p></xmp>b", b"ab"),
    (b"a<noembed><p></noembed>b", b"ab"),
    (b"<div><ul><li>a", b"<div><ul><li>a</li></ul></div>"),
    (b"a</div></main></body></html>b", b"ab"),
    (b"<base href=//evil>a", b"a"),
    (b"<meta http-equiv=refresh content=0>a", b"a"),
    (b"<meta http-equiv=Content-Security-Policy content=x>a", b"a"),
    (b"<form>a<form>b</form>c</form>", b"<form>abc</form>"),
    (b"<bff-fragment name='a/b'>x</bff-fragment>y", b"y"),
    (b"<img src='x", b""),
    (b"<svg><![CDATA[a<b]]></svg>", b"<svg>a&lt;b</svg>"),
    (b"<frameset><frame></frameset>a", b"a"),
    (b"<noscript><!-- </noscript>a", b"<noscript></noscript>"),
    (b"<p title='</noscript>'><noscript>a</noscript>", b'<p title="&lt;/noscript&gt;"><noscript>a</noscript></p>'),
    (b"<style></noscript></style><noscript>a</noscript>", b"<noscript>a</noscript>"),
    (b"<a<b>x</a<b>y", b"xy"),
    (b'<p a"b="1" c=2 c=3>x', b'<p c="2">x</p>'),
]


@pytest.mark.parametrize(("body", "out"), REPAIRED + HOSTILE, ids=repr)
def test_it_is_repaired(body: bytes, out: bytes) -> None:
    markup = repair(body)
    assert text(markup) == out
    assert stands_alone(out)


def test_mutations_by_parsing_twice_end_in_one_tree() -> None:
    for body in (
        b"<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=1&gt;'>",
        b"<svg></p><style><a id='</style><img src=1>'>",
        b"<form><div></form><form>a",
        b"<svg><style>a&lt;b</style></svg>",
        b"<math><annotation-xml encoding='text/html'><p>x</p></annotation-xml></math>",
        b"<svg><desc><b>x</b></desc><title><i>y</i></title></svg>",
        b"<noscript><p title='</noscript><img src=1>'>",
    ):
        assert stands_alone(text(repair(body)))


def test_of_a_whole_document_the_body_stays() -> None:
    page = (
        b"<!-- a --><!doctype html><html lang=en><head><title>T</title><meta name=a content=b><style>x</style>"
        b"<link rel=canonical href=/c></head><body class=x><p>hi</body></html>"
    )
    assert text(repair(page)) == b"<p>hi</p>"
    assert repair(page, head=True).head == {
        "title": b"<title>T</title>",
        "meta:a": b'<meta name="a" content="b">',
        "canonical": b'<link rel="canonical" href="/c">',
    }
    assert text(repair(b"<body>" + b"<p>" * 400)) == b"<p></p>" * 400


def test_declared_embeds_survive() -> None:
    body = b'<p>a<bff-fragment name="d/price" key=1><i>w</i></bff-fragment><bff-fragment name="d/no">x</bff-fragment>'
    markup = repair(body, embeds=("d/price",))
    assert [getattr(part, "key", part) for part in markup.parts] == [b"<p>a", "price", b"</p>"]


def test_nesting_is_cut_at_256_and_its_text_stays() -> None:
    markup = repair(b"<div>" * 300 + b"x" + b"</div>" * 300 + b"y")
    assert text(markup) == b"<div>" * DEPTH + b"x" + b"</div>" * DEPTH + b"y"


NUMBERED = b"".join(b"<b id=%d>" % n for n in range(3000))
COSTLY = {
    "nested blocks": b"<div>" * 50_000,
    "formatting opened again": b"<p>" + NUMBERED + b"</p>" + b"<p>x" * 3000,
    "formatting behind a marker": b"<div>"
    + NUMBERED.replace(b">", b"><object></b></object>")
    + b"</div>"
    + b"<p>x</p>" * 3000,
    "formatting in svg style": b"<div><svg><style>" + NUMBERED + b"</style></svg></div>" + b"<p>x</p>" * 3000,
    "formatting in cdata": b"<svg><![CDATA[>" + b"<b>" * 3000 + b"]]>" + b"<p>" * 3000,
    "comments": b"<!--" * 100_000,
    "documents": b"<!-- -->" * 50_000,
    "style": b"<style>" * 50_000,
    "script ends": b"<script>" + b'</script "' * 50_000,
    "white space in tables": b"<table>" + b" " * 500_000,
    "character references": b"&" * 200_000 + b"<p>",
}


@pytest.mark.parametrize("body", COSTLY.values(), ids=COSTLY)
@pytest.mark.parametrize("trust", ["checked", "sanitized"])
def test_no_body_costs_far_more_than_its_size(body: bytes, trust: Trust) -> None:
    """Processor time, and far above what it takes: without its bound each of these takes minutes, or all memory."""
    before = time.thread_time()
    markup = repair(body, trust=trust)
    assert time.thread_time() - before < 10
    assert markup.size <= 6 * len(body)


@pytest.mark.parametrize(
    ("body", "out"),
    [
        (b"<p>a</p><p>b<p>c", b"<p>a</p><p>b</p><p>c</p>"),
        (b"<ul><li>a<li>b<div></ul>c", b"<ul><li>a</li><li>b<div></div></li></ul>c"),
        (b"<a>x<a>y", b"<a>x</a><a>y</a>"),
        (b"<form><form>x</form>y", b"<form>xy</form>"),
        (
            b"<table><tr><td>a<td>b<tr><td>c</table>d",
            b"<table><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></table>d",
        ),
        (b"<table>x<div>y<tr>z<td>k", b"<table><tr><td>k</td></tr></table>"),
        (b"<b><i>x</b></i>y", b"<b><i>x</i></b>y"),
        (b"<div/>x<svg/><br/>", b"<div>x<svg/><br></div>"),
        (b"<svg><path/><p>x</p><br></svg>y", b"<svg><path/>x</svg>y"),
        (b"<template for=x><p>a</p><br>b</template>c", b"c"),
        (b"a < b <<p>", b"a &lt; b &lt;<p></p>"),
        (b"a<<!-->b>", b"a&lt;b>"),
        (b"<DIV>x</Div>", b"<DIV>x</div>"),
    ],
    ids=repr,
)
def test_bytes_are_balanced_without_a_parser(body: bytes, out: bytes) -> None:
    assert balanced(body) == out
    assert walk(out) is not None


def test_sanitized_keeps_content_and_drops_all_that_acts() -> None:
    body = (
        b'<section id=a class=c style="x" onclick=y><h2>T</h2><script>1</script><style>a</style><form><input></form>'
        b'<a href="javascript:1">a</a><a href="/b">b</a><img src=/i.png onerror=1></section>'
    )
    out = text(repair(body, trust="sanitized"))
    assert out.startswith(b'<section class="c"><h2>T</h2>')
    assert b'<a href="/b"' in out
    assert b'<img src="/i.png">' in out
    for gone in (b"id=", b"style", b"on", b"script", b"form", b"input"):
        assert gone not in out.replace(b"section", b""), gone


def test_sanitized_bodies_that_were_clean_are_not_called_repaired() -> None:
    assert not repair(b"<p>a</p>", trust="sanitized").repaired
    assert repair(b"<p id=a>a</p>", trust="sanitized").repaired
