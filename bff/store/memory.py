"""The first tier: entries of one process within a byte budget.

The only importer of cachetools. Expiry is not its business: `rules.serve` decides by time what an entry is good for.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

from cachetools import Cache

from bff.model import Purge
from bff.store.entry import OVERHEAD_OF_FORM, Entry, Seen
from bff.store.index import Index
from bff.store.purges import Purges

VARIANTS: Final = 64
"""Copies of one answer, by forwarded headers; a browser can invent as many as it likes. Traffic Server keeps 5."""
LOOK: Final = 16  # entries that one eviction looks at anew
POOL: Final = 16  # of those seen by earlier ones, the worst so many are remembered
SLICE: Final = 500  # purged entries taken apart at once: about a millisecond
HOLDING: Final = 1024
"""Entries that hold the result of a hit, of 300 bytes: what is hit more rarely than those has it made anew."""
CHEAP: Final = 0.001  # seconds that any fetch counts for: among what costs nothing, the largest leaves first
_GONE: Final = -math.inf  # as `stale_at`: purged


class _Sized(Cache[str, Entry]):
    """Entries within their budget, with an index that every way in and out keeps right.

    What leaves is what is worth least by GreedyDual-Size (Cao and Irani 1997): seconds to fetch it again for each byte, on
    top of what the last one to leave was worth when this one was last used. A hit sorts nothing, so that it costs one
    look-up: that an entry was used is seen when a hand that goes round comes by.
    The worst of those it has passed are remembered, as Redis does it: nearly as good as keeping all of them sorted.
    """

    def __init__(self, budget: int, evicted: Callable[[str], None]) -> None:
        super().__init__(budget, getsizeof=lambda entry: entry.size)
        self._evicted = evicted
        self._hand: Iterator[str] = iter(())
        self._pool: list[str] = []
        self._floor = 0.0  # what the last one to leave was worth
        self.live: dict[str, Entry] = {}  # all of them; those that are `gone` too
        self.gone: deque[Entry] = deque()  # purged, still counted
        self.dead = 0  # of those in `live`, how many are gone
        self.index = Index()
        self.variants: dict[tuple[str, str | None], list[str]] = {}

    def __setitem__(self, key: str, entry: Entry) -> None:
        if key in self:
            del self[key]
        super().__setitem__(key, entry)
        self._rank(entry)
        self.live[key] = entry
        self.index.add(entry)
        self._join(entry)

    def __delitem__(self, key: str) -> None:
        super().__delitem__(key)
        entry = self.live.pop(key)
        self.dead -= entry.stale_at == _GONE
        self.index.remove(entry)
        self._part(entry)

    def alive(self, key: str) -> Entry | None:
        """The entry with this key, unless it is gone."""
        entry = self.live.get(key)
        return None if entry is None or entry.stale_at == _GONE else entry

    def forget(self, met: Iterable[Entry]) -> int:
        """Let entries be gone; they are taken apart later. Returns how many that were."""
        before, gone, dead = len(self.gone), self.gone.append, _GONE
        for entry in met:
            if entry.stale_at != dead:
                entry.stale_at = dead
                gone(entry)
        count = len(self.gone) - before
        self.dead += count
        return count

    def mark(self, met: Iterable[Entry], now: float) -> int:
        """Let entries be stale from now on; returns how many that are."""
        count = 0
        for entry in met:
            if entry.stale_at > now:
                entry.stale_at, entry.seen = now, None
                count += 1
            elif entry.stale_at != _GONE:
                count += 1
        return count

    def sweep(self, limit: int) -> Entry | None:
        """Take apart at most `limit` of what is gone; returns the last one that was still there."""
        last = None
        for _ in range(min(limit, len(self.gone))):
            entry = self.gone.popleft()
            if self.live.get(entry.key) is entry:  # nothing has replaced it
                del self[entry.key]
                last = entry
        return last

    def popitem(self) -> tuple[str, Entry]:
        """Make room."""
        while self.gone:
            entry = self.sweep(1)
            if entry is not None:
                return entry.key, entry
        entry = self._least()
        self._evicted("size")
        del self[entry.key]
        return entry.key, entry

    def _least(self) -> Entry:
        found = self._passed()
        found.sort(key=lambda entry: entry.hit)  # of equals, what was not used leaves first
        for entry in found:
            if entry.hit:
                entry.hit, entry.seen = False, None  # so that the next hit shows again
                self._rank(entry)
        found.sort(key=lambda entry: entry.rank)
        self._pool = [entry.key for entry in found[1 : POOL + 1]]
        self._floor = max(self._floor, found[0].rank)
        return found[0]

    def _passed(self) -> list[Entry]:
        """The worst of those passed before, and some that the hand passes now."""
        keys = dict.fromkeys(self._pool)
        found: list[Entry] = []
        while not found:
            passed = [*islice(self._hand, LOOK)]
            if len(passed) < LOOK:
                self._hand = iter([*self.live])
            keys.update(dict.fromkeys(passed))
            found = [entry for key in keys if (entry := self.live.get(key)) is not None]
        return found

    def _rank(self, entry: Entry) -> None:
        """It was used, or is new."""
        entry.rank = self._floor + max(entry.took, CHEAP) / entry.size

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
        self._holding: deque[str] = deque()  # keys of what holds a result
        self.get: Callable[[str], Entry | None] = self._cache.live.get  # while nothing in there is gone

    def put(self, entry: Entry, began: float | None = None) -> bool:
        """Keep an entry in place of any with its key; one larger than the whole budget is not kept.

        `began`: when its fetch did. What was purged since is not kept, or kept as stale. Returns whether it is kept.
        """
        if entry.stale_at == _GONE:
            return False
        if began is not None:
            since = self.purged_since(began, entry.fragment, entry.tags, entry.principal)
            if since == _GONE:
                return False
            entry.stale_at = since
        try:
            self._cache[entry.key] = entry
        except ValueError:
            self._evicted("too_large")
            self._cache.pop(entry.key, None)
            return False
        self.sweep(8)
        return True

    def used(self, entry: Entry, seen: Seen, now: float) -> None:
        """A hit has made this of an entry. It is remembered with the entry, of `HOLDING` entries at most."""
        if entry.seen is None:
            if len(self._holding) == HOLDING:
                before = self.get(self._holding.popleft())
                if before is not None:
                    before.seen = None
            self._holding.append(entry.key)
        entry.seen, entry.hit, entry.used = seen, True, now

    def pack(self, entry: Entry, name: str, form: bytes) -> None:
        """Keep what an entry holds in a content coding beside it: within the budget, and as long as the entry itself."""
        cache = self._cache
        if self.get(entry.key) is not entry or entry.size + OVERHEAD_OF_FORM + len(form) > cache.maxsize:
            return
        entry.forms = {**(entry.forms or {}), name: form}
        cache[entry.key] = entry  # weighed anew

    def purged_since(
        self, began: float, fragment: str, tags: Sequence[str] = (), principal: str | None = None
    ) -> float:
        """What purges at or after `began` make of such an answer: -inf, gone; inf, nothing; else stale, since that time."""
        return self._purges.since(math.nextafter(began, -math.inf), fragment, tags, principal)

    def purge(self, purge: Purge, now: float) -> int:
        """Forget what a purge meets, or mark it stale; returns how many that were. All of it counts at once.

        Purged entries are out of reach when this returns; `sweep` takes them apart. Until then, whoever gets an entry
        looks whether it is gone: all other hits cost what they would without purges.
        """
        self._purges.add(purge, now)
        cache = self._cache
        met = cache.index.met(purge, cache.live)
        if purge.soft:
            return cache.mark(met, now)
        count = cache.forget(met)
        if count == cache.dead > 0:
            self.get = cache.alive
        return count

    def matching(self, purge: Purge) -> list[Entry]:
        """The entries that a purge would meet."""
        return [entry for entry in self._cache.index.met(purge, self._cache.live) if entry.stale_at != _GONE]

    def sweep(self, limit: int = SLICE) -> bool:
        """Take apart at most `limit` purged entries; whether more are left."""
        cache = self._cache
        cache.sweep(limit)
        if not cache.dead:
            self.get = cache.live.get
        return bool(cache.gone)

    def expire(self, chosen: Callable[[Entry], bool]) -> int:
        """Drop every entry that `chosen` names; returns how many."""
        met = [entry for entry in self._cache.live.values() if entry.stale_at != _GONE and chosen(entry)]
        for entry in met:
            del self._cache[entry.key]
        return len(met)

    @property
    def entries(self) -> int:
        """How many can be found."""
        return len(self._cache.live) - self._cache.dead

    @property
    def bytes(self) -> int:
        """What they are counted with; purged ones too, until they are taken apart."""
        return int(self._cache.currsize)
