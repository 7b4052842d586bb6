"""The first tier: entries of one process within a byte budget, the least recently used ones leaving first.

The only importer of cachetools. Expiry is not its business: `rules.serve` decides by time what an entry is good for.
"""

from __future__ import annotations

from collections.abc import Callable

from cachetools import LRUCache

from bff.store.entry import Entry


class _Sized(LRUCache[str, Entry]):
    """An LRU of entries that reports what its budget makes it drop."""

    def __init__(self, budget: int, evicted: Callable[[str], None]) -> None:
        super().__init__(budget, getsizeof=lambda entry: entry.size)
        self._evicted = evicted

    def popitem(self) -> tuple[str, Entry]:
        self._evicted("size")
        return super().popitem()


class MemoryStore:
    """A mapping of keys to entries of at most `budget` bytes; `evicted(reason)` is called for each one dropped."""

    def __init__(self, budget: int, evicted: Callable[[str], None] = lambda _: None) -> None:
        self._cache = _Sized(budget, evicted)
        self._evicted = evicted
        self.get: Callable[[str], Entry | None] = self._cache.get

    def put(self, entry: Entry) -> None:
        """Keep an entry in place of any with its key; one larger than the whole budget is not kept."""
        try:
            self._cache[entry.key] = entry
        except ValueError:
            self._evicted("too_large")
            self._cache.pop(entry.key, None)

    def expire(self, chosen: Callable[[Entry], bool]) -> int:
        """Drop every entry that `chosen` names; returns how many."""
        keys = [key for key, entry in self._cache.items() if chosen(entry)]
        for key in keys:
            self._cache.pop(key, None)
        return len(keys)

    @property
    def entries(self) -> int:
        return len(self._cache)

    @property
    def bytes(self) -> int:
        return int(self._cache.currsize)
