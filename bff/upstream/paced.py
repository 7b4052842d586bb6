"""Exchanges of a context whose limit adapts (`policy.adaptive`): how many may be under way, and what is learnt of each.

Stands between tries and the client for those contexts, and for no other. What is decided is `rules.limits.adaptive`.
"""

from __future__ import annotations

from collections.abc import Callable

from bff.model import Ask, Exchange, Failure, Fetch, Reply, Timeout
from bff.rules.limits import again
from bff.rules.limits.adaptive import Adaptive
from bff.upstream.tries import Home


class Pace:
    """One context's: what its tries ask through instead of the client. Implements `tries.Home`."""

    __slots__ = ("_fetch", "adaptive", "chance", "counts", "fetch", "now", "timer", "wall")

    def __init__(self, home: Home, most: int) -> None:
        """`most`: the registered limit."""
        self.fetch: Fetch = self._ask
        self._fetch = home.fetch
        self.adaptive = Adaptive(most)
        self.chance = home.chance
        self.counts = home.counts
        self.now = home.now
        self.timer = home.timer
        self.wall = home.wall

    def _ask(
        self,
        ask: Ask,
        *,
        timeout: Timeout,
        max_body: int,
        limit: int,
        optional: bool,
        done: Callable[[Reply | Failure], None],
    ) -> Exchange:
        """See `model.Fetch`."""
        adaptive = self.adaptive
        paced = Paced(self, ask, adaptive.round, done)
        paced.exchange = self._fetch(
            ask,
            timeout=timeout,
            max_body=max_body,
            limit=adaptive.begin(limit, optional=optional),
            optional=optional,
            done=paced.landed,
        )
        return paced


class Paced:
    """One of its exchanges. `_done` is None once it has ended."""

    __slots__ = ("_ask", "_done", "_pace", "_round", "exchange")

    exchange: Exchange  # what is under way, from the moment it is

    def __init__(self, pace: Pace, ask: Ask, number: int, done: Callable[[Reply | Failure], None]) -> None:
        self._pace = pace
        self._ask = ask
        self._round = number
        self._done: Callable[[Reply | Failure], None] | None = done

    def cancel(self) -> None:
        if self._done is not None:
            self._done = None
            self._pace.adaptive.leave()
            self.exchange.cancel()

    def landed(self, answer: Reply | Failure) -> None:
        done, fragment, pace = self._done, self._ask.fragment, self._pace
        if done is None or fragment is None:
            return  # never: one that was cancelled is not told, and one of nobody's does not come here
        self._done = None
        adaptive, timing = pace.adaptive, answer.timing
        adaptive.under -= 1
        seconds = timing.total - timing.connected
        adaptive.learn(fragment.name, again.verdict(answer), seconds, self._round, pace.now())
        done(answer)
