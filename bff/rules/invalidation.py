"""Which kept answers an unsafe request makes doubtful (RFC 9111 §4.4), and the canonical URI they are kept by.

Pure.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import urljoin, urlsplit

from bff.model import Purge
from bff.rules.caching import Fields, text
from bff.rules.rule import Rule

SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""Methods that change nothing (RFC 9110 §9.2.1); an unknown one may."""
_PORTS: Final = {"http": ":80", "https": ":443"}


def uri(scheme: str, authority: str, target: str) -> str:
    """The absolute URI of a request in one spelling (RFC 9110 §4.2.3): scheme and host in lower case, no default port."""
    scheme, authority = scheme.lower(), authority.lower()
    if port := _PORTS.get(scheme):
        authority = authority.removesuffix(port).removesuffix(":")
    path = target.partition("#")[0]
    return f"{scheme}://{authority}{path if path.startswith('/') else '/' + path}"


def tag(of: str) -> str:
    """The name under which all that is kept of a URI is purged."""
    return f"uri:{of}"


def named(purge: Purge) -> str:
    """The URI whose answers a purge is about, of which no fragment is one; "" where it is about others."""
    return purge.value.removeprefix("uri:") if purge.kind == "tag" and purge.value.startswith("uri:") else ""


def invalidated(method: str, status: int, target: str, headers: Fields) -> tuple[str, ...]:
    """The URIs whose kept answers go, all variants of them; `target`: the request's own, as `uri` gives it.

    Its own, and those that Location and Content-Location name on the same origin; only after a 2xx or 3xx.
    """
    if method in SAFE or not 200 <= status < 400:
        return ()
    named = (_same_origin(target, text(headers, name)) for name in (b"location", b"content-location"))
    return tuple(dict.fromkeys([target, *(found for found in named if found)]))


def _same_origin(target: str, reference: str) -> str:
    """A reference resolved, "" where there is none or it leads to another origin: nobody may empty another's store."""
    if not reference:
        return ""
    try:
        base, found = urlsplit(target), urlsplit(urljoin(target, reference))
        made = uri(found.scheme, found.netloc, found.path + (f"?{found.query}" if found.query else ""))
    except ValueError:
        return ""
    return made if made.startswith(f"{base.scheme}://{base.netloc}/") else ""


RULES: Final = (
    Rule(
        "RFC 9111 §4.4",
        "After a 2xx or 3xx to an unsafe method, an unknown one too, what is kept of its URI is forgotten, by every process; after an error nothing is.",
        "test_invalidation.py::test_what_is_forgotten",
    ),
    Rule(
        "RFC 9111 §4.4",
        "So is what is kept of Location and Content-Location, of the same origin only.",
        "test_invalidation.py::test_what_is_forgotten",
    ),
    Rule(
        "RFC 9110 §4.2.3",
        "One resource has one key: host in lower case, default port dropped, fragment dropped.",
        "test_invalidation.py::test_one_spelling",
    ),
)
