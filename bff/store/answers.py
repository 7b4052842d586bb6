"""Whole HTTP answers to one URI as an entry of the store: every variant that is kept, side by side.

One entry holds them all, so that what selects among them (`Vary`) and what is kept can never disagree. Which of them is of
use is `rules.reuse`'s to say.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from bff.model import Cache
from bff.rules.caching import Terms
from bff.rules.freshness import lifetime
from bff.rules.stored import Stored
from bff.rules.vary import VARIANTS
from bff.store.entry import OVERHEAD, OVERHEAD_OF_TAG, Entry

_PER_LINE: Final = 160  # bytes of bookkeeping of a header line, as measured
_NO_TERMS: Final = Terms(
    storable=True, lifetime=None, age=0.0, stale_while_revalidate=None, stale_if_error=None,
    must_revalidate=False, etag="", last_modified="", spoke=0.0,
)  # fmt: skip
"""Fragments' terms; an answer has its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """One answer. `stored.born` and `stale_at` are `loop.time()` seconds."""

    stored: Stored
    body: bytes
    tags: tuple[str, ...]
    took: float  # seconds that its fetch took
    version: str  # of the registration it was made by
    stale_at: float = math.inf  # marked by a purge: stale from then on

    @property
    def size(self) -> int:
        return len(self.body) + sum(_PER_LINE + len(name) + len(value) for name, value in self.stored.headers)


@dataclass(slots=True, kw_only=True, eq=False)
class Answers(Entry):
    """The answers to one URI, the latest last; never changed but for what the store itself notes in it."""

    kept: tuple[Kept, ...]

    @property
    def size(self) -> int:
        tags = OVERHEAD_OF_TAG * len(self.tags) + sum(map(len, self.tags))
        return OVERHEAD + tags + len(self.key) + sum(each.size for each in self.kept)


def answers(key: str, fragment: str, principal: str | None, kept: Iterable[Kept]) -> Answers:
    """The entry of these answers; of more than `VARIANTS` the latest."""
    found = tuple(kept)[-VARIANTS:]
    last = found[-1]
    return Answers(
        key=key,
        fragment=fragment,
        version=last.version,
        status=last.stored.status,
        markup=None,
        data=None,
        terms=_NO_TERMS,
        born=last.stored.born,
        as_of=None,
        tags=tuple(dict.fromkeys(tag for each in found for tag in each.tags)),
        principal=principal,
        took=max(each.took for each in found),
        kept=found,
    )


def others(entry: Answers | None, without: Iterable[Stored | None]) -> list[Kept]:
    """What an entry keeps beside some answers, each with what purges have made of it."""
    if entry is None or entry.stale_at == -math.inf:
        return []
    gone = [id(stored) for stored in without]
    return [
        replace(each, stale_at=min(each.stale_at, entry.stale_at)) for each in entry.kept if id(each.stored) not in gone
    ]


def judged(kept: Kept, entry: Answers, version: str, cache: Cache) -> tuple[Stored, Cache]:
    """An answer and a policy as the rules are to see them: what is purged, or of another registration, is stale at best."""
    stored, stale_at = kept.stored, min(kept.stale_at, entry.stale_at)
    if kept.version != version:
        stored = replace(stored, etag=b"", last_modified=b"", stale_while_revalidate=0.0)
        stale_at = -math.inf
    if stale_at == math.inf:
        return stored, cache
    bounded = max(0.0, min(lifetime(stored, cache), stale_at - stored.born))
    if cache.mode == "fixed":
        return stored, replace(cache, fresh=bounded, negative=bounded)
    return replace(stored, lifetime=bounded), cache
