"""What the check accepts as it stands, and what it refuses: the rules of the tree builder, one line each."""

import pytest

from bff.markup.walk import DEPTH, EMBEDS, walk

ACCEPTED = """
<p>a</p>
plain text, 1 < 2, <3 & more
<DIV CLASS=x>a</div>
<div><p>a</p><ul><li>a</li><li><ul><li>b</li></ul></li></ul></div>
<a href=/x/ title='"'><b>x</b></a><br><br/><img src="a>b" alt=''>
<dl><dt>a</dt><dd>b</dd></dl>
<h1>a <em>b</em></h1><hr>
<button><span>x</span></button><label>a <input type=text></label>
<form action=/a><select><optgroup><option>a</option></optgroup><hr><option>b</option></select></form>
<table><caption>c</caption><colgroup><col></colgroup><thead><tr><th>a</th></tr></thead><tbody><tr><td><p>b</p></td></tr></tbody></table>
<table><tr><td><table><tr><td>x</td></tr></table></td></tr></table>
<table><tr><td>a</td></tr><input type=HIDDEN name=n></table>
<table><script>1</script><tr><td>a</td></tr></table>
<tr><td>a</td></tr> <!-- b --> <tr><td>c</td></tr>
<td>a</td><td>b</td>
<option>a</option>
<li>a</li>
<svg viewBox="0 0 1 1"><title>t</title><desc>d</desc><linearGradient id=g><stop/></linearGradient><path d="M0"/></svg>
<svg><style>.a{}</style><foreignObject><div><p>x</p></div></foreignObject></svg><svg/>
<math><mrow><mi>x</mi><mo>=</mo><mspace/></mrow></math>
<template><tr><td>a</td></tr></template><template><p>a</p><form></form></template>
<template><style>a{}</style><td>a</td></template>
<template><!-- c --><iframe></iframe></template>
<x-card><slot name=a></slot></x-card><fb:like></fb:like>
<script>if (a < b && "</p>") { x("<!--") }</script>
<script>"<script"</script>
<style>a > b {}</style><textarea><p></textarea><iframe src=/x></iframe>
<!-- a -- b --><!----><!-- <!-- --><!---a--->
<noscript><img src=/x></noscript>
<p><object><div>x</div></object></p>
<ruby>a<rt>b</rt></ruby>
<b><b><b><b>x</b></b></b></b>
<title>t</title><meta name=description content=d><link rel=canonical href=/x><link rel=stylesheet href=/y>
<p itemscope><meta itemprop=p content=1></p>
""".strip().splitlines()

REFUSED = """
<p>
</p>
<p><b></p></b>
<ul><li>a<li>b</ul>
<p>a<div>b</div></p>
<p><ul></ul></p>
<p><table></table></p>
<p>a<p>b</p></p>
<a><span><a>x</a></span></a>
<nobr><nobr></nobr></nobr>
<button><i><button></button></i></button>
<form><div><form></form></div></form>
<h1><h2></h2></h1>
<li><p><li></li></p></li>
<dl><dd><dt></dt></dd></dl>
<ruby><rt><rp></rp></rt></ruby>
<table>x<tr><td></td></tr></table>
<table><tr>x<td></td></tr></table>
<table><tr><td></td></tr>&nbsp;</table>
<table><div></div></table>
<table><td></td></table>
<table><col></table>
<table><input type=text></table>
<table><form></form></table>
<div><tr></tr></div>
<tr><td>a</td></tr><p>b</p>
<p>b</p><tr><td>a</td></tr>
<template><p></p><tr></tr></template>
<template><col></template>
<TR>x<td></td></TR>
<select><select></select></select>
<select><input></select>
<select><style></style></select>
<option><option></option></option>
<div/>
<svg><p>x</p></svg>
<svg><style><b></style></svg>
<svg><script>1</script></svg>
<svg><title><b></title></svg>
<svg><desc><b>x</b></desc></svg>
<svg><textarea></textarea></svg>
<svg><mi></mi></svg>
<math><mi><b>x</b></mi></math>
<math><title>t</title></math>
<math><annotation-xml></annotation-xml></math>
<![CDATA[x]]>
<svg><![CDATA[x]]></svg>
<!doctype html>
<html></html>
<head></head>
<body></body>
<frameset></frameset>
<base href=/x>
<meta http-equiv=refresh content=0>
<meta http-equiv="Content-Security-Policy" content="default-src *">
<link rel=x http-equiv=refresh>
<plaintext>
<image src=x>
<xmp>a</xmp>
<noembed></noembed>
<!-->
<!--->
<!--a--!>
<!--
<!-- x
<!--?start name="s1.abc"-->
<?start name="s1.abc">x<?end>
<?end>
</>
</ p>
a</
<
<p
<p a="x>
<p a="x"b="y"></p>
<p a=></p>
<p =a></p>
<p a"b></p>
<p / a></p>
<a href='x>
<script>
<script>1
<script><!--<script></script>
<style>a
<textarea>
<title>
<iframe>
<template>
<template for="s2.abc">x</template>
<template a=b FOR=x></template>
</template>
<noscript><noscript></noscript></noscript>
<noscript><!-- </noscript> --></noscript>
<noscript><p title="</noscript>"></p></noscript>
<bff-fragment name="a/b"></bff-fragment>
""".strip().splitlines()


@pytest.mark.parametrize("body", ACCEPTED)
def test_one_tree_is_accepted(body: str) -> None:
    assert walk(body.encode()) is not None


@pytest.mark.parametrize("body", [b for b in REFUSED if b != "<"])
def test_anything_else_is_refused(body: str) -> None:
    assert walk(body.encode()) is None


def test_a_lone_angle_bracket_is_text() -> None:
    assert walk(b"a <") is not None


def test_nothing_is_a_tree() -> None:
    assert walk(b"") is not None


@pytest.mark.parametrize("body", [b"a\0b", b"\xff", b"\xc3", b"\xef\xbb\xbfa"], ids=repr)
def test_bytes_that_are_not_plain_utf8_are_refused(body: bytes) -> None:
    assert walk(body) is None
    assert walk("é".encode()) is not None


@pytest.mark.parametrize("tag", [b"div", b"x-y", b"b"])
def test_nesting_ends_at_256(tag: bytes) -> None:
    start, end = b"<" + tag + b">", b"</" + tag + b">"
    assert walk(start * DEPTH + end * DEPTH) is not None
    assert walk(start * (DEPTH + 1) + end * (DEPTH + 1)) is None


def test_it_says_what_must_be_rewritten() -> None:
    found = walk(
        b"<title>t</title><p>a</p><style>a{}</style><div><title>x</title><meta name=N></div><meta property=og:Title>"
    )
    assert found is not None
    assert list(found.special.values()) == ["title", "nonce", "drop", "drop", "meta:og:title"]


def test_it_says_where_a_body_belongs() -> None:
    row, form = walk(b"<tr><td>x</td></tr>"), walk(b"<div><form></form></div>")
    assert row is not None
    assert form is not None
    assert (row.tabular, row.form, form.tabular, form.form) == (True, False, False, True)


@pytest.mark.parametrize(
    ("body", "rooted"),
    [
        (b"<template shadowrootmode=open>x</template>", True),
        (b"a<p></p><TEMPLATE class=x ShadowRootMode='CLOSED'></TEMPLATE>", True),
        (b'<bff-fragment name="a/b" wrap="none"><template shadowrootmode="open"></template></bff-fragment>', True),
        (b"<div><template shadowrootmode=open>x</template></div>", False),
        (b"<template shadowrootmode=other>x</template><template>y</template>", False),
        (b"<template><template shadowrootmode=open></template></template>", False),
    ],
)
def test_it_says_what_makes_a_shadow_root_of_its_place(body: bytes, *, rooted: bool) -> None:
    found = walk(body, ("a/b",))
    assert found is not None
    assert found.rooted is rooted


EMBED = b'<bff-fragment name="a/b" key="1">wait</bff-fragment>'


def test_declared_embeds_are_accepted() -> None:
    found = walk(b"<ul><li>" + EMBED + b"</li></ul>", ("a/b",))
    assert found is not None
    (slot,) = found.special.values()
    assert not isinstance(slot, str)
    assert (slot.fragment, slot.params) == ("a/b", (("key", ("1",)),))


@pytest.mark.parametrize(
    "body",
    [
        b'<bff-fragment name="a/c"></bff-fragment>',
        b"<bff-fragment></bff-fragment>",
        b'<bff-fragment name="a/b" key="{query.x}"></bff-fragment>',
        b'<bff-fragment name="a/b" load="never"></bff-fragment>',
        b'<bff-fragment name="a/b">' + EMBED + b"</bff-fragment>",
        b"<table>" + EMBED + b"</table>",
        EMBED * (EMBEDS + 1),
    ],
)
def test_other_embeds_are_refused(body: bytes) -> None:
    assert walk(body, ("a/b",)) is None


def test_a_table_takes_an_embed_that_leaves_no_wrapper() -> None:
    row = b'<table><tbody><bff-fragment name="a/b" wrap="none"></bff-fragment></tbody></table>'
    assert walk(row, ("a/b",)) is not None
