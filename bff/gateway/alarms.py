"""The deadlines of the pages under way, which can all be brought forward: a server that leaves gives no page its whole time.

Owns who is under way. What happens at a deadline is the page's.
"""

from __future__ import annotations

from collections.abc import Callable

from bff.timer import Deadline, Due, Timer


class Alarm(Deadline):
    """One page's deadline; `cancel` forgets the page, too."""

    __slots__ = ("_alarms",)

    def __init__(self, bucket: set[Due], call: Callable[[], None], alarms: set[Alarm]) -> None:
        super().__init__(bucket, call)
        self._alarms = alarms
        alarms.add(self)

    def cancel(self) -> None:
        super().cancel()
        self._alarms.discard(self)


class Alarms:
    """Those of one loop's pages. Whoever sets one cancels it in the end, whether it has fired or not."""

    def __init__(self, timer: Timer) -> None:
        self._timer = timer
        self._set: set[Alarm] = set()

    def at(self, when: float, call: Callable[[], None]) -> Alarm:
        """Call `call` at `when` (`loop.time()` seconds); earlier, and perhaps twice, if pages are to hurry."""
        return Alarm(self._timer.bucket(when), call, self._set)

    def hurry(self) -> None:
        """It is now."""
        for alarm in list(self._set):
            alarm.call()
