"""What the connections of one server share: limits, accepted hosts, who is connected, and whether it is draining.

Knows nothing of HTTP's grammar and does no I/O; the only dependency is the words of `bff.model`.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from bff.gateway.cycle import Cycle
    from bff.gateway.protocol import Connection
    from bff.model import Headers

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Now = Callable[[Scope], "tuple[int, Headers, bytes] | None"]
"""An app's synchronous answer to a GET or HEAD without a body: status, headers, whole body; None: ask it the long way."""

PROBES: Final = frozenset({b"/_bff/livez", b"/_bff/readyz", b"/_bff/metrics"})
"""Answered whatever Host they name, and however many responses are under way."""

_HOST: Final = re.compile(rb"(\[[0-9a-f:.]+\]|[a-z0-9._~-]+)(?::[0-9]*)?", re.IGNORECASE)
_REMEMBERED: Final = 1024  # accepted Host values; anybody can invent more
_LONGEST: Final = 256  # bytes of one that is remembered: a name has 253 at most


class Limits(Protocol):
    """The part of `limits:` that a server needs; durations in seconds, sizes in bytes."""

    @property
    def streams(self) -> int: ...
    @property
    def head(self) -> float: ...
    @property
    def header_bytes(self) -> int: ...
    @property
    def url_bytes(self) -> int: ...
    @property
    def keepalive(self) -> float: ...
    @property
    def write(self) -> float: ...
    @property
    def drain(self) -> float: ...


class Settings(Protocol):
    """The part of the operator's settings that a server needs."""

    @property
    def listen(self) -> str: ...
    @property
    def hosts(self) -> Sequence[str]: ...
    @property
    def limits(self) -> Limits: ...


@dataclass(slots=True)
class Drain:
    """What the application and the numbers read of the server: whether it is leaving, and what is under way."""

    draining: bool = False
    streams: int = 0  # responses under way


class Hosts:
    """Which Host values are answered. Ports are ignored, case too; a value is judged once and remembered."""

    __slots__ = ("_any", "_known", "_names")

    def __init__(self, names: Sequence[str]) -> None:
        self._any = "*" in names
        self._names = frozenset(name.lower().encode() for name in names)
        self._known: dict[bytes, bool] = {}

    def accepts(self, host: bytes) -> bool | None:
        """True or False; None where it is no Host value at all (RFC 9110 §7.2)."""
        known = self._known.get(host)
        return known if known is not None else self._judge(host)

    def _judge(self, host: bytes) -> bool | None:
        match = _HOST.fullmatch(host)
        if match is None:
            return None
        accepted = self._any or match[1].lower() in self._names
        if len(self._known) < _REMEMBERED and len(host) <= _LONGEST:
            self._known[host] = accepted
        return accepted


@dataclass(slots=True, kw_only=True)
class Shared:
    """One server's state, in the hands of all its connections and of one loop."""

    app: App
    limits: Limits
    hosts: Hosts
    drain: Drain = field(default_factory=Drain)
    now: Now | None = None
    shed: Callable[[str], None] = lambda _limit: None
    overloaded: Callable[[bytes], str] | None = None  # the limit for which a path is not answered now; "": it is
    hurry: Callable[[], None] = lambda: None  # what is under way has little time left to end well
    connections: set[Connection] = field(default_factory=set)
    cycles: set[Cycle] = field(default_factory=set)  # whose application is running
    capacity: int = 1 << 30  # connections
    state: dict[str, Any] = field(default_factory=dict)  # the lifespan's
    date: bytes = b""  # the Date line of this second

    settled: Callable[[], None] = lambda: None  # a connection or an application has ended; perhaps it was the last one

    def tick(self, wall: float) -> None:
        """Renew the Date line (RFC 9110 §6.6.1); once a second is enough."""
        self.date = b"date: " + formatdate(wall, usegmt=True).encode() + b"\r\n"

    def sweep(self, now: float) -> None:
        """End the connections whose time is over."""
        for connection in [one for one in self.connections if one.deadline <= now]:
            connection.expire(now)
