"""Who is asking: a principal from a trusted proxy's header or from a verified token; anybody else is anonymous.

Synchronous and without I/O per request. Knows nothing of pages, nor how a token is verified.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from bff.rules.cookies import cookies

if TYPE_CHECKING:
    from bff.gateway.tokens import Tokens

_NAME_LENGTH: Final = 256
_REMEMBERED: Final = 4096


@dataclass(frozen=True, slots=True)
class Identity:
    """`unverified`: a credential came that the gateway could not verify, or that belongs to somebody else."""

    principal: str | None = None
    unverified: bool = False


ANONYMOUS: Final = Identity()
UNVERIFIED: Final = Identity(None, unverified=True)
GetJson = Callable[[str], Awaitable[Any]]


class Proxies:
    """The peers whose word is believed: addresses and CIDR blocks. A unix socket's peer has no address and is none."""

    def __init__(self, blocks: Sequence[str]) -> None:
        """Raise `ValueError` naming the first entry that is neither."""
        self._networks = [ipaddress.ip_network(block, strict=False) for block in blocks]
        self._known: dict[str, bool] = {}

    def __bool__(self) -> bool:
        return bool(self._networks)

    def trust(self, client: str) -> bool:
        if not self._networks:
            return False
        known = self._known.get(client)
        if known is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            known = self._known[client] = self._judge(client)
        return known

    def _judge(self, client: str) -> bool:
        try:
            address = ipaddress.ip_address(client)
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None)  # an IPv4 peer of a dual-stack socket
        return any((mapped or address) in network for network in self._networks)


def named(value: object) -> str | None:
    """A principal's name, if it can be one: short, printable, not empty."""
    if isinstance(value, str) and 0 < len(value) <= _NAME_LENGTH and value.isprintable():
        return value.strip() or None
    return None


class Identifier:
    """The principal of a request, in one look at its headers."""

    def __init__(self, *, header: str = "", trusted_proxies: Sequence[str] = (), tokens: Tokens | None = None) -> None:
        """`header` is believed from `trusted_proxies` only; `ValueError` names an entry that is no address."""
        self.proxies = Proxies(trusted_proxies)
        self.tokens = tokens
        self._header = header.lower().encode()
        self._wanted = frozenset({self._header, b"authorization", b"cookie"})
        schemes, names = (tokens.rules.authorization, tokens.rules.cookies) if tokens is not None else ((), ())
        self._schemes = frozenset(scheme.lower().encode() for scheme in schemes)
        self._cookies = tuple(name.encode() for name in names)
        self._task: asyncio.Task[None] | None = None

    @property
    def remote(self) -> bool:
        """Whether there are keys behind a URL."""
        return self.tokens is not None and self.tokens.remote

    def start(self, get: GetJson) -> None:
        """Begin to refresh keys that are behind a URL; `aclose` ends it."""
        if self.tokens is not None and self.tokens.remote:
            self._task = asyncio.get_running_loop().create_task(self.tokens.refresh(get))

    async def aclose(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def identify(self, headers: Sequence[tuple[bytes, bytes]], client: str) -> Identity:
        """Who asks. `client` is the address of the peer, "" where it has none. Names are lower-case."""
        found = [pair for pair in headers if pair[0] in self._wanted]
        return self._identify(found, client) if found else ANONYMOUS

    def _identify(self, found: Sequence[tuple[bytes, bytes]], client: str) -> Identity:
        vouched = [value for name, value in found if name == self._header]
        principals = [self._vouched(vouched)] if vouched and self.proxies.trust(client) else []
        credentials = [self._authorization(value) for name, value in found if name == b"authorization"]
        credentials += self._from_cookies([value for name, value in found if name == b"cookie"])
        said = [*filter(None, principals), *filter(None, credentials)]
        if not said:
            return UNVERIFIED if credentials else ANONYMOUS
        return Identity(said[0], unverified=any(credential != said[0] for credential in credentials))

    def _vouched(self, values: Sequence[bytes]) -> str | None:
        """The proxy's word; two of them are none, since one may be the client's own."""
        if len(values) != 1:
            return None
        try:
            return named(values[0].decode())
        except UnicodeDecodeError:
            return None

    def _authorization(self, value: bytes) -> str | None:
        scheme, _, token = value.partition(b" ")
        if self.tokens is None or scheme.lower() not in self._schemes:
            return None
        return self.tokens.principal(token.strip())

    def _from_cookies(self, values: Sequence[bytes]) -> list[str | None]:
        """Of a token in two cookies, only one of which scripts can read; one that is incomplete is a bad credential."""
        if self.tokens is None or not self._cookies or not values:
            return []
        jar = cookies(values)
        parts = [jar.get(name, b"") for name in self._cookies]
        if not any(parts):
            return []
        return [self.tokens.principal(b".".join(parts)) if all(parts) else None]
