"""One request and its response between a connection and the ASGI application.

Owns the two ASGI callables, framing of the response and the news of a lost client. Knows nothing of other requests on
the connection, of parsing, or of time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from bff.gateway.heads import BODYLESS, CHUNKED, CLOSE, head, problem

if TYPE_CHECKING:
    from bff.gateway.protocol import Connection
    from bff.gateway.state import App, Message, Scope
    from bff.model import Headers

_LOG: Final = logging.getLogger("bff.server")
_COPY: Final = 32 * 1024  # a body up to this size is joined with its head or frame; a larger one is never copied
_BUFFER: Final = 64 * 1024  # of a request body held while the application does not read
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class Cycle:
    """`scope`, `receive` and `send` of one request."""

    __slots__ = (
        "_body",
        "_callbacks",
        "_chunked",
        "_connection",
        "_expects",
        "_head",
        "_left",
        "_read",
        "_waiter",
        "complete",
        "disconnected",
        "incoming",
        "keep_alive",
        "scope",
        "started",
        "task",
    )

    def __init__(
        self, connection: Connection, scope: Scope, *, incoming: bool, keep_alive: bool, expects: bool
    ) -> None:
        self._connection = connection
        self.scope = scope
        self.incoming = incoming  # more of the request's body is to come
        self.keep_alive = keep_alive
        self._expects = expects
        self._body = b""
        self._read = False  # the application has the whole body
        self._head = b""  # written together with the first of the body
        self._left: int | None = None  # of Content-Length
        self._chunked = False
        self._waiter: asyncio.Future[None] | None = None
        self._callbacks: tuple[Callable[[], None], ...] = ()
        self.started = False
        self.complete = False
        self.disconnected = False
        self.task: asyncio.Task[None] | None = None
        scope["extensions"] = {"bff.closed": self.closed, "bff.interim": self.interim}

    async def run(self, app: App) -> None:
        """Run the application; a failure of its own is a 500 where nothing was written, else a torn connection."""
        cycles = self._connection.shared.cycles
        cycles.add(self)
        try:
            await app(self.scope, self.receive, self.send)
        except Exception:  # noqa: BLE001 - whatever it is, it is the application's
            _LOG.exception("the application failed on %s %s", self.scope["method"], self.scope["path"])
        finally:
            cycles.discard(self)
            self.scope.pop("extensions", None)  # it refers back to this object
            if not (self.complete or self.disconnected):
                self._give_up()
            self._connection.shared.settled()

    def closed(self, callback: Callable[[], None]) -> None:
        """`scope["extensions"]["bff.closed"]`: call back once if the client is lost before the response ended."""
        if self.disconnected:
            callback()
        elif not self.complete:
            self._callbacks = (*self._callbacks, callback)

    def interim(self, status: int, headers: Headers) -> None:
        """`scope["extensions"]["bff.interim"]`: an answer that is not the last (RFC 9110 §15.2), where the client knows them."""
        if not (self.started or self.disconnected) and self.scope["http_version"] == "1.1":
            lines, _, _ = head(status, headers, b"")
            self._connection.transport.write(lines + b"\r\n")

    @property
    def untouched(self) -> bool:
        """Nothing of the response was written, so another one may still take its place."""
        return not self.started or bool(self._head)

    def reply(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        """Answer in the application's place, and end the connection."""
        self.keep_alive = False
        self._left, self._chunked = None, False
        self._start(status, headers)
        self._write(body, more=False)

    # --- from the connection ------------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> bool:
        """Take a piece of the request's body; whether there is room for more."""
        if self.complete or self.disconnected:
            return True
        self._body = self._body + data if self._body else data
        self._wake()
        return len(self._body) <= _BUFFER

    def end(self) -> None:
        """The request's body is complete."""
        self.incoming = False
        self._wake()

    def lost(self) -> None:
        """The client is gone: tell who wants to know, once."""
        if self.disconnected or self.complete:
            return
        self.disconnected = True
        self._wake()
        callbacks, self._callbacks = self._callbacks, ()
        for callback in callbacks:
            try:
                callback()
            except Exception:  # noqa: BLE001 - one reader's failure is not another's
                _LOG.exception("a callback on a lost client failed")

    # --- ASGI ---------------------------------------------------------------------------------------------------------

    async def receive(self) -> Message:
        """The next piece of the body as `http.request`, or `http.disconnect` once there is nobody to answer."""
        if self._expects and not self.started:
            self._connection.transport.write(_CONTINUE)
        self._expects = False
        if self.incoming and not self._body:
            self._connection.want_body()
            await self._wait()
        elif self._read:
            await self._wait()
        if self.disconnected or self.complete:
            return {"type": "http.disconnect"}
        body, self._body = self._body, b""
        self._read = not self.incoming
        return {"type": "http.request", "body": body, "more_body": self.incoming}

    async def send(self, message: Message) -> None:
        """Write; wait first while the client does not read. After the client is gone this does nothing."""
        connection = self._connection
        if connection.blocked is not None and not self.disconnected:
            await connection.writable()
        if self.disconnected:
            return
        if self.complete:
            raise RuntimeError("the response is complete already")
        if message["type"] == "http.response.body":
            if not self.started:
                raise RuntimeError("http.response.body came before http.response.start")
            self._write(message.get("body", b""), more=message.get("more_body", False))
        elif message["type"] == "http.response.start" and not self.started:
            self._start(message["status"], list(message.get("headers", ())))
        else:
            raise RuntimeError(f"unexpected ASGI message {message['type']!r}")

    # --- framing ------------------------------------------------------------------------------------------------------

    def _start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """Remember the head. No body where the status or the method has none (RFC 9110 §6.4.1, RFC 9112 §6)."""
        lines, length, close = head(status, headers, self._connection.shared.date)
        self.started = True
        if self.scope["method"] == "HEAD" or status in BODYLESS:
            self._left = -1
        elif length is not None:
            self._left = length
        elif self.scope["http_version"] == "1.1":
            self._chunked = True
            lines += CHUNKED
        else:
            self.keep_alive = False
        if close or (self._expects and self.incoming):  # the body may come, or not: who sent it must not guess
            self.keep_alive = False
        if not (self.keep_alive or close):
            lines += CLOSE
        self._head = lines + b"\r\n"

    def _write(self, body: bytes, *, more: bool) -> None:
        if self._left is not None:
            body = self._counted(body, more=more)
        top, self._head = self._head, b""
        if self._chunked:
            self._chunk(top, body, more=more)
        elif len(body) <= _COPY:
            if top or body:
                self._connection.transport.write(top + body)
        else:
            self._connection.transport.writelines([top, body] if top else [body])
        if not more:
            self._finish()

    def _chunk(self, top: bytes, body: bytes, *, more: bool) -> None:
        """One chunk with what surrounds it (RFC 9112 §7.1); an empty one would end the body."""
        before = b"%b%x\r\n" % (top, len(body)) if body else top
        after = (b"\r\n" if more else b"\r\n0\r\n\r\n") if body else (b"" if more else b"0\r\n\r\n")
        if len(body) > _COPY:
            self._connection.transport.writelines([before, body, after])
        elif before or after:
            self._connection.transport.write(b"%b%b%b" % (before, body, after))

    def _counted(self, body: bytes, *, more: bool) -> bytes:
        """Hold the application to its Content-Length; -1: there is no body to write."""
        left = self._left
        if left is None or left < 0:
            return b""
        self._left = left = left - len(body)
        if left < 0 or (left and not more):
            raise RuntimeError("the response's body differs from its Content-Length")
        return body

    def _finish(self) -> None:
        self.complete = True
        self._callbacks = ()
        self._body = b""
        self._wake()
        self._connection.answered(self)

    def _give_up(self) -> None:
        """The application ended without an answer."""
        if self.untouched:
            status = 503 if self._connection.shared.drain.draining else 500
            self.reply(status, *problem(status, "The gateway failed to answer this request."))
        elif self._left is None and not self._chunked:  # its end would look like that of the whole
            self._connection.reset()
        else:
            self._connection.tear()

    # --- waiting ------------------------------------------------------------------------------------------------------

    async def _wait(self) -> None:
        if not (self.disconnected or self.complete):
            self._waiter = self._connection.loop.create_future()
            await self._waiter

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
