import pytest
from hypothesis import given
from hypothesis import strategies as st

from bff.rules.validators import etags, not_modified, not_modified_headers, strong, strong_date, weak
from tests.rules.answers import at, head, kept, lines

FRESH = "cache-control: max-age=60"


@pytest.mark.parametrize(
    ("one", "other", "strongly", "weakly"),
    [
        (b'"a"', b'"a"', True, True),
        (b'W/"a"', b'"a"', False, True),
        (b'W/"a"', b'W/"a"', False, True),
        (b'"a"', b'"b"', False, False),
        (b'W/"a"', b'W/"b"', False, False),
        (b"", b"", False, False),
    ],
)
def test_tags_are_compared(one: bytes, other: bytes, strongly: bool, weakly: bool) -> None:
    assert strong(one, other) is strong(other, one) is strongly
    assert weak(one, other) is weak(other, one) is weakly


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (b"*", (b"*",)),
        (b' "a" , W/"b,c","d"', (b'"a"', b'W/"b,c"', b'"d"')),
        (b'"f\xfc"', (b'"f\xfc"',)),
        (b"", ()),
        (b"a, b", ()),
        (b'"a b"', ()),
        (b'*, "a"', (b'"a"',)),
    ],
)
def test_what_a_list_of_tags_holds(value: bytes, found: tuple[bytes, ...]) -> None:
    assert etags(value) == found


@pytest.mark.parametrize(
    ("texts", "request_", "same"),
    [
        (['etag: "a"'], ['if-none-match: "a"'], True),
        (['etag: "a"'], ['if-none-match: W/"a"'], True),
        (['etag: W/"a"'], ['if-none-match: "x", W/"a", "y"'], True),
        (['etag: "a"'], ['if-none-match: "x"', 'if-none-match: "a"'], True),
        (['etag: "a"'], ["if-none-match: *"], True),
        ([], ["if-none-match: *"], True),
        ([], ['if-none-match: "a"'], False),
        (['etag: "a"'], ['if-none-match: "b"'], False),
        (['etag: "a"'], ["if-none-match: a"], False),
        (['etag: "a"', f"last-modified: {at(-50)}"], ['if-none-match: "a"', f"if-modified-since: {at(-99)}"], True),
        (['etag: "a"', f"last-modified: {at(-50)}"], ['if-none-match: "b"', f"if-modified-since: {at(-1)}"], False),
        ([f"last-modified: {at(-50)}"], [f"if-modified-since: {at(-50)}"], True),
        ([f"last-modified: {at(-50)}"], [f"if-modified-since: {at(-10)}"], True),
        ([f"last-modified: {at(-50)}"], [f"if-modified-since: {at(-60)}"], False),
        ([f"last-modified: {at(-50)}"], ["if-modified-since: Sunday, 15-Jun-25 15:06:40 GMT"], True),
        ([f"date: {at(-50)}"], [f"if-modified-since: {at(-50)}"], True),
        ([f"date: {at(-50)}"], [f"if-modified-since: {at(-60)}"], False),
        ([f"last-modified: {at(-50)}"], ["if-modified-since: now"], False),
        ([f"last-modified: {at(-50)}"], [f"if-modified-since: {at(0)}", f"if-modified-since: {at(0)}"], False),
        (['etag: "a"'], [], False),
    ],
)
def test_conditions_are_answered_from_the_store(texts: list[str], request_: list[str], same: bool) -> None:
    stored = kept(FRESH, *texts)
    assert not_modified(stored, "GET", head(*request_)) is same
    assert not_modified(stored, "HEAD", head(*request_)) is same
    assert not not_modified(stored, "POST", head(*request_))
    assert not not_modified(kept(FRESH, *texts, status=404), "GET", head(*request_))
    assert not_modified(kept(FRESH, *texts, status=203), "GET", head(*request_)) is same


def test_a_date_is_strong_a_second_later() -> None:
    assert strong_date(kept(FRESH, f"date: {at(0)}", f"last-modified: {at(-1)}"))
    assert not strong_date(kept(FRESH, f"date: {at(0)}", f"last-modified: {at(0)}"))
    assert not strong_date(kept(FRESH, f"date: {at(0)}"))


def test_what_a_304_carries() -> None:
    whole = lines(
        'etag: "a"', f"date: {at(0)}", FRESH, "content-type: text/html", "content-length: 5", "content-encoding: gzip",
        "vary: accept", "content-location: /a", "expires: 0", "x-custom: 1", "last-modified: x", "cache-status: o; hit",
    )  # fmt: skip
    assert [name for name, _ in not_modified_headers(whole)] == [
        b"etag", b"date", b"cache-control", b"vary", b"content-location", b"expires", b"last-modified", b"cache-status",
    ]  # fmt: skip


@given(st.binary(max_size=60), st.binary(max_size=40))
def test_no_bytes_break_it(tags: bytes, date: bytes) -> None:
    stored = kept(FRESH, 'etag: "a"')
    assert not_modified(stored, "GET", {b"if-none-match": tags}) in (True, False)
    assert not_modified(stored, "GET", {b"if-modified-since": date}) in (True, False)
