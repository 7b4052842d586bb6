"""Exchanges whose bodies pass through piece by piece, both ways, each side only as fast as the other takes it.

Owns what a streamed exchange has beside a collected one: the pieces not yet taken, the request's framing, 100-continue, and
times that are bounds on waiting instead of one on the whole. Places and connections are those of `client`: the caps hold
for both kinds together. Knows nothing of caching.

Times: `connect` and the wait for a place as everywhere; `first_byte` counts from when the request is sent in full; then no
pause of the upstream may be longer than `total`. A pause of the browser's counts for nothing here: the server bounds it.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from bff.model import Ask, Bounds, Failure, Headers, Reason, Reply, Timeout, Timing, Upstream
from bff.upstream.client import Client
from bff.upstream.connection import Connection
from bff.upstream.exchange import METHOD, Exchange, Home
from bff.upstream.pool import OPEN, REFUSE, WAIT
from bff.upstream.wire import Wire

HIGH: Final = 64 * 1024  # bytes of an answer not yet taken from which on no more is read
LOW: Final = 16 * 1024
PATIENCE: Final = 1.0  # seconds that 100-continue is waited for: many servers never send it (RFC 9110 §10.1.1)
_TARGET: Final = re.compile(r"/[!-\"$-~]*").fullmatch
_LINE: Final = re.compile(rb"[^\0\r\n]*").fullmatch
_NAME: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
FRAMED: Final = frozenset({"POST", "PUT", "PATCH"})  # which say Content-Length: 0 too (RFC 9110 §8.6)


class Head(NamedTuple):
    """The head of a final answer. Names are lower-case; `length` is the body's, where it is told."""

    status: int
    headers: Headers
    length: int | None


class Torn(Exception):
    """The answer ended before its end."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.detail)
        self.failure = failure


class Body(NamedTuple):
    """How a request's body is framed: by its length, or in chunks where that is None; `expects` waits for 100-continue."""

    length: int | None
    expects: bool = False


class Streams:
    """Starts streamed exchanges on a client's places and connections."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def __call__(
        self,
        upstream: Upstream,
        method: str,
        target: str,
        lines: Headers,
        *,
        body: Body | None,
        timeout: Timeout,
        limit: int,
        optional: bool = False,
    ) -> Stream:
        """Start one; Host and framing are added. `limit`: exchanges under way per upstream; it may wait for its place.

        An `optional` one never waits, and leaves the last quarter to others.
        """
        client, ask = self._client, Ask(upstream, method, target, b"", Bounds(timeout, 0, limit, optional))
        ask.once = body is not None
        origin, now = client.origin(upstream), client.loop.time()
        wrong = client.closed
        try:
            head = write_head(upstream, method, target, lines, body)
        except ValueError as error:
            head, wrong = b"", str(error)
        stream = Stream(origin, ask, head, now, body=body, header_bytes=client.header_bytes)
        if wrong:
            stream.refuse(Reason.REFUSED, wrong)
            return stream
        found = origin.pool.admit(stream, limit, now, origin.within(ask), optional=optional)
        if found is OPEN:
            stream.open(now)
        elif found is WAIT:
            stream.wait()
        elif found is REFUSE:
            stream.refuse(Reason.CONCURRENCY, f"{limit} exchanges may be under way")
        else:
            stream.send(found, now)
        return stream


def write_head(upstream: Upstream, method: str, target: str, lines: Headers, body: Body | None) -> bytes:
    """A whole request head; raises ValueError where it would not be one request for the target."""
    if not _TARGET(target) or not METHOD(method):
        raise ValueError(f"{method!r} {target!r} is not a request line")
    framing: list[tuple[bytes, bytes]] = []
    if body is not None:
        chunked = (b"transfer-encoding", b"chunked")
        framing = [chunked if body.length is None else (b"content-length", b"%d" % body.length)]
        framing += [(b"expect", b"100-continue")] if body.expects else []
    elif method in FRAMED:
        framing = [(b"content-length", b"0")]
    told = [(b"host", upstream.authority.encode()), *framing, *lines]
    if not all(_LINE(value) and _NAME(name) for name, value in told):
        raise ValueError("a header line ends early")
    return b"%b %b HTTP/1.1\r\n%b\r\n" % (
        method.encode(),
        target.encode(),
        b"".join([b"%b: %b\r\n" % line for line in told]),
    )


class Stream(Exchange):
    """One exchange: `head` once, then `read` until b"" or `Torn`; beside it `write` and `finish` where there is a body.

    Whoever has it must `cancel` it in the end, which does nothing once it is over.
    """

    hinted: Callable[[int, Headers], None] | None = None
    """Is told of interim answers (102, 103) as they come."""
    _wire: Wire | None = None
    _moved = 0.0  # when the upstream last did something that was waited for
    _full = False  # it takes no more
    _began = False

    def __init__(self, home: Home, ask: Ask, head: bytes, now: float, *, body: Body | None, header_bytes: int) -> None:
        super().__init__(home, ask, head, now, self._told)
        self._framing = body
        self._header_bytes = header_bytes
        self._sent = body is None
        self._unsent = body.length if body is not None else None
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._ended = False
        self._failure: Failure | None = None
        self._answer: asyncio.Future[Head | Failure] = home.loop.create_future()
        self._wanted: asyncio.Future[None] = home.loop.create_future()  # the request's body may be sent
        self._turn: asyncio.Future[None] | None = None  # of whoever reads
        self._room: asyncio.Future[None] | None = None  # of whoever writes

    # --- what its owner does

    @property
    def answer(self) -> asyncio.Future[Head | Failure]:
        """What `head` gives; to be waited for beside others, by whoever does not cancel it."""
        return self._answer

    async def head(self) -> Head | Failure:
        """The head of the final answer, or why there is none."""
        return await asyncio.shield(self._answer)

    async def read(self) -> bytes:
        """The next piece of the answer's body; b"" once it is complete. Raises `Torn`."""
        while not self._pieces:
            if self._failure is not None:
                raise Torn(self._failure)
            if self._ended:
                return b""
            self._turn = self._home.loop.create_future()
            await self._turn
        piece = self._pieces.popleft()
        self._size -= len(piece)
        if self._size <= LOW and self._wire is not None:
            self._moved = self._home.now()
            self._wire.flow()
        return piece

    async def wanted(self) -> bool:
        """Wait until the request's body may be sent; False where it need not be: the answer came before."""
        if self._framing is not None and self._framing.expects:
            await self._linked()
            await asyncio.wait((self._wanted,), timeout=PATIENCE)
            return not (self._over or self._answer.done())
        return not self._over

    async def write(self, data: bytes) -> bool:
        """Send a piece of the request's body; False where no more is wanted. Waits while the upstream takes none."""
        await self._linked()
        wire = self._wire
        if self._over or wire is None:
            return False
        self._moved = self._home.now()
        if self._unsent is not None:
            self._unsent -= len(data)
            wire.write(data)
        elif data:
            wire.write(b"%x\r\n" % len(data), data, b"\r\n")
        while self._full and not self._over:
            self._room = self._home.loop.create_future()
            await self._room
        return not self._over

    async def finish(self) -> None:
        """The request's body is complete."""
        await self._linked()
        if self._wire is not None and not self._over and not self._sent:
            if self._unsent is None:
                self._wire.write(b"0\r\n\r\n")
            self._sent = True
            self._moved = self._home.now()

    def cancel(self) -> None:
        if self._done is not None:
            super().cancel()
            self._failure = Failure(Reason.TORN, "reset", "it was given up")
            self._over_now()

    @property
    def failure(self) -> Failure | None:
        """Why it ended early, once it has."""
        return self._failure

    @property
    def timing(self) -> Timing:
        """Of its head, where that has come just now."""
        return Timing(self._queued, self._connected, self._first, self.seconds)

    @property
    def seconds(self) -> float:
        """Since it was asked for."""
        return self._home.now() - self._since

    # --- how it gets along

    def send(self, connection: Connection, now: float) -> None:
        """It holds a place, and this connection is its own until it ends."""
        self._connection = connection
        self._moved = now
        method = self.ask.method
        self._wire = Wire(self, connection, bodiless=method == "HEAD", header_bytes=self._header_bytes)
        self._wire.write(self._head)
        self._arm(self._due())
        self._wake()

    def lost(self, connection: Connection, detail: str, *, seen: bool) -> None:
        if self._framing is not None and not self._retried:
            self._retried = True  # a body that passed by cannot be sent again
        super().lost(connection, detail, seen=seen)

    def _told(self, outcome: Reply | Failure) -> None:
        if isinstance(outcome, Failure):
            self._failure = outcome
            self._over_now()

    # --- what its wire tells

    def began(self) -> None:
        super().began()
        self._began = True

    def interim(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        if status != 100:
            if self.hinted is not None:
                self.hinted(status, headers)
        elif not self._wanted.done():
            self._wanted.set_result(None)

    def headed(self, status: int, headers: Headers, length: int | None) -> None:
        self._began = True
        self._moved = self._home.now()
        self._answer.set_result(Head(status, headers, length))
        if not self._wanted.done():
            self._wanted.set_result(None)

    def piece(self, data: bytes) -> None:
        self._pieces.append(data)
        self._size += len(data)
        self._moved = self._home.now()
        if self._size >= HIGH and self._wire is not None:
            self._wire.hold()
        self._wake_reader()

    def ended(self, *, reusable: bool) -> None:
        wire, self._wire = self._wire, None
        if wire is None or self._done is None:
            return
        self._done = None
        self._ended = True
        self._disarm()
        connection = wire.leave(reusable=reusable and self._sent and not self._unsent and wire.sent)
        self._home.release(connection, self._home.now())
        self._over_now()

    def broke(self, reason: Reason, detail: str, *, seen: bool) -> None:
        self._wire = None
        connection = self._connection
        if connection is None or self._done is None:
            return
        connection.close()
        if reason is Reason.TORN and not seen:
            self.lost(connection, detail, seen=False)
        else:
            self.failed(reason, detail)

    def choked(self, *, full: bool) -> None:
        self._full = full
        self._moved = self._home.now()
        self._wake_writer()

    # --- its deadline

    def _due(self) -> float:
        timeout = self._timeout
        if self._connection is None:
            return super()._due()
        if self._answer.done():
            held = self._size >= LOW  # whoever reads is behind
            return math.inf if held and not self._full else self._moved + timeout.total
        if not self._sent:
            return self._moved + timeout.total if self._full else math.inf
        return self._moved + (max(timeout.total, timeout.first_byte) if self._began else timeout.first_byte)

    def call(self) -> None:
        """The armed deadline has come: the next one is armed, or this is the end."""
        now, due = self._home.now(), self._due()
        if self._connection is None:
            super().call()
        elif now < due:
            self._arm(min(due, now + self._timeout.total))
        elif self._answer.done() or not self._sent:
            self.failed(Reason.TIMEOUT, f"nothing moved for {self._timeout.total:g}s")
        else:
            self.failed(Reason.TIMEOUT, f"no head within {due - self._moved:g}s")

    def _arm(self, due: float) -> None:
        super()._arm(min(due, self._home.now() + self._timeout.total))

    # --- waiting

    @property
    def _over(self) -> bool:
        return self._ended or self._failure is not None

    async def _linked(self) -> None:
        while self._wire is None and not self._over:
            self._room = self._home.loop.create_future()
            await self._room

    def _over_now(self) -> None:
        """All who wait hear of the end."""
        self._wire = None
        if not self._answer.done() and self._failure is not None:
            self._answer.set_result(self._failure)
        if not self._wanted.done():
            self._wanted.set_result(None)
        self._wake()

    def _wake(self) -> None:
        self._wake_reader()
        self._wake_writer()

    def _wake_reader(self) -> None:
        turn, self._turn = self._turn, None
        if turn is not None and not turn.done():
            turn.set_result(None)

    def _wake_writer(self) -> None:
        room, self._room = self._room, None
        if room is not None and not room.done():
            room.set_result(None)
