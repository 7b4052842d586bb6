"""What a fragment's answer says about keeping it (RFC 9111, RFC 5861, RFC 9213), read once when it is stored.

Whole HTTP answers, as proxy routes keep them, are `storing`'s. Pure: knows neither a clock nor the store. Times are seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal, NamedTuple

from bff.rules.control import Control, age, control, never_stale, targeted
from bff.rules.dates import lenient, until

Lines = Sequence[tuple[bytes, bytes]]
Fields = Mapping[bytes, bytes]
"""A head with the lines of one field joined; names lower-case. Set-Cookie, which cannot be joined, is only there to see."""

HEURISTIC_STATUSES: Final = frozenset({200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501})  # RFC 9110 §15.1
wall: Final = lenient


@dataclass(slots=True)
class Terms:
    """The terms on which an answer may be kept, as its upstream stated them. Never changed; frozen, it would cost thrice as much to make.

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
    spoke: float  # wall: since when it has been so, as far as its head says: Last-Modified, else Date


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


def words(found: Fields, name: bytes) -> list[str]:
    """One field's words, apart by spaces; several lines of it have come as one list, with commas between them."""
    return [word for part in text(found, name).split() if (word := part.strip(","))]


_LONGEST: Final = 1024  # bytes of a field that is remembered


class _Stated(NamedTuple):
    """What one Cache-Control value says to a cache of one kind."""

    forbidden: bool
    lifetime: float | None
    stale_while_revalidate: float | None
    stale_if_error: float | None
    must_revalidate: bool


@lru_cache(maxsize=4096)
def _stated(value: bytes, shared: bool) -> _Stated:
    return _statement(control(value), shared=shared)


def _said_to_us(value: bytes) -> _Stated | None:
    return _aimed(value) if len(value) <= _LONGEST else _aimed.__wrapped__(value)


@lru_cache(maxsize=1024)
def _aimed(value: bytes) -> _Stated | None:
    said = targeted(value)
    return None if said is None else _statement(said, shared=True)


def _statement(said: Control, *, shared: bool) -> _Stated:
    """A directive that names fields counts as if it named none: markup cannot be taken apart by header field."""
    no_cache = said.no_cache or bool(said.no_cache_fields)
    stated = said.max_age if said.s_maxage is None or not shared else said.s_maxage
    return _Stated(
        forbidden=said.no_store or (shared and (said.private or bool(said.private_fields))),
        lifetime=0.0 if no_cache else stated,
        stale_while_revalidate=said.stale_while_revalidate,
        stale_if_error=said.stale_if_error,
        must_revalidate=never_stale(said, private=not shared) or no_cache,
    )


def terms(found: Fields, status: int, *, scope: Literal["shared", "private"], obey: bool, wall_now: float) -> Terms:
    """Read an answer's terms. `obey` is False under `mode: fixed`: only what forbids storing is heeded."""
    shared = scope == "shared"
    aimed = _said_to_us(found[b"cdn-cache-control"]) if shared and b"cdn-cache-control" in found else None
    said = found.get(b"cache-control", b"") if aimed is None else b""  # RFC 9213 §2.2
    read = _stated if len(said) <= _LONGEST else _stated.__wrapped__
    stated = aimed or read(said, shared)
    given = lenient(found[b"date"]) if b"date" in found else None
    date = wall_now if given is None else given
    modified = lenient(found[b"last-modified"]) if b"last-modified" in found else None
    life = stated.lifetime
    if life is None and aimed is None and b"expires" in found:
        life = until(found[b"expires"], date, wall_now)
    passed = age(found[b"age"]) if b"age" in found else 0.0
    forbidden = stated.forbidden or b"set-cookie" in found or b"*" in found.get(b"vary", b"")
    storable = not forbidden and (status in HEURISTIC_STATUSES or life is not None)
    etag = text(found, b"etag") if b"etag" in found else ""
    last_modified = text(found, b"last-modified") if b"last-modified" in found else ""
    spoke = date if modified is None else modified
    if not obey:
        return Terms(storable, None, 0.0, None, None, False, etag, last_modified, spoke)
    old = max(0.0, wall_now - date, passed)
    _, _, while_revalidate, if_error, must_revalidate = stated
    return Terms(storable, life, old, while_revalidate, if_error, must_revalidate, etag, last_modified, spoke)
