"""One exchange on a connection's transport, piece by piece: bodies of any size pass through, nothing is collected.

Knows the wire (HTTP/1.1, RFC 9112) and nothing of pools, deadlines or what the bodies are for: a `Heard` is told. An answer
that is not framed beyond doubt breaks, and whatever follows a complete one ends the connection.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Final, Protocol

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from bff.model import Reason
from bff.upstream.connection import FIELDS, Connection

Headers = list[tuple[bytes, bytes]]
SWITCHED: Final = 101


class Heard(Protocol):
    """Who asked. `headed` comes once, then any number of `piece`; `ended` or `broke` is the last word."""

    def began(self) -> None:
        """The first byte of a final answer is here."""

    def interim(self, status: int, headers: Headers) -> None:
        """100 or another answer that is not the last (RFC 9110 §15.2)."""

    def headed(self, status: int, headers: Headers, length: int | None) -> None:
        """The head of the final answer; `length` of the body, where the head tells it."""

    def piece(self, data: bytes) -> None: ...
    def ended(self, *, reusable: bool) -> None: ...
    def broke(self, reason: Reason, detail: str, *, seen: bool) -> None:
        """`seen`: after at least one byte of an answer."""

    def choked(self, *, full: bool) -> None:
        """Whether the upstream takes no more at the moment."""


class _Stop(Exception):
    """Ends parsing from within a callback; why is noted already."""


class Wire(asyncio.Protocol):
    """See the module. Lives for one exchange on a lent transport."""

    def __init__(self, heard: Heard, connection: Connection, *, bodiless: bool, header_bytes: int) -> None:
        self._heard: Heard | None = heard
        self._connection = connection
        self._bodiless = bodiless
        self._header_bytes = header_bytes
        self._parser = HttpResponseParser(self)
        self._headers: Headers = []
        self._fault: tuple[Reason, str] | None = None
        self._status = 0  # of the final answer, once its head is complete
        self._length = -1
        self._bare = 0  # bytes read since the head began, or since the last of the body
        self._interim = 0  # as many of them belong to answers that are not the last
        self._chunked = self._complete = self._extra = self._held = self._keep = False
        self._transport = connection.lend(self)

    # --- what its owner does

    def write(self, *pieces: bytes) -> None:
        if len(pieces) == 1:
            self._transport.write(pieces[0])
        else:
            self._transport.writelines(pieces)

    def hold(self) -> None:
        """Read no more for now."""
        if not self._held and not self._transport.is_closing():
            self._held = True
            self._transport.pause_reading()

    def flow(self) -> None:
        if self._held and not self._transport.is_closing():
            self._held = False
            self._transport.resume_reading()

    @property
    def sent(self) -> bool:
        """Whether all that was written has left."""
        return self._transport.get_write_buffer_size() == 0

    def leave(self, *, reusable: bool) -> Connection | None:
        """The exchange is over; the connection, where it can serve again."""
        self._heard = None
        if reusable and not self._transport.is_closing():
            self.flow()
            self._connection.take_back()
            return self._connection
        self._connection.close()
        return None

    # --- what the transport tells

    def data_received(self, data: bytes) -> None:
        if self._heard is None:
            return
        if not self._status and not self._bare:
            self._interim = 0
        self._bare += len(data)
        try:
            self._feed(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            if not self._complete:
                self._break(*(self._fault or (Reason.TORN, f"malformed response: {error}")))
                return
            self._extra = True
        if self._complete:
            self._end(reusable=not self._extra and self._keep)
        elif not self._status and self._bare > self._interim:
            self._heard.began()
        elif self._bare > 2 * self._header_bytes:
            self._break(Reason.TOO_LARGE, "more framing than content")

    def _feed(self, data: bytes) -> None:
        """A read that goes over the cap on heads: only what the cap leaves may still belong to one."""
        over = self._bare - self._header_bytes
        if self._status or over <= 0:
            self._parser.feed_data(data)
            return
        self._parser.feed_data(data[: len(data) - over])
        if not self._status:
            self._fault = (Reason.TOO_LARGE, f"head is over {self._header_bytes} bytes")
            raise HttpParserError
        self._parser.feed_data(data[len(data) - over :])

    def eof_received(self) -> None:
        if self._heard is None:
            return
        if self._status and self._length < 0 and not self._chunked and self._ended_properly():  # RFC 9112 §6.3
            self._end(reusable=False)
        else:
            self._break(Reason.TORN, "the connection was closed")

    def connection_lost(self, exc: Exception | None) -> None:
        if self._heard is not None:
            self._break(Reason.TORN, f"the connection was lost: {exc}" if exc else "the connection was lost")
        self._connection.connection_lost(exc)

    def pause_writing(self) -> None:
        if self._heard is not None:
            self._heard.choked(full=True)

    def resume_writing(self) -> None:
        if self._heard is not None:
            self._heard.choked(full=False)

    # --- what the parser tells

    def on_message_begin(self) -> None:
        if self._complete:
            self._extra = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._status:  # a trailer: dropped, as RFC 9110 §6.5 allows
            return
        name, value = name.lower(), value.rstrip()
        if name == b"content-length":
            self._length = int(value)
        elif name == b"transfer-encoding":
            if self._chunked or value.lower() != b"chunked" or self._parser.get_http_version() != "1.1":
                self._stop(Reason.TORN, f"Transfer-Encoding {value.decode('latin-1')!r} cannot be trusted")
            self._chunked = True
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        heard, status = self._heard, self._parser.get_status_code()
        if heard is None or self._complete:
            raise _Stop
        if self._parser.get_http_version() not in ("1.0", "1.1"):
            self._stop(Reason.TORN, "not HTTP/1.x")
        if not 200 <= status <= 599:
            self._skip(heard, status)
            return
        if len(self._headers) > FIELDS:
            self._stop(Reason.TOO_LARGE, f"more than {FIELDS} header fields")
        self._keep = self._parser.should_keep_alive()
        self._status, self._bare = status, 0
        self._bodiless = self._bodiless or status in (204, 304)
        self._complete = self._bodiless
        headers, self._headers = self._headers, []
        heard.headed(status, headers, self._length if self._length >= 0 and not self._bodiless else None)

    def on_body(self, body: bytes) -> None:
        if self._complete or self._heard is None:
            self._extra = True
            return
        self._bare = 0
        self._heard.piece(body)

    def on_message_complete(self) -> None:
        if self._status:
            self._complete = True

    # --- the rest

    def _skip(self, heard: Heard, status: int) -> None:
        """1xx are not the last word (RFC 9110 §15.2) but count towards the cap on heads; no other protocol was offered."""
        if status == SWITCHED or not 100 <= status <= 199:
            self._stop(Reason.REFUSED, f"{status} was not asked for")
        headers, self._headers, self._length, self._chunked = self._headers, [], -1, False
        self._interim = self._bare
        heard.interim(status, headers)

    def _ended_properly(self) -> bool:
        """Under TLS only the peer's close_notify is an end (RFC 9112 §9.8)."""
        tls = self._transport.get_extra_info("ssl_object")
        if tls is None:
            return True
        try:
            return not tls.read(1)
        except ssl.SSLError:  # there could be more to read
            return False

    def _stop(self, reason: Reason, detail: str) -> None:
        self._fault = (reason, detail)
        raise _Stop

    def _end(self, *, reusable: bool) -> None:
        heard = self._heard
        if heard is not None:
            heard.ended(reusable=reusable)

    def _break(self, reason: Reason, detail: str) -> None:
        heard, self._heard = self._heard, None
        if heard is not None:
            seen = bool(self._status or self._bare)
            if seen:
                heard.began()
            heard.broke(reason, detail, seen=seen)
