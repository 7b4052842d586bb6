"""Pages compile to the author's own bytes with holes and slots, and every mistake has its place."""

import pytest

from bff.errors import Finding
from bff.markup.shell import compile_shell
from bff.model import NONCE, Hole, Ref, Shell, Slot

HEAD = "<!doctype html><html lang=en><head><meta charset=utf-8><title>T</title></head><body>"
END = "</body></html>"


def compiled(html: str) -> Shell:
    shell, findings = compile_shell(html, file="p.html", context="c", owner="o")
    assert findings == []
    assert shell is not None
    return shell


def findings(html: str) -> list[Finding]:
    return compile_shell(html, file="p.html", context="c", owner="o")[1]


def body_findings(html: str) -> list[tuple[str, str, int]]:
    """Severity, code and column, counted from the page's body on."""
    return [(f.severity, f.code, f.column - len(HEAD)) for f in findings(HEAD + html + END)]


def parts(html: str) -> tuple[bytes | Hole | Slot, ...]:
    return compiled(HEAD + html + END).parts


def written(shell: Shell) -> str:
    """The author's bytes again: defaults for holes, nothing for slots and nonces."""
    out = b""
    for part in shell.parts:
        match part:
            case bytes():
                out += part
            case Hole():
                out += part.default
            case Slot():
                out += b"[]"
    return out.decode()


def test_a_page_without_slots() -> None:
    assert compiled(HEAD + "é" + END).parts == (
        b"<!doctype html><html lang=en><head><meta charset=utf-8>",
        Hole("title", b"<title>T</title>"),
        Hole("canonical"),
        Hole("head"),
        b"</head><body>\xc3\xa9",
        Hole("body"),
        b"</body></html>",
    )


def test_what_a_primary_may_replace_is_a_hole() -> None:
    page = """<!DOCTYPE html>
<HTML lang="{locale}"><head><meta charset="utf-8"><meta name=Viewport content=x>
<title>A &amp; B</title><meta property="og:title" content=y><meta name=viewport content=2><link rel=canonical href=/c>
<link rel=stylesheet href=/s.css></head>
<body class=x><svg><title>icon</title></svg></body></html>"""
    shell = compiled(page)
    assert [part for part in shell.parts if isinstance(part, Hole)] == [
        Hole("lang"),
        Hole("meta:viewport", b"<meta name=Viewport content=x>"),
        Hole("title", b"<title>A &amp; B</title>"),
        Hole("meta:og:title", b'<meta property="og:title" content=y>'),
        Hole("canonical", b"<link rel=canonical href=/c>"),
        Hole("head"),
        Hole("body"),
    ]
    assert written(shell) == page.replace("{locale}", "")


def test_end_tags_of_head_and_body_may_be_left_out() -> None:
    shell = compiled("<!doctype html><html lang={locale}><head><meta charset=utf-8><title>T</title><body>x")
    assert shell.parts[-4:] == (Hole("canonical"), Hole("head"), b"<body>x", Hole("body"))
    assert shell.parts[1] == Hole("lang")


def test_scripts_and_styles_get_the_nonce_and_stay_as_they_are() -> None:
    assert parts("<style >a</style><script defer  src=/x></script><SCRIPT nonce=a>1</SCRIPT>")[4:12] == (
        b'</head><body><style nonce="', NONCE, b'" >a</style><script nonce="', NONCE,
        b'" defer  src=/x></script><SCRIPT nonce="', NONCE, b'">1</SCRIPT>', Hole("body"),
    )  # fmt: skip


def test_slots_are_numbered_named_and_placed() -> None:
    shell = compiled(
        HEAD
        + '<form>\n é<bff-fragment name="ecommerce/lines" basket_id="{path.basket_id}" primary></bff-fragment></form>'
        '<bff-fragment name="d/card" as="card-2" reserve="120px"><p>Loading<style>x</style></p></bff-fragment>'
        '<bff-fragment name="d/card"></bff-fragment><bff-fragment name="e/card" core></bff-fragment>' + END
    )
    assert [(s.id, s.key, s.kind, s.in_form, s.line) for s in shell.slots] == [
        ("s1", "lines", "primary", True, 2),
        ("s2", "card-2", "optional", False, 2),
        ("s3", "card", "optional", False, 2),
        ("s4", "card-3", "core", False, 2),
    ]
    assert shell.slots[0].column == 3
    assert shell.slots[0].params == (("basket_id", ("", Ref("path", "basket_id"), "")),)
    assert shell.slots[1].placeholder == (b'<p>Loading<style nonce="', NONCE, b'">x</style></p>')
    assert tuple(part for part in shell.parts if isinstance(part, Slot)) == shell.slots
    assert not any(
        isinstance(a, bytes) and isinstance(b, bytes) for a, b in zip(shell.parts, shell.parts[1:], strict=False)
    )


def test_unquoted_attributes_and_plain_tables_work() -> None:
    shell = compiled(HEAD + "<table><tr><bff-fragment name=a/b n=1 core wrap=none></bff-fragment></table>" + END)
    assert (shell.slots[0].wrap, shell.slots[0].params) == (False, (("n", ("1",)),))


def test_unclosed_paragraphs_end_where_a_block_begins() -> None:
    html = '<p>a<div><bff-fragment name="a/b"></bff-fragment></div><p>b<table><tr><td><bff-fragment name="a/b"></bff-fragment></table>'
    assert [f.code for f in findings(HEAD + html + END)] == []


def test_a_finding_has_its_place_and_whose_it_is() -> None:
    (finding,) = findings(HEAD + '\n\n é<bff-fragment name="a/b" load=x></bff-fragment>' + END)
    assert str(finding) == (
        'p.html:3:28: error: load="x" is not understood — write stream or visible or client or click or none [c, o]'
    )


SLOT = '<bff-fragment name="a/b"></bff-fragment>'


@pytest.mark.parametrize(
    ("html", "found"),
    [
        ("<bff-fragment></bff-fragment>", ("error", "missing-name", 14)),
        ('<bff-fragment name="a/b">', ("error", "unclosed-fragment", 1)),
        ("x</bff-fragment>", ("error", "stray-end-tag", 2)),
        (f'<bff-fragment name="a/b"><i>{SLOT}</i></bff-fragment>', ("error", "nested-fragment", 29)),
        ('<bff-fragment name="a/b"><p>x</bff-fragment>', ("error", "malformed-placeholder", 1)),
        ('<bff-fragment name="a/b"></div></bff-fragment>', ("error", "malformed-placeholder", 1)),
        (
            f'<bff-fragment name="a/c" as="b"></bff-fragment>{SLOT[:-16]} as=b></bff-fragment>',
            ("error", "duplicate-as", 48),
        ),
        (SLOT.replace("><", " primary><") * 2, ("error", "two-primaries", 49)),
        (f"<template>{SLOT.replace('><', ' primary><')}</template>", ("error", "primary-in-template", 11)),
        (f"<select>{SLOT}</select>", ("error", "wrapper-not-allowed", 9)),
        (f"<script>'{SLOT}'</script>", ("error", "misplaced-fragment", 10)),
        (f"<textarea>{SLOT}</textarea>", ("error", "misplaced-fragment", 11)),
        (f"<p title='{SLOT}'></p>", ("error", "misplaced-fragment", 4)),
        ("<base href=/x>", ("error", "base", 1)),
        ("<meta http-equiv=Refresh content=1>", ("error", "meta-refresh", 1)),
        ("<?start name='s1'>", ("error", "marker", 1)),
        ("<!-- x", ("error", "unclosed-comment", 1)),
        ("<style>x", ("error", "unclosed-element", 1)),
        ("<p title='", ("error", "unclosed-tag", 1)),
        (f"<p>a{SLOT}</p>", ("warning", "fragment-in-paragraph", 5)),
        (f"<a href=/>{SLOT}</a>", ("warning", "fragment-in-link", 11)),
        (f"<button>{SLOT}</button>", ("warning", "fragment-in-link", 9)),
        ('<bff-fragment name="a/b"><button>x</button></bff-fragment>', ("warning", "focus-in-placeholder", 26)),
        ('<bff-fragment name="a/b"><a href=/>x</a><a>y</a></bff-fragment>', ("warning", "focus-in-placeholder", 26)),
        ('<bff-fragment name="a/b"><textarea></textarea></bff-fragment>', ("warning", "focus-in-placeholder", 26)),
        ("<script src=/x></script>", ("warning", "blocking-script", 1)),
        ("<p style=color:red></p>", ("warning", "inline-style", 4)),
        ("<p onclick=x()></p>", ("warning", "inline-handler", 4)),
    ],
)
def test_a_mistake_is_found(html: str, found: tuple[str, str, int]) -> None:
    assert body_findings(html) == [found]


@pytest.mark.parametrize("name", ["<!doctype html>", "<html lang=en>", "<head>", "<body>"])
def test_a_page_is_a_whole_document(name: str) -> None:
    shell, found = compile_shell(HEAD.replace(name, "") + END, file="p.html", context="c", owner="o")
    assert shell is None
    assert found[0].code == "incomplete-page"
    assert name.split(maxsplit=1)[0].rstrip(">") in found[0].message


def test_a_slot_after_the_body_is_waited_for_and_what_is_late_goes_behind_it() -> None:
    html = f"{HEAD}{SLOT}</body>{SLOT}<!-- x -->{SLOT}</html>"
    shell, found = compile_shell(html, file="p.html", context="c", owner="o")
    assert [(f.severity, f.code) for f in found] == [("warning", "fragment-after-body")] * 2
    assert shell is not None
    assert [slot.kind for slot in shell.slots] == ["optional", "core", "core"]
    assert [part for part in shell.parts if isinstance(part, bytes | Hole)][-5:] == [
        b"</head><body>",
        b"</body>",
        b"<!-- x -->",
        Hole("body"),
        b"</html>",
    ]


def test_charset_and_title_are_missed() -> None:
    html = "<!doctype html><html><head></head><body></body></html>"
    assert [(f.severity, f.code) for f in findings(html)] == [("note", "no-charset"), ("warning", "no-title")]
    shell, _ = compile_shell(html, file="p.html", context="c", owner="o")
    assert shell is not None
    assert shell.parts[1:4] == (Hole("title"), Hole("canonical"), Hole("head"))
    old = html.replace(
        "<head>", '<head><title>T</title><meta http-equiv=content-type content="text/html; charset=utf-8">'
    )
    assert findings(old) == []


def test_svg_elements_may_close_themselves() -> None:
    assert compiled(HEAD + f"<div><svg/><svg><a/><path d=x/></svg>{SLOT}</div>" + END).slots[0].fragment == "a/b"


def test_a_long_page_compiles() -> None:
    many = (SLOT + "<!-- x --><div>") * 500
    assert len(compiled(HEAD + many + END).slots) == 500
