import pytest

from bff.markup.patch import bare, mark, patch, reserve_rule, unfilled, wrapper
from bff.model import NONCE, Markup
from tests.build import slot

WRAPPER = wrapper(slot(2, "discovery/course-card", attributes=' class="a"', load="visible"), "s2")


def test_an_answer_is_wrapped_with_its_state() -> None:
    assert (
        WRAPPER.open("fresh") == b'<bff-fragment name="discovery/course-card" data-slot="s2" state="fresh" class="a">'
    )
    assert WRAPPER.loading == (
        b'<bff-fragment name="discovery/course-card" data-slot="s2" state="loading" aria-busy="true" class="a">'
    )


def test_a_copy_says_its_age() -> None:
    assert b' state="stale" age="37"' in WRAPPER.open("stale", age=37.0)
    assert b' state="fresh" age="0"' in WRAPPER.open("fresh", age=0.0)


def test_pending_says_where_to_ask_and_when() -> None:
    tag = WRAPPER.open("pending", src="/_bff/fragments/a/b?x=1&y=2", retry_after=3)
    assert b' src="/_bff/fragments/a/b?x=1&amp;y=2" load="visible" retry-after="3"' in tag


def test_omitted_is_hidden() -> None:
    assert b' state="omitted" hidden' in WRAPPER.open("omitted")


def test_markers_and_templates_bear_the_responses_suffix() -> None:
    assert mark("s2", "k7f3qa") == b'<?start name="s2.k7f3qa">'
    assert patch("s2", "k7f3qa") == b'<template for="s2.k7f3qa">'


def test_the_word_on_what_is_missing_shows_where_a_slot_is_still_loading() -> None:
    said = unfilled('/p?q="&_bff=ordered', "N0")
    assert said.startswith(b'<noscript class="bff-whole"><style nonce="N0">.bff-whole{display:none;')
    assert b"body:has(bff-fragment[state=loading])>.bff-whole{display:block}</style>" in said
    assert said.endswith(b'<a rel="nofollow" href="/p?q=&quot;&amp;_bff=ordered">Show all of it</a></noscript>')


def test_reserved_height() -> None:
    assert reserve_rule("s2", "120px") == "bff-fragment[data-slot=s2]:not([hidden]){display:flow-root;min-height:120px}"


def test_bare_markup_has_no_nonce() -> None:
    assert bare(Markup(parts=(b"<p>",), flat=b"<p>")) == [b"<p>"]
    inner = slot(1)
    markup = Markup(
        parts=(b'<b>"</b><script nonce="', NONCE, b'">1</script><style nonce="', NONCE, b'"></style>', inner, b"!"),
        flat=None,
    )
    assert bare(markup) == [b'<b>"</b><script', b">1</script><style", b"></style>", inner, b"!"]


@pytest.mark.parametrize(
    ("attributes", "again"),
    [
        ("", False),
        (' class="a"', False),
        (' data-id="a"', False),
        (' title=" id=&quot;"', False),
        (' class="a" id="p"', True),
    ],
)
def test_a_slot_with_an_id_may_be_asked_for_again(attributes: str, again: bool) -> None:
    assert wrapper(slot(1, "shop/price", attributes=attributes), "s1").again is again


def test_what_may_be_asked_for_again_says_where_in_all_its_states() -> None:
    moving = wrapper(slot(3, "shop/price", attributes=' id="p"', refresh="1.5m", live=True, more="click"), "s3")
    assert moving.again
    assert not WRAPPER.again
    kept = b' more="click" refresh="90s" live id="p">'
    assert moving.fresh.endswith(b'state="fresh"' + kept)
    assert moving.loading.endswith(b'aria-busy="true"' + kept)
    assert moving.open("fresh", src="/x").endswith(b'state="fresh" src="/x"' + kept)
    assert moving.open("stale", age=2.0, src="/x").endswith(b'state="stale" age="2" src="/x"' + kept)
    assert moving.open("omitted", src="/x").endswith(b'state="omitted" src="/x" hidden' + kept)
