"""Leave to ask for what is streamed: whether its context may be asked now, what is learnt of how it ended, and a second try.

For whoever has the exchange in its own hands (proxy routes); what is collected whole goes through `guarded` as it is.
"""

from __future__ import annotations

from collections.abc import Callable

from bff.model import Clock, Failure, Policy, Reply
from bff.rules.limits import again
from bff.rules.limits.again import UNKNOWN
from bff.upstream.guard import Counts, Guard


class Permit:
    """One exchange's. `refusal`: why it may not go at all."""

    __slots__ = ("_began", "_chance", "_counts", "_guard", "_now", "_policy", "_probe", "_retries", "_wall", "refusal")

    def __init__(
        self,
        guard: Guard,
        policy: Policy,
        *,
        refusal: Failure | None,
        probe: bool,
        counts: Counts,
        now: Clock,
        wall: Clock,
        chance: Callable[[], float],
    ) -> None:
        self.refusal = refusal
        self._guard = guard
        self._policy = policy
        self._probe = probe
        self._counts = counts
        self._now = now
        self._wall = wall
        self._chance = chance
        self._began = now()
        self._retries = 0

    def learn(self, answer: Reply | Failure) -> None:
        """How it ended, or began to be answered; a failure after an answer counts as well."""
        self._guard.learn(again.verdict(answer), self._policy.breaker, self._now(), probe=self._probe)
        self._probe = False

    def again(self, answer: Reply | Failure) -> float | None:
        """Seconds until it is to be sent once more, counted as retried; None where it is not. For a GET only."""
        pause = self._guard.again(
            self._policy,
            answer,
            retries=self._retries,
            until=self._began + self._policy.timeout.total,
            now=self._now(),
            wall=self._wall(),
            chance=self._chance(),
        )
        if pause is not None:
            self._retries += 1
            self._counts.retried(self._guard.fragment.context)
        return pause

    def leave(self) -> None:
        """It is over. Where nothing was learnt of its end, nothing is."""
        if self._probe:
            self._probe = False
            self._guard.learn(UNKNOWN, self._policy.breaker, self._now(), probe=True)
