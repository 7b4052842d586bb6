"""One client connection as it is read: what may be sent, where each request ends, who it is for.

Owns parsing (llhttp through uvicorn's protocol class) and the limits of a head. What llhttp refuses by itself is not
repeated: bare line feeds, folded lines, space before a colon, Content-Length that is no number, comes twice or comes
with Transfer-Encoding, broken chunks. When what is answered is `turns`; ASGI is `cycle`.
"""

from __future__ import annotations

import asyncio
import re
from typing import Final
from urllib.parse import unquote

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from bff.gateway.cycle import Cycle
from bff.gateway.heads import Refused, Stop, target
from bff.gateway.state import PROBES, Scope, Shared
from bff.gateway.turns import NEVER, Turns

_FRAMING: Final = frozenset(
    {b"host", b"content-length", b"transfer-encoding", b"expect", b"upgrade", b"http2-settings"}
)
_NOTHING: Final[frozenset[bytes]] = frozenset()
_HEADERS: Final = 256  # lines of a request's head
_UNREAD: Final = 256 * 1024  # of a body that the application did not read, before the connection is given up
_TURN: Final = 4 * 1024  # of requests, taken before everybody else has a turn: a read may hold thousands of them
_BODY_TURN: Final = 64 * 1024  # of a body, and what is behind it
_UNHEARD: Final = 4 * _UNREAD  # of what comes while the connection ends, before it is ended at once
_SYNC: Final = frozenset({"GET", "HEAD"})
_UNKNOWN: Final = re.compile(rb"(?:\r?\n)*([!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}) ")
_ASGI: Final = {"version": "3.0", "spec_version": "2.3"}


class Connection(Turns, HttpToolsProtocol):
    """The protocol of every accepted socket."""

    def __init__(
        self, config: Config, server_state: ServerState, shared: Shared, loop: asyncio.AbstractEventLoop
    ) -> None:
        HttpToolsProtocol.__init__(self, config, server_state, shared.state, loop)
        Turns.__init__(self)
        self.shared = shared
        self.limits = shared.limits
        self._inside = False  # the head began within a chunk, so `received` is not all of it
        self._dropped = 0  # of a body that nobody reads
        self._skip = False  # a head made up by ourselves is being parsed
        self._method = ""  # of the head being parsed, where llhttp does not know it

    # --- the transport ------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # narrower: TCP and unix sockets only
        shared = self.shared
        self.transport = transport
        if len(shared.connections) >= shared.capacity:
            shared.shed("connections")
            transport.abort()
            return
        shared.connections.add(self)
        self.client = _address(transport.get_extra_info("peername"))
        self.server = _address(transport.get_extra_info("sockname"))
        self.deadline = self.loop.time() + self.limits.head
        self.headed = True

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self.shared.connections.discard(self)
        self.deaf = self.closing = True
        self.deadline = NEVER
        self.waiting.clear()
        self.rest_of_read = b""
        self.resume_writing()
        current, self.current = self.current, None
        if current is not None:
            self.shared.drain.streams -= 1
            current.lost()
        self.shared.settled()
        self.parser = None  # type: ignore[assignment]  # it holds this object: a cycle less for the collector

    def eof_received(self) -> None:
        """The client is gone: half-closed connections are not served, so that leaving cancels what it asked for."""

    def data_received(self, data: bytes) -> None:
        if self.deaf:
            self._dropped += len(data)
            if self._dropped > _UNHEARD:
                self.transport.abort()
            return
        if len(data) > _TURN and (self.reading is None or len(data) > _BODY_TURN):
            self._take_turns(data)
            return
        if not self.received:
            self._inside = False
        self.received += len(data)
        try:
            self._parse(data)
        except Stop:
            self.deaf = True
        except Refused as refused:
            self.refuse(refused)
        if self.current is None and not self.deaf:
            self.rest()

    def _take_turns(self, data: bytes) -> None:
        """Read the beginning; the rest when the loop has turned, and those that began before are answered."""
        turn = _TURN if self.reading is None else _BODY_TURN
        self.hold()
        self.rest_of_read = data[turn:]
        self.data_received(data[:turn])
        if self.current is None or self.reading is not None:  # else `answered` asks for it
            self.loop.call_soon(self.read_on)

    def _parse(self, data: bytes) -> None:
        """Feed the parser, and another one where it stops: in a loop, as one read may have a thousand such requests."""
        left: bytes | None = data
        while left is not None:
            left = self._feed(left)
        if self.received > self.limits.header_bytes:
            raise Refused(431, "The request's trailers are too large.")

    def _feed(self, data: bytes) -> bytes | None:
        """Feed the parser; what the callbacks raise comes out of it as the context of its own error.

        Gives what is still to be fed. Nothing is fed while an error is being handled: that would be the next one's context.
        """
        try:
            if self.received > self.limits.header_bytes and self.reading is None:
                data = self._bounded(data)
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            rest = data[upgrade.args[0] :]
        except httptools.HttpParserError as error:
            context = error.__context__
            if isinstance(context, Refused | Stop):
                raise context from None
            if context is not None:
                raise
            renamed = self._renamed(data) if "method" in str(error) else None
            if renamed is None:
                raise Refused(400, f"The request is malformed: {error}.") from None
            return renamed
        else:
            return None
        self._resume()
        return rest or None

    def _bounded(self, data: bytes) -> bytes:
        """Feed as much as a head may have; the rest is only read if that completed it."""
        before = self.received
        room = max(len(data) - (before - self.limits.header_bytes), 0)
        self.parser.feed_data(data[:room])
        if self.received == before:
            raise Refused(431, f"The request's head has more than {self.limits.header_bytes} bytes.")
        return data[room:]

    def _renamed(self, data: bytes) -> bytes | None:
        """A request whose method llhttp does not know, under one that it does: methods are open (RFC 9110 §9.1).

        None where the method is no token, or `data` does not begin with it: behind another request in one read, or split.
        """
        match = _UNKNOWN.match(data)
        if match is None or self._method or self._inside or self.reading is not None or self.received != len(data):
            return None
        self._method = match[1].decode("ascii")
        self.parser = httptools.HttpRequestParser(self)
        return b"POST" + data[match.end(1) :]

    def _resume(self) -> None:
        """An upgrade was asked for and is ignored (RFC 9110 §7.8): a fresh parser reads the body that llhttp skips."""
        self.parser = httptools.HttpRequestParser(self)
        cycle = self.reading
        if cycle is not None:
            self._skip = True
            length = dict(cycle.scope["headers"]).get(b"content-length")
            frame = b"transfer-encoding: chunked" if length is None else b"content-length: " + length
            self.parser.feed_data(b"POST / HTTP/1.1\r\n" + frame + b"\r\n\r\n")
            self._skip = False

    # --- the parser ---------------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._skip:
            return
        if self.last or self.refusal is not None:
            raise Stop
        if self._inside:
            self.received = 1
        self.url = b""
        self.headers = []
        self._telling = _FRAMING
        self._host: bytes | None = None
        self._body = False
        self._upgrades = False
        self.expect_100_continue = False

    def on_url(self, url: bytes) -> None:
        if not self._skip:
            self.url = self.url + url if self.url else url
            if len(self.url) > self.limits.url_bytes:
                raise Refused(414, f"The request target has more than {self.limits.url_bytes} bytes.")

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        value = value.rstrip(b" \t")
        if name in self._telling and self._framing(name, value):
            return
        self.headers.append((name, value))

    def _framing(self, name: bytes, value: bytes) -> bool:
        """Note what decides where the request ends; whether the header goes no further."""
        if name == b"host":
            if self._host is not None:
                raise Refused(400, "The request has two Host headers.")
            self._host = value
        elif name == b"content-length":
            self._body = value.strip(b"0") != b""
        elif name == b"transfer-encoding":
            if value.lower() != b"chunked":
                raise Refused(501, "The only transfer coding understood is chunked.")
            self._body = True
        elif name == b"expect":
            self.expect_100_continue = value.lower() == b"100-continue"
        else:
            self._upgrades = True
            return True
        return False

    def on_headers_complete(self) -> None:
        if self._skip:
            return
        parser = self.parser
        version = parser.get_http_version()
        method, self._method = self._method or parser.get_method().decode("ascii"), ""
        path, query = self._judge(version, method)
        decoded = path.decode("ascii")
        scope: Scope = {
            "type": "http",
            "asgi": _ASGI,
            "http_version": version,
            "server": self.server,
            "client": self.client,
            "scheme": "http",
            "root_path": "",
            "method": method,
            "path": unquote(decoded) if "%" in decoded else decoded,
            "raw_path": path,
            "query_string": query,
            "headers": self.headers,
            "state": self.shared.state,
        }
        self.received = 0
        self.url = b""  # an idle connection holds nothing of what was asked on it
        self.headers = []  # trailers go nowhere: nobody may rely on one
        self._telling = _NOTHING
        self.last = not (version == "1.1" and parser.should_keep_alive()) or self.shared.drain.draining
        if self.current is not None or self.blocked is not None or self.waiting:
            self.waiting.append(self._cycle(scope))
            self.hold()
        elif self._body or method not in _SYNC or self.full() or not self.try_now(scope):
            self.start(self._cycle(scope))

    def _judge(self, version: str, method: str) -> tuple[bytes, bytes]:
        """Path and query of a head that may be answered; else `Refused`."""
        if version not in ("1.1", "1.0"):
            raise Refused(505, "HTTP/1.1 is spoken here.")
        if method == "CONNECT":
            raise Refused(501, "This is no tunnel.")
        if self._host is None:
            raise Refused(400, "The request has no Host header.")
        if len(self.headers) > _HEADERS or (self._inside and self._size() > self.limits.header_bytes):
            raise Refused(431, "The request has too many headers.")
        path, query, authority = target(self.url)
        if authority is not None:
            self._replace_host(authority)
        accepted = self.shared.hosts.accepts(self._host)
        if accepted is None:
            raise Refused(400, "The Host is malformed.")
        if not accepted and path not in PROBES:
            raise Refused(421, "This host is not served here.")
        if version == "1.0" and self._body and b"transfer-encoding" in dict(self.headers):
            raise Refused(400, "Transfer-Encoding is not part of HTTP/1.0.")
        return path, query

    def _size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _replace_host(self, authority: bytes) -> None:
        """The absolute form's authority outranks the Host header (RFC 9112 §3.2.2)."""
        self._host = authority
        self.headers[:] = [(b"host", authority), *(pair for pair in self.headers if pair[0] != b"host")]

    def on_body(self, body: bytes) -> None:
        self.received = 0
        cycle = self.reading
        if cycle is None or cycle.complete:
            self._dropped += len(body)
            if self._dropped > _UNREAD:
                self.close()
                raise Stop
        elif cycle.feed(body):
            self.unhurried()
        else:
            self.hold()

    def on_message_complete(self) -> None:
        if self._skip or (self._upgrades and self._body and self.parser.should_upgrade()):
            return
        cycle, self.reading = self.reading, None
        self.received = 0
        self._inside = True
        self._dropped = 0
        if cycle is not None:
            cycle.end()
            self.unhurried()

    def _cycle(self, scope: Scope) -> Cycle:
        cycle = Cycle(
            self, scope, incoming=self._body, keep_alive=not self.last, expects=self.expect_100_continue and self._body
        )
        if self._body:
            self.reading = cycle
        return cycle


def _address(name: object) -> tuple[str, int] | None:
    """The first two items of a TCP address; None for a unix socket."""
    return (str(name[0]), int(name[1])) if isinstance(name, tuple) else None
