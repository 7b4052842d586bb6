"""A guarded fetch over exchanges that the test ends, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from bff.model import Ask, Bounds, Exchange, Failure, Fragment, Reason, Reply
from bff.rules.limits.breaker import State
from bff.timer import TICK, Timer
from bff.upstream.guarded import Guarded
from tests.build import WALL, Flown, Upstreams, VirtualHandle, VirtualLoop, fragment

DEADLINE = b"bff-deadline: 1500\r\n"


@dataclass
class Told:
    """Counts that remember."""

    tries: list[str] = field(default_factory=list)
    retries: list[str] = field(default_factory=list)
    hedges: list[bool] = field(default_factory=list)
    sheds: list[str] = field(default_factory=list)
    states: list[tuple[str, State, str]] = field(default_factory=list)

    def upstream(self, fragment: Fragment, status: int | str, seconds: float) -> None:
        del fragment
        assert seconds >= 0
        self.tries.append(str(status))

    def retried(self, context: str) -> None:
        self.retries.append(context)

    def hedged(self, context: str, *, won: bool) -> None:
        del context
        self.hedges.append(won)

    def shed(self, limit: str) -> None:
        self.sheds.append(limit)

    def breaker(self, name: str, state: State, why: str) -> None:
        self.states.append((name, state, why))


@dataclass
class Ended:
    """One ask: its exchange, and all that `done` was told."""

    exchange: Exchange
    answers: list[Reply | Failure]

    @property
    def answer(self) -> Reply | Failure:
        (answer,) = self.answers
        return answer

    @property
    def reason(self) -> Reason:
        assert isinstance(self.answer, Failure)
        return self.answer.reason

    @property
    def status(self) -> int:
        assert isinstance(self.answer, Reply)
        return self.answer.status


class Alarms:
    """A timer whose deadlines of one tick come in the order in which they were armed, so that a run can be repeated."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def at(self, when: float, call: Callable[[], None]) -> VirtualHandle:
        return self._loop.call_later((int(when / TICK) + 1) * TICK - self._loop.now, call)


class Guards:
    """A loop, a client and what guards it. `chance` is what is drawn; the pauses before retries are that share of them."""

    def __init__(self, chance: Callable[[], float] = lambda: 0.0) -> None:
        self.loop = VirtualLoop()
        self.timer = cast(Timer, Alarms(self.loop))
        self.upstreams = Upstreams()
        self.sent: list[float] = []  # when each exchange began
        self.told = Told()
        self.guarded = Guarded(
            self._fetch,
            cast(asyncio.AbstractEventLoop, self.loop),
            self.timer,
            counts=self.told,
            wall=lambda: WALL + self.loop.now,
            chance=chance,
        )

    def ask(
        self, of: Fragment, *, method: str = "GET", once: bool = False, optional: bool = True, target: str = "/card"
    ) -> Ended:
        bounds = Bounds.of(of.policy, optional=optional)
        ask = Ask(of.upstream, method, target, DEADLINE, bounds, once=once, fragment=of, policy=of.policy)
        answers: list[Reply | Failure] = []
        exchange = self.guarded.start(ask, answers.append)
        assert not answers, "done was called before the call returned"
        return Ended(exchange, answers)

    def _fetch(self, ask: Ask, done: Callable[[Reply | Failure], None]) -> Exchange:
        self.sent.append(self.loop.now)
        return self.upstreams(ask, done)

    @property
    def open(self) -> list[Flown]:
        return self.upstreams.open

    def wait(self, seconds: float = 0.02) -> None:
        """Two ticks of the timer, or longer."""
        self.loop.advance(seconds)

    def fail_with(self, of: Fragment, status: int, times: int) -> None:
        """So many asks are answered so, and not tried again."""
        for _ in range(times):
            self.ask(of)
            self.open[-1].reply(status=status)

    def state(self, of: Fragment) -> State:
        return next(live.state for live in self.guarded.states() if live.name == of.name)


def card(**policy: str) -> Fragment:
    """A fragment with some keys of its policy set: `card(retry__extra="0")`."""
    return fragment(layer={name.replace("__", "."): text for name, text in policy.items()})
