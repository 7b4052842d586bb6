"""JSON that any program can read on: UTF-8, finite numbers, whole characters, and no deeper than can be written again.

Pure. What Python's parser takes beyond the grammar, or what it could not write out again, would fail where a page is
written, long after somebody could be told. Sources: RFC 8259 §8.1; I-JSON, RFC 7493 §2.
"""

from __future__ import annotations

import json
import re
from math import isfinite
from typing import Any, Final

DEPTH: Final = 256
"""As for HTML; the parser and the writer both recurse."""
_LONE: Final = re.compile(r"\\u[dD][89a-fA-F]")  # the escape of half a character, or of a pair's first half
_BRACKETS: Final = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[{\]}]', re.DOTALL)  # linear: a string needs no end


def read(body: bytes) -> tuple[Any, bytes]:
    """The value, and the bytes that say it, without a byte order mark. Raises `ValueError`."""
    plain = body.removeprefix(b"\xef\xbb\xbf")
    text = plain.decode()
    if text.count("[") + text.count("{") > DEPTH:
        _check_depth(text)
    value = json.loads(text, parse_constant=_constant, parse_float=_finite)
    if _LONE.search(text):
        json.dumps(value, ensure_ascii=False).encode()  # raises UnicodeEncodeError, which is a ValueError
    return value, plain


def _check_depth(text: str) -> None:
    depth = 0
    for bracket in _BRACKETS.findall(text):
        if bracket in "[{":
            depth += 1
            if depth > DEPTH:
                raise ValueError(f"it is nested more than {DEPTH} deep")
        elif bracket in "]}":
            depth -= 1


def _constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not isfinite(value):
        raise ValueError(f"{text} is beyond what numbers hold")
    return value
