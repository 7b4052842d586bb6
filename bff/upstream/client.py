"""The hot path to contexts: one HTTP/1.1 exchange, callback to callback, no task and no future where a connection is there.

Owns the upstreams' pools and performs what they decide, with what `dialer` opens and `connection` speaks. Knows nothing of
fragments or caching; never follows a redirect, keeps no cookie, reads no proxy from the environment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from bff.model import Ask, Failure, Reason, Reply, Upstream
from bff.timer import Timer
from bff.upstream.connection import Connection, Known
from bff.upstream.dialer import Dialer
from bff.upstream.exchange import REPEATABLE, Exchange, Heads, check_lines, write_head
from bff.upstream.pool import OPEN, REFUSE, WAIT, Pool

WARM: Final = 1.0  # seconds a connection may have been idle to carry what must not be sent twice
MET: Final = 1024  # upstream objects remembered; reloads make new ones
CLOSING: Final = 1.0  # seconds `aclose` waits for transports to end


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """What one upstream's pool holds now."""

    active: int  # exchanges with a place
    queued: int  # exchanges waiting for one
    idle: int  # connections kept
    connections: int  # transports not yet lost


EMPTY: Final = Stats(active=0, queued=0, idle=0, connections=0)


class Origin:
    """One upstream: its pool, its connections, and the doing of what the pool decides."""

    def __init__(self, client: Client, upstream: Upstream) -> None:
        self.loop = client.loop
        self.now = client.loop.time
        self.timer = client.timer
        self.name = upstream.socket or f"{upstream.scheme}://{upstream.authority}"
        self.keep = client.idle
        self.warm = min(WARM, client.idle)
        self.pool: Pool[Connection, Exchange] = Pool(client.connections)
        self._client = client
        self._live: set[Connection] = set()
        self._dials: dict[asyncio.Task[Connection], Exchange] = {}
        self._sweep: asyncio.TimerHandle | None = None
        self._emptied: asyncio.Future[None] | None = None

    @property
    def stats(self) -> Stats:
        pool = self.pool
        return Stats(active=pool.active, queued=len(pool.queue), idle=len(pool.idle), connections=len(self._live))

    # --- what the pool decided

    def release(self, connection: Connection | None, now: float) -> None:
        following = self.pool.release(connection, now)
        if following is not None:
            exchange, connection = following
            taken = self.pool.take(now, self.within(exchange.ask)) if connection is None else connection
            if taken is OPEN:
                exchange.open(now)
            else:
                exchange.send(taken, now)
        elif connection is not None and self._sweep is None:
            self._sweep = self.loop.call_later(self.keep, self._close_expired)

    def within(self, ask: Ask) -> float:
        """Seconds a connection may have been idle to be asked this."""
        return self.keep if ask.method in REPEATABLE and not ask.once else self.warm

    def withdraw(self, exchange: Exchange) -> bool:
        return self.pool.withdraw(exchange)

    def dial(self, exchange: Exchange, within: float) -> asyncio.Task[Connection]:
        self._close_all(self.pool.spare())
        make = partial(Connection, self, header_bytes=self._client.header_bytes, known=self._client.known)
        dial = self.loop.create_task(self._client.dialer.dial(exchange.ask.upstream, make, within))
        self._dials[dial] = exchange
        dial.add_done_callback(self._dialled)
        return dial

    def tell(self, done: Callable[[Reply | Failure], None], outcome: Reply | Failure) -> None:
        try:
            done(outcome)
        except Exception as error:  # noqa: BLE001 - it must not reach the transport, which would end a connection in use
            self.loop.call_exception_handler({"message": f"done() failed for {self.name}", "exception": error})

    def _dialled(self, dial: asyncio.Task[Connection]) -> None:
        del self._dials[dial]
        if not dial.cancelled() and dial.exception() is None and dial.result().fit:
            self._live.add(dial.result())  # not before: uvloop never says `connection_lost` where a dial was cancelled

    def _close_expired(self) -> None:
        now = self.loop.time()
        self._close_all(self.pool.expire(now - self.keep))
        self._sweep = None
        if self.pool.idle:  # an eighth late at most, so that a busy pool is not swept all the time
            oldest = next(iter(self.pool.idle.values()))
            self._sweep = self.loop.call_later(max(oldest + self.keep - now, self.keep / 8), self._close_expired)

    # --- what its connections tell

    def spoilt(self, connection: Connection) -> None:
        self.pool.forget(connection)

    def gone(self, connection: Connection) -> None:
        self.pool.forget(connection)
        self._live.discard(connection)
        if self._emptied is not None and not self._live and not self._emptied.done():
            self._emptied.set_result(None)

    # --- the end

    async def aclose(self) -> None:
        """End all exchanges and connections; waits for `CLOSING` seconds at most."""
        waits: set[asyncio.Future[Any]] = set(self._dials)
        if self._sweep is not None:
            self._sweep.cancel()
        for exchange in [*self.pool.queue, *self._dials.values()]:
            exchange.close()
        if self._live:
            self._emptied = self.loop.create_future()
            waits.add(self._emptied)
        for connection in list(self._live):
            connection.end("the client was closed")
        if waits:
            await asyncio.wait(waits, timeout=CLOSING)

    @staticmethod
    def _close_all(connections: Iterable[Connection]) -> None:
        for connection in connections:
            connection.close()


@dataclass(slots=True)
class _Met:
    upstream: Upstream
    origin: Origin
    heads: Heads


class Client:
    """`start` is a `model.Fetch`. Belongs to one loop; `connections` is the cap per upstream, `idle` seconds, bytes."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        timer: Timer,
        *,
        connections: int = 512,
        idle: float = 4.0,
        header_bytes: int = 65536,
        local: bool = False,
    ) -> None:
        """`local`: names may lead to this machine itself."""
        self.loop = loop
        self._now = loop.time
        self.timer = timer
        self.connections = connections
        self.idle = idle
        self.header_bytes = header_bytes
        self.known = Known()
        self.dialer = Dialer(loop, local=local)
        self._origins: dict[tuple[str, str, int, str], Origin] = {}
        self._met: dict[int, _Met] = {}  # by identity, which is faster than by value; each keeps its upstream alive
        self._closed = ""  # why nothing can be asked any more

    def start(self, ask: Ask, done: Callable[[Reply | Failure], None]) -> Exchange:
        """A `model.Fetch`. `connect` counts from the moment a connection is opened, everything else from the ask."""
        now = self._now()
        met = self._met.get(id(ask.upstream)) or self._meet(ask.upstream)
        origin = met.origin
        method, wrong = ask.method, self._closed
        try:
            head = met.heads[ask.target] if method == "GET" else write_head(method, ask.target, met.heads.authority)
            check_lines(ask.headers)
        except ValueError as error:
            head, wrong = b"", str(error)
        exchange = Exchange(origin, ask, head, now, done)
        if wrong:
            exchange.refuse(Reason.REFUSED, wrong)
            return exchange
        within = origin.keep if method == "GET" and not ask.once else origin.within(ask)
        _, _, limit, optional = ask.bounds
        found = origin.pool.admit(exchange, limit, now, within, optional=optional)
        if found is OPEN:
            exchange.open(now)
        elif found is WAIT:
            exchange.wait()
        elif found is REFUSE:
            exchange.refuse(Reason.CONCURRENCY, f"{limit} exchanges may be under way")
        else:
            exchange.send(found, now)
        return exchange

    def origin(self, upstream: Upstream) -> Origin:
        """Whose places and connections exchanges of any kind with this upstream share."""
        return (self._met.get(id(upstream)) or self._meet(upstream)).origin

    @property
    def closed(self) -> str:
        """Why nothing can be asked any more; "" while it can."""
        return self._closed

    def stats(self) -> dict[str, Stats]:
        """By upstream: `http://host:port`, or a socket's path."""
        return {origin.name: origin.stats for origin in self._origins.values()}

    async def aclose(self) -> None:
        """End everything: exchanges under way fail as refused, as do all asked for later. Bounded in time."""
        self._closed = "the client was closed"
        await asyncio.gather(*(origin.aclose() for origin in self._origins.values()))
        await self.dialer.aclose()

    def _meet(self, upstream: Upstream) -> _Met:
        """Find the origin of an upstream object seen for the first time; origins that registrations left are forgotten."""
        key = (upstream.scheme, upstream.host, upstream.port, upstream.socket)
        origin = self._origins.get(key)
        if origin is None:
            self._origins = {key: origin for key, origin in self._origins.items() if origin.stats != EMPTY}
            self._met.clear()
            origin = self._origins[key] = Origin(self, upstream)
        elif len(self._met) >= MET:
            self._met.clear()
        met = self._met[id(upstream)] = _Met(upstream, origin, Heads(upstream.authority))
        return met
