"""How many requests may be sent a second time: a share of those that were asked for. Pure.

Finagle's retry budget: counted over ten seconds, with a floor for quiet services. There the floor comes on top; here it is
a floor, so that a budget of a fifth never makes more of an outage's load than six fifths.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from bff.rules.limits.tally import Tally

WINDOW: Final = 10.0
"""Seconds; Finagle's time to live of a token."""
FLOOR: Final = 10.0
"""Retries a second that are always allowed, on average over the window (Finagle's `minRetriesPerSec`)."""


class Budget:
    """What one context may be asked again."""

    __slots__ = ("_least", "asked", "tally")

    def __init__(self, floor: float = 0.0) -> None:
        """`floor`: per second."""
        self._least = floor * WINDOW
        self.tally = Tally(WINDOW)  # all requests; some: what was spent
        self.asked: Callable[[float], None] = self.tally.count
        """Is told the time of a request for the first time; on the hot path, and no more than this."""

    def spend(self, share: float, now: float) -> bool:
        """Take one where `share` of the requests leaves it, else False."""
        asked, spent = self.tally.sums(now)
        if spent + 1 > max(share * asked, self._least):
            return False
        self.tally.mark(now)
        return True
