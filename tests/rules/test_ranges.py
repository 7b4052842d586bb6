import pytest
from hypothesis import given
from hypothesis import strategies as st

from bff.rules.ranges import Span, partial_headers, span, unsatisfiable_headers
from tests.rules.answers import at, head, kept, lines

STORED = kept("cache-control: max-age=60", 'etag: "a"', f"date: {at(0)}", f"last-modified: {at(-50)}")


@pytest.mark.parametrize(
    ("value", "length", "gets"),
    [
        ("bytes=0-1", 11, Span(0, 1)),
        ("bytes=1-", 11, Span(1, 10)),
        ("bytes=-1", 11, Span(10, 10)),
        ("bytes=-99", 11, Span(0, 10)),
        ("bytes=0-99", 11, Span(0, 10)),
        ("Bytes= 10-10 ", 11, Span(10, 10)),
        ("bytes=11-", 11, "unsatisfiable"),
        ("bytes=11-12", 11, "unsatisfiable"),
        ("bytes=-0", 11, "unsatisfiable"),
        ("bytes=0-", 0, "unsatisfiable"),
        ("bytes=-5", 0, "whole"),
        ("bytes=2-1", 11, "whole"),
        ("bytes=20-19", 11, "whole"),
        ("bytes=-", 11, "whole"),
        ("bytes=0-0,-1", 11, "whole"),
        ("bytes=a-b", 11, "whole"),
        ("lines=0-1", 11, "whole"),
        ("bytes 0-1", 11, "whole"),
        ("", 11, "whole"),
        ("bytes=0-" + "9" * 30, 11, "whole"),
    ],
)
def test_what_a_range_gets(value: str, length: int, gets: object) -> None:
    assert span(STORED, "GET", head(f"range: {value}"), length) == gets


def test_ranges_are_of_get_and_200_alone() -> None:
    wanted = head("range: bytes=0-1")
    assert span(STORED, "HEAD", wanted, 11) == "whole"
    assert span(STORED, "GET", {}, 11) == "whole"
    assert span(kept("cache-control: max-age=60", status=404), "GET", wanted, 11) == "whole"


@pytest.mark.parametrize(
    ("value", "texts", "holds"),
    [
        ('"a"', ['etag: "a"'], True),
        (' "a" ', ['etag: "a"'], True),
        ('W/"a"', ['etag: W/"a"'], False),
        ('"a"', ['etag: W/"a"'], False),
        ('"b"', ['etag: "a"'], False),
        ('"a"', [], False),
        (at(-50), [f"last-modified: {at(-50)}"], True),
        (at(-40), [f"last-modified: {at(-50)}"], False),
        (at(-60), [f"last-modified: {at(-50)}"], False),
        (at(0), [f"last-modified: {at(0)}"], False),  # not strong: it may have changed within that second
        (at(-50), [], False),
        ("yesterday", [f"last-modified: {at(-50)}"], False),
    ],
)
def test_if_range(value: str, texts: list[str], holds: bool) -> None:
    stored = kept("cache-control: max-age=60", f"date: {at(0)}", *texts)
    found = span(stored, "GET", head("range: bytes=0-1", f"if-range: {value}"), 11)
    assert found == (Span(0, 1) if holds else "whole")


def test_the_heads_of_parts() -> None:
    whole = lines('etag: "a"', "content-length: 11", "content-type: a/b")
    assert partial_headers(whole, Span(2, 4), 11) == lines(
        'etag: "a"', "content-type: a/b", "content-range: bytes 2-4/11", "content-length: 3"
    )
    assert unsatisfiable_headers(11) == lines("content-range: bytes */11", "content-length: 0")


@given(
    st.one_of(st.binary(max_size=20), st.from_regex(rb"bytes=[0-9]{0,3}-[0-9]{0,3}", fullmatch=True)),
    st.integers(0, 99),
)
def test_a_part_lies_within_the_whole(value: bytes, length: int) -> None:
    found = span(STORED, "GET", {b"range": value}, length)
    if isinstance(found, Span):
        assert 0 <= found.first <= found.last < length
