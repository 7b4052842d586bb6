"""The port to event buses, and the loop that reads one for as long as the application runs.

A bus is an entry point of the group `bff.events`, named as the scheme of its URL. Every gateway reads every message (no
group shares them out): each has a memory of its own to keep right. Knows no particular bus.
"""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import entry_points
from typing import Final, Protocol, cast
from urllib.parse import urlsplit

import anyio

from bff.events.consumer import Consumer
from bff.events.event import from_message

GROUP: Final = "bff.events"
FIRST: Final = 0.1  # seconds until a bus that went away is tried again; doubled each time, jittered
LAST: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message: the event's attributes (`type`, `id`, `source`, `time`…) as text, and its payload as it came."""

    attributes: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What came at once. `positions`: by topic, where reading goes on after this batch; opaque, for the bus alone.

    `missed`: topics of which messages may be gone that nobody here has read.
    """

    messages: Sequence[Message] = ()
    positions: Mapping[str, str] = field(default_factory=dict)
    missed: Sequence[str] = ()


class Bus(Protocol):
    """A connection to a bus; made anew after every failure."""

    def read(self, topics: Sequence[str], after: Mapping[str, str]) -> AsyncGenerator[Batch, None]:
        """All messages of `topics`, each after its position; from now on where it has none. Never ends by itself.

        The first batch may be empty: it says that the bus is there, and the positions. Any exception is a bus that is away.
        """

    async def aclose(self) -> None:
        """Let go of the connection; never raises, whatever state it is in."""


Opener = Callable[[str, str], Bus]
"""`open(url, prefix)`: what an entry point of `bff.events` is. Connects later, when it is read."""


class Positions(Protocol):
    """Where positions are kept so that they outlive the process: the store's second tier."""

    async def value(self, name: str) -> bytes | None: ...
    async def set_value(self, name: str, data: bytes, *, keep: float | None = None) -> None: ...


def opener(url: str) -> Opener | None:
    """What opens a bus with this URL's scheme; None where nothing installed does."""
    for found in entry_points(group=GROUP, name=urlsplit(url).scheme):
        return cast("Opener", found.load())
    return None


def schemes() -> tuple[str, ...]:
    """The schemes of all buses that are installed."""
    return tuple(sorted(entry_points(group=GROUP).names))


class Listener:
    """Reads one bus on behalf of a consumer, through its outages. `pause(seconds)` waits between two tries."""

    def __init__(
        self,
        consumer: Consumer,
        make: Callable[[], Bus],
        *,
        positions: Positions | None = None,
        pause: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        self._consumer = consumer
        self._make = make
        self._kept = positions
        self._pause = pause
        self._scope = anyio.CancelScope()
        self._topics: tuple[str, ...] = ()
        self._failures = 0
        self._told = False
        self.positions: dict[str, str] = {}
        self.connected = False

    async def run(self) -> None:
        """Read until cancelled."""
        while True:
            with anyio.CancelScope() as self._scope:
                self._topics = self._consumer.topics()
                await self._session()

    def changed(self) -> None:
        """Registrations are others now: read their topics, if those have changed."""
        if self._topics != self._consumer.topics():
            self._scope.cancel()

    async def _session(self) -> None:
        """One connection, from the first try to its failure and the pause after it."""
        if not self._topics:
            await anyio.sleep_forever()  # until `changed`
        try:
            await self._connected()
        except Exception as error:  # noqa: BLE001 - whatever ends a bus, another try comes; it is told and counted
            self._away(error)
        await self._pause(random.uniform(0.5, 1.0) * min(LAST, FIRST * 2**self._failures))  # noqa: S311 - only jitter
        self._failures = min(self._failures + 1, 16)

    async def _connected(self) -> None:
        bus = self._make()
        try:
            await self._resume()
            new = [topic for topic in self._topics if topic not in self.positions]
            async with aclosing(bus.read(self._topics, dict(self.positions))) as batches:
                async for batch in batches:
                    if (
                        self._told and new
                    ):  # what came while it could not be reached is behind its end, where these begin
                        await self._consumer.lost(new)
                    self._back()
                    await self._batch(batch)
        finally:
            self.connected = False
            with anyio.CancelScope(shield=True), anyio.move_on_after(1):
                await bus.aclose()

    async def _resume(self) -> None:
        """Take up the positions that an earlier process has left."""
        for topic in self._topics:
            if topic not in self.positions and self._kept is not None:
                kept = await self._kept.value(_name(topic))
                if kept is not None:
                    self.positions[topic] = kept.decode(errors="replace")

    async def _batch(self, batch: Batch) -> None:
        if batch.missed:
            await self._consumer.lost(batch.missed)
        for message in batch.messages:
            await self._consumer.read(partial(from_message, message.attributes, message.body))
        for topic, position in batch.positions.items():
            if self.positions.get(topic) != position:
                self.positions[topic] = position
                if self._kept is not None:
                    await self._kept.set_value(_name(topic), position.encode())

    def _away(self, error: Exception) -> None:
        self._consumer.counts.event("", "away")
        if not self._told:
            self._told = True
            self._consumer.tell("events-bus-away", level="warning", why=f"{type(error).__name__}: {error}"[:256])

    def _back(self) -> None:
        self._failures = 0
        self.connected = True
        if self._told:
            self._told = False
            self._consumer.tell("events-bus-back")


def _name(topic: str) -> str:
    return f"events:{topic}"
