"""What stands between fragments and the client, so that no context is asked more than does it good, nor less than it can bear.

A `Fetch` over another. Owns each fragment's breaker, each context's budgets and throttle, and who may go at all; what
becomes of those that go is `tries`. An ask that names no fragment passes as it is.

The way of a first try that ends well is written for speed: one object, no timer, three counts.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from random import random
from typing import NamedTuple

from bff.model import Ask, Clock, Exchange, Failure, Fetch, Fragment, Policy, Reason, Reply
from bff.rules.limits import again
from bff.rules.limits.again import FINE, Verdict
from bff.rules.limits.breaker import CLOSED, State
from bff.timer import Timer
from bff.upstream.guard import Counts, Guard, Shared
from bff.upstream.paced import Pace
from bff.upstream.permits import Permit
from bff.upstream.tries import Home, Tries


class Live(NamedTuple):
    """How one fragment is guarded at this moment."""

    name: str  # of a fragment, or of a proxy route
    context: str
    state: State
    left: float  # seconds until a probe may go
    why: str  # the breaker opened last; "" while it never did
    requests: int  # in the breaker's window
    failures: int
    retries: tuple[int, int]  # of its context: (requests, retries) in the budget's window
    hedges: tuple[int, int]
    spared: float  # the share of its context's optional requests that is left out
    limit: int | None  # exchanges of its context that may be under way now, where that adapts
    under: int  # as many are, of those for which it adapts


class Guarded:
    """`start` is a `model.Fetch` over another; belongs to one loop."""

    def __init__(
        self,
        fetch: Fetch,
        loop: asyncio.AbstractEventLoop,
        timer: Timer,
        *,
        counts: Counts,
        wall: Clock = time.time,
        chance: Callable[[], float] = random,
    ) -> None:
        self.fetch = fetch
        self.now = loop.time
        self.timer = timer
        self.counts = counts
        self.wall = wall
        self.chance = chance
        self._loop = loop
        self._guards: dict[str, Guard] = {}
        self._shared: dict[str, Shared] = {}
        self._paces: dict[str, Pace] = {}  # by context, where its limit adapts

    def start(self, ask: Ask, done: Callable[[Reply | Failure], None]) -> Exchange:
        """A `model.Fetch`."""
        fragment, policy = ask.fragment, ask.policy
        if fragment is None or policy is None:
            return self.fetch(ask, done)
        guard = self._guards.get(fragment.name) or self._meet(fragment.name, fragment)
        if guard.fragment is not fragment:
            guard.adopt(fragment)
        now, probe = self.now(), False
        if guard.circuit.state is not CLOSED:
            probe = guard.probe(now)
            if not probe:
                return Refusal(self._loop, done, guard.refusal(now))
        elif (
            ask.bounds.optional
            and now < guard.shared.throttle.until
            and guard.shared.throttle.spares(now, self.chance())
        ):
            self.counts.shed("throttle")
            return Refusal(self._loop, done, _spared(guard))
        guard.shared.retries.asked(now)
        home: Home = self
        if policy.adaptive == "on":
            home = self._paces.get(fragment.context) or self._pace(fragment.context, policy.concurrency)
        tries = Tries(home, guard, ask, policy, now, done)
        tries.go(probe=probe)
        return tries

    def calm(self, name: str) -> bool:
        """Whether a fragment's breaker, or a proxy route's, is closed: else nobody is to wait for whoever finds out."""
        guard = self._guards.get(name)
        return guard is None or guard.circuit.state is CLOSED

    def waited(self, fragment: Fragment, policy: Policy, answer: Reply | Failure, others: int) -> None:
        """So many others had waited for the exchange that has just ended so, beside whoever had asked."""
        guard = self._guards.get(fragment.name)
        if guard is not None:
            guard.waited(others, again.verdict(answer), policy.breaker, self.now())

    def elsewhere(self, fragment: Fragment, policy: Policy, *, fine: bool, others: int) -> None:
        """Another process's exchange was waited for, by one and so many others: it brought what was wanted, or nothing in time."""
        guard = self._guards.get(fragment.name) or self._meet(fragment.name, fragment)
        now, verdict = self.now(), FINE if fine else Verdict.REJECTED
        guard.learn(verdict, policy.breaker, now, probe=False)
        guard.waited(others, verdict, policy.breaker, now)

    def permit(self, name: str, fragment: Fragment) -> Permit:
        """Leave to ask for a proxy route, which `fragment` stands for; nothing is left out for its context's struggling."""
        guard = self._guards.get(name) or self._meet(name, fragment)
        if guard.fragment is not fragment:
            guard.adopt(fragment)
        now = self.now()
        probe = guard.circuit.state is not CLOSED and guard.probe(now)
        refusal = None if probe or guard.circuit.state is CLOSED else guard.refusal(now)
        if refusal is None:
            guard.shared.retries.asked(now)
        policy = fragment.policy
        pace = None if policy.adaptive == "off" else self._pace(fragment.context, policy.concurrency)
        return Permit(
            guard,
            policy,
            adaptive=pace.adaptive if pace is not None else None,
            refusal=refusal,
            probe=probe,
            counts=self.counts,
            now=self.now,
            wall=self.wall,
            chance=self.chance,
        )

    def states(self) -> Iterator[Live]:
        """Every fragment and proxy route that was ever asked for."""
        now = self.now()
        for name, guard in self._guards.items():
            circuit, shared, policy = guard.circuit, guard.shared, guard.fragment.policy
            pace = self._paces.get(guard.fragment.context) if policy.adaptive == "on" else None
            requests, failures = circuit.tally.sums(now)
            yield Live(
                name=name,
                context=guard.fragment.context,
                state=circuit.at(now),
                left=circuit.left(now),
                why=circuit.why,
                requests=requests,
                failures=failures,
                retries=shared.retries.tally.sums(now),
                hedges=shared.hedges.tally.sums(now),
                spared=shared.throttle.share(now),
                limit=min(pace.adaptive.limit, policy.concurrency) if pace is not None else None,
                under=pace.adaptive.under if pace is not None else 0,
            )

    def _pace(self, context: str, most: int) -> Pace:
        pace = self._paces.get(context)
        if pace is None:
            pace = self._paces[context] = Pace(self, most)
        return pace

    def _meet(self, name: str, fragment: Fragment) -> Guard:
        shared = self._shared.get(fragment.context)
        if shared is None:
            shared = self._shared[fragment.context] = Shared()
        guard = self._guards[name] = Guard(name, fragment, shared, self.counts)
        return guard


def _spared(guard: Guard) -> Failure:
    detail = f"{guard.fragment.context} answers few of its requests, and is spared some"
    return Failure(Reason.BREAKER, "refused", detail, retry_after=1)


class Refusal:
    """An exchange that never starts."""

    __slots__ = ("_done", "_failure", "_handle")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, done: Callable[[Reply | Failure], None], failure: Failure
    ) -> None:
        self._done = done
        self._failure = failure
        self._handle: asyncio.Handle | None = loop.call_soon(self._tell)

    def cancel(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _tell(self) -> None:
        self._handle = None
        self._done(self._failure)
