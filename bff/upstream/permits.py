"""Leave to ask for what is streamed: whether its context may be asked now, what is learnt of how it ended, and a second try
after it or beside it.

For whoever has the exchange in its own hands (proxy routes); what is collected whole goes through `guarded` as it is.
"""

from __future__ import annotations

from collections.abc import Callable

from bff.model import Clock, Failure, Policy, Reply
from bff.rules.limits import again
from bff.rules.limits.adaptive import Adaptive
from bff.rules.limits.again import FINE, UNKNOWN, Verdict
from bff.rules.limits.breaker import CLOSED
from bff.upstream.guard import LEFT, Counts, Guard


class Permit:
    """One exchange's. `refusal`: why it may not go at all."""

    __slots__ = (
        "_adaptive",
        "_awaited",
        "_began",
        "_begun",
        "_chance",
        "_counts",
        "_guard",
        "_measured",
        "_now",
        "_policy",
        "_probe",
        "_retries",
        "_round",
        "_verdict",
        "_wall",
        "refusal",
    )

    def __init__(
        self,
        guard: Guard,
        policy: Policy,
        *,
        adaptive: Adaptive | None,
        refusal: Failure | None,
        probe: bool,
        counts: Counts,
        now: Clock,
        wall: Clock,
        chance: Callable[[], float],
    ) -> None:
        self.refusal = refusal
        self._adaptive = adaptive
        self._guard = guard
        self._policy = policy
        self._probe = probe
        self._awaited = False  # the end of a good answer's body
        self._counts = counts
        self._now = now
        self._wall = wall
        self._chance = chance
        self._began = now()
        self._retries = 0
        self._measured = False  # how long its head takes is of interest
        self._verdict = UNKNOWN  # what its last answer said
        self._begun = False  # and has no answer's head yet: its body lasts for as long as whoever takes it likes
        self._round = 0

    def begin(self, most: int, *, optional: bool = False) -> int:
        """It is to be sent, and `most` is the registered limit; the limit to ask with."""
        adaptive = self._adaptive
        if adaptive is None:
            return most
        self._begun = True
        self._round = adaptive.round
        return adaptive.begin(most, optional=optional)

    def answered(self, answer: Reply | Failure) -> None:
        """Its head is there, or why there is none. A good one counts once its body has ended, but for a probe's."""
        self._verdict = verdict = again.verdict(answer)
        if self._measured and verdict is FINE:
            self._guard.latencies.add(self._now() - self._began)
        if self._adaptive is not None:
            self._stop()
            seconds = answer.timing.total - answer.timing.connected
            if self._adaptive.learn(self._guard.name, verdict, seconds, self._round):
                self._adaptive.judge(self._now())
        if self._probe or verdict is not FINE:
            self._learn(verdict)
        else:
            self._awaited = True

    def ended(self, failure: Failure | None) -> None:
        """Its body is complete, or why it is not."""
        if failure is not None:
            self._learn(again.verdict(failure))
        elif self._awaited:
            self._learn(FINE)
        self._awaited = False

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

    def renewed(self) -> float | None:
        """Seconds that a second try has left for its head, now that it is to be sent; None: nobody is to be asked any more."""
        now = self._now()
        if self._guard.circuit.state is CLOSED:
            return self._began + self._policy.timeout.total - now
        self.refusal = self._guard.refusal(now)
        return None

    def waited(self, others: int) -> None:
        """So many others had waited for the head that was just answered with."""
        self._guard.waited(others, self._verdict, self._policy.breaker, self._now())

    # --- another one beside it

    def patience(self) -> float | None:
        """Seconds after which another one may go beside it; None: none is to."""
        guard, after = self._guard, self._policy.hedge.after
        if after is None:
            return None
        guard.shared.hedges.asked(self._began)
        if isinstance(after, str):
            self._measured = True
            after = guard.latencies.percentile(after, self._began)
        return after if guard.circuit.state is CLOSED else None

    def beside(self) -> Permit | None:
        """Leave for another one, taken from the budget; None: it is too late, its context is in trouble, or there were enough."""
        guard, policy, now = self._guard, self._policy, self._now()
        late = self.left(policy.timeout.first_byte) < LEFT
        if late or guard.circuit.state is not CLOSED or not guard.shared.hedges.spend(policy.hedge.budget, now):
            return None
        made = Permit(
            guard,
            policy,
            adaptive=self._adaptive,
            refusal=None,
            probe=False,
            counts=self._counts,
            now=self._now,
            wall=self._wall,
            chance=self._chance,
        )
        made._began, made._measured = self._began, self._measured
        return made

    def left(self, seconds: float) -> float:
        """What is left of so many since it, or whatever it is beside of, was asked for."""
        return seconds - (self._now() - self._began)

    @property
    def verdict(self) -> Verdict:
        """What its last answer said of the context."""
        return self._verdict

    def raced(self, *, won: bool) -> None:
        """Another one went beside it, and its answer was the better one or not."""
        self._counts.hedged(self._guard.fragment.context, won=won)

    def leave(self) -> None:
        """It is over. Where nothing was learnt of its end, nothing is."""
        self._stop()
        if self._probe:
            self._learn(UNKNOWN)

    def _stop(self) -> None:
        if self._begun and self._adaptive is not None:
            self._begun = False
            self._adaptive.leave()

    def _learn(self, verdict: Verdict) -> None:
        self._guard.learn(verdict, self._policy.breaker, self._now(), probe=self._probe)
        self._probe = False
