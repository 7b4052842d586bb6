"""How much of its optional load a struggling context is spared: client-side throttling (Google SRE, chapter 21). Pure.

A request is left out with probability max(0, (requests - K accepts) / (requests + 1)): nothing while the context takes
half of what it is offered, more the less it takes, never all. It spans the fragments of a context, of which each may have
too little traffic for its own breaker. The book counts two minutes; here the breaker's ten seconds and twenty requests
hold, for a context that has recovered must not wait longer than its breakers.
"""

from __future__ import annotations

from typing import Final

from bff.rules.limits.tally import Tally

K: Final = 2.0
WINDOW: Final = 10.0
"""Seconds."""
LEAST: Final = 20
"""Requests in the window below which nothing is left out: a quiet context needs no sparing."""


class Throttle:
    """One context's. `until`: the time from which on it leaves nothing out, whatever else it knows."""

    __slots__ = ("_asked", "tally", "until")

    def __init__(self, asked: Tally) -> None:
        """`asked`: counts what the context is asked, second tries among them, over the same ten seconds."""
        self.until = 0.0
        self.tally = Tally(WINDOW)  # what was not accepted, or left out; some: left out
        self._asked = asked

    def rejected(self, now: float) -> None:
        """It was not there, too slow, or had too much to do."""
        self.tally.count(now)
        self.until = now + WINDOW

    def share(self, now: float) -> float:
        """The probability with which a request is left out now. What has not ended yet counts as accepted."""
        if now >= self.until:
            return 0.0
        first, again = self._asked.sums(now)
        lost, spared = self.tally.sums(now)
        requests = first + again + spared
        accepts = max(0, requests - lost)  # another process may have found out more than was asked here
        return max(0.0, (requests - K * accepts) / (requests + 1)) if requests >= LEAST else 0.0

    def spares(self, now: float, chance: float) -> bool:
        """Whether a request is left out; `chance`: from 0 to below 1, drawn for it. What is left out was offered too."""
        if chance >= self.share(now):
            return False
        self.tally.count(now, some=True)
        return True

    def forget(self) -> None:
        """A probe has found it well: that is news to the window."""
        self.until = 0.0
        self.tally.clear()
