"""Asking whether a kept answer still holds, and what the answer to that changes (RFC 9111 §3.2, §4.3).

Pure: times are arguments.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from bff.rules.caching import Fields, Lines, fields
from bff.rules.dates import written
from bff.rules.rule import Rule
from bff.rules.stored import HOP_BY_HOP, Mode, Refused, Stored
from bff.rules.storing import compiled
from bff.rules.validators import strong, weak

_CONDITIONS: Final = frozenset({b"if-none-match", b"if-modified-since", b"range", b"if-range"})
_OF_THE_BODY: Final = frozenset({b"content-length", b"content-encoding", b"content-range"})
"""RFC 9111 §3.2: the body that is kept depends on these."""
_GONE: Final = frozenset({404, 410})


def conditional(request: Lines, kept: Sequence[Stored]) -> list[tuple[bytes, bytes]]:
    """A request's lines with the conditions of what is kept in place of its own, and for the whole answer.

    `kept`: the selected answer; or, where none is selected, all of the URI: a 304 then names one of them by its tag
    (RFC 9111 §4.3.1). Without any validator among them the lines go as they came.
    """
    tags = dict.fromkeys(stored.etag for stored in kept if stored.etag)
    lines = [(b"if-none-match", b", ".join(tags))] if tags else []
    if len(kept) == 1 and kept[0].last_modified:
        lines.append((b"if-modified-since", kept[0].last_modified))
    return [*(line for line in request if line[0] not in _CONDITIONS), *lines] if lines else list(request)


def renewed_by(headers: Fields, kept: Sequence[Stored]) -> Stored | None:
    """Which of the answers asked about a 304 renews (RFC 9111 §4.3.4); None: none of them, ask without conditions.

    A 304 without a validator to a request about one answer is taken to mean that one: many services leave it out. An
    answer without a validator was not asked about: a 304 then answers the client's own conditions.
    """
    asked = [stored for stored in kept if stored.etag or stored.last_modified]
    etag, modified = headers.get(b"etag", b""), headers.get(b"last-modified", b"")
    same = weak if etag.startswith(b"W/") else strong
    if etag and any(stored.etag for stored in asked):
        found = [stored for stored in asked if same(etag, stored.etag)]
    elif modified:
        found = [stored for stored in asked if modified == stored.last_modified]
    else:
        found = asked if len(asked) == 1 else []
    return max(found, key=lambda stored: (stored.date, stored.born)) if found else None


def updated(kept: Lines, new: Lines) -> tuple[tuple[bytes, bytes], ...]:
    """A kept head with the fields of a newer one in place of its own (RFC 9111 §3.2)."""
    replacing = [line for line in new if line[0] not in HOP_BY_HOP and line[0] not in _OF_THE_BODY]
    names = {name for name, _ in replacing}
    return (*(line for line in kept if line[0] not in names), *replacing)


def renewed(
    stored: Stored,
    headers: Lines,
    *,
    request: Fields,
    asked: float,
    now: float,
    wall_now: float,
    private: bool = False,
    mode: Mode = "http",
) -> Stored | Refused:
    """A kept answer after a 304: its head updated, its terms read anew. Refused: serve it once more, then forget it.

    A 304 without Date is dated now (RFC 9110 §6.6.1): the kept Date would make the renewed answer as old as before.
    """
    dated = headers if any(name == b"date" for name, _ in headers) else [*headers, (b"date", written(int(wall_now)))]
    return compiled(
        method="GET",
        request=request,
        status=stored.status,
        headers=updated(stored.headers, dated),
        asked=asked,
        now=now,
        wall_now=wall_now,
        private=private,
        mode=mode,
    )


def head_renews(
    stored: Stored,
    status: int,
    headers: Lines,
    *,
    request: Fields,
    asked: float,
    now: float,
    wall_now: float,
    private: bool = False,
    mode: Mode = "http",
) -> Stored | None:
    """What a kept answer to GET is after an answer to HEAD (RFC 9111 §4.3.5): renewed, unchanged, or None: forget it."""
    if status in _GONE:
        return None
    if status != 200 or stored.status != 200:
        return stored
    found, own = fields(headers), fields(stored.headers)
    for name in (b"etag", b"last-modified", b"content-length"):
        if name in found and found[name] != own.get(name, found[name] if name == b"content-length" else b""):
            return None
    fresh = renewed(
        stored, headers, request=request, asked=asked, now=now, wall_now=wall_now, private=private, mode=mode
    )
    return fresh if isinstance(fresh, Stored) else None


RULES: Final = (
    Rule(
        "RFC 9111 §4.3.1",
        "A stale answer is asked about with its ETag and Last-Modified; where Vary selects none, with all tags of the URI.",
        "test_revalidation.py::test_what_is_asked",
    ),
    Rule(
        "RFC 9111 §4.3.4",
        "A 304 renews the latest answer with its validator; with a tag nobody keeps, none.",
        "test_revalidation.py::test_which_answer_a_304_renews",
    ),
    Rule(
        "RFC 9111 §3.2",
        "A 304 replaces every field it brings but those of one connection and those the kept body depends on.",
        "test_revalidation.py::test_what_a_304_changes",
    ),
    Rule(
        "RFC 9111 §4.3.4",
        "After a 304 lifetime, age and windows are read anew from the updated head.",
        "test_revalidation.py::test_a_renewed_answer_is_as_new",
    ),
    Rule(
        "RFC 9111 §4.3.5",
        "A 200 to HEAD renews the answer to GET where validators and length agree, else it is forgotten.",
        "test_revalidation.py::test_what_head_does_to_get",
    ),
)
