"""JSON that any program can read on."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bff.rules.ijson import DEPTH, read

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES)
def test_what_is_read_is_what_was_written_and_can_be_written_again(value: Any) -> None:
    body = json.dumps(value).encode()
    read_, plain = read(body)
    assert (read_, plain) == (value, body)
    assert read(json.dumps(read_, ensure_ascii=False, allow_nan=False).encode())[0] == value


@pytest.mark.parametrize(
    "body",
    [
        b"", b"x", b"{", b'{"a":NaN}', b"[Infinity]", b"[-Infinity]", b"[1e999]", b"[-1e999]", b'["\xff"]', b'{"a":1}'[::-1],
        b'["\\ud800"]', b'{"\\uDFFF":1}', b'["\\udc00\\ud800"]', '{"a":1}'.encode("utf-16"), b"9" * 5000,
        b"[" * (DEPTH + 1) + b"]" * (DEPTH + 1), b'{"a":' * 300 + b"1" + b"}" * 300, b"[" * 100_000,
    ],
)  # fmt: skip
def test_what_others_could_not_read_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        read(body)


def test_a_byte_order_mark_is_left_out() -> None:
    assert read(b'\xef\xbb\xbf{"a":1}') == ({"a": 1}, b'{"a":1}')


def test_whole_characters_and_brackets_in_strings_are_fine() -> None:
    assert read(b'["\\ud83d\\ude00"]')[0] == ["\U0001f600"]
    assert read(b'["' + b"[" * 1000 + b'", "\\"["]')[0] == ["[" * 1000, '"[']
    assert len(read(b"[" + b"[]," * 1000 + b"[]]")[0]) == 1001
    assert read(b"[" * DEPTH + b"]" * DEPTH)


def test_strings_that_never_end_cost_what_they_weigh() -> None:
    began = time.process_time()
    with pytest.raises(ValueError, match="Unterminated"):
        read(b'["' + b'[\\"' * 300_000)
    assert time.process_time() - began < 5
