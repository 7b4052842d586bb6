"""Who listens for which changes, and what they have not been told yet: purges in, what concerns each connection out.

Knows neither HTTP nor who may listen. A connection costs two small objects and a place in a set; what a thousand pages show
alike is one topic. Times are milliseconds of the wall clock, for they go to clients and come back to other processes.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from bff.model import Clock, Purge
from bff.store.purges import Purges, Scope, scope, scopes

BASE: Final = "/_bff/fragments/"
BEAT: Final = 15
"""Seconds between signs of life, as HTML Standard §9.2.7 advises; each connection has its second among them."""
LIFE: Final = 40  # beats, after which a page must come again and say anew who it is
MARGIN: Final = 2000  # milliseconds that are told twice rather than missed: purges of other machines arrive late
REMEMBERED: Final = 2000
"""Purges that can be told to who was away; who was away for longer is told that all has changed."""
SLICE: Final = 200  # listeners woken at once: about 4 ms of work


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """One thing to listen for: a fragment as the browser asks for it, what it shows now, and whose it is in private scope."""

    fragment: str
    asked: str  # <name>?<params>
    tags: tuple[str, ...]
    principal: str | None = None


class Topic:
    """One fragment with its parameters, as one principal or everybody sees it: shared by all pages that show it."""

    __slots__ = ("asked", "event", "fragment", "listeners", "principal", "scopes", "tags")

    def __init__(self, wish: Wish) -> None:
        said = json.dumps({"fragment": wish.fragment, "src": BASE + wish.asked}, separators=(",", ":"))
        self.fragment = wish.fragment
        self.asked = wish.asked
        self.principal = wish.principal
        self.event = f"event: refresh\ndata: {said}\n\n".encode()
        self.tags: tuple[str, ...] | None = None
        self.scopes: tuple[Scope, ...] = ()
        self.listeners: set[Listener] = set()


@dataclass(slots=True, eq=False)
class Listener:
    """One connection. What it has not been told is a set, so that a slow one holds no more than its topics."""

    topics: tuple[Topic, ...]
    turn: int
    beats: int = 0
    _due: dict[Topic, None] = field(default_factory=dict)
    _beating: bool = False
    _closed: bool = False
    _waiter: asyncio.Future[None] | None = None

    def tell(self, topic: Topic) -> None:
        self._due[topic] = None
        self._wake()

    def beat(self) -> None:
        self.beats += 1
        self._beating = True
        self._wake()

    def close(self) -> None:
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def next(self) -> list[Topic] | None:
        """What has changed; nothing where it is time for a sign of life; None where it is over."""
        while not (self._closed or self._due or self._beating):
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        if self._closed:
            return None
        due, self._beating = [*self._due], False
        self._due.clear()
        return due


class Listeners:
    """All of one process, on its loop. `heard` is to be told of every purge, this process's own and those of others."""

    def __init__(self, *, settle: float, wall: Clock) -> None:
        """`settle`: seconds from hearing of a purge to telling of it, so that whoever is asked next has heard of it too."""
        self._settle = settle
        self._wall = wall
        self._log = Purges(REMEMBERED)
        self._log.floor = self.now()
        self._topics: dict[tuple[str, str | None], Topic] = {}
        self._index: dict[Scope, set[Topic]] = {}
        self._turns: tuple[set[Listener], ...] = tuple(set() for _ in range(BEAT))
        self._turn = 0
        self._joined = 0
        self._due: dict[Topic, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def now(self) -> float:
        return float(int(self._wall() * 1000))

    def __len__(self) -> int:
        return sum(len(turn) for turn in self._turns)

    # --- purges -------------------------------------------------------------------------------------------------------

    def heard(self, purge: Purge, when: float | None = None) -> None:
        """Something has changed: at `when`, in wall seconds, or now."""
        met = scope(purge)
        if met is None:
            return
        self._log.add(purge, self.now() if when is None else when * 1000)
        topics = self._index.get(met)
        if topics:
            self._due |= dict.fromkeys(topics)
        if self._due and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._settle, self._tell)

    def _tell(self) -> None:
        self._timer = None
        due, self._due = self._due, {}
        self._tell_some([(topic, listener) for topic in due for listener in topic.listeners])

    def _tell_some(self, pairs: list[tuple[Topic, Listener]]) -> None:
        """Wake a slice of them; what else the loop has to do comes in between."""
        for topic, listener in pairs[:SLICE]:
            listener.tell(topic)
        if len(pairs) > SLICE:
            asyncio.get_running_loop().call_soon(self._tell_some, pairs[SLICE:])

    def learned(self, asked: str, principal: str | None, tags: Sequence[str]) -> None:
        """What a fragment shows now has these tags; a look-up where nobody listens for it."""
        topic = self._topics.get((asked, principal))
        if topic is not None:
            self._tag(topic, tuple(tags))

    def missed(self, listener: Listener, since: float) -> Iterable[Topic]:
        """What has changed since then (milliseconds; below 0, so long ago); all of it where nobody remembers."""
        now = self.now()
        mark = min(now + since if since < 0 else since, now) - MARGIN
        return [topic for topic in listener.topics if self._changed(topic, mark)]

    def _changed(self, topic: Topic, mark: float) -> bool:
        return self._log.since(mark, topic.fragment, topic.tags or (), topic.principal) != math.inf

    # --- coming and going ---------------------------------------------------------------------------------------------

    def join(self, wishes: Sequence[Wish]) -> Listener:
        self._joined += 1
        listener = Listener(tuple(self._topic(wish) for wish in wishes), self._joined % BEAT)
        self._turns[listener.turn].add(listener)
        for topic in listener.topics:
            topic.listeners.add(listener)
        return listener

    def leave(self, listener: Listener) -> None:
        self._turns[listener.turn].discard(listener)
        for topic in listener.topics:
            topic.listeners.discard(listener)
            if not topic.listeners:
                self._untag(topic)
                self._due.pop(topic, None)
                del self._topics[topic.asked, topic.principal]

    def second(self) -> None:
        """A second has passed: some give a sign of life, and those who have been here for long are sent away."""
        self._turn = (self._turn + 1) % BEAT
        for listener in self._turns[self._turn]:
            listener.beat()
            if listener.beats > LIFE:
                listener.close()

    def close(self) -> None:
        """Send all away, so that their pages come again elsewhere."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for turn in self._turns:
            for listener in turn:
                listener.close()

    # --- topics -------------------------------------------------------------------------------------------------------

    def _topic(self, wish: Wish) -> Topic:
        key = wish.asked, wish.principal
        topic = self._topics.get(key)
        if topic is None:
            topic = self._topics[key] = Topic(wish)
        if topic.tags is None or not {*wish.tags} <= {*topic.tags}:  # what was learned since may be more
            self._tag(topic, wish.tags)
        return topic

    def _tag(self, topic: Topic, tags: tuple[str, ...]) -> None:
        if tags == topic.tags:
            return
        self._untag(topic)
        topic.tags = tags
        topic.scopes = tuple(dict.fromkeys(scopes(topic.fragment, tags, topic.principal)))
        for each in topic.scopes:
            self._index.setdefault(each, set()).add(topic)

    def _untag(self, topic: Topic) -> None:
        for each in topic.scopes:
            held = self._index[each]
            held.discard(topic)
            if not held:
                del self._index[each]
        topic.scopes = ()
