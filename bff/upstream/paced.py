"""Exchanges of a context whose limit adapts (`policy.adaptive`): how many may be under way, and what is learnt of each.

Stands between tries and the client for those contexts, and for no other. What is decided is `rules.limits.adaptive`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from bff.model import Ask, Exchange, Failure, Fetch, Reply
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

    def _ask(self, ask: Ask, done: Callable[[Reply | Failure], None]) -> Exchange:
        """See `model.Fetch`."""
        adaptive, bounds = self.adaptive, ask.bounds
        paced = Paced(self, ask, adaptive.round, done)
        limit = adaptive.begin(bounds.limit, optional=bounds.optional)
        paced.exchange = self._fetch(replace(ask, bounds=bounds._replace(limit=limit)), paced.landed)
        return paced


class Paced:
    """One of its exchanges. `exchange`: what is under way, as long as it is."""

    __slots__ = ("_ask", "_done", "_pace", "_round", "exchange")

    def __init__(self, pace: Pace, ask: Ask, number: int, done: Callable[[Reply | Failure], None]) -> None:
        self.exchange: Exchange | None = None
        self._pace = pace
        self._ask = ask
        self._round = number
        self._done = done

    def cancel(self) -> None:
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            self._pace.adaptive.leave()
            exchange.cancel()

    def landed(self, answer: Reply | Failure) -> None:
        self.exchange = None
        pace, timing, fragment = self._pace, answer.timing, self._ask.fragment
        adaptive, name = pace.adaptive, fragment.name if fragment is not None else ""
        adaptive.under -= 1
        if adaptive.learn(name, again.verdict(answer), timing.total - timing.connected, self._round):
            adaptive.judge(pace.now())
        self._done(answer)
