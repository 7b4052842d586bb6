"""When a fragment's context is asked no more, and how it is found out that it answers again. Pure.

Hystrix's breaker (a share of failures in a rolling window of at least so many requests) and Finagle's failure accrual
(connect failures in a row). While it is open nobody is asked; then one request at a time is let through as a probe: its
success closes the breaker, its failure opens it again.

Where many wait for one exchange, all of them are requests, but there is one failure or none: whether there were enough
requests is told by who asked, what share of them fails by what was asked. Counting a failure once for each who waited
would count the slow ones too often, for many come to wait for those; one that is slow alone would open it.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from bff.model import Breaker
from bff.rules.limits.tally import Tally


class State(Enum):
    """Values are those of `bff_breaker_state`."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2

    @property
    def word(self) -> str:
        return self.name.lower().replace("_", "-")


FEWEST: Final = 3
"""Exchanges that must have failed before those who shared them count: HAProxy's `fall`, Kubernetes' `failureThreshold`."""
CLOSED: Final = State.CLOSED  # looking up a member of an Enum is dear on the hot path
HALF_OPEN: Final = State.HALF_OPEN
OPEN: Final = State.OPEN


class Circuit:
    """One fragment's breaker. What happens while it is not closed counts only where the probe says it."""

    __slots__ = ("_connects", "_others", "_probing", "_until", "state", "tally", "why")

    def __init__(self, window: float) -> None:
        self.state = CLOSED
        self.why = ""  # it opened
        self.tally = Tally(window)  # exchanges that ended while it was closed, failures among them
        self._others = Tally(window)  # who waited for one of those beside whoever had asked first
        self._connects = 0  # failures to connect in a row
        self._until = 0.0
        self._probing = False

    def retune(self, window: float) -> None:
        """Count over another window from now on."""
        self.tally = Tally(window)
        self._others = Tally(window)

    def put_off(self, seconds: float) -> None:
        """Let it stay open for so much longer, or less, than it was told when it opened."""
        self._until += seconds

    def at(self, now: float) -> State:
        """As it is seen from outside: half-open as soon as a probe may go."""
        return HALF_OPEN if self.state is OPEN and now >= self._until else self.state

    def left(self, now: float) -> float:
        """Seconds until a probe may go; 0 where one may, or is under way."""
        return max(0.0, self._until - now) if self.state is OPEN else 0.0

    def probe(self, now: float) -> bool:
        """Whether a request may go while it is not closed: as the one probe, whose end `probed` must hear of."""
        if self._probing or (self.state is OPEN and now < self._until):
            return False
        self.state = HALF_OPEN
        self._probing = True
        return True

    def probed(self, fine: bool | None, rules: Breaker, now: float) -> None:
        """The probe's end; None: nothing was learnt, the next request is the probe."""
        self._probing = False
        if fine:
            self.state = CLOSED
            self._connects = 0
            self.tally.clear()
            self._others.clear()
        elif fine is not None:
            self._open(rules, now, "the probe failed")

    def fine(self, now: float) -> None:
        """An exchange ended well, or as its client's own fault."""
        if self.state is CLOSED:
            self._connects = 0
            self.tally.count(now)

    def failed(self, rules: Breaker, now: float, *, connect: bool) -> bool:
        """An exchange failed, perhaps for want of a connection; whether that opens it."""
        if self.state is not CLOSED:
            return False
        self._connects = self._connects + 1 if connect else 0
        self.tally.count(now, some=True)
        if self._connects >= rules.consecutive:
            self._open(rules, now, f"no connection {self._connects} times in a row")
            return True
        return self._judged(rules, now)

    def waited(self, others: int, rules: Breaker, now: float, *, failed: bool) -> bool:
        """So many others had waited for the exchange whose end was counted just now; whether that opens it."""
        if self.state is not CLOSED:
            return False
        self._others.add(now, others)
        return failed and self._judged(rules, now)

    def _judged(self, rules: Breaker, now: float) -> bool:
        """After a failure: whether that was one too many, and it has opened."""
        total, failures = self.tally.sums(now)
        if failures < rules.failures * total:
            return False
        why = f"{failures} of {total} failed"
        if total < rules.min_requests:
            others = self._others.sums(now)[0] if failures >= FEWEST else 0
            if total + others < rules.min_requests:
                return False
            why = f"{why}, for which {others} more had waited"
        self._open(rules, now, why)
        return True

    def _open(self, rules: Breaker, now: float, why: str) -> None:
        self.state = OPEN
        self.why = why
        self._until = now + rules.open
