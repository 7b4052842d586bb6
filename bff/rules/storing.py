"""Whether an answer may be stored, and what of it; decided when its head is there (RFC 9111 §3, RFC 9213).

Pure: times are arguments. A body that ends early or outgrows its limit is the caller's to see: it is never stored.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from bff.rules import freshness, vary
from bff.rules.caching import HEURISTIC_STATUSES, Fields, Lines, fields
from bff.rules.control import Control, control, never_stale, targeted
from bff.rules.dates import lenient, written
from bff.rules.rule import Rule
from bff.rules.stored import HOP_BY_HOP, Mode, Refused, Stored, listed

PARTIAL: Final = frozenset({206, 304})
NEVER: Final = frozenset({401, 403, 407, 428, 429, 431, 511})
"""Statuses never stored: by the contract, and by RFC 6585 §3 to §6."""
UNDERSTOOD: Final = frozenset({
    *range(200, 206), *range(300, 304), 305, 307, 308, *range(400, 418), 421, 422, 426, *range(500, 506),
}) - NEVER  # fmt: skip
"""Statuses whose caching is known here (RFC 9111 §5.2.2.3): those of RFC 9110 §15 that may be stored at all."""
_UNKEPT: Final = HOP_BY_HOP | {b"age", b"set-cookie", b"set-cookie2"}


class _Head(NamedTuple):
    """An answer's head as it is looked at: `said` counts, `targeted` where it came by CDN-Cache-Control."""

    status: int
    lines: Lines
    found: Fields
    request: Fields
    said: Control
    targeted: bool
    private: bool
    mode: Mode


def compiled(
    *,
    method: str,
    request: Fields,
    status: int,
    headers: Lines,
    asked: float,
    now: float,
    wall_now: float,
    private: bool = False,
    mode: Mode = "http",
) -> Stored | Refused:
    """What may be kept of an answer, or why nothing. `asked`: when the request was sent; `now`: when the head arrived.

    `private`: the store's key holds whose answer it is (scope `private`). `fixed` heeds only what forbids storing.
    """
    head = _head(status, headers, request, private=private, mode=mode)
    refused = _refused(method, head)
    if refused is not None:
        return refused
    age = freshness.initial_age(head.found, asked=asked, now=now, wall_now=wall_now) if mode == "http" else 0.0
    return _stored(head, now - age, wall_now)


def restored(
    *,
    request: Fields,
    status: int,
    headers: Lines,
    born: float,
    wall_now: float,
    private: bool = False,
    mode: Mode = "http",
) -> Stored:
    """The same from a store that keeps heads as they are; it was found storable once. `request`: one that selects it."""
    return _stored(_head(status, headers, request, private=private, mode=mode), born, wall_now)


def _head(status: int, lines: Lines, request: Fields, *, private: bool, mode: Mode) -> _Head:
    found = fields(lines)
    aimed = targeted(found[b"cdn-cache-control"]) if b"cdn-cache-control" in found and not private else None
    said = control(found.get(b"cache-control", b"")) if aimed is None else aimed
    return _Head(status, lines, found, request, said, aimed is not None, private, mode)


def _refused(method: str, head: _Head) -> Refused | None:
    """What of the answer or its request forbids to keep it (RFC 9111 §3, and the contract)."""
    status, found, said = head.status, head.found, head.said
    if method != "GET":
        return Refused("method")
    if status in PARTIAL or b"content-range" in found:
        return Refused("partial")
    if status < 200 or status in NEVER or (said.must_understand and status not in UNDERSTOOD):
        return Refused("status")
    if b"cache-control" in head.request and control(head.request[b"cache-control"]).no_store:
        return Refused("request")
    if said.no_store and not said.must_understand:
        return Refused("no-store")
    if said.private and not head.private:
        return Refused("private")
    if b"set-cookie" in found or b"set-cookie2" in found:
        return Refused("set-cookie")
    if vary.names(found) is None:
        return Refused("vary")
    if b"authorization" in head.request and not _shows_all(head):
        return Refused("authorization")
    return None if _cacheable(head) else unfit(status, asks=said.no_cache)


def unfit(status: int, *, asks: bool) -> Refused:
    """What only its status, or that it is of no use, keeps out. `asks`: it must not be shown without asking."""
    return Refused("status", collapses=status >= 500 and not asks)


def _shows_all(head: _Head) -> bool:
    """RFC 9111 §3.5: whether what was sent with a credential may be shown to others."""
    said = head.said
    return head.private or said.public or said.must_revalidate or said.s_maxage is not None


def _cacheable(head: _Head) -> bool:
    """RFC 9111 §3: something says that it may be kept, or its status lets a cache guess."""
    said = head.said
    if head.status in HEURISTIC_STATUSES or said.public or said.max_age is not None:
        return True
    if b"expires" in head.found and not head.targeted:
        return True
    return said.private if head.private else said.s_maxage is not None


def _stored(head: _Head, born: float, wall_now: float) -> Stored:
    found, said, obeyed = head.found, head.said, head.mode == "http"
    given = lenient(found[b"date"]) if b"date" in found else None
    date = wall_now if given is None else given
    modified = lenient(found[b"last-modified"]) if b"last-modified" in found else None
    stated = freshness.explicit(found, said, date, wall_now, targeted=head.targeted, private=head.private)
    guess = freshness.guessed(head.status, said, date, modified) if stated is None else None
    named = vary.names(found) or ()
    return Stored(
        status=head.status,
        headers=_kept(head, b"" if given is not None else written(int(wall_now))),
        born=born,
        lifetime=(guess if stated is None else stated) if obeyed else None,
        heuristic=guess is not None and obeyed,
        stale_while_revalidate=said.stale_while_revalidate if obeyed else None,
        stale_if_error=said.stale_if_error if obeyed else None,
        no_cache=obeyed and said.no_cache,
        must_revalidate=obeyed and never_stale(said, private=head.private),
        etag=found.get(b"etag", b""),
        last_modified=found.get(b"last-modified", b""),
        modified=modified,
        date=date,
        vary=named,
        selecting=vary.selecting(named, head.request),
    )


def _kept(head: _Head, date: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """RFC 9111 §3.1: without what is of one connection, and without the fields that private= and no-cache= name.

    `date`: put in where the upstream gave none (RFC 9110 §6.6.1).
    """
    dropped = _UNKEPT | head.said.no_cache_fields
    if not head.private:
        dropped |= head.said.private_fields
    if b"connection" in head.found:
        dropped |= listed([head.found[b"connection"]])
    if not date:
        return tuple(line for line in head.lines if line[0] not in dropped)
    return (*(line for line in head.lines if line[0] not in dropped | {b"date"}), (b"date", date))


def displaces(new: Stored, old: Stored | None) -> bool:
    """Whether an answer may take the place of a kept one: an error never replaces a good one (the contract)."""
    return old is None or new.status < 500 or old.status >= 500


_REFUSES: Final = "test_storing.py::test_what_is_not_stored"
_STORES: Final = "test_storing.py::test_what_is_stored"

RULES: Final = (
    Rule(
        "RFC 9111 §4",
        "Of errors that only their status keeps out of the store, those who wait for one already have it; who comes later asks.",
        "test_storing.py::test_which_errors_are_for_all_who_wait",
    ),
    Rule(
        "RFC 9111 §3",
        "Only answers to GET are stored, whole ones: no 206, no 304, nothing with Content-Range.",
        _REFUSES,
    ),
    Rule("RFC 9111 §3", "A status without default caching needs explicit freshness or public.", _STORES),
    Rule(
        "RFC 9111 §3.1",
        "Fields of one connection, those Connection names, Age and Proxy-Authenticate are not kept; a missing Date is added.",
        "test_storing.py::test_what_of_the_head_is_kept",
    ),
    Rule(
        "RFC 9111 §3.5",
        "An answer to Authorization is stored only with public, must-revalidate or s-maxage.",
        _REFUSES,
    ),
    Rule("RFC 9111 §5.2.1.5, §5.2.2.5", "no-store forbids storing, from either side.", _REFUSES),
    Rule(
        "RFC 9111 §5.2.2.3",
        "must-understand lifts no-store where the status is known here, and forbids storing where it is not.",
        "test_storing.py::test_must_understand",
    ),
    Rule(
        "RFC 9111 §5.2.2.4, §5.2.2.7",
        "no-cache and private that name fields keep those fields out of the store; private alone keeps the answer out.",
        "test_storing.py::test_what_of_the_head_is_kept",
    ),
    Rule(
        "RFC 9213 §2.2",
        "A valid CDN-Cache-Control counts in place of Cache-Control and Expires; Surrogate-Control and Pragma never do.",
        "test_storing.py::test_the_targeted_field_replaces_the_others",
    ),
    Rule("RFC 6585 §3 to §6", "428, 429, 431 and 511 are not stored.", _REFUSES),
    Rule("contract", "An answer with Set-Cookie, and any 401 or 403, is not stored.", _REFUSES),
    Rule(
        "contract",
        "An error never takes the place of a good answer.",
        "test_storing.py::test_an_error_replaces_no_good_answer",
    ),
)
