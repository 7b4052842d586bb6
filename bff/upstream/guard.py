"""What the gateway knows of a fragment's context while it serves: the fragment's breaker, the context's budgets and throttle.

Owns what is learnt from each end of an exchange. Decisions are `rules.limits`; who asks, waits and tries again is not here.
"""

from __future__ import annotations

from math import ceil
from typing import Final, Protocol

from bff.model import Breaker, Failure, Fragment, Policy, Reason, Reply
from bff.rules.limits import again
from bff.rules.limits.again import FINE, UNKNOWN, Latencies, Verdict
from bff.rules.limits.breaker import CLOSED, Circuit, State
from bff.rules.limits.budget import FLOOR, Budget
from bff.rules.limits.throttle import Throttle
from bff.timer import TICK

LEFT: Final = 2 * TICK
"""Seconds before its deadline from which on nothing is tried again: less than that, no answer can come in time."""


class Counts(Protocol):
    """Is told what was decided. Every call is cheap and never raises."""

    def upstream(self, fragment: Fragment, status: int | str, seconds: float) -> None:
        """A try that is not the one whose end is handed on."""

    def retried(self, context: str) -> None: ...
    def hedged(self, context: str, *, won: bool) -> None: ...
    def shed(self, limit: str) -> None: ...
    def breaker(self, name: str, state: State, why: str) -> None:
        """That of a fragment or a proxy route changed to this state."""


class Shared:
    """What the fragments of one context have in common."""

    __slots__ = ("hedges", "retries", "throttle")

    def __init__(self) -> None:
        self.retries = Budget(FLOOR)
        self.hedges = Budget()
        self.throttle = Throttle(self.retries.tally)


class Guard:
    """One fragment's, or one proxy route's."""

    __slots__ = ("_counts", "_told", "circuit", "fragment", "latencies", "name", "shared")

    def __init__(self, name: str, fragment: Fragment, shared: Shared, counts: Counts) -> None:
        self.name = name
        self.fragment = fragment
        self.shared = shared
        self.circuit = Circuit(fragment.policy.breaker.window)
        self.latencies = Latencies()
        self._counts = counts
        self._told = CLOSED

    def adopt(self, fragment: Fragment) -> None:
        """Its registration or an override has changed."""
        before, rules = self.fragment.policy.breaker, fragment.policy.breaker
        self.fragment = fragment
        if rules.window != self.circuit.tally.window:
            self.circuit.retune(rules.window)
        self.circuit.put_off(rules.open - before.open)

    def probe(self, now: float) -> bool:
        """Whether one may go though the breaker is not closed; it is the probe, of whose end `learn` must hear."""
        may = self.circuit.probe(now)
        self._tell()
        return may

    def refusal(self, now: float) -> Failure:
        """What is said while its breaker is not closed."""
        pause = max(1, ceil(self.circuit.left(now)))
        return Failure(Reason.BREAKER, "refused", f"the breaker is open ({self.circuit.why})", retry_after=pause)

    def learn(self, verdict: Verdict, rules: Breaker, now: float, *, probe: bool) -> None:
        """What the end of an exchange says."""
        if verdict is FINE and not probe:
            self.circuit.fine(now)
            return
        circuit, throttle = self.circuit, self.shared.throttle
        if probe:
            circuit.probed(None if verdict is UNKNOWN else verdict is FINE, rules, now)
            if verdict is FINE:
                throttle.forget()
            self._tell()
        elif verdict is not UNKNOWN and circuit.failed(rules, now, connect=verdict is Verdict.CONNECT):
            self._tell()
        if verdict is Verdict.REJECTED or verdict is Verdict.CONNECT:
            throttle.rejected(now)

    def waited(self, others: int, verdict: Verdict, rules: Breaker, now: float) -> None:
        """So many others had waited for an exchange whose end said this, and was learnt from."""
        if verdict is not UNKNOWN and self.circuit.waited(others, rules, now, failed=verdict is not FINE):
            self._tell()

    def again(
        self,
        policy: Policy,
        answer: Reply | Failure,
        *,
        retries: int,
        until: float,
        now: float,
        wall: float,
        chance: float,
    ) -> float | None:
        """Seconds until a GET that ended so is sent again, `retries` having been; taken from the budget. None: it is not."""
        if retries >= policy.retry.extra or self.circuit.state is not CLOSED or not again.worth_retrying(answer):
            return None
        pause = again.pause(retries + 1, chance, answer, wall)
        if now + pause + LEFT > until or not self.shared.retries.spend(policy.retry.budget, now):
            return None
        return pause

    def _tell(self) -> None:
        state = self.circuit.state
        if state is not self._told:
            self._told = state
            self._counts.breaker(self.name, state, self.circuit.why)
