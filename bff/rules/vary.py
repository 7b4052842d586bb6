"""Vary: which of several answers to one URI a request selects (RFC 9111 §4.1).

Pure. A selecting field is normalised only where that cannot change what it means: space about commas, lines joined, and
for the fields of proactive negotiation also case and the order of equals.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final
from urllib.parse import quote_from_bytes

from bff.rules.caching import Fields
from bff.rules.rule import Rule
from bff.rules.stored import Stored

VARIANTS: Final = 32
"""Kept answers per URI: a service that varies on something free in form must not fill the store with one page."""

_REMEMBERED: Final = 128  # bytes; longer values are normalised each time, so that no client fills the memory with them
_NEGOTIATED: Final = frozenset({b"accept", b"accept-encoding", b"accept-language", b"accept-charset"})
_OPAQUE: Final = frozenset({b"authorization", b"cookie"})  # no lists: a comma in them is content


def names(headers: Fields) -> tuple[bytes, ...] | None:
    """The request fields that an answer's Vary names, sorted, lower-case; None for "*": they cannot be known."""
    value = headers.get(b"vary")
    if value is None:
        return ()
    found = {part.strip(b" \t").lower() for part in value.split(b",")} - {b""}
    return None if b"*" in found else tuple(sorted(found))


def selecting(fields: Sequence[bytes], request: Fields) -> tuple[bytes | None, ...]:
    """The normalised values of these fields; None, which is not "", where there is none."""
    return tuple(_value(name, request[name]) if name in request else None for name in fields)


def _value(name: bytes, value: bytes) -> bytes:
    return _normal(name, value) if len(value) <= _REMEMBERED else _normal.__wrapped__(name, value)


@lru_cache(maxsize=2048)
def _normal(name: bytes, value: bytes) -> bytes:
    if name in _OPAQUE or b'"' in value:
        return value.strip(b" \t")
    parts = [part.strip(b" \t") for part in value.split(b",")]
    if name in _NEGOTIATED:
        parts = sorted({b"".join(part.split()).lower() for part in parts} - {b""})
    return b",".join(parts)


def key(fields: Sequence[bytes], request: Fields) -> str:
    """Text that two requests share where they select the same answer by these fields."""
    values = zip(fields, selecting(fields, request), strict=True)
    return "&".join(_text(name, value) for name, value in values)


def _text(name: bytes, value: bytes | None) -> str:
    shown = quote_from_bytes(name, safe="")
    return shown if value is None else f"{shown}={quote_from_bytes(value, safe='')}"


def matches(stored: Stored, request: Fields) -> bool:
    """Whether a request selects this answer."""
    return not stored.vary or stored.selecting == selecting(stored.vary, request)


def alike(answer: Fields, one: Fields, other: Fields) -> bool:
    """Whether two requests to one URI say the same, but for whose they are where the answer does not name that."""
    ignored = {b"x-forwarded-for"}.difference(names(answer) or ())
    return all(one.get(name) == other.get(name) for name in (one.keys() | other.keys()) - ignored)


def select(kept: Iterable[Stored], request: Fields) -> Stored | None:
    """The latest of the answers that a request selects, or None."""
    found = [stored for stored in kept if matches(stored, request)]
    return max(found, key=_latest) if found else None


def _latest(stored: Stored) -> tuple[float, float]:
    return stored.date, stored.born


RULES: Final = (
    Rule(
        "RFC 9111 §4.1",
        "An answer is reused where all fields its Vary names have the values they had; absent is not empty.",
        "test_vary.py::test_which_requests_select_an_answer",
    ),
    Rule(
        "RFC 9111 §4.1",
        "Selecting fields are normalised: lines joined, space about commas dropped, and case and order in Accept, Accept-Encoding and Accept-Language.",
        "test_vary.py::test_which_requests_select_an_answer",
    ),
    Rule(
        "RFC 9111 §4.1",
        "Of several selected answers the latest is used.",
        "test_vary.py::test_the_latest_of_several_is_used",
    ),
    Rule(
        "RFC 9111 §4.1",
        "Vary: * selects nothing and is not stored.",
        "test_vary.py::test_a_star_anywhere_is_unknowable",
    ),
)
