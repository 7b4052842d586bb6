"""What one process knows of the purges of all: read from a shared log, and what follows for records. No I/O.

A record carries the mark that its process knew of the log when the fetch began. Whoever reads it judges it by the purges
with later marks: no index of what is kept is needed, and a fetch begun before a purge cannot bring back what that voided.
Marks count 1/1024 ms of the wall clock of whoever keeps the log, and only grow. `floor`: purges before it are forgotten.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from bff.model import Clock, Purge
from bff.store.purges import LIMIT, Purges, read, written
from bff.store.record import Record
from bff.store.tier import Heard

MARKS: Final = 1024  # changes of the log that are known by time; a fetch older than those is not kept
UNBROKEN: Final = 1.0  # seconds between two looks at the log within which nothing is missed even if the log is lost
EVERYTHING: Final = Purge(kind="all", soft=True)

Row = tuple[str, int]
"""A purge as `purges.written`, and its mark."""


def mark_at(wall: float) -> int:
    """The lowest mark of a wall time."""
    return int(wall * 1000) * 1024


def wall_of(mark: float) -> float:
    """The wall time of a mark."""
    return mark / 1_024_000


class Ledger:
    """One process's view of one log."""

    def __init__(self, clock: Clock, wall: Clock) -> None:
        self._clock = clock
        self._wall = wall
        self._purges = Purges()
        self._heard: list[Heard] = []
        self._times: list[float] = []  # when the log was known up to the mark at the same place in `_marks`
        self._marks: list[int] = []
        self._looked = -math.inf
        self._own: set[int] = set()
        self._writing = 0
        self._held: list[tuple[Purge, int]] = []
        self._owed = Purges()
        self.owed: dict[str, Purge] = {}  # purges that nobody has written yet, by `written`
        self.mark = -1  # of the latest purge known
        self.floor = -1

    def subscribe(self, heard: Heard) -> None:
        self._heard.append(heard)

    # --- reading the log ----------------------------------------------------------------------------------------------

    def catch_up(self, rows: Sequence[Row], floor: int) -> None:
        """Take in what was added to the log since `mark`; what is known already, by another look at the same time, is not new."""
        now = self._clock()
        missed = self.floor >= 0 and (floor > self.mark or floor < self.floor) and now - self._looked > UNBROKEN
        if floor < self.floor:  # another log, whose clock is behind that of the one before
            self._purges.clear()
            self.mark = -1
        self.floor = floor
        self._purges.floor = max(self._purges.floor, floor)
        self._looked = now
        for text, mark in rows:
            self._add(text, mark)
        self._own = {mark for mark in self._own if mark > self.mark}
        self._know(max(self.mark, floor), now)
        if missed:
            self._tell(EVERYTHING, floor)

    def overhear(self, rows: Sequence[Row], floor: int) -> None:
        """Take in what came along with a record; that it is another log is for `catch_up` to see."""
        self.catch_up(rows, max(floor, self.floor))

    def _add(self, text: str, mark: int) -> None:
        if mark <= self.mark:
            return
        self.mark = mark
        purge = read(text)
        if purge is None:
            return
        self._purges.add(purge, mark)
        if self._writing:
            self._held.append((purge, mark))
        else:
            self._announce(purge, mark)

    def _know(self, mark: int, now: float) -> None:
        self.mark = mark
        if not self._marks or self._marks[-1] != mark:
            self._times.append(now)
            self._marks.append(mark)
            if len(self._marks) > 2 * MARKS:
                del self._times[:MARKS], self._marks[:MARKS]

    def _announce(self, purge: Purge, mark: int) -> None:
        if mark not in self._own:
            self._tell(purge, mark)

    def _tell(self, purge: Purge, mark: int) -> None:
        for heard in self._heard:
            heard(purge, wall_of(mark))

    # --- writing it ---------------------------------------------------------------------------------------------------

    def owe(self, purge: Purge) -> str:
        """A purge that is to be written: it counts for this process from now on."""
        text = written(purge)
        if len(self.owed) >= LIMIT:
            self.owed.clear()
            self._owed.clear()
            purge = Purge(kind="all")
            text = written(purge)
        self.owed[text] = purge
        self._owed.add(purge, self._wall())
        return text

    def begin(self) -> None:
        """Purges are being written: what is read of the log meanwhile may be one of them, and waits to be told."""
        self._writing += 1

    def end(self, texts: Sequence[str], mark: int | None) -> None:
        """They were written, the last with this mark and the others with those before; None: they were not, or nobody knows."""
        self._writing -= 1
        if mark is not None:
            marks = range(mark - len(texts) + 1, mark + 1)
            for text, one in zip(texts, marks, strict=True):
                purge = self.owed.pop(text, None)
                if purge is not None:
                    self._purges.add(purge, one)
            if not self.owed:
                self._owed.clear()
            self._own.update(one for one in marks if one > self.mark)
            self._held = [(each, other) for each, other in self._held if other not in marks]
        if not self._writing:
            held, self._held = self._held, []
            for each, other in held:
                self._announce(each, other)

    # --- judging ------------------------------------------------------------------------------------------------------

    def known(self, began: float) -> int | None:
        """The mark that was known at that time of the loop's clock; None where that cannot be said."""
        place = bisect_right(self._times, began)
        return self._marks[place - 1] if place else None

    def judged(self, record: Record, mark: int) -> Record | None:
        """A record with this mark after all purges; None where they have voided it."""
        about = record.fragment, record.tags, record.principal
        since = min(self._purges.since(mark, *about), self._purges_owed(about))
        if since == -math.inf:
            return None
        return record if since == math.inf else replace(record, stale_at=min(self._wall(), wall_of(since)))

    def _purges_owed(self, about: tuple[str, Sequence[str], str | None]) -> float:
        since = self._owed.since(0.0, *about) if self.owed else math.inf
        return since if math.isinf(since) else float(mark_at(since))
