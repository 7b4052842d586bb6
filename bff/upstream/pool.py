"""Who may start an exchange with one upstream, on which connection, and who waits.

Pure: it decides and counts, its driver (`client`) performs. Knows no socket and no clock; connections and exchanges are
opaque. What it promises after every call:

- exchanges under way never exceed what admitted them: `limit` at work and, for those who may wait, `limit` waiting;
- connections in use and idle together never exceed `connections` (after `spare` was closed);
- nobody waits who could start; those that wait start in the order they came, as their own limits permit. A limit is the one
  that an exchange came with: where it adapts and has risen since, one that comes later may start first (docs/decisions/0029).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from enum import Enum
from typing import Final, Generic, Literal, TypeVar

C = TypeVar("C", bound=Hashable)
X = TypeVar("X", bound=Hashable)


class Verdict(Enum):
    """What to do for an exchange that was not handed an idle connection."""

    OPEN = "open a connection for it"
    WAIT = "it waits in the queue"
    REFUSE = "too many are under way"


OPEN: Final = Verdict.OPEN  # looking up a member of an Enum costs more than the whole decision
WAIT: Final = Verdict.WAIT
REFUSE: Final = Verdict.REFUSE


class Pool(Generic[C, X]):
    """Places, idle connections (last in, first out: what is busy stays warm, the rest ages) and the queue of one upstream."""

    __slots__ = ("active", "connections", "idle", "queue")

    def __init__(self, connections: int) -> None:
        self.connections = connections
        self.active = 0  # exchanges that hold a place: they use, or are opening, one connection each
        self.idle: dict[C, float] = {}  # since when; the oldest first
        self.queue: OrderedDict[X, int] = OrderedDict()  # the number of places up to which it may start

    def admit(self, exchange: X, limit: int, now: float, within: float, *, optional: bool) -> C | Verdict:
        """Find a place; a connection returned has been idle for `within` seconds at most.

        `limit` bounds the exchanges under way. An optional one never takes the last quarter and never waits for the
        limit; others may wait, as many again. Waiting for `connections` alone is open to all.
        """
        under = self.active + len(self.queue)
        if under * 4 >= limit * 3 and (optional or under >= 2 * limit):
            return REFUSE
        places = limit if limit < self.connections else self.connections  # noqa: FURB136 - hot
        if self.active >= places:
            self.queue[exchange] = places
            return WAIT
        self.active += 1
        return self.take(now, within)

    def take(self, now: float, within: float) -> C | Literal[Verdict.OPEN]:
        """The connection used last, unless it has been idle for longer than `within`: then so have all others."""
        if self.idle:
            connection, since = self.idle.popitem()
            if now - since <= within:
                return connection
            self.idle[connection] = since
        return OPEN

    def release(self, connection: C | None, now: float) -> tuple[X, C | None] | None:
        """A place is free, and its connection too where it can serve again. Returns who starts next, and on what.

        Started without a connection, the next one looks for its own (`take`): it holds its place already.
        """
        if self.queue:
            for exchange, places in self.queue.items():
                if self.active <= places:
                    del self.queue[exchange]
                    return exchange, connection
        self.active -= 1
        if connection is not None:
            self.idle[connection] = now
        return None

    def withdraw(self, exchange: X) -> bool:
        """It waits no more; False where it was not waiting."""
        return self.queue.pop(exchange, None) is not None

    def forget(self, connection: C) -> None:
        """The connection is gone."""
        self.idle.pop(connection, None)

    def spare(self) -> list[C]:
        """Idle connections beyond the cap, oldest first: the pool has let go of them, they are to be closed."""
        over = self.active + len(self.idle) - self.connections
        return self._let_go(list(self.idle)[: max(over, 0)])

    def expire(self, before: float) -> list[C]:
        """Those idle since `before` or longer: the pool has let go of them, they are to be closed."""
        return self._let_go([connection for connection, since in self.idle.items() if since <= before])

    def _let_go(self, connections: list[C]) -> list[C]:
        for connection in connections:
            del self.idle[connection]
        return connections
