import pytest
from hypothesis import given
from hypothesis import strategies as st

from bff.rules import vary
from bff.rules.caching import fields
from tests.rules.answers import at, head, kept


@pytest.mark.parametrize("value", ["*", "*, *", ", *", "*, Foo", "Foo, *", " * "])
def test_a_star_anywhere_is_unknowable(value: str) -> None:
    assert vary.names(head(f"vary: {value}")) is None
    assert vary.names(head("vary:", f"vary: {value}")) is None


@pytest.mark.parametrize(
    ("texts", "names"),
    [
        ([], ()),
        (["vary:"], ()),
        (["vary: Foo, BAR ,, foo"], (b"bar", b"foo")),
        (["vary: a", "vary: b"], (b"a", b"b")),
    ],
)
def test_what_vary_names(texts: list[str], names: tuple[bytes, ...]) -> None:
    assert vary.names(head(*texts)) == names


@pytest.mark.parametrize(
    ("named", "second", "same"),
    [
        ("", ["accept: a", "x-forwarded-for: 192.0.2.1"], True),
        ("Accept", ["accept: a", "x-forwarded-for: 192.0.2.2"], True),
        ("X-Forwarded-For", ["accept: a", "x-forwarded-for: 192.0.2.1"], True),
        ("Accept, X-Forwarded-For", ["accept: a", "x-forwarded-for: 192.0.2.2"], False),
        ("", ["accept: b", "x-forwarded-for: 192.0.2.1"], False),
        ("", ["x-forwarded-for: 192.0.2.1"], False),
        ("", ["accept: a", "x-key: 1", "x-forwarded-for: 192.0.2.1"], False),
    ],
)
def test_which_requests_say_the_same(named: str, second: list[str], same: bool) -> None:
    first = head("accept: a", "x-forwarded-for: 192.0.2.1")
    assert vary.alike(head(f"vary: {named}"), first, head(*second)) is same
    assert vary.alike(head(f"vary: {named}"), head(*second), first) is same


@pytest.mark.parametrize(
    ("named", "first", "second", "same"),
    [
        ("Foo", ["foo: 1"], ["foo: 1"], True),
        ("Foo", ["foo: 1"], ["foo: 2"], False),
        ("Foo", ["foo: 1"], [], False),
        ("Foo", [], [], True),
        ("Foo", ["foo:"], [], False),
        ("Foo", ["foo: 1", "other: 2"], ["foo: 1", "other: 3"], True),
        ("Foo, Bar", ["foo: 1", "bar: 2"], ["bar: 2", "foo: 1"], True),
        ("Foo, Bar", ["foo: 1", "bar: 2"], ["foo: 1"], False),
        ("Foo", ["foo: 1,2"], ["foo: 1, 2"], True),
        ("Foo", ["foo: 1, 2"], ["foo: 1", "foo: 2"], True),
        ("Foo", ["foo: 1, 2"], ["foo: 2, 1"], False),
        ("Foo", ["foo: a"], ["foo: A"], False),
        ("Foo", ['foo: "a, b"'], ['foo: "a,b"'], False),
        ("Cookie", ["cookie: a=1, 2"], ["cookie: a=1,2"], False),
        ("Accept-Language", ["accept-language: en, de"], ["accept-language: de,EN"], True),
        ("Accept-Language", ["accept-language: en;q=0.5, de"], ["accept-language: de, en; q=0.5"], True),
        ("Accept-Language", ["accept-language: en;q=0.5, de"], ["accept-language: en, de;q=0.5"], False),
        ("Accept-Encoding", ["accept-encoding: gzip, br"], ["accept-encoding: br", "accept-encoding: GZIP, gzip"], True),
        ("Accept-Encoding", ["accept-encoding: gzip"], ["accept-encoding:"], False),
        ("Accept", ["accept: text/html, */*;q=0.1"], ["accept: */*; q=0.1, text/HTML"], True),
        ("", [], ["foo: 1"], True),
        ("Accept", ["accept: b, a;" + "x" * 200], ["accept: a;" + "x" * 200 + ",b"], True),
    ],
)  # fmt: skip
def test_which_requests_select_an_answer(named: str, first: list[str], second: list[str], same: bool) -> None:
    stored = kept(f"vary: {named}", request=head(*first))
    assert vary.matches(stored, head(*second)) is same
    names = vary.names(head(f"vary: {named}"))
    assert names is not None
    assert (vary.key(names, head(*first)) == vary.key(names, head(*second))) is same


def test_the_latest_of_several_is_used() -> None:
    english = head("accept-language: en")
    old = kept("vary: accept-language", f"date: {at(-20)}", request=english)
    new = kept("vary: accept-language", f"date: {at(-10)}", request=english)
    other = kept("vary: accept-language", f"date: {at(-5)}", request=head("accept-language: de"))
    assert vary.select([old, new, other], english) is new
    assert vary.select([new, old], english) is new
    assert vary.select([old, new], head("accept-language: fr")) is None
    plain = kept(f"date: {at(-1)}")
    assert vary.select([old, new, other, plain], english) is plain
    assert vary.select([], english) is None


VALUES = st.binary(max_size=8)


@given(st.dictionaries(VALUES, VALUES, max_size=3), st.dictionaries(VALUES, VALUES, max_size=3), st.lists(VALUES))
def test_keys_are_equal_exactly_where_the_selection_is(
    first: dict[bytes, bytes], second: dict[bytes, bytes], names: list[bytes]
) -> None:
    same = vary.selecting(names, first) == vary.selecting(names, second)
    assert (vary.key(names, first) == vary.key(names, second)) is same
    assert vary.selecting(names, fields(list(first.items()))) == vary.selecting(names, first)
