"""One ask on its way: the first try, and where that is worth it a second one, after it (a retry) or beside it (a hedge).

Owns what its tries have in common: the one `done`, and the deadline. A second try is a GET's that begins nothing, goes only
while the breaker is closed, and never past the deadline. Whether one may be made is `rules.limits`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from bff.model import Ask, Clock, Exchange, Failure, Fetch, Policy, Reply
from bff.rules.limits import again
from bff.rules.limits.again import FINE, UNKNOWN, Verdict
from bff.rules.limits.breaker import CLOSED
from bff.timer import Deadline, Timer
from bff.upstream.guard import LEFT, Counts, Guard

Answer = Reply | Failure


class Home(Protocol):
    """What tries need of whoever makes them."""

    fetch: Fetch
    now: Clock
    wall: Clock
    timer: Timer
    counts: Counts
    chance: Callable[[], float]


class Tries:
    """An exchange of one or more. Ends once; `_done` is None from then on."""

    # what most never set is the class's: making one is on the hot path
    _plain = True  # there is nothing to think of but handing a good end on
    _probe = False  # the breaker waits for how it ends
    _first: Exchange | None = None  # under way; a retry takes its place
    _hedge: Exchange | None = None  # under way beside it
    _alarm: Deadline | None = None  # when there may be a second one
    _late = 0.0  # seconds after the ask that what is `_first` now began
    _hedged = 0.0  # seconds after the ask that the hedge began; 0: there was none
    _retries = 0
    _measured = False  # how long it takes is of interest
    _held: Answer | None = None  # how one ended, while another may end better

    def __init__(  # noqa: PLR0917 - by name would cost a dictionary, and making one is on the hot path
        self,
        home: Home,
        guard: Guard,
        ask: Ask,
        policy: Policy,
        now: float,
        done: Callable[[Answer], None],
    ) -> None:
        self._home = home
        self._guard = guard
        self._asked = ask
        self._policy = policy
        self._began = now
        self._done: Callable[[Answer], None] | None = done

    def go(self, *, probe: bool = False) -> None:
        """`probe`: it is the breaker's, which waits for how it ends."""
        if probe:
            self._plain, self._probe = False, True
        if self._policy.hedge.after is not None:
            self._plan_hedge(self._policy.hedge.after)
        self._first = self._home.fetch(self._asked, self._landed)

    def cancel(self) -> None:
        if self._done is not None:
            if self._probe:
                self._guard.learn(UNKNOWN, self._policy.breaker, self._home.now(), probe=True)
            if self._hedged:
                self._home.counts.hedged(self._guard.fragment.context, won=False)
            self._leave()

    # --- how one ends

    def _landed(self, answer: Answer) -> None:
        """The first one, or a retry."""
        self._first = None
        now, verdict = self._home.now(), again.verdict(answer)
        done = self._done
        if self._plain and verdict is FINE and done is not None:
            self._done = None
            self._guard.circuit.fine(now)
            done(answer)
        else:
            self._learn(verdict, now)
            self._settle(_shifted(answer, self._late), verdict, now, hedge=False)

    def _hedge_landed(self, answer: Answer) -> None:
        self._hedge = None
        now = self._home.now()
        verdict = again.verdict(answer)
        self._learn(verdict, now)
        self._settle(_shifted(answer, self._hedged), verdict, now, hedge=True)

    def _learn(self, verdict: Verdict, now: float) -> None:
        self._guard.learn(verdict, self._policy.breaker, now, probe=self._probe)
        self._probe = False
        if (
            self._measured and verdict is FINE
        ):  # of a hedge: the first would have taken longer; the budget bounds what that brings
            self._guard.latencies.add(now - self._began)

    def _settle(self, answer: Answer, verdict: Verdict, now: float, *, hedge: bool) -> None:
        """One has ended, where there is more to think of than handing it on."""
        if verdict is FINE:
            self._end(answer, now, won=hedge)
        elif self._first is not None or self._hedge is not None:
            self._held = answer
        elif self._hedged:
            self._end(self._held if verdict is UNKNOWN and self._held is not None else answer, now)
        elif not self._again(answer, now):
            self._end(answer, now)

    def _end(self, answer: Answer, now: float, *, won: bool = False) -> None:
        done = self._done
        if done is None:
            return
        fragment, counts = self._guard.fragment, self._home.counts
        if self._held is not None and self._held is not answer:
            self._superseded(self._held)
        if self._first is not None:
            counts.upstream(fragment, "cancelled", now - self._began - self._late)
        if self._hedge is not None:
            counts.upstream(fragment, "cancelled", now - self._began - self._hedged)
        if self._hedged:
            counts.hedged(fragment.context, won=won)
        self._leave()
        done(answer)

    def _superseded(self, answer: Answer) -> None:
        self._home.counts.upstream(self._guard.fragment, str(answer.status), answer.timing.total)

    def _leave(self) -> None:
        """Nothing is under way any more, and nothing is planned."""
        self._done = None
        self._held = None
        alarm, self._alarm = self._alarm, None
        if alarm is not None:
            alarm.cancel()
        first, self._first = self._first, None
        if first is not None:
            first.cancel()
        hedge, self._hedge = self._hedge, None
        if hedge is not None:
            hedge.cancel()

    # --- trying again

    @property
    def _repeatable(self) -> bool:
        """Whether the ask may be sent a second time, as things are now."""
        return self._asked.method == "GET" and not self._asked.once and self._guard.circuit.state is CLOSED

    def _again(self, answer: Answer, now: float) -> bool:
        """Whether there is a retry after this end; it is planned."""
        home = self._home
        if not self._repeatable:
            return False
        pause = self._guard.again(
            self._policy,
            answer,
            retries=self._retries,
            until=self._began + self._asked.bounds.timeout.total,
            now=now,
            wall=home.wall(),
            chance=home.chance(),
        )
        if pause is None:
            return False
        self._stop_waiting()
        self._held = answer
        self._alarm = home.timer.at(now + pause, self._retry)
        return True

    def _retry(self) -> None:
        self._alarm = None
        now, held = self._home.now(), self._held
        if held is None:
            return
        if not self._repeatable or self._too_late(now):
            self._end(held, now)
            return
        self._held = None
        self._superseded(held)
        self._plain = False
        self._retries += 1
        self._home.counts.retried(self._guard.fragment.context)
        self._late = now - self._began
        self._first = self._send(self._late, self._landed, optional=self._asked.bounds.optional)

    def _plan_hedge(self, after: float | str | None) -> None:
        guard, began = self._guard, self._began
        self._plain = False
        guard.shared.hedges.asked(began)
        if isinstance(after, str):
            self._measured = True
            after = guard.latencies.percentile(after, began)
        if after is not None and self._repeatable:
            self._alarm = self._home.timer.at(began + after, self._send_hedge)

    def _send_hedge(self) -> None:
        self._alarm = None
        now = self._home.now()
        may = self._repeatable and not self._too_late(now)
        if may and self._guard.shared.hedges.spend(self._policy.hedge.budget, now):
            self._hedged = now - self._began
            self._hedge = self._send(self._hedged, self._hedge_landed, optional=True)

    def _send(self, late: float, done: Callable[[Answer], None], *, optional: bool) -> Exchange:
        """What was asked, so much later: the deadline stays."""
        ask, bounds = self._asked, self._asked.bounds
        bounds = bounds._replace(timeout=replace(bounds.timeout, total=bounds.timeout.total - late), optional=optional)
        return self._home.fetch(replace(ask, headers=again.later(ask.headers, late), bounds=bounds), done)

    def _too_late(self, when: float) -> bool:
        return when + LEFT > self._began + self._asked.bounds.timeout.total

    def _stop_waiting(self) -> None:
        """Nothing is to go beside what has ended."""
        alarm, self._alarm = self._alarm, None
        if alarm is not None:
            alarm.cancel()


def _shifted(answer: Answer, late: float) -> Answer:
    """Its times as seen from the first try."""
    return replace(answer, timing=again.since(answer.timing, late)) if late else answer
