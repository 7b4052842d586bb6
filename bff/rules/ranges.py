"""Ranges of a complete kept answer (RFC 9110 §14, §13.1.5).

Pure. One range is served; for several the whole answer is, which is always allowed (§14.2).
"""

from __future__ import annotations

import re
from typing import Final, Literal, NamedTuple

from bff.rules.caching import Fields, Lines
from bff.rules.dates import exact
from bff.rules.rule import Rule
from bff.rules.stored import Stored
from bff.rules.validators import strong, strong_date


class Span(NamedTuple):
    """Bytes `first` to `last`, both included."""

    first: int
    last: int


_RANGE: Final = re.compile(rb"bytes=[ \t]*(\d{0,18})-(\d{0,18})[ \t]*", re.IGNORECASE)


def span(
    stored: Stored, method: str, request: Fields, length: int
) -> Span | Literal["whole", "unsatisfiable"]:  # fmt: skip
    """What of a kept body of `length` bytes a request gets. Conditions (304) come first (RFC 9110 §13.2.2)."""
    value = request.get(b"range")
    if value is None or method != "GET" or stored.status != 200 or not _holds(stored, request):
        return "whole"
    match = _RANGE.fullmatch(value)
    if match is None or not (match[1] or match[2]):
        return "whole"
    if not match[1]:
        return _suffix(int(match[2]), length)
    first, last = int(match[1]), int(match[2]) if match[2] else length - 1
    if match[2] and last < first:
        return "whole"  # RFC 9110 §14.1.1: invalid, so ignored
    return Span(first, min(last, length - 1)) if first < length else "unsatisfiable"


def _suffix(wanted: int, length: int) -> Span | Literal["whole", "unsatisfiable"]:
    if wanted == 0:
        return "unsatisfiable"
    return Span(max(0, length - wanted), length - 1) if length else "whole"


def _holds(stored: Stored, request: Fields) -> bool:
    """If-Range: the same tag by strong comparison, or exactly the same date where that is strong; else the whole answer."""
    value = request.get(b"if-range")
    if value is None:
        return True
    value = value.strip(b" \t")
    if value.startswith((b'"', b"W/")):
        return strong(value, stored.etag)
    return strong_date(stored) and stored.modified == exact(value, stored.date)


def partial_headers(headers: Lines, part: Span, length: int) -> list[tuple[bytes, bytes]]:
    """The head of a 206 (RFC 9110 §15.3.7)."""
    return [
        *(line for line in headers if line[0] not in (b"content-length", b"content-range")),
        (b"content-range", b"bytes %d-%d/%d" % (part.first, part.last, length)),
        (b"content-length", b"%d" % (part.last - part.first + 1)),
    ]


def unsatisfiable_headers(length: int) -> list[tuple[bytes, bytes]]:
    """What a 416 says (RFC 9110 §15.5.17)."""
    return [(b"content-range", b"bytes */%d" % length), (b"content-length", b"0")]


RULES: Final = (
    Rule(
        "RFC 9110 §14.2",
        "One byte range of a complete kept answer is served from it (206), a range past its end is 416; several get the whole.",
        "test_ranges.py::test_what_a_range_gets",
    ),
    Rule(
        "RFC 9110 §13.1.5",
        "If-Range holds for a strong tag, or for the exact date where that is strong; else the whole answer is served.",
        "test_ranges.py::test_if_range",
    ),
)
