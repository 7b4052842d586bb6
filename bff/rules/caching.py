"""What an answer's headers say about keeping it (RFC 9111, RFC 5861, RFC 9213), read once when it is stored.

Pure: knows neither a clock nor the store. Times are seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_tz
from functools import lru_cache
from typing import Final, Literal

Fields = Sequence[tuple[bytes, bytes]]

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


def header(fields: Fields, name: bytes) -> str:
    """All lines of one field, joined as one list (RFC 9110 §5.3); "" where there is none."""
    found = [value for key, value in fields if key == name]
    return b", ".join(found).decode("latin-1") if found else ""


@lru_cache(maxsize=4096)
def directives(text: str) -> dict[str, str | None]:
    """Cache-Control's directives, lower-case; the first of duplicates counts (RFC 9111 §4.2.1 allows the choice)."""
    found: dict[str, str | None] = {}
    for part in _split(text):
        name, equals, value = part.partition("=")
        name = name.strip().lower()
        if name and name not in found:
            found[name] = value.strip().strip('"') if equals else None
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
def wall(text: str) -> float | None:
    """The time an HTTP date names, or None (RFC 9110 §5.6.7)."""
    parts = parsedate_tz(text) if text else None
    if parts is None:
        return None
    try:
        return datetime(*parts[:6], tzinfo=UTC).timestamp()
    except ValueError:
        return None


def terms(fields: Fields, status: int, *, scope: Literal["shared", "private"], obey: bool, wall_now: float) -> Terms:
    """Read an answer's terms. `obey` is False under `mode: fixed`: only what forbids storing is heeded."""
    targeted = header(fields, b"cdn-cache-control") if scope == "shared" else ""  # RFC 9213: it replaces Cache-Control
    control = directives(targeted or header(fields, b"cache-control"))
    date = wall(header(fields, b"date")) or wall_now
    shared = scope == "shared"
    life = _lifetime(control, fields, date, shared=shared, targeted=bool(targeted)) if obey else None
    forbidding = ("must-revalidate", "proxy-revalidate", "no-cache") if shared else ("must-revalidate", "no-cache")
    return Terms(
        storable=_storable(control, fields, status, life, shared=shared),
        lifetime=life,
        age=max(0.0, wall_now - date, seconds(header(fields, b"age").split(",")[0].strip()) or 0.0) if obey else 0.0,
        stale_while_revalidate=seconds(control.get("stale-while-revalidate")) if obey else None,
        stale_if_error=seconds(control.get("stale-if-error")) if obey else None,
        must_revalidate=obey and (any(name in control for name in forbidding) or (shared and "s-maxage" in control)),
        etag=header(fields, b"etag"),
        last_modified=header(fields, b"last-modified"),
        date=date,
    )


def _storable(control: dict[str, str | None], fields: Fields, status: int, life: float | None, *, shared: bool) -> bool:
    if "no-store" in control or (shared and "private" in control):
        return False
    if any(name == b"set-cookie" or (name == b"vary" and b"*" in value) for name, value in fields):
        return False
    return status in HEURISTIC_STATUSES or life is not None


def _lifetime(
    control: dict[str, str | None], fields: Fields, date: float, *, shared: bool, targeted: bool
) -> float | None:
    """RFC 9111 §4.2.1, in order: s-maxage, max-age, Expires − Date; an invalid value counts as stale."""
    if "no-cache" in control:
        return 0.0
    for name in ("s-maxage", "max-age") if shared else ("max-age",):
        if name in control:
            return seconds(control[name]) or 0.0
    expires = "" if targeted else header(fields, b"expires")
    if expires:
        until = wall(expires)
        return max(0.0, until - date) if until is not None else 0.0
    return None
