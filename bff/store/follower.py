"""Follows the shared log of purges of a tier, writes to it, and knows whether the tier can be reached. Knows no library.

The log is looked at every tenth of a second instead of waiting to be told: what was missed while it could not be reached
is caught up by the same step, and it shows at once when the tier is back.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Final, Protocol

from bff.model import Purge
from bff.store.ledger import Ledger, Row
from bff.store.tier import Failed, Tell

PERIOD: Final = 0.1  # seconds between two looks; the contract allows 250 ms until a purge is heard
SLOW: Final = 3  # looks in a row that may come to nothing: a moment's load on either side is no outage
PAUSE: Final = 0.25  # seconds between two tries to reach it
FIRST: Final = 2.0  # seconds that a start waits for it
LAST: Final = 0.5  # seconds that an end waits for what is still to be written
ROWS: Final = 1000  # of the log, read at once
BATCH: Final = 100  # purges written at once: about a millisecond of whoever keeps the log


class Away(Exception):
    """A call came to nothing; `reason` is one of `tier.Failed`'s. `lost`: the tier cannot be reached at all."""

    def __init__(self, reason: str, detail: str = "", *, lost: bool = True) -> None:
        super().__init__(detail or reason)
        self.reason = reason
        self.lost = lost


class Log(Protocol):
    """Where the log is kept; each call raises `Away`."""

    async def connect(self) -> None:
        """Reach it anew."""

    async def read(self, after: int) -> tuple[list[Row], int]:
        """At most `ROWS` rows with marks after this one, in their order, and the log's floor."""

    async def write(self, texts: Sequence[str]) -> int:
        """Add purges, all or none, under marks that follow one another; gives that of the last."""


class Follower:
    """One process following one log. Its task runs from `start` to `aclose`."""

    def __init__(self, log: Log, ledger: Ledger, *, failed: Failed, tell: Tell) -> None:
        self._log = log
        self._ledger = ledger
        self._failed = failed
        self._say = tell
        self._told = False
        self._reasons: set[str] = set()  # told since it was reached
        self._underway: set[str] = set()  # what `purge` is writing
        self._task: asyncio.Task[None] | None = None
        self._tried = asyncio.Event()
        self.reached = False

    @property
    def settled(self) -> bool:
        """Whether it works, and all that was purged here is written; what is being written is for its own to tell."""
        return self.reached and self._underway.issuperset(self._ledger.owed)

    async def start(self) -> None:
        """Follow it; returns once it is known, or known to be away."""
        self._task = asyncio.get_running_loop().create_task(self._run())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST):
                await self._tried.wait()

    async def aclose(self) -> None:
        """Stop; write what is owed if that can be done at once."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST):
                await self._write([*self._ledger.owed])

    async def _run(self) -> None:
        while True:
            try:
                await self._log.connect()
                await self._follow()
            except Exception as error:  # noqa: BLE001 - whatever ended it, another try comes; it is told
                self.lost(error)
            self._tried.set()
            await asyncio.sleep(PAUSE)

    async def _follow(self) -> None:
        await self.look()
        self._back()
        self._tried.set()
        slow = 0
        while self.reached:
            await self._settle()
            await asyncio.sleep(PERIOD)
            try:
                await self.look()
                slow = 0
            except Away as error:
                self._failed(error.reason)
                slow += 1
                if error.lost or slow == SLOW:
                    raise

    async def look(self) -> None:
        """Take in all that is new in the log."""
        more = True
        while more:
            rows, floor = await self._log.read(self._ledger.mark)
            self._ledger.catch_up(rows, floor)
            more = len(rows) == ROWS

    async def _settle(self) -> None:
        """Write what could not be written before: once, for a second time would void what was fetched in between."""
        await self._write([text for text in self._ledger.owed if text not in self._underway])

    async def purge(self, *purges: Purge) -> bool:
        """Write purges now, or as soon as that is possible; whether they are written."""
        texts = [*dict.fromkeys(map(self._ledger.owe, purges))]
        if not self.reached:
            self._failed("away")
            return False
        self._underway.update(texts)
        try:
            return await self._write(texts)
        finally:
            self._underway.difference_update(texts)

    async def _write(self, texts: list[str]) -> bool:
        """Write so much while the log can be reached; whether that is all of it."""
        for first in range(0, len(texts), BATCH):
            if not (self.reached and await self._write_some(texts[first : first + BATCH])):
                return False
        return True

    async def _write_some(self, texts: list[str]) -> bool:
        """Afterwards the log is looked at, so that what is fetched from now on counts as later than the purges."""
        mark = None
        self._ledger.begin()
        try:
            mark = await self._log.write(texts)
        except Away as error:
            self.missed(error)
        finally:
            self._ledger.end(texts, mark)
        if mark is not None:
            try:
                await self.look()
            except Away as error:
                self.missed(error)
        return mark is not None

    def missed(self, error: Away) -> None:
        """Count a call that came to nothing; each reason is told once while the tier is reached."""
        self._failed(error.reason)
        if not self.reached:
            return
        if error.lost:
            self.lost(error)
        elif error.reason not in self._reasons:
            self._reasons.add(error.reason)
            self._say("store_failed", level="warning", reason=error.reason, error=str(error))

    def lost(self, error: Exception) -> None:
        """It cannot be reached: nobody asks it until it can. Told once."""
        self.reached = False
        if not self._told:
            self._told = True
            self._say("store_away", level="warning", error=str(error) or repr(error))

    def _back(self) -> None:
        self.reached = True
        self._reasons.clear()
        if self._told:
            self._told = False
            self._say("store_back")
