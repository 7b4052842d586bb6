"""The first tier: entries of one process within a byte budget.

The only importer of cachetools. Expiry is not its business: `rules.serve` decides by time what an entry is good for.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Final

from cachetools import Cache

from bff.model import Purge
from bff.store.entry import Entry
from bff.store.index import Index
from bff.store.purges import Purges

VARIANTS: Final = 64
"""Copies of one answer, by forwarded headers; a browser can invent as many as it likes. Traffic Server keeps 5."""
LOOK: Final = 16  # entries that one eviction may pass over
SLICE: Final = 500  # purged entries taken apart at once: about a millisecond
WORTH: Final = (0.05, 0.5)
"""Seconds of fetching for each 16 KiB kept from which an entry is passed over once, twice. Half a second is what a browser's
user notices on every page; what comes within 50 ms is had again soon enough."""


class _Sized(Cache[str, Entry]):
    """Entries within their budget, with an index that every way in and out keeps right.

    A hit changes nothing, so that it costs one look-up. What leaves is found by a hand that goes round (CLOCK): what was
    used since its last visit, as the result shows that a hit has left in the entry, stays for another round, and so does
    for one or two what was slow to fetch for its size (as in GreedyDual-Size, Cao and Irani 1997, in whole rounds).
    """

    def __init__(self, budget: int, evicted: Callable[[str], None]) -> None:
        super().__init__(budget, getsizeof=lambda entry: entry.size)
        self._evicted = evicted
        self._hand: Iterator[str] = iter(())
        self.live: dict[str, Entry] = {}  # what can be found: all but what is `gone`
        self.gone: deque[Entry] = deque()  # purged, still counted
        self.index = Index()
        self.variants: dict[tuple[str, str | None], list[str]] = {}

    def __setitem__(self, key: str, entry: Entry) -> None:
        if key in self:
            del self[key]
        super().__setitem__(key, entry)
        self.live[key] = entry
        self.index.add(entry)
        self._join(entry)

    def __delitem__(self, key: str) -> None:
        entry = self[key]
        super().__delitem__(key)
        if self.live.get(key) is entry:
            del self.live[key]
        self.index.remove(entry)
        self._part(entry)

    def forget(self, met: Collection[Entry]) -> None:
        """Put entries out of reach; they are taken apart later. In loops of their own, for there may be very many."""
        live = self.live
        if len(met) == len(live):
            live.clear()
        else:
            for entry in met:
                del live[entry.key]
        self.gone.extend(met)
        for entry in met:
            entry.stale_at = -math.inf

    def popitem(self) -> tuple[str, Entry]:
        """Make room."""
        while self.gone:
            entry = self.gone.popleft()
            if self.get(entry.key) is entry:
                del self[entry.key]
                return entry.key, entry
        entry = self._chosen()
        self._evicted("size")
        del self[entry.key]
        return entry.key, entry

    def _chosen(self) -> Entry:
        """The next one that has no claim to stay; after some looking, whichever comes."""
        looked = 0
        while True:
            for key in self._hand:
                if (entry := self.live.get(key)) is None:
                    continue
                looked += 1
                if looked > LOOK or (entry.seen is None and not entry.laps):
                    return entry
                entry.laps = max(0, entry.laps - (entry.seen is None))
                entry.seen = None
            self._hand = iter([*self.live])

    def _join(self, entry: Entry) -> None:
        group = _group(entry)
        if group is None:
            return
        keys = self.variants.setdefault(group, [])
        if entry.key not in keys:
            keys.append(entry.key)
        if len(keys) > VARIANTS:
            self._evicted("variants")
            del self[keys[0]]

    def _part(self, entry: Entry) -> None:
        group = _group(entry)
        keys = self.variants.get(group, []) if group else []
        if entry.key in keys:
            keys.remove(entry.key)
        if group and not keys:
            self.variants.pop(group, None)


def _group(entry: Entry) -> tuple[str, str | None] | None:
    """What an entry is a variant of (`rules.keys`): the same parameters and principal, other headers."""
    base, variant, _ = entry.key.partition("#")
    return (base, entry.principal) if variant else None


class MemoryStore:
    """A mapping of keys to entries of at most `budget` bytes; `evicted(reason)` is called for each one dropped."""

    def __init__(self, budget: int, evicted: Callable[[str], None] = lambda _: None) -> None:
        self._cache = _Sized(budget, evicted)
        self._evicted = evicted
        self._purges = Purges()
        self.get: Callable[[str], Entry | None] = self._cache.live.get

    def put(self, entry: Entry, began: float | None = None) -> bool:
        """Keep an entry in place of any with its key; one larger than the whole budget is not kept.

        `began`: when its fetch did. What was purged since is not kept, or kept as stale. Returns whether it is kept.
        """
        if began is not None:
            since = self.purged_since(began, entry.fragment, entry.tags, entry.principal)
            if since == -math.inf:
                return False
            entry.stale_at = since
        elif entry.stale_at == -math.inf:
            return False
        entry.laps = _laps(entry)
        try:
            self._cache[entry.key] = entry
        except ValueError:
            self._evicted("too_large")
            self._cache.pop(entry.key, None)
            return False
        self.sweep(8)
        return True

    def purged_since(
        self, began: float, fragment: str, tags: Sequence[str] = (), principal: str | None = None
    ) -> float:
        """What purges at or after `began` make of such an answer: -inf, gone; inf, nothing; else stale, since that time."""
        return self._purges.since(math.nextafter(began, -math.inf), fragment, tags, principal)

    def purge(self, purge: Purge, now: float) -> int:
        """Forget what a purge meets, or mark it stale; returns how many that were. All of it counts at once.

        Purged entries are out of reach when this returns; `sweep` takes them apart.
        """
        self._purges.add(purge, now)
        met = self.matching(purge)
        if not purge.soft:
            self._cache.forget(met)
            return len(met)
        for entry in met:
            entry.stale_at = min(entry.stale_at, now)
        return len(met)

    def matching(self, purge: Purge) -> list[Entry]:
        """The entries that a purge would meet."""
        return [entry for entry in self._cache.index.met(purge) if entry.stale_at != -math.inf]

    def sweep(self, limit: int = SLICE) -> bool:
        """Take apart at most `limit` purged entries; whether more are left."""
        cache = self._cache
        for _ in range(min(limit, len(cache.gone))):
            entry = cache.gone.popleft()
            if cache.get(entry.key) is entry:
                del cache[entry.key]
        return bool(cache.gone)

    def expire(self, chosen: Callable[[Entry], bool]) -> int:
        """Drop every entry that `chosen` names; returns how many."""
        met = [entry for entry in self._cache.live.values() if chosen(entry)]
        for entry in met:
            self._cache.pop(entry.key, None)
        return len(met)

    @property
    def entries(self) -> int:
        return len(self._cache.live)

    @property
    def bytes(self) -> int:
        return int(self._cache.currsize)


def _laps(entry: Entry) -> int:
    worth = entry.took * 16384 / entry.size
    return sum(worth >= each for each in WORTH)
