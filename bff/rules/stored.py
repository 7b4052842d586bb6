"""A whole HTTP answer as the store keeps it: its head, and all that its head says about reusing it, read once.

Pure words; `storing` makes them, `vary`, `reuse`, `validators`, `revalidation` and `ranges` read them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

Mode = Literal["http", "fixed"]
Why = Literal[
    "method", "status", "partial", "request", "no-store", "private", "authorization", "set-cookie", "vary"
]  # fmt: skip


class Refused(NamedTuple):
    """An answer that may not be kept or shared, and what forbids it (`detail=` of Cache-Status).

    `collapses`: an error that nothing but its status keeps out: who waits for it already may have it.
    """

    reason: Why
    collapses: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """The head of a kept answer. `born` is on the caller's clock: its age is `now - born`; other times are wall seconds.

    `lifetime` and the windows are None where the upstream says nothing: the policy then decides.
    """

    status: int
    headers: tuple[tuple[bytes, bytes], ...]  # what may be kept and sent again; lower-case; with Date, without Age
    born: float  # when it was generated: arrival minus its age on arrival
    lifetime: float | None
    heuristic: bool  # `lifetime` is a guess (RFC 9111 §4.2.2)
    stale_while_revalidate: float | None
    stale_if_error: float | None
    no_cache: bool  # never without asking
    must_revalidate: bool  # never stale
    etag: bytes
    last_modified: bytes
    modified: float | None  # `last_modified` as a time; None where it is none
    date: float
    vary: tuple[bytes, ...]  # the request fields that selected it
    selecting: tuple[bytes | None, ...]  # their values then, normalised; None: there was none


HOP_BY_HOP: Final = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authentication-info proxy-authorization proxy-connection "
    b"te trailer transfer-encoding upgrade".split()
)
"""RFC 9110 §7.6.1 and RFC 9111 §3.1: of one connection, or between two neighbours; never kept."""
_FOR_ALL: Final = frozenset({b"cache-control", b"cdn-cache-control", b"content-range", b"expires", b"vary"})
"""What says who may keep an answer, and for whom: meant for all who get it, so that Connection cannot take it away (RFC 9110 §7.6.1)."""


def listed(values: Iterable[bytes]) -> frozenset[bytes]:
    """The fields that Connection's values name as being of that connection."""
    return frozenset(part.strip(b" \t").lower() for value in values for part in value.split(b",")) - _FOR_ALL
