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

    __slots__ = ("tally", "until")

    def __init__(self) -> None:
        self.until = 0.0
        self.tally = Tally(WINDOW)  # requests offered; some: accepted

    def accepted(self, now: float) -> None:
        """It answered, if only to say that it cannot."""
        self.tally.count(now, some=True)

    def rejected(self, now: float) -> None:
        """It was not there, too slow, or had too much to do."""
        self.tally.count(now)
        self.until = now + WINDOW

    def share(self, now: float) -> float:
        """The probability with which a request is left out now."""
        if now >= self.until:
            return 0.0
        requests, accepts = self.tally.sums(now)
        return max(0.0, (requests - K * accepts) / (requests + 1)) if requests >= LEAST else 0.0

    def spares(self, now: float, chance: float) -> bool:
        """Whether a request is left out; `chance`: from 0 to below 1, drawn for it. What is left out was offered too."""
        if chance >= self.share(now):
            return False
        self.tally.count(now)
        return True

    def forget(self) -> None:
        """A probe has found it well: that is news to the window."""
        self.until = 0.0
        self.tally.clear()
