"""Exchanges under way and the slots that wait for them. Bookkeeping only: `resolve` decides what happens to them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, NamedTuple, Protocol

from bff.model import Exchange, Failure, Fragment, Policy, Purge, Reason, Reply, Result
from bff.page.call import Call, Visit
from bff.rules import keys, serve
from bff.store.entry import Entry
from bff.timer import Deadline

Done = Callable[[Result], None]
SHOWABLE: Final = frozenset({serve.Use.FRESH, serve.Use.REVALIDATE, serve.Use.RESERVE})


class Ground(Protocol):
    """What a wait needs of the resolver that made it."""

    def now(self) -> float: ...
    def abandon(self, wait: Wait) -> None: ...
    def fall(self, call: Call, reason: Reason, entry: Entry | None, began: float, detail: str = "") -> Result: ...
    def end(self, wait: Wait, result: Result) -> None: ...


class Guards(Protocol):
    """Is told of whoever waits for somebody else's exchange, of whom those who guard exchanges know nothing."""

    def calm(self, name: str) -> bool:
        """Whether a fragment may be waited for: its breaker is closed."""

    def waited(self, fragment: Fragment, policy: Policy, answer: Reply | Failure, others: int) -> None:
        """So many others had waited for the exchange that has just ended so, beside whoever had asked."""

    def elsewhere(self, fragment: Fragment, policy: Policy, *, fine: bool, others: int) -> None:
        """Another process's exchange was waited for, by one and so many others, and has brought what was wanted or not."""


class Kept(NamedTuple):
    """A copy in the store and what it is good for now."""

    entry: Entry | None
    use: serve.Use


UNKEPT: Final = Kept(None, serve.Use.NOTHING)


class Wait:
    """One slot waiting for a flight; ends once: by an answer, by `expire`, or silently by `leave`."""

    # what most never set is the class's: making one is on the hot path
    alarm: Deadline | None = None
    first: Result | None = None  # a stale copy to show until the wait ends (`stale="then-fresh"`)
    flight: Flight | None = None

    def __init__(self, resolver: Ground, call: Call, visit: Visit, began: float, done: Done) -> None:
        self._resolver = resolver
        self.call = call
        self.visit = visit
        self.began = began
        self.done = done

    def expire(self) -> None:
        """The slot's time is over: it takes what there is; a late answer still fills the store."""
        flight = self.flight
        if flight is not None:
            self._resolver.abandon(self)
            detail = f"no answer within {self._resolver.now() - self.began:.3f} s"
            self._resolver.end(self, self._resolver.fall(self.call, Reason.TIMEOUT, flight.reserve, self.began, detail))

    def let_go(self) -> None:
        """Its flight has an end for it."""
        self.flight = None
        if self.alarm is not None:
            self.alarm.cancel()
            self.alarm = None

    def leave(self) -> None:
        """The browser is gone: nothing is called any more."""
        if self.flight is not None and self.flight.others:
            self.flight.others -= 1
        self._resolver.abandon(self)


class Flight:
    """One exchange under way and who waits for it."""

    # what most never set is the class's: making one is on the hot path
    share = False
    principal: str | None = None
    others = 0  # who joined it, and has not left
    exchange: Exchange | None = None
    asking = False  # its exchange is under way
    search: asyncio.Task[None] | None = None  # it is looking in the second tier first
    leased = False  # it fetches on behalf of all processes
    over: Callable[[], None] | None = None  # called in the end, where it is a refresh that nobody waits for

    def __init__(self, call: Call, key: str, variant: keys.Variant, kept: Kept, began: float) -> None:
        self.call = call
        self.key = key
        self.variant = variant
        self.entry = kept.entry  # what a 304 would confirm
        showable = kept.entry is not None and kept.use in SHOWABLE
        self.reserve = kept.entry if showable else None  # what may be shown if this fails
        self.began = began
        self.ends = began + call.policy.timeout.total
        self.waits: list[Wait] = []

    def concerned(self, purge: Purge) -> bool:
        """Whether a purge may meet what its context is about to answer: what tags that will have is not known yet."""
        fragment = self.call.fragment
        match purge.kind:
            case "fragment":
                return fragment.name == purge.value
            case "context":
                return fragment.context == purge.value
            case _:
                return purge.context in {"", fragment.context}


Look = Callable[[Flight], Coroutine[Any, Any, None]]
"""Looks beyond this process for what a flight's waits want."""
