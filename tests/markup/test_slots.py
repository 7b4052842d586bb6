"""Every attribute of `<bff-fragment>`, well and badly written."""

import pytest

from bff.markup.slots import default_key, literal, pattern, read
from bff.markup.tokens import attributes
from bff.model import Ref, Slot


def slot(text: str) -> Slot:
    found, problems = read(attributes(f' name="a/b" {text}'.encode()))
    assert problems == []
    return found


def problems(text: str) -> list[str]:
    return [f"{p.code}: {p.message}" for p in read(attributes(f' name="a/b" {text}'.encode()))[1]]


PLAIN = Slot(index=0, fragment="a/b", key="")


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("", "fragment", "a/b"),
        ("as=card", "key", "card"),
        ("primary", "kind", "primary"),
        ('primary="primary"', "kind", "primary"),
        ("core", "kind", "core"),
        *[(f"load={load}", "load", load) for load in ("stream", "visible", "client", "click", "none")],
        ("refresh=30s", "refresh", "30s"),
        ("live", "live", True),
        ("more=click", "more", "click"),
        ("more=visible", "more", "visible"),
        ("stale=then-fresh", "then_fresh", True),
        ("when=authenticated", "when", "authenticated"),
        ("when=anonymous", "when", "anonymous"),
        ("wrap=none", "wrap", False),
        ("reserve=120px", "reserve", "120px"),
        ("reserve=7.5rem", "reserve", "7.5rem"),
        ("reserve=0", "reserve", "0"),
        ("""id=x class="a b" data-n='"<'""", "attributes", ' id="x" class="a b" data-n="&quot;&lt;"'),
        ("timeout.total=800ms cache.mode=off", "policy", {"timeout.total": "800ms", "cache.mode": "off"}),
        ("""key="{path.x}" Flag""", "params", (("key", ("", Ref("path", "x"), "")), ("flag", ("",)))),
        ("param:load=x param:as={query.y}z", "params", (("load", ("x",)), ("as", ("", Ref("query", "y"), "z")))),
        ("user={principal} l='a{locale}'", "params",
         (("user", ("", Ref("principal"), "")), ("l", ("a", Ref("locale"), "")))),
    ],
)  # fmt: skip
def test_an_attribute_is_read(text: str, field: str, value: object) -> None:
    assert getattr(slot(text), field) == value


def test_without_attributes_all_are_defaults() -> None:
    assert slot("") == PLAIN


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("as='a b'", 'bad-attribute: as="a b" is not understood'),
        ("primary=yes", 'bad-attribute: primary="yes" is not understood'),
        ("live=off", 'bad-attribute: live="off" is not understood'),
        ("load=lazy", 'bad-attribute: load="lazy" is not understood'),
        ("refresh=soon", 'bad-attribute: refresh="soon" is not understood'),
        ("refresh=0s", 'bad-attribute: refresh="0s" is not understood'),
        ("more=yes", 'bad-attribute: more="yes" is not understood'),
        ("stale=fresh", 'bad-attribute: stale="fresh" is not understood'),
        ("when=never", 'bad-attribute: when="never" is not understood'),
        ("wrap=div", 'bad-attribute: wrap="div" is not understood'),
        ("reserve='1px;}'", 'bad-attribute: reserve="1px;}" is not understood'),
        ("reserve=120pxx", 'bad-attribute: reserve="120pxx" is not understood'),
        ("reserve=50%", 'bad-attribute: reserve="50%" is not understood'),  # of a height that nothing gives
        ("data-slot=s1", "reserved-attribute: data-slot is written by the gateway itself"),
        ("key={cookie.x}", 'bad-reference: key="{cookie.x}" is not understood'),
        ("key={}", 'bad-reference: key="{}" is not understood'),
        ("aria-label=x", "unknown-attribute: aria-label is not an attribute of <bff-fragment>"),
        ("param:=x", "unknown-attribute: param: is not an attribute of <bff-fragment>"),
        ("key=1 KEY=2", "duplicate-attribute: key is written twice"),
        ("key=1 param:key=2", "duplicate-attribute: param:key gives a parameter twice"),
        ("primary core", "contradiction: primary and core exclude each other"),
        ("core load=client", "contradiction: the page waits for a core slot, so it cannot be loaded later"),
        ("wrap=none load=click", 'contradiction: wrap="none" cannot be loaded by click'),
        ("wrap=none live more=click", 'contradiction: wrap="none" has no element for live and more'),
        ("wrap=none class=x", 'contradiction: wrap="none" has no element for id, class or data-*'),
    ],
)
def test_a_mistake_is_told(text: str, found: str) -> None:
    assert problems(text) == [found]


def test_all_mistakes_are_told_at_once_with_place_and_remedy() -> None:
    _, found = read(attributes(b" name=Lines load=x when=y"))
    assert [(p.offset, p.remedy) for p in found] == [
        (1, "write <context>/<fragment> in lower case, such as discovery/course-card"),
        (12, "write stream or visible or client or click or none"),
        (19, "write authenticated or anonymous"),
    ]


def test_a_name_is_required() -> None:
    assert [p.code for p in read([])[1]] == ["missing-name"]


def test_patterns_alternate_text_and_references() -> None:
    assert pattern("") == ("",)
    assert pattern("a{path.x}{query.y}") == ("a", Ref("path", "x"), "", Ref("query", "y"), "")
    assert pattern("a}b{c") == ("a}b{c",)


def test_literal_slots_depend_on_no_request() -> None:
    assert literal(slot("key=1"))
    assert not literal(slot("key={locale}"))


def test_default_keys_are_numbered() -> None:
    assert default_key("a/b", set()) == "b"
    assert default_key("a/b", {"b", "b-2"}) == "b-3"
