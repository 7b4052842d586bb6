"""When the gateway does less, and of what: first it leaves optional slots out, then it begins no more pages. Pure.

Two measures, taken at every beat: how late the event loop runs, and which share of its memory the process has. Lag counts
only while it stands: the least of a window, not a peak, so that one slow callback sheds nothing (the rule of CoDel,
RFC 8289 §4.2: a queue that drains within an interval does no harm). Memory counts at once, as in Envoy's overload manager,
whose last step at 0.95 is ours too.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Literal

BEAT: Final = 0.25
"""Seconds between two measurements."""
WINDOW: Final = 4
"""Beats over which lag must stand: a second."""
LAG: Final = (0.1, 0.5)
"""Seconds of standing lag at which optional slots are left out, and pages refused: a page's deadline is 2 s."""
MEMORY: Final = (0.85, 0.95)
"""Shares of the memory limit for the same."""
LEAVE: Final = 0.9
"""A level is left at this part of where it began, so that it is not left and entered again and again."""

Limit = Literal["", "lag", "memory"]


class Level(IntEnum):
    NONE = 0
    OPTIONAL = 1  # no optional slot is fetched
    PAGES = 2  # no page is begun


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What was measured last, and what follows; `limit` is the one that was reached."""

    level: Level = Level.NONE
    limit: Limit = ""
    lags: tuple[float, ...] = ()
    by_lag: Level = Level.NONE
    by_memory: Level = Level.NONE


IDLE: Final = Load()


def beaten(before: Load, lag: float, memory: float) -> Load:
    """The load after a beat that came `lag` seconds late, with the process holding `memory` (a share) of its limit."""
    lags = (*before.lags, lag)[-WINDOW:]
    by_lag = _level(min(lags) if len(lags) == WINDOW else 0.0, LAG, before.by_lag)
    by_memory = _level(memory, MEMORY, before.by_memory)
    level = max(by_lag, by_memory)
    limit: Limit = "" if level is Level.NONE else "memory" if by_memory >= by_lag else "lag"
    return Load(level=level, limit=limit, lags=lags, by_lag=by_lag, by_memory=by_memory)


def _level(measured: float, bounds: tuple[float, float], before: Level) -> Level:
    """The highest level whose bound is reached, or that was reached before and is not left yet."""
    for level, bound in ((Level.PAGES, bounds[1]), (Level.OPTIONAL, bounds[0])):
        if measured >= bound * (LEAVE if before >= level else 1.0):
            return level
    return Level.NONE
