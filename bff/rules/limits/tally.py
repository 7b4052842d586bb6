"""Two counts over a sliding window: of all that happened, and of some of it. Pure; what is counted is the caller's business."""

from __future__ import annotations

from collections import deque
from typing import Final

SLICES: Final = 10
"""A window slides by a tenth of itself, as Hystrix's rolling window and Finagle's windowed adder do."""


class Tally:
    """Counts what happened in the present slice and the nine before it; slices begin at multiples of their width."""

    __slots__ = ("_all", "_next", "_number", "_past", "_some", "window")

    def __init__(self, window: float) -> None:
        """`window`: seconds."""
        self.window = window
        self._all = 0  # of the present slice
        self._some = 0
        self._number = 0  # of the present slice
        self._next = 0.0  # when it ends
        self._past: deque[tuple[int, int, int]] = (
            deque()
        )  # earlier slices in which anything happened: number, all, some

    def count(self, now: float, *, some: bool = False) -> None:
        """Count one."""
        if now >= self._next:
            self._turn(now)
        self._all += 1
        if some:
            self._some += 1

    def mark(self, now: float) -> None:
        """Count one more among some, none among all."""
        if now >= self._next:
            self._turn(now)
        self._some += 1

    def add(self, now: float, number: int) -> None:
        """Count so many, none of them among some."""
        if now >= self._next:
            self._turn(now)
        self._all += number

    def sums(self, now: float) -> tuple[int, int]:
        """(all, some) of the window that ends now."""
        if now >= self._next:
            self._turn(now)
        return self._all + sum(each[1] for each in self._past), self._some + sum(each[2] for each in self._past)

    def clear(self) -> None:
        self._all = self._some = 0
        self._past.clear()

    def _turn(self, now: float) -> None:
        """Begin the slice of `now`, and drop those that the window has left."""
        width = self.window / SLICES
        number = int(now / width)
        if self._all or self._some:
            self._past.append((self._number, self._all, self._some))
            self._all = self._some = 0
        while self._past and self._past[0][0] <= number - SLICES:
            self._past.popleft()
        self._number, self._next = number, (number + 1) * width
