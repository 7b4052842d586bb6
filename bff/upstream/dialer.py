"""From a name to a connected transport: DNS off the loop and remembered, addresses tried in turn, TLS verified.

Knows nothing of HTTP or of pools. The address that is connected to is one that was judged (`rules.addresses`), never a name
that could lead elsewhere a moment later. Proxies of the environment are ignored: whom we talk to stands in a registration.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from bff.model import Upstream
from bff.rules import addresses as policy

FRESH: Final = 30.0  # seconds an answer of DNS is used without asking again
STALE: Final = 300.0  # seconds it may be used while asking again, or while DNS fails

P = TypeVar("P", bound=asyncio.Protocol)
Lookup = Callable[[str, int], Awaitable[Sequence[str]]]
"""Addresses of a host and port, the preferred first; raises OSError."""


@dataclass(slots=True)
class _Known:
    addresses: list[str] = field(default_factory=list)
    asked: float = 0.0
    lookup: asyncio.Task[list[str]] | None = None


class Resolver:
    """Addresses by name. One lookup at a time per name, shared by all who wait, and owned here."""

    def __init__(self, lookup: Lookup, now: Callable[[], float]) -> None:
        self._lookup = lookup
        self._now = now
        self._known: dict[tuple[str, int], _Known] = {}

    async def addresses(self, host: str, port: int) -> list[str]:
        """At least one address; raises OSError where there is none."""
        known = self._known.setdefault((host, port), _Known())
        age = self._now() - known.asked
        if known.addresses and age <= FRESH:
            return known.addresses
        if known.lookup is None:
            known.lookup = asyncio.create_task(self._ask(host, port, known))
            known.lookup.add_done_callback(_seen)
        if known.addresses and age <= STALE:
            return known.addresses
        return await asyncio.shield(known.lookup)

    def worked(self, host: str, port: int, address: str) -> None:
        """The next connection tries it first."""
        known = self._known.get((host, port))
        if known is not None and address in known.addresses:
            known.addresses = [address, *(other for other in known.addresses if other != address)]

    async def aclose(self) -> None:
        lookups = [known.lookup for known in self._known.values() if known.lookup is not None]
        for lookup in lookups:
            lookup.cancel()
        await asyncio.gather(*lookups, return_exceptions=True)

    async def _ask(self, host: str, port: int, known: _Known) -> list[str]:
        try:
            known.addresses = list(await self._lookup(host, port))
            known.asked = self._now()
        except OSError:
            if not known.addresses or self._now() - known.asked > STALE:
                raise  # until then the old answer is better than none
        finally:
            known.lookup = None
        return known.addresses


async def look_up(host: str, port: int) -> list[str]:
    """By the system's own rules, in a thread."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class Dialer:
    """Opens connections to upstreams. `local`: names may lead to this machine itself, as on a developer's."""

    def __init__(self, loop: asyncio.AbstractEventLoop, lookup: Lookup = look_up, *, local: bool = False) -> None:
        self._loop = loop
        self._local = local
        self._resolver = Resolver(lookup, loop.time)
        self._tls: ssl.SSLContext | None = None

    async def dial(self, upstream: Upstream, make: Callable[[], P], within: float) -> P:
        """A connected protocol; raises OSError (refused, unknown, untrusted) or UnicodeError (no name at all).

        `within` seconds are divided among the addresses left to try; the caller ends the whole attempt by cancelling.
        """
        options: dict[str, Any] = {}
        if upstream.scheme == "https":
            options = {"ssl": await self._context(), "server_hostname": upstream.host}
        if upstream.socket:
            return (await self._loop.create_unix_connection(make, upstream.socket, **options))[1]
        host, port = upstream.host, upstream.port
        addresses = [host] if policy.literal(host) else await self._resolver.addresses(host, port)
        addresses = self._permitted(addresses, host)
        until = self._loop.time() + within
        for left, address in zip(range(len(addresses), 0, -1), addresses, strict=True):
            try:
                async with asyncio.timeout((until - self._loop.time()) / left):
                    made = (await self._loop.create_connection(make, address, port, **options))[1]
            except OSError:  # TimeoutError too
                if left == 1:
                    raise
            else:
                self._resolver.worked(host, port, address)
                return made
        raise OSError(f"{host} has no address")

    async def aclose(self) -> None:
        await self._resolver.aclose()

    def _permitted(self, addresses: list[str], host: str) -> list[str]:
        """The addresses that may be connected to; raises PermissionError where all of them are refused."""
        refused = {address: policy.refused(address, host, local=self._local) for address in addresses}
        permitted = [address for address in addresses if not refused[address]]
        if addresses and not permitted:
            told = ", ".join(f"{address} ({why})" for address, why in refused.items())
            raise PermissionError(f"{host} leads to {told}; an upstream on this machine is written as its address")
        return permitted

    async def _context(self) -> ssl.SSLContext:
        if self._tls is None:  # reads the system's authorities: tens of milliseconds
            context = await self._loop.run_in_executor(None, ssl.create_default_context)
            context.set_alpn_protocols(["http/1.1"])
            self._tls = context
        return self._tls


def _seen(lookup: asyncio.Task[list[str]]) -> None:
    """A lookup may fail when nobody waits for it any more."""
    if not lookup.cancelled():
        lookup.exception()
