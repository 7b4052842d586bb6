"""What an answer's headers say about keeping it (RFC 9111, RFC 5861, RFC 9213), read once when it is stored.

Pure: knows neither a clock nor the store. Times are seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_tz
from functools import lru_cache
from typing import Final, Literal, NamedTuple

Lines = Sequence[tuple[bytes, bytes]]
Fields = Mapping[bytes, bytes]
"""A head with the lines of one field joined; names lower-case. Set-Cookie, which cannot be joined, is only there to see."""

HEURISTIC_STATUSES: Final = frozenset({200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501})  # RFC 9110 §15.1
MAX_DELTA: Final = 2**31  # RFC 9111 §1.2.2: larger delta-seconds count as this


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The terms on which an answer may be kept, as its upstream stated them.

    `lifetime` is None where the upstream says nothing: the policy's `fresh` (or `negative`) then decides.
    """

    storable: bool
    lifetime: float | None
    age: float  # when it arrived: RFC 9111 §4.2.3 corrected_initial_age, without the response delay
    stale_while_revalidate: float | None
    stale_if_error: float | None
    must_revalidate: bool  # no stale copy, whatever the policy says
    etag: str
    last_modified: str
    date: float  # wall


def fields(lines: Lines) -> Fields:
    """A head's lines by name, those of one field joined as one list (RFC 9110 §5.3)."""
    found = dict(lines)
    if len(found) != len(lines):
        found = {}
        for name, value in lines:
            found[name] = found[name] + b", " + value if name in found else value
    return found


def text(found: Fields, name: bytes) -> str:
    """One field's value; "" where there is none."""
    return found.get(name, b"").decode("latin-1")


@lru_cache(maxsize=4096)
def directives(value: bytes) -> dict[str, str | None]:
    """Cache-Control's directives, lower-case; the first of duplicates counts (RFC 9111 §4.2.1 allows the choice)."""
    found: dict[str, str | None] = {}
    for part in _split(value.decode("latin-1")):
        name, equals, argument = part.partition("=")
        name = name.strip().lower()
        if name and name not in found:
            found[name] = argument.strip().strip('"') if equals else None
    return found


def _split(text: str) -> list[str]:
    if '"' not in text:
        return text.split(",")
    parts, quoted, start = [], False, 0
    for at, char in enumerate(text):
        if char == '"':
            quoted = not quoted
        elif char == "," and not quoted:
            parts.append(text[start:at])
            start = at + 1
    return [*parts, text[start:]]


def seconds(value: str | None) -> float | None:
    """Delta-seconds, or None where the text is none (RFC 9111 §1.2.2)."""
    return float(min(int(value), MAX_DELTA)) if value and value.isascii() and value.isdigit() else None


@lru_cache(maxsize=1024)
def wall(value: bytes) -> float | None:
    """The time an HTTP date names, or None (RFC 9110 §5.6.7)."""
    parts = parsedate_tz(value.decode("latin-1")) if value else None
    if parts is None:
        return None
    try:
        return datetime(*parts[:6], tzinfo=UTC).timestamp()
    except ValueError:
        return None


class _Stated(NamedTuple):
    """What one Cache-Control value says to a cache of one kind."""

    forbidden: bool
    lifetime: float | None
    stale_while_revalidate: float | None
    stale_if_error: float | None
    must_revalidate: bool


@lru_cache(maxsize=4096)
def _stated(value: bytes, shared: bool) -> _Stated:
    control = directives(value)
    return _Stated(
        forbidden="no-store" in control or (shared and "private" in control),
        lifetime=_lifetime(control, shared=shared),
        stale_while_revalidate=seconds(control.get("stale-while-revalidate")),
        stale_if_error=seconds(control.get("stale-if-error")),
        must_revalidate=not (_SHARED_FORBID if shared else _FORBID).isdisjoint(control),
    )


_FORBID: Final = frozenset({"must-revalidate", "no-cache"})
_SHARED_FORBID: Final = _FORBID | {"proxy-revalidate", "s-maxage"}  # RFC 9111 §5.2.2.8, §5.2.2.10


def _lifetime(control: dict[str, str | None], *, shared: bool) -> float | None:
    """RFC 9111 §4.2.1: s-maxage, then max-age; an invalid value counts as stale."""
    if "no-cache" in control:
        return 0.0
    for name in ("s-maxage", "max-age") if shared else ("max-age",):
        if name in control:
            return seconds(control[name]) or 0.0
    return None


def terms(found: Fields, status: int, *, scope: Literal["shared", "private"], obey: bool, wall_now: float) -> Terms:
    """Read an answer's terms. `obey` is False under `mode: fixed`: only what forbids storing is heeded."""
    shared = scope == "shared"
    targeted = found.get(b"cdn-cache-control", b"") if shared else b""  # RFC 9213: it replaces Cache-Control
    stated = _stated(targeted or found.get(b"cache-control", b""), shared)
    given = wall(found[b"date"]) if b"date" in found else None
    date = wall_now if given is None else given
    life = _expiry(found, date) if stated.lifetime is None and not targeted and b"expires" in found else stated.lifetime
    forbidden = stated.forbidden or b"set-cookie" in found or b"*" in found.get(b"vary", b"")
    return Terms(
        storable=not forbidden and (status in HEURISTIC_STATUSES or life is not None),
        lifetime=life if obey else None,
        age=max(0.0, wall_now - date, _age(found)) if obey else 0.0,
        stale_while_revalidate=stated.stale_while_revalidate if obey else None,
        stale_if_error=stated.stale_if_error if obey else None,
        must_revalidate=obey and stated.must_revalidate,
        etag=text(found, b"etag") if b"etag" in found else "",
        last_modified=text(found, b"last-modified") if b"last-modified" in found else "",
        date=date,
    )


def _expiry(found: Fields, date: float) -> float:
    """Expires − Date (RFC 9111 §5.3): a date that is none has passed."""
    until = wall(found[b"expires"])
    return max(0.0, until - date) if until is not None else 0.0


def _age(found: Fields) -> float:
    return (seconds(text(found, b"age").split(",")[0].strip()) or 0.0) if b"age" in found else 0.0
