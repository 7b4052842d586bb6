"""One exchange with a context, from the ask to its one end: an answer, a failure, its deadline or `cancel`.

Owns what is the exchange's own: its times, its one armed deadline (put off lazily as it gets along), the second try on a
connection that ended unheard. What it takes (a place, a connection) it gives back to its `Home` before anybody hears how
it ended. Knows nothing of fragments, caching or other exchanges.

The way of an answer on a kept connection is written for speed: few calls, no object that is not handed on.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Final, Literal, Protocol

from bff.model import Ask, Failure, Reason, Reply, Timing
from bff.timer import Due, Timer
from bff.upstream.connection import Connection, Head

REPEATABLE: Final = frozenset({"GET", "HEAD"})  # sent once more where a kept connection ended unheard (RFC 9112 §9.3.1)
METHOD: Final = re.compile(r"(?!CONNECT$)[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch  # any token (RFC 9110 §5.6.2, §9.1)
_TARGET: Final = re.compile(r"/[!-\"$-~]*").fullmatch  # origin-form (RFC 9112 §3.2.1): visible ASCII, no fragment
_AUTHORITY: Final = re.compile(r"[!-.0-~]+").fullmatch  # visible ASCII without a slash
_FRAMED: Final = frozenset({"POST", "PUT", "PATCH"})  # which say Content-Length: 0 too (RFC 9110 §8.6)
HEADS: Final = 1024  # heads kept per upstream
LONG: Final = 512  # characters: longer targets are searches, which come once
_STATUS: Final[dict[Reason, Literal["connect", "timeout", "reset", "refused"]]] = {
    Reason.CONNECT: "connect",
    Reason.TIMEOUT: "timeout",
    Reason.TORN: "reset",
    Reason.TOO_LARGE: "refused",
    Reason.REFUSED: "refused",
    Reason.CONCURRENCY: "refused",
}


class Heads(dict[str, bytes]):
    """Heads of GETs to one upstream by target: what is asked for is asked for again. ValueError where it cannot be."""

    def __init__(self, authority: str) -> None:
        super().__init__()
        self.authority = authority

    def __missing__(self, target: str) -> bytes:
        head = write_head("GET", target, self.authority)
        if len(self) >= HEADS:
            self.clear()
        if len(target) <= LONG:
            self[target] = head
        return head


def write_head(method: str, target: str, authority: str) -> bytes:
    """The request line and the fields that are ours; raises ValueError where that would not be one request for the target."""
    if not _TARGET(target):
        raise ValueError(f"target {target!r} is not a path of visible ASCII")
    if not METHOD(method):
        raise ValueError(f"method {method!r} is not one we send")
    if not _AUTHORITY(authority):
        raise ValueError(f"authority {authority!r} is not host[:port]")
    return f"{method} {target} HTTP/1.1\r\nHost: {authority}\r\nAccept-Encoding: identity\r\n".encode()


def check_lines(headers: bytes) -> None:
    """Raises ValueError where header lines would end the head and begin something else.

    Whoever writes them answers for each; they only cannot become another request.
    """
    if headers and (headers[-2:] != b"\r\n" or b"" in headers.splitlines()):
        raise ValueError("the header lines end early")


class Home(Protocol):
    """What an exchange needs of the upstream it belongs to."""

    loop: asyncio.AbstractEventLoop
    now: Callable[[], float]
    timer: Timer

    def dial(self, exchange: Exchange, within: float) -> asyncio.Task[Connection]: ...

    def release(self, connection: Connection | None, now: float) -> None:
        """Its place is free, and its connection where that can serve again."""

    def withdraw(self, exchange: Exchange) -> bool:
        """It waits no more; False where it holds a place."""

    def tell(self, done: Callable[[Reply | Failure], None], outcome: Reply | Failure) -> None:
        """Call `done`, whatever it raises."""


class Exchange:
    """One ask under way. Ends once; `_done` is None from then on."""

    # what most never set is the class's: making an exchange is on the hot path
    _queued = 0.0
    _connected = 0.0
    _first = 0.0
    _dial_due = 0.0
    _retried = False
    _connection: Connection | None = None
    _dialling: asyncio.Task[Connection] | None = None
    _refusal: asyncio.Handle | None = None
    _bucket: set[Due] | None = None  # where its deadline is armed

    def __init__(
        self,
        home: Home,
        ask: Ask,
        head: bytes,
        now: float,
        done: Callable[[Reply | Failure], None],
    ) -> None:
        self._home = home
        self.ask = ask
        self._head = head
        self._since = now
        self._timeout = ask.bounds.timeout
        self._done: Callable[[Reply | Failure], None] | None = done

    # --- what its owner does

    def cancel(self) -> None:
        if self._done is not None:
            self._done = None
            self._leave()

    def close(self) -> None:
        """End it for its owner's sake."""
        self.failed(Reason.REFUSED, "the client was closed")

    # --- how it gets along

    def refuse(self, reason: Reason, detail: str) -> None:
        """It never starts; `done` hears of it in the loop's next turn."""
        self._refusal = self._home.loop.call_soon(self.failed, reason, detail)

    def wait(self) -> None:
        self._arm(self._due())

    def send(self, connection: Connection, now: float) -> None:
        """It holds a place, and this connection is its own until it ends."""
        self._connection = connection
        if now != self._since:
            self._connected = now - self._since
            if not self._dial_due:
                self._queued = self._connected
        if self._bucket is None:
            timeout = self._timeout
            soonest = timeout.first_byte if timeout.first_byte < timeout.total else timeout.total  # noqa: FURB136 - hot
            self._bucket = self._home.timer.bucket(self._since + soonest)
            self._bucket.add(self)
        ask = self.ask
        method, body = ask.method, ask.body
        if body or method in _FRAMED:
            request = b"%b%bContent-Length: %d\r\n\r\n%b" % (self._head, ask.headers, len(body), body)
        else:
            request = self._head + ask.headers + b"\r\n"
        connection.ask(self, request, method == "HEAD", bool(body), ask.bounds.max_body)

    def open(self, now: float) -> None:
        """It holds a place, and a connection is opened for it."""
        if not self._dial_due:
            self._queued = now - self._since
        within = self._timeout.connect
        self._dial_due = now + within
        self._dialling = self._home.dial(self, within)
        self._dialling.add_done_callback(self._dialled)
        self._arm(self._due())

    def _dialled(self, dialling: asyncio.Task[Connection]) -> None:
        if dialling.cancelled():
            return
        self._dialling = None
        error = dialling.exception()
        if error is not None:
            self.failed(Reason.CONNECT, f"{type(error).__name__}: {error}")
        elif self._done is None:  # cancelled in the very turn in which the connection was made
            dialling.result().close()
        elif not dialling.result().fit:
            self.failed(Reason.CONNECT, "the connection was closed before it was used")
        else:
            self.send(dialling.result(), self._home.now())

    # --- what its connection tells

    def began(self) -> None:
        if not self._first:
            self._first = self._home.now() - self._since

    def answered(self, connection: Connection | None, head: Head, body: bytes) -> None:
        done = self._done
        if done is None or self._bucket is None:
            return  # never: whoever ends takes the connection's listener away
        self._done = None
        self._bucket.discard(self)
        home = self._home
        now = home.now()
        total = now - self._since
        home.release(connection, now)
        timing = Timing(self._queued, self._connected, self._first or total, total)
        home.tell(done, Reply(head.status, head.headers, body, timing, head.found))

    def failed(self, reason: Reason, detail: str) -> None:
        done = self._done
        if done is not None:
            timing = Timing(self._queued, self._connected, self._first, self._home.now() - self._since)
            self._done = None
            self._leave()
            self._home.tell(done, Failure(reason, _STATUS[reason], detail, timing))

    def lost(self, connection: Connection, detail: str, *, seen: bool) -> None:
        if connection.used and not seen and not self._retried and self.ask.method in REPEATABLE and not self.ask.once:
            self._retried = True
            self._connection = None
            self.open(self._home.now())
        else:
            self.failed(Reason.TORN, detail)

    # --- its deadline

    def _due(self) -> float:
        timeout, since = self._timeout, self._since
        due = since + timeout.total
        if not self._first:
            due = min(due, since + timeout.first_byte)
            if self._dialling is not None:
                due = min(due, self._dial_due)
        return due

    def _arm(self, due: float) -> None:
        self._disarm()
        self._bucket = self._home.timer.bucket(due)
        self._bucket.add(self)

    def _disarm(self) -> None:
        if self._bucket is not None:
            self._bucket.discard(self)

    def call(self) -> None:
        """The armed deadline has come: the next one is armed, or this is the end."""
        due = self._due()
        timeout = self._timeout
        if self._home.now() < due:
            self._arm(due)
        elif self._dialling is not None:
            self.failed(Reason.CONNECT, f"no connection within {due - self._since:.3f}s")
        elif self._connection is None:
            self.failed(Reason.CONCURRENCY, f"no place became free within {timeout.first_byte:g}s")
        elif self._first:
            self.failed(Reason.TIMEOUT, f"not complete within {timeout.total:g}s")
        else:
            self.failed(Reason.TIMEOUT, f"no first byte within {min(timeout.first_byte, timeout.total):g}s")

    # --- how it ends

    def _leave(self) -> None:
        """Give everything back: the deadline, the connection, the place, in the queue too."""
        self._disarm()
        if self._refusal is not None:
            self._refusal.cancel()
            return
        if self._dialling is not None:
            self._dialling.cancel()
        elif self._connection is not None:
            self._connection.close()
        elif self._home.withdraw(self):
            return
        self._home.release(None, self._home.now())
