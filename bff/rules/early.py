"""Spreading load over time: refreshing before expiry, and holding back after failures. Pure: chance is an argument."""

from __future__ import annotations

from math import log
from typing import Final

from bff.rules.rule import Rule

BETA: Final = 1.0  # the paper's optimum; larger refreshes earlier
_MOST_DOUBLINGS: Final = 32


def early(now: float, expiry: float, delta: float, beta: float, random: float) -> bool:
    """Whether to refresh now what expires at `expiry` and took `delta` seconds to make (`random` from 0 to 1).

    XFetch: each caller decides alone, the likelier the nearer the expiry and the dearer the answer, so that a popular
    entry is refreshed about once before it expires (Vattani, Chierichetti, Lowenstein: Optimal Probabilistic Cache
    Stampede Prevention, VLDB 2015).
    """
    return now - delta * beta * log(max(random, 1e-12)) >= expiry


def backoff(failures: int, random: float, *, first: float = 1.0, cap: float = 60.0) -> float:
    """Seconds to ask no more after this many failures in a row: doubling, at most `cap`, a random half of it jitter."""
    if failures <= 0:
        return 0.0
    return min(cap, first * 2.0 ** min(failures - 1, _MOST_DOUBLINGS)) * (0.5 + random / 2)


RULES: Final = (
    Rule(
        "XFetch (VLDB 2015)",
        "A popular entry is refreshed shortly before it expires, the earlier the longer that takes.",
        "test_early.py::test_the_nearer_and_the_dearer_the_likelier",
    ),
    Rule(
        "contract",
        "After a failure the upstream is left alone for a while that doubles, with jitter, up to a bound.",
        "test_early.py::test_it_waits_longer_each_time",
    ),
)
