"""Events become purges: each once, in whatever order and however often they come; what cannot be read is counted and left.

Knows registrations and what to call, not where events come from (`bus`, the webhook).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, Literal, Protocol

from bff.events import payload
from bff.events.event import Event, Poison, Read
from bff.events.orders import Order, missed, orders
from bff.model import Clock, Purge, Subscription

REMEMBERED: Final = 4096  # events; one that is told again later than that is acted on again, which harms nobody
OTHER: Final = "other"  # stands for every type that nobody has registered

Outcome = Literal["applied", "duplicate", "ignored", "untagged", "poison", "failed"]
OnEvent = Callable[[Purge, bool], Awaitable[int]]
"""`await on_event(purge, refresh)`: purge, and where `refresh` is true fetch again what that marked stale; how many entries."""
Subscriptions = Callable[[], Iterable[Subscription]]


class Counts(Protocol):
    """What is counted of events. `type` is a registered one, `OTHER`, or "" where it is of no type."""

    def event(self, type: str, result: str) -> None: ...  # noqa: A002 - the metric's label
    def event_lag(self, seconds: float) -> None: ...


class Tell(Protocol):
    """The log: `tell("event-poison", level="warning", …)`."""

    def __call__(self, event: str, *, level: str = ..., **fields: object) -> None: ...


class Consumer:
    """Acts on events. `subscriptions()` is asked at each, for registrations change; `wall` is the wall clock."""

    def __init__(
        self, *, subscriptions: Subscriptions, on_event: OnEvent, counts: Counts, tell: Tell, wall: Clock
    ) -> None:
        self._subscriptions = subscriptions
        self._on_event = on_event
        self.counts = counts
        self.tell = tell
        self._wall = wall
        self._seen: OrderedDict[tuple[str, str], None] = OrderedDict()

    def topics(self) -> tuple[str, ...]:
        """The topics of all registrations, sorted."""
        return tuple(sorted({each.topic for each in self._subscriptions() if each.topic}))

    async def read(self, make: Callable[[Read], Event]) -> Outcome:
        """Act on what `make` reads; where it cannot, that is told and counted, and nothing else happens."""
        try:
            event = make(payload.read)
        except Poison as poison:
            self._count(poison.type, "poison")
            self.tell("event-poison", level="warning", type=poison.type[:128], why=str(poison)[:256])
            return "poison"
        return await self.take(event)

    async def take(self, event: Event) -> Outcome:
        """Act on one event. Never raises: where acting on it fails, it may be told again."""
        outcome = await self._taken(event)
        self._count(event.type, outcome)
        if outcome == "applied" and event.time is not None:
            self.counts.event_lag(max(0.0, self._wall() - event.time))
        return outcome

    async def lost(self, topics: Iterable[str]) -> None:
        """Messages of these topics are gone unread: what they may have concerned counts as stale."""
        told = sorted(topics)
        self.tell("events-missed", level="warning", topics=told)
        for order in missed(told, self._subscriptions()):
            self.counts.event("", "missed")
            await self._carry_out(order)

    async def _taken(self, event: Event) -> Outcome:
        name = (event.source, event.id)
        if name in self._seen:
            return "duplicate"
        wanted = [each for each in self._subscriptions() if each.type == event.type]
        if not wanted:
            return "ignored"
        ordered = orders(event, wanted)
        if not ordered:
            return "untagged"
        self._remember(name)
        if not all([await self._carry_out(order) for order in ordered]):
            self._seen.pop(name, None)
            return "failed"
        return "applied"

    async def _carry_out(self, order: Order) -> bool:
        try:
            await self._on_event(order.purge, order.refresh)
        except Exception as error:  # noqa: BLE001 - one purge that fails must not end the reading of all events
            self.tell("event-failed", level="error", value=order.purge.value, why=f"{type(error).__name__}: {error}")
            return False
        return True

    def _remember(self, name: tuple[str, str]) -> None:
        self._seen[name] = None
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)

    def _count(self, type_: str, outcome: Outcome) -> None:
        registered = any(each.type == type_ for each in self._subscriptions())
        self.counts.event(type_ if registered else OTHER, outcome)
