"""What is counted while pages are made: plain numbers in slotted objects, one look-up by name away.

The hot path of telemetry; knows no metric names, no exposition format, no clock. Standard library only.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 2.5, 5.0, 10.0)
"""Prometheus' customary bounds, and 2.0: the default deadline of a page."""
AGES: Final = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 43200.0, 86400.0)
"""For staleness, which is measured in the time scale of `max_stale`."""
BEHIND: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 3600.0)
"""For how late events are acted on: milliseconds as a rule, an hour after an outage."""
LAGS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Histogram:
    """Counts by upper bound, inclusive, and the sum; the last count is of what is beyond every bound."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float] = SECONDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def cumulated(self) -> list[tuple[str, float]]:
        """(upper bound, count up to it), the last one "+Inf": the form of Prometheus."""
        total = 0
        found: list[tuple[str, float]] = []
        for bound, count in zip((*map(str, self.bounds), "+Inf"), self.counts, strict=True):
            total += count
            found.append((bound, total))
        return found


class PageCounts:
    """One page: duration by status, time to the first byte; how often it was made ahead of a visit."""

    __slots__ = ("first_byte", "prefetches", "seconds")

    def __init__(self) -> None:
        self.seconds: dict[int, Histogram] = {}
        self.first_byte = Histogram()
        self.prefetches = 0

    def told(self) -> dict[str, Any]:
        """As the operators' API gives it; counts by the bounds of `SECONDS`, the last of what is beyond."""
        statuses = {str(status): sum(each.counts) for status, each in self.seconds.items()}
        together = [sum(counts) for counts in zip(*(each.counts for each in self.seconds.values()), strict=True)]
        return {"statuses": statuses, "seconds": together, "first_byte": self.first_byte.counts}


class FragmentCounts:
    """One fragment: how its slots ended, how long they and its fetches took, how the store served it."""

    __slots__ = ("cache", "coalesced", "outcomes", "seconds", "stale_age", "upstream")

    def __init__(self) -> None:
        self.seconds = Histogram()
        self.upstream = Histogram()
        self.stale_age = Histogram(AGES)
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self.cache: Counter[str] = Counter()
        self.coalesced = 0

    def told(self) -> dict[str, Any]:
        """As the operators' API gives it: how often it ended how and why, how long that took, how the store served it.

        `ages`: of the stale copies that were shown, by the bounds of `AGES`.
        """
        ends: dict[str, dict[str, int]] = {}
        for (outcome, reason), count in self.outcomes.items():
            ends.setdefault(str(outcome), {})[str(reason)] = count
        seconds, upstream, ages = self.seconds.counts, self.upstream.counts, self.stale_age.counts
        return {"ends": ends, "seconds": seconds, "upstream": upstream, "ages": ages, "cache": self.cache}


class ContextCounts:
    """One context: its answers by status, and what was asked a second time."""

    __slots__ = ("hedges", "retries", "statuses")

    def __init__(self) -> None:
        self.statuses: Counter[int | str] = Counter()
        self.retries = 0
        self.hedges = {"true": 0, "false": 0}  # by whether they answered first

    def told(self) -> dict[str, Any]:
        """As the operators' API gives it."""
        return {"statuses": {str(status): count for status, count in self.statuses.items()}, "retries": self.retries}


class EventCounts:
    """Events by type and what became of them, and how long after they occurred they were acted on."""

    __slots__ = ("lag", "results")

    def __init__(self) -> None:
        self.results: dict[tuple[str, str], int] = {}
        self.lag = Histogram(BEHIND)
