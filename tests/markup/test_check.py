"""Verdicts, what an accepted body is made into, and the memory of both."""

import threading

import pytest

from bff.markup.check import Checker
from bff.model import NONCE, Hole, Markup, Slot


def verdict(body: bytes, *, embeds: tuple[str, ...] = (), head: bool = False) -> Markup:
    markup = Checker().verdict(body, embeds=embeds, head=head)
    assert markup is not None
    return markup


def written(markup: Markup) -> bytes:
    """As it goes out, with `N` for the nonce and slots by number and key."""
    out = b""
    for part in markup.parts:
        match part:
            case bytes():
                out += part
            case Hole():
                assert part is NONCE
                out += b"N"
            case Slot():
                out += b"[%d %s]" % (part.index, part.key.encode())
    return out


def test_a_plain_body_is_one_piece_and_the_same_object() -> None:
    body = b"<p>a</p>"
    assert verdict(body) == Markup(parts=(body,), flat=body)
    assert verdict(body).flat is body


def test_an_empty_body_has_no_parts() -> None:
    assert verdict(b"") == Markup(parts=(), flat=b"")


def test_a_refused_body_is_none_until_it_was_repaired() -> None:
    checker, body = Checker(), b"<p>a"
    assert checker.verdict(body) is None
    markup = checker.repair(body)
    assert (markup.flat, markup.repaired) == (b"<p>a</p>", True)
    assert checker.verdict(body) is markup


def test_what_it_was_asked_with_is_remembered_too() -> None:
    checker, body = Checker(), b"<title>t</title>"
    with_head, without = checker.verdict(body, head=True), checker.verdict(body)
    assert with_head is not None
    assert without is not None
    assert (with_head.head, without.head) == ({"title": body}, {})
    assert checker.verdict(body, head=True) is with_head
    assert checker.verdict(body, trust="sanitized") is None


@pytest.mark.parametrize(
    ("body", "out"),
    [
        (b"a<style>b{}</style>c", b'a<style nonce="N">b{}</style>c'),
        (b"<script nonce=theirs>1</script>", b'<script nonce="N">1</script>'),
        (b'<SCRIPT a="b" NONCE=x c>1</SCRIPT>', b'<SCRIPT nonce="N" a="b" c>1</SCRIPT>'),
        (b"<script src=/a.js></script>", b'<script nonce="N" src=/a.js async></script>'),
        (b'<script src="/a.js" defer ></script>', b'<script nonce="N" src="/a.js" defer async></script>'),
        (b"<script async src=/a.js></script>", b'<script nonce="N" async src=/a.js></script>'),
        (b"<script type=module>1</script>", b'<script nonce="N" type=module async>1</script>'),
        (b"<script type=text/x>1</script>", b'<script nonce="N" type=text/x>1</script>'),
        (b"<style src=x>a</style>", b'<style nonce="N" src=x>a</style>'),
        (b"<svg><style>a</style></svg>", b'<svg><style nonce="N">a</style></svg>'),
        (
            b"<table><tr><td><script>1</script></td></tr></table>",
            b'<table><tr><td><script nonce="N">1</script></td></tr></table>',
        ),
    ],
)
def test_scripts_and_styles_get_the_nonce_and_hold_nothing_up(body: bytes, out: bytes) -> None:
    markup = verdict(body)
    assert written(markup) == out
    assert markup.flat is None
    assert markup.size == len(out) - 1
    assert not any(
        isinstance(a, bytes) and isinstance(b, bytes) for a, b in zip(markup.parts, markup.parts[1:], strict=False)
    )


HEADS = (
    b'<title>T</title>a<meta name=Description content=d><meta property="og:title" content=o><meta charset=x>'
    b"<link rel='canonical' href=/c><link rel=preload href=/p><meta name=description content=2>"
    b"<div><title>inner</title><svg><title>s</title></svg></div>"
)


def test_a_primary_gives_its_head_elements_to_the_page() -> None:
    markup = verdict(HEADS, head=True)
    assert markup.head == {
        "title": b"<title>T</title>",
        "meta:description": b"<meta name=Description content=d>",
        "meta:og:title": b'<meta property="og:title" content=o>',
        "canonical": b"<link rel='canonical' href=/c>",
    }
    assert markup.flat == b"a<link rel=preload href=/p><div><svg><title>s</title></svg></div>"


def test_other_fragments_lose_them() -> None:
    markup = verdict(HEADS)
    assert markup.head == {}
    assert markup.flat == verdict(HEADS, head=True).flat
    assert verdict(b"<title>only</title>") == Markup(parts=(), flat=b"")


def test_embeds_become_slots() -> None:
    body = (
        b'<p>a</p><bff-fragment name="d/price" key="1" primary><b>wait</b><style>x</style></bff-fragment>'
        b'<bff-fragment name="d/price" key="2" class="c"></bff-fragment><bff-fragment name="d/x" as="price"></bff-fragment>z'
    )
    markup = verdict(body, embeds=("d/price", "d/x"))
    assert written(markup) == b"<p>a</p>[1 price][2 price-2][3 x]z"
    first, second, _ = (part for part in markup.parts if isinstance(part, Slot))
    assert first.placeholder == (b'<b>wait</b><style nonce="', NONCE, b'">x</style>')
    assert (first.kind, first.params, second.attributes) == ("optional", (("key", ("1",)),), ' class="c"')


def test_the_memory_is_bounded_by_entries() -> None:
    checker = Checker(entries=4)
    first = checker.verdict(b"<p>0</p>")
    assert checker.verdict(b"<p>0</p>") is first
    for n in range(1, 3):
        checker.verdict(b"<p>%d</p>" % n)
    assert checker.verdict(b"<p>0</p>") is first  # asked for again: moves to the young generation
    for n in range(3, 5):
        checker.verdict(b"<p>%d</p>" % n)
    assert checker.verdict(b"<p>0</p>") is first
    for n in range(5, 9):
        checker.verdict(b"<p>%d</p>" % n)
    assert checker.verdict(b"<p>0</p>") is not first


def test_the_memory_is_bounded_by_bytes() -> None:
    checker = Checker(memory=8192)
    small, large = checker.verdict(b"s" * 1000), checker.verdict(b"l" * 5000)
    assert checker.verdict(b"s" * 1000) is small
    assert checker.verdict(b"l" * 5000) is not large  # more than a generation holds: never remembered
    for n in range(6):
        checker.verdict(b"%d" % n * 1000)
    assert checker.verdict(b"s" * 1000) is not small


def test_repair_is_safe_in_threads() -> None:
    checker = Checker(entries=64)
    bodies = [b"<ul><li>%d" % n for n in range(200)]

    def work() -> None:
        for body in bodies:
            checker.repair(body)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    last = checker.verdict(bodies[-1])
    assert last is not None
    assert last.flat == b"<ul><li>199</li></ul>"
