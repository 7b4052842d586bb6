"""Everything that is purged goes through here: to this process's memory at once, to the second tier, and so to all others."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from bff.model import Clock, Purge
from bff.store.follower import BATCH
from bff.store.memory import MemoryStore
from bff.store.tier import Heard, Tier

TURN: Final = 0.005  # seconds of purging until it is the others' turn


class Purger:
    """Purges both tiers, and heeds what other processes purge. Belongs to one event loop."""

    def __init__(
        self, store: MemoryStore, tier: Tier | None, *, clock: Clock, heard: Heard = lambda _purge, _when: None
    ) -> None:
        """`heard` is told of each purge of another process once it holds here, with when that was (wall)."""
        self._heed = heard
        self._store = store
        self._tier = tier
        self._clock = clock
        self._sweeping: asyncio.Task[None] | None = None
        self._until = 0.0  # from then on it is the others' turn
        self._interrupted = 0  # purges that wait for their own
        if tier is not None:
            tier.subscribe(self._heard)

    async def __call__(self, *purges: Purge) -> int:
        """Purge; returns how many entries of this process that met. Holds here at once, and everywhere within 250 ms.

        Whoever purges very many things, at once or one after the other, leaves room for others in between.
        """
        met = told = 0
        for number, purge in enumerate(purges, 1):
            met += self._here(purge)
            if number == len(purges) or number - told == BATCH or time.perf_counter() > self._until:
                if (
                    self._tier is not None
                ):  # nobody has had a turn, in which the tier would still give what is purged here
                    await self._tier.purge(*purges[told:number])
                told = number
                if time.perf_counter() > self._until:
                    await self._others()
        return met

    async def _others(self) -> None:
        self._interrupted += 1
        try:
            await asyncio.sleep(0)
        finally:
            self._interrupted -= 1
        self._until = time.perf_counter() + TURN

    def _heard(self, purge: Purge, when: float) -> None:
        self._here(purge)  # not `when`, another machine's clock: what counts is what was fetched before we heard of it
        self._heed(purge, when)

    def _here(self, purge: Purge) -> int:
        met = self._store.purge(purge, self._clock())
        if met and self._sweeping is None and self._store.sweep(0):
            self._sweeping = asyncio.get_running_loop().create_task(self._sweep())
        return met

    async def _sweep(self) -> None:
        """Take apart what was purged, in slices: connections are served in between, and what is still to be purged comes first."""
        more = True
        while more:
            await asyncio.sleep(0)
            if not self._interrupted:
                more = self._store.sweep()
        self._sweeping = None

    async def aclose(self) -> None:
        """End what is under way."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.gather(self._sweeping, return_exceptions=True)
