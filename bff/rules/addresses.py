"""Which addresses a context may be reached at: what its registration names is taken at its word, what DNS says is not.

Pure. Private networks are where services live, so they are no secret. What is refused is what only the gateway's own
machine can reach: its loopback interface behind a name that says otherwise (DNS rebinding), and the link-local and
metadata addresses that answer with its host's credentials (SSRF).
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

_METADATA: Final = frozenset(map(ip_address, ("100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254")))
"""Of clouds whose metadata service is not link-local: Alibaba, Azure, Oracle, AWS over IPv6."""
_NAT64: Final = IPv6Network("64:ff9b::/96")  # RFC 6052
_COMPATIBLE: Final = IPv6Network("::/96")  # RFC 4291 §2.5.5.1, deprecated; `::` and `::1` lie in it and are themselves
_THIS_NETWORK: Final = IPv4Network("0.0.0.0/8")  # RFC 1122 §3.2.1.3; connecting to 0.0.0.0 is connecting to oneself
_NUMBER: Final = re.compile(r"0x[0-9a-f]*|[0-9]+", re.IGNORECASE)


def literal(host: str) -> IPv4Address | IPv6Address | None:
    """The address that a host is, written as one; None for a name."""
    try:
        return ip_address(host)
    except ValueError:
        return None


def disguised(host: str) -> bool:
    """Whether a host looks like a name and is read as an IPv4 address by resolvers: `2130706433`, `0x7f.1`, `0177.0.0.1`.

    The rule of the URL standard (§3.5, "ends in a number"): then it is an address, or nothing.
    """
    return _NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2]) is not None and literal(host) is None


def inner(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address that an IPv6 address leads to: mapped, compatible, 6to4, or behind NAT64."""
    if isinstance(address, IPv4Address):
        return address
    embedded = address.ipv4_mapped or address.sixtofour
    if embedded is not None:
        return embedded
    last = IPv4Address(int(address) & 0xFFFFFFFF)
    return last if address in _NAT64 or (address in _COMPATIBLE and int(address) > 1) else address


def never(address: IPv4Address | IPv6Address) -> str:
    """What an address is that no context can have; "" where it may have it."""
    found = inner(address)
    if found in _METADATA:
        return "a cloud's metadata service"
    if found.is_link_local:
        return "link-local"
    if found.is_unspecified or found in _THIS_NETWORK:
        return "unspecified"
    if found.is_multicast:
        return "multicast"
    if isinstance(found, IPv4Address) and found.is_reserved:
        return "reserved"
    return ""


def refused(address: str, host: str, *, local: bool) -> str:
    """Why `address` may not be connected to for an upstream that names `host`; "" where it may.

    `local`: names may lead to this machine, as on a developer's. `localhost` (RFC 6761 §6.3) and a loopback address
    written out always may.
    """
    found = literal(address)
    if found is None:
        return "no address"
    why = never(found)
    if why:
        return why
    named = literal(host) is not None or host.rstrip(".").lower().rpartition(".")[2] == "localhost"
    return "this machine itself" if inner(found).is_loopback and not (local or named) else ""
