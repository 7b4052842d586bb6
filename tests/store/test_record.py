from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bff.store import record as records
from bff.store.record import Record, concerned, head, pack, renewed, unpack, updated
from tests.store.tiers import record

TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)
HEADERS = st.lists(st.tuples(st.binary(max_size=10), st.binary(max_size=20)), max_size=4).map(tuple)
RECORDS = st.builds(
    Record,
    key=TEXTS,
    fragment=TEXTS,
    version=TEXTS,
    status=st.integers(100, 599),
    headers=HEADERS,
    body=st.binary(max_size=200),
    born=st.floats(0, 1e10),
    tags=st.lists(TEXTS, max_size=3).map(tuple),
    principal=st.none() | TEXTS,
)


@given(RECORDS)
def test_what_is_packed_is_unpacked(kept: Record) -> None:
    assert unpack(pack(kept)) == kept
    assert concerned(head(kept)) == replace(kept, body=b"")


@given(st.binary(max_size=300))
def test_garbage_is_nothing(data: bytes) -> None:
    assert unpack(data) is None
    assert concerned(data) is None
    assert renewed(data, [], 1.0) is None


@given(RECORDS, st.data())
def test_a_damaged_one_is_nothing(kept: Record, data: st.DataObject) -> None:
    packed = bytearray(pack(kept))
    place = data.draw(st.integers(0, len(packed) - 1))
    packed[place] ^= data.draw(st.integers(1, 255))
    assert unpack(bytes(packed)) is None
    assert unpack(pack(kept)[:place]) is None
    assert unpack(pack(kept) + b"x") is None


def test_another_schema_is_nothing() -> None:
    packed = bytearray(pack(record()))
    packed[3] += 1
    assert unpack(bytes(packed)) is None


def test_the_head_of_one_record_does_not_vouch_for_the_body_of_another() -> None:
    assert unpack(head(record(body=b"one")) + b"two") is None


@pytest.mark.parametrize(
    "said",
    [
        b"[]",
        b"7",
        b"{}",
        b"[" * 100_000,
        b'{"key":7}',
        b"\xff",
        b'{"key":"k","fragment":"f","version":"v","status":200,"headers":[["\\u0100","x"]],"born":1,"tags":[],"principal":null}',
        b'{"key":"k","fragment":"f","version":"v","status":200,"headers":[],"born":1%b,"tags":[],"principal":null}'
        % (b"0" * 400),
        b'{"key":"k","fragment":"f","version":"v","status":200,"headers":[],"born":1,"tags":[7],"principal":null}',
    ],
)
def test_what_is_sound_but_says_something_else_is_nothing(said: bytes) -> None:
    assert unpack(records._head(said, 0, 0)) is None


def test_a_304_renews_headers_and_birth_and_nothing_else() -> None:
    kept = record(headers=((b"etag", b'"1"'), (b"vary", b"a"), (b"x", b"1"), (b"x", b"2"), (b"content-length", b"4")))
    made = renewed(head(kept), [(b"x", b"3"), (b"vary", b"b"), (b"vary", b"c"), (b"content-length", b"0")], 99.0)
    assert made is not None
    headers = ((b"etag", b'"1"'), (b"content-length", b"4"), (b"x", b"3"), (b"vary", b"b"), (b"vary", b"c"))
    assert unpack(made + kept.body) == replace(kept, headers=headers, born=99.0)


def test_nothing_said_changes_nothing() -> None:
    stored: Any = ((b"a", b"1"), (b"a", b"2"))
    assert updated(stored, []) == stored
