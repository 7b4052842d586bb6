"""The turns of one connection: which request is answered when, how long anything may take, and the way out.

Owns the order of pipelined requests, the connection's one deadline and its end. Knows nothing of parsing; what it needs
to know of a request is a `Cycle`, or a scope that the application can answer at once.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import Final

from bff.gateway.cycle import Cycle
from bff.gateway.heads import BODYLESS, CLOSE, Refused, head, problem
from bff.gateway.problems import problem as shown
from bff.gateway.request import accepts_html
from bff.gateway.state import PROBES, Limits, Scope, Shared
from bff.model import Headers

_LOG: Final = logging.getLogger("bff.server")
NEVER: Final = float("inf")
_LINGER: Final = 2.0  # seconds for a client to take an error while it is still sending (RFC 9112 §9.6)


class Turns:
    """What every connection does after parsing. `deadline` is all its time-keeping: `Shared.sweep` reads it."""

    shared: Shared
    limits: Limits
    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport
    data_received: Callable[[bytes], None]

    def __init__(self) -> None:
        self.deadline = NEVER
        self.current: Cycle | None = None  # being answered
        self.waiting: deque[Cycle] = deque()  # pipelined behind it
        self.reading: Cycle | None = None  # whose body is being received
        self.blocked: asyncio.Future[None] | None = None  # while the client does not read
        self.received = 0  # bytes since the head began, or since the body's last piece
        self.refusal: Refused | None = None  # to be answered when all before it is
        self.deaf = False  # whatever else comes is dropped
        self.last = False  # the request that ends the connection has come
        self.closing = False  # all is written, or will be without us
        self.headed = False  # the head's deadline is set
        self.rest_of_read = b""  # came with what was answered, and is still to be parsed
        self._held = False  # reading is paused
        self._unsent = 0  # bytes in the write buffer when the deadline was set

    def try_now(self, scope: Scope) -> bool:
        """Ask for an answer that needs no waiting, and write it; whether there was one."""
        now = self.shared.now
        if now is None:
            return False
        try:
            answer = now(scope)
            if answer is None:
                return False
            self.transport.write(self._whole(scope["method"], *answer))
        except Exception:  # noqa: BLE001 - whatever it is, it is the application's
            _LOG.exception("the application failed on %s %s", scope["method"], scope["path"])
            self.last = True
            answer = (500, *problem(500, "The gateway failed to answer this request."))
            self.transport.write(self._whole(scope["method"], *answer))
        if self.last:
            self.close()
        return True

    def _whole(self, method: str, status: int, headers: Headers, body: bytes) -> bytes:
        """A complete response as it goes over the wire."""
        lines, length, close = head(status, headers, self.shared.date)
        if length is None and status not in BODYLESS and method != "HEAD":  # what a GET would have is not known
            lines += b"content-length: %d\r\n" % len(body)
        if close:
            self.last = True
        elif self.last:
            lines += CLOSE
        return lines + b"\r\n" + (b"" if method == "HEAD" or status in BODYLESS else body)

    def full(self) -> bool:
        """As many responses are under way as may be, or the gateway is overloaded or leaves: what began could not be finished."""
        shared = self.shared
        if shared.drain.draining or shared.drain.streams >= self.limits.streams:
            return True
        return shared.overloaded is not None and shared.overloaded(b"/") != ""

    def _reached(self, path: bytes) -> str:
        """The limit that keeps a request out; "" where none does. Probes are always let in."""
        if path in PROBES:
            return ""
        if self.shared.drain.draining:
            return "drain"
        if self.shared.drain.streams >= self.limits.streams:
            return "streams"
        return self.shared.overloaded(path) if self.shared.overloaded is not None else ""

    def start(self, cycle: Cycle) -> None:
        """Hand a request to the application, or shed it."""
        reached = self._reached(cycle.scope["raw_path"])
        self.shared.drain.streams += 1
        self.current = cycle
        self.deadline = NEVER
        self.headed = False
        if reached:
            self.shared.shed(reached)
            again = [(b"retry-after", b"1" if reached in ("streams", "drain") else b"2")]
            why = "The gateway is leaving." if reached == "drain" else "The gateway has too much to do."
            made = shown(503, why, html=accepts_html(cycle.scope), headers=again)
            cycle.reply(made.status, made.headers, made.body)
        else:
            cycle.task = self.loop.create_task(cycle.run(self.shared.app))

    def answered(self, cycle: Cycle) -> None:
        """The current response is complete: on to the next request, or out."""
        self.shared.drain.streams -= 1
        self.current = None
        if not cycle.keep_alive:
            self.close()
            return
        if self.blocked is None:
            self._next()
        if not self.waiting:
            self._release()

    def _next(self) -> None:
        """Nothing is being answered and the client reads: take what comes next."""
        if self.waiting:
            self.start(self.waiting.popleft())
        elif self.refusal is not None:
            headers, body = problem(self.refusal.status, self.refusal.detail)
            self.last = True
            self.transport.write(self._whole("GET", self.refusal.status, headers, body))
            self.close(linger=True)
        else:
            self.rest()

    def refuse(self, refused: Refused) -> None:
        """No more is read. The answers before it are given first; the one whose body broke gives way where it can."""
        self.deaf = True
        self.refusal = refused
        broken, self.reading = self.reading, None
        if broken is not None and not broken.complete:
            broken.lost()
            if broken is not self.current:
                self.waiting.remove(broken)
            elif broken.untouched:
                self.shared.drain.streams -= 1
                self.current = None
            else:
                self.tear()
        if self.current is None and self.blocked is None and not self.closing:
            self._next()

    # --- writing ---------------------------------------------------------------------------------------------

    def pause_writing(self) -> None:
        if self.blocked is None:
            self.blocked = self.loop.create_future()
            self._unsent = self.transport.get_write_buffer_size()
            self.deadline = self.loop.time() + self.limits.write

    def resume_writing(self) -> None:
        blocked, self.blocked = self.blocked, None
        if blocked is None:
            return
        blocked.set_result(None)
        if not self.closing:
            self.deadline = NEVER
            if self.current is None:
                self._next()

    async def writable(self) -> None:
        while self.blocked is not None:
            await asyncio.shield(self.blocked)

    # --- time and the way out -----------------------------------------------------------------------------------------

    def rest(self) -> None:
        """Nothing is being answered: how long that may last depends on what has come of the next request."""
        if self.blocked is not None or self.closing:
            return
        if self.reading is not None:
            self.deadline = self.loop.time() + _LINGER
        elif not self.received:
            self.deadline = self.loop.time() + self.limits.keepalive
            self.headed = False
        elif not self.headed:
            self.deadline = self.loop.time() + self.limits.head
            self.headed = True

    def want_body(self) -> None:
        """The application waits for the request's body; a client that sends none for `limits.write` is dropped."""
        self._release()
        if self.blocked is None:
            self.deadline = self.loop.time() + self.limits.write

    def unhurried(self) -> None:
        if self.current is not None and self.blocked is None:
            self.deadline = NEVER

    def hold(self) -> None:
        if not self._held:
            self._held = True
            self.transport.pause_reading()

    def _release(self) -> None:
        if self._held and not self.waiting:
            if self.rest_of_read:
                self.loop.call_soon(self.read_on)
                return
            self._held = False
            self.transport.resume_reading()

    def read_on(self) -> None:
        """Take what is left of a read, unless there are requests before it that wait."""
        if self.waiting or not self.rest_of_read or self.transport.is_closing():
            return
        rest, self.rest_of_read = self.rest_of_read, b""
        self._release()
        self.data_received(rest)

    def expire(self, now: float) -> None:
        """The deadline passed: end the connection, unless the client at least reads, however slowly."""
        unsent = self.transport.get_write_buffer_size()
        if self.blocked is not None and unsent < self._unsent:
            self._unsent = unsent
            self.deadline = now + self.limits.write
            return
        self.deadline = NEVER
        self.transport.abort()

    def shutdown(self) -> None:
        """The server is leaving: an idle connection ends now, another one with its response."""
        if self.current is None:
            self.close()
        else:
            self.current.keep_alive = False

    def tear(self) -> None:
        """A response cannot be completed: end the connection without its last chunk, so that the client can tell."""
        self.close()

    def reset(self) -> None:
        """The same for a response that only the connection's end delimits: the client is told by RST instead of FIN."""
        reset_on_close = struct.pack("ii", 1, 0)
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset_on_close)
        self.transport.abort()

    def close(self, *, linger: bool = False) -> None:
        """Leave once everything is written. A client still sending gets time to read the answer first."""
        if self.closing:
            return
        linger = (linger or self.reading is not None) and not self.transport.is_closing()
        self.deaf = self.closing = self.last = True
        self.waiting.clear()
        self.deadline = self.loop.time() + (_LINGER if linger else self.limits.write)
        if linger:
            self.transport.write_eof()
            self._release()
        else:
            self.transport.close()
