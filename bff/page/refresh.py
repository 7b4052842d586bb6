"""Fetching ahead: entries that nobody waits for, because their policy pulls them or because they were marked stale.

Bounded: a few at once, each once in the queue; what is not used any more is left alone. Times are the resolver's clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from random import random
from typing import Final

from bff.model import Policy
from bff.page.plan import Planner
from bff.page.resolve import Resolver
from bff.rules import keys
from bff.store.entry import Entry
from bff.store.memory import MemoryStore

AT_ONCE: Final = 4
QUEUED: Final = 10_000
PASSED: Final = 100
"""Of what cannot be fetched (registered otherwise by now, or a proxy route's), so many are passed over in one turn of the loop."""
USED: Final = 86_400.0
"""Seconds: what nobody has used for longer is not pulled any more."""


class Refresher:
    """The refreshes of one resolver."""

    def __init__(
        self,
        resolver: Resolver,
        store: MemoryStore,
        later: Callable[[float, Callable[[], None]], object],
        planner: Callable[[], Planner],
        *,
        chance: Callable[[], float] = random,
    ) -> None:
        """`planner()` knows the registrations as they are now: an entry's key says what to ask them for. `later` is the loop's `call_later`: paces are minutes, for which a timer that ticks is not made."""
        self._resolver = resolver
        self._store = store
        self._later = later
        self._planner = planner
        self._chance = chance
        self._queue: deque[str] = deque()
        self._queued: set[str] = set()  # or being fetched
        self._closed = False
        self._running = 0
        resolver.landing.kept = self.kept

    def soon(self, entries: Iterable[Entry]) -> None:
        """Refresh these as soon as it is their turn, those used last first; beyond a bound they wait for whoever asks."""
        for entry in sorted(entries, key=lambda entry: -entry.used):
            if entry.key not in self._queued and len(self._queue) < QUEUED:
                self._queue.append(entry.key)
                self._queued.add(entry.key)
        self._next()

    def kept(self, entry: Entry, policy: Policy) -> None:
        """An entry was kept: where its policy pulls it, it is due again after that pace, give or take a tenth."""
        if policy.cache.pull is not None and entry.principal is None:
            self._again(entry, policy.cache.pull)

    def _again(self, entry: Entry, pace: float) -> None:
        born, key = entry.born, entry.key
        self._later(pace * (0.9 + self._chance() / 5), lambda: self._due(key, born, pace))

    def close(self) -> None:
        """Begin nothing more."""
        self._closed = True
        self._queue.clear()

    def _due(self, key: str, born: float, pace: float) -> None:
        entry = None if self._closed else self._store.get(key)
        if entry is None or entry.born != born or self._resolver.now() - entry.used > USED:
            return  # gone, renewed meanwhile (and due again by that), or of no use to anybody
        if self._resolver.now() < entry.retry_at:
            self._again(entry, pace)
        else:
            self.soon([entry])

    def _next(self) -> None:
        passed = 0
        while self._queue and self._running < AT_ONCE:
            if passed == PASSED:
                self._later(0.0, self._next)
                return
            key = self._queue.popleft()
            entry = self._store.get(key)
            if entry is not None and self._asked(entry):
                self._running += 1
            else:
                passed += 1
                self._queued.discard(key)

    def _asked(self, entry: Entry) -> bool:
        found = keys.recalled(entry.key)
        fragment = self._planner().fragments.get(found.fragment) if found is not None else None
        if found is None or fragment is None or fragment.private:
            return False
        call = self._planner().call(fragment, fragment.policy, found.given, primary=found.primary)
        if call is None or call.key + found.variant.key != entry.key:  # registered otherwise by now
            return False
        over = partial(self._over, entry, entry.born, fragment.policy.cache.pull)
        return self._resolver.refresh(entry, call, found.variant, over)

    def _over(self, entry: Entry, born: float, pace: float | None) -> None:
        self._running -= 1
        self._queued.discard(entry.key)
        if pace is not None and self._store.get(entry.key) is entry and entry.born == born:
            self._again(entry, pace)  # nothing came: it failed, or another process is fetching it
        self._next()
