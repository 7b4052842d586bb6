"""Deadlines by the thousand on one loop timer: callbacks at absolute times, ten milliseconds apart at the finest.

Arming and disarming a deadline is a set operation; only while any is armed does the loop wake, once a tick. A deadline
never fires early and at most one tick (and the loop's own lag) late. Standard library only.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final, Protocol

_LOG: Final = logging.getLogger("bff")
TICK: Final = 0.01  # seconds; a page's slots end 50 ms before its deadline, so a tick late is still in time


class Due(Protocol):
    """What can stand in a bucket."""

    def call(self) -> None: ...


class Deadline:
    """One armed callback; `cancel` disarms it, any number of times."""

    __slots__ = ("_bucket", "call")

    def __init__(self, bucket: set[Due], call: Callable[[], None]) -> None:
        self._bucket = bucket
        self.call = call
        bucket.add(self)

    def cancel(self) -> None:
        self._bucket.discard(self)


class Timer:
    """Buckets of deadlines by tick. Belongs to one loop; `close` disarms everything."""

    __slots__ = ("_buckets", "_handle", "_loop", "_next")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._buckets: dict[int, set[Due]] = {}
        self._handle: asyncio.TimerHandle | None = None
        self._next = 0  # the tick up to which all have fired

    def at(self, when: float, call: Callable[[], None]) -> Deadline:
        """Call `call` once at `when` (`loop.time()` seconds), or in the next tick where that has passed."""
        return Deadline(self.bucket(when), call)

    def bucket(self, when: float) -> set[Due]:
        """The bucket that is called at `when`, once: whoever adds itself is armed, and disarmed by leaving it.

        For the hot path, where a `Deadline` of its own would cost each exchange as much again.
        """
        tick = int(when / TICK) + 1
        if self._handle is None:
            self._next = int(self._loop.time() / TICK)
            self._handle = self._loop.call_later(TICK, self._turn)
        if tick <= self._next:
            tick = self._next + 1
        bucket = self._buckets.get(tick)
        if bucket is None:
            bucket = self._buckets[tick] = set()
        return bucket

    def close(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        self._buckets.clear()

    def _turn(self) -> None:
        self._handle = None
        now = int(self._loop.time() / TICK)
        ticks = range(self._next + 1, now + 1)
        due = [bucket for tick in ticks if (bucket := self._buckets.pop(tick, None)) is not None]
        self._next = now
        if self._buckets:
            self._handle = self._loop.call_later(TICK, self._turn)
        for bucket in due:
            while bucket:  # a callback may disarm its neighbours
                try:
                    bucket.pop().call()
                except Exception:  # noqa: BLE001 - whoever it was, the others keep their deadlines
                    _LOG.exception("a deadline's callback failed")
