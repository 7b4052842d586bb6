"""One keep-alive connection to an upstream: writes a request, reads the one response it asked for, within caps.

Knows the wire (HTTP/1.1, RFC 9112) and nothing of pools, deadlines or retries: a `Listener` hears how it went. A response
that is not framed beyond doubt fails, and whatever follows a complete one closes the connection: bytes nobody asked for
are never given to anybody.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Final, NamedTuple, Protocol, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from bff.model import Headers, Reason
from bff.rules.caching import Fields, fields

FIELDS: Final = 256  # header fields of a response; real ones have tens
KNOWN: Final = 1024  # heads remembered
SHORT: Final = 1024  # bytes of a head that is remembered
_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding", b"content-encoding"})
_LAST_CHUNK: Final = b"0\r\n\r\n"


class Head(NamedTuple):
    """The head of a response."""

    status: int
    headers: Headers
    found: Fields  # the same by name
    length: int  # bytes of the body, where the head alone tells it


class Known(dict[bytes, Head]):
    """Heads by their bytes, of responses with a length that left their connection fit for another request.

    A head often comes again: all that differs between answers of one second is what they are about. Its bytes mean the
    same then, so they are parsed once.
    """

    def learn(self, data: bytes, head: Head) -> None:
        if len(data) <= SHORT:
            if len(self) >= KNOWN:
                self.clear()
            self[data] = head


class Listener(Protocol):
    """Who asked: hears exactly one of `answered`, `failed` and `lost`, the connection being free or gone by then."""

    def began(self) -> None:
        """Some of the final response is here, though not all; said once a read."""

    def answered(self, connection: Connection | None, head: Head, body: bytes) -> None:
        """`connection`: this one, where it can serve again."""

    def failed(self, reason: Reason, detail: str) -> None: ...

    def lost(self, connection: Connection, detail: str, *, seen: bool) -> None:
        """The peer ended the connection too early; `seen`: after at least one byte of a response."""


class Owner(Protocol):
    """Who keeps it while it is idle."""

    def spoilt(self, connection: Connection) -> None:
        """Something came, or its end, while it was idle: it must not be used again."""

    def gone(self, connection: Connection) -> None:
        """Its transport is lost; said once."""


class _Stop(Exception):
    """Ends parsing from within a callback; why is noted already."""


class Connection(asyncio.Protocol):
    """See the module. One per transport."""

    _transport: asyncio.Transport  # from `connection_made` on; nobody holds the connection before

    def __init__(self, owner: Owner, *, header_bytes: int, known: Known) -> None:
        self._owner = owner
        self._header_bytes = header_bytes
        self._known = known
        self._listener: Listener | None = None
        self._parser = HttpResponseParser(self)
        self._fault: tuple[Reason, str] | None = None
        self._bodiless = self._uploads = False
        self._max_body = 0
        self.fit = True  # for another request, once the one under way is answered
        self.used = False  # has answered before: then the peer may be closing it just now (RFC 9112 §9.3.1)
        # of the one response that is awaited or read:
        self._headers: list[tuple[bytes, bytes]] = []
        self._body: bytes | bytearray = b""
        self._status = 0  # of the final response, once its head is complete
        self._length = -1  # as announced
        self._raw = 0  # bytes read since the request
        self._interim = 0  # as many of them belong to interim responses
        self._chunked = self._complete = self._keep = False

    # --- what its owner does

    def ask(self, listener: Listener, request: bytes, bodiless: bool, uploads: bool, max_body: int) -> None:
        """Write one whole request; `bodiless`: its answer has no body (HEAD), `uploads`: it has one itself."""
        self._listener = listener
        self._bodiless = bodiless
        self._uploads = uploads
        self._max_body = max_body
        self._transport.write(request)

    def close(self) -> None:
        """End it now; no listener hears of it."""
        self.fit = False
        self._listener = None
        self._transport.abort()

    def lend(self, protocol: asyncio.Protocol) -> asyncio.Transport:
        """Let another protocol speak on its transport; that one passes `connection_lost` on, and `take_back` ends it."""
        self._transport.set_protocol(protocol)
        return self._transport

    def take_back(self) -> None:
        """One whole exchange was had on it by whom it was lent to, and nothing is left over."""
        self.used = True
        self._transport.set_protocol(self)

    def end(self, why: str) -> None:
        """End it now; who waits for it hears why."""
        listener = self._listener
        if listener is not None:
            self._fail(listener, Reason.REFUSED, why)
        else:
            self.close()

    # --- what the transport tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        listener = self._listener
        if listener is None:
            self.close()
            self._owner.spoilt(self)
            return
        if not self._raw and not self._bodiless:
            start = data.find(b"\r\n\r\n") + 4
            head = self._known.get(data[:start])
            if head is not None and start + head.length == len(data) and self._fits(head):
                self.used = True
                self._listener = None
                listener.answered(self, head, data[start:])
                return
        headless, before = not self._status, len(self._body)
        self._raw += len(data)
        clean = True
        try:
            if headless and self._raw > self._header_bytes:
                self._feed_capped(data)
            else:
                self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            if not self._complete:
                self._fail(listener, *(self._fault or (Reason.TORN, f"malformed response: {error}")))
                return
            clean = False
        if not self._complete:
            self._wait(listener)
        elif not (clean and self._keep and (not self._uploads or self._sent())):
            self._finish(listener, reusable=False)
        elif self._chunked:
            self._finish(listener, reusable=data.endswith(_LAST_CHUNK))
        else:  # where the head ended in this read and how much body followed must account for every byte
            start, length = data.find(b"\r\n\r\n") + 4 if headless else 0, len(self._body)
            accounted = start + length - before == len(data)
            alone = accounted and self._raw == len(data) and not self._bodiless
            self._finish(listener, reusable=accounted, learn=data[:start] if alone else b"")

    def eof_received(self) -> None:
        listener = self._listener
        if listener is None:
            self.fit = False
            self._owner.spoilt(self)
        elif self._status and self._length < 0 and not self._chunked and self._ended_properly():  # RFC 9112 §6.3
            self._finish(listener, reusable=False)
        else:
            self._lose(listener, "the connection was closed")

    def connection_lost(self, error: Exception | None) -> None:
        self.fit = False
        listener = self._listener
        if listener is not None:
            self._lose(listener, f"the connection was lost: {error}" if error else "the connection was lost")
        self._owner.gone(self)

    # --- what the parser tells

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._status:  # a trailer
            return
        name = name.lower()
        value = value.rstrip()
        self._headers.append((name, value))
        if name in _FRAMING:
            self._check_framing(name, value)

    def on_headers_complete(self) -> None:
        if self._complete:  # a second response in the same read
            raise _Stop
        status = self._parser.get_status_code()
        if not 200 <= status <= 599:
            self._skip(status)
            return
        self._keep = self._parser.should_keep_alive()
        if not self._keep and self._parser.get_http_version() not in ("1.0", "1.1"):
            self._stop(Reason.TORN, "not HTTP/1.x")
        if len(self._headers) > FIELDS:
            self._stop(Reason.TOO_LARGE, f"more than {FIELDS} header fields")
        if self._bodiless:
            self._complete = True
        elif self._length > self._max_body and status != 304:  # whose length is that of the answer it stands for
            self._stop(Reason.TOO_LARGE, f"Content-Length {self._length} is over max_body {self._max_body}")
        self._status = status

    def on_body(self, chunk: bytes) -> None:
        if self._complete:  # a body where none may be
            raise _Stop
        held = self._body
        if len(held) + len(chunk) > self._max_body:
            self._stop(Reason.TOO_LARGE, f"body is over max_body {self._max_body}")
        if not held:
            self._body = chunk
        elif isinstance(held, bytearray):
            held += chunk
        else:
            self._body = bytearray(held) + chunk

    def on_message_complete(self) -> None:
        if self._status:
            self._complete = True

    # --- the rest

    def _check_framing(self, name: bytes, value: bytes) -> None:
        """Strict where llhttp is not: it refuses malformed and doubled lengths itself, and both kinds of framing at once."""
        if name == b"content-length":
            self._length = int(value)
        elif name == b"content-encoding":
            if value.lower() not in (b"identity", b""):
                self._stop(Reason.REFUSED, f"Content-Encoding {value.decode('latin-1')!r} was not asked for")
        elif self._chunked or value.lower() != b"chunked" or self._parser.get_http_version() != "1.1":
            self._stop(Reason.TORN, f"Transfer-Encoding {value.decode('latin-1')!r} cannot be trusted")
        else:
            self._chunked = True

    def _skip(self, status: int) -> None:
        """1xx are skipped (RFC 9110 §15.2) but count towards the cap on heads; we never offer to switch protocols."""
        if status == 101:
            self._stop(Reason.REFUSED, "101 Switching Protocols was not asked for")
        if not 100 <= status <= 199:
            self._stop(Reason.TORN, f"status {status}")
        self._headers = []
        self._length = -1
        self._chunked = False
        self._interim = self._raw

    def _feed_capped(self, data: bytes) -> None:
        """A read that goes over the cap on heads: only what the cap leaves may still belong to one."""
        left = self._header_bytes - self._raw + len(data)
        self._parser.feed_data(data[:left])
        if not self._status:
            self._fault = (Reason.TOO_LARGE, f"head is over {self._header_bytes} bytes")
            raise HttpParserError
        self._parser.feed_data(data[left:])

    def _fits(self, head: Head) -> bool:
        return head.length <= self._max_body and (not self._uploads or self._sent())

    def _sent(self) -> bool:
        """Whether the request was sent in full: an answer may come before."""
        return self._transport.get_write_buffer_size() == 0

    def _ended_properly(self) -> bool:
        """Under TLS only the peer's close_notify is an end: anybody on the way can cut a connection (RFC 9112 §9.8)."""
        tls = self._transport.get_extra_info("ssl_object")
        if tls is None:
            return True
        try:
            return not tls.read(1)
        except ssl.SSLError:  # there could be more to read
            return False

    def _wait(self, listener: Listener) -> None:
        if self._chunked and self._raw > 2 * self._header_bytes + 8 * len(self._body):  # a chunk of 1 byte costs 6
            self._fail(listener, Reason.TOO_LARGE, "more framing than content")
        elif self._raw > self._interim:
            listener.began()

    def _stop(self, reason: Reason, detail: str) -> None:
        self._fault = (reason, detail)
        raise _Stop

    def _finish(self, listener: Listener, *, reusable: bool, learn: bytes = b"") -> None:
        """`learn`: the bytes of the head, where it tells all about how the response ends."""
        body = self._body
        if isinstance(body, bytearray):
            body = bytes(body)
        head = Head(self._status, self._headers, fields(self._headers), len(body))
        if not reusable:
            self.close()
            listener.answered(None, head, body)
            return
        if learn:
            self._known.learn(learn, head)
        if self._bodiless:
            self._parser = HttpResponseParser(self)  # the old one waits for a body
        self.used = True
        self._listener = None
        self._headers = []
        self._body = b""
        self._status = self._raw = self._interim = 0
        self._length = -1
        self._chunked = self._complete = False
        listener.answered(self, head, body)

    def _fail(self, listener: Listener, reason: Reason, detail: str) -> None:
        self.close()
        if self._raw:
            listener.began()
        listener.failed(reason, detail)

    def _lose(self, listener: Listener, detail: str) -> None:
        self.close()
        if self._raw:
            listener.began()
        listener.lost(self, detail, seen=self._raw > 0)
