"""Where a context may send the browser, and which cookies it may set: nothing that its registration does not grant. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from bff.model import Back, Grant, Headers, Pattern, Ref, Upstream
from bff.rules.invalidation import uri

SCRIPTED: Final = frozenset({b"hx-redirect", b"hx-location"})
_PARAMETER: Final = re.compile(r"\{([a-z][a-z0-9_]*)(:path)?\}")


def location(text: str, upstream: Upstream, grant: Grant, own: str = "") -> str | None:
    r"""The Location to pass on, or None where the registration does not allow it.

    A path is a path of the gateway; an absolute one under upstream is mapped back through the proxy route that covers it. `own`:
    the Host that was asked for a page; what leads there, as a Referer that is followed back does, leads to its path, and
    a query or fragment alone (RFC 3986 §5.2.2) to the page itself.
    `//host`, `/\host` and control characters are what open redirects are made of (RFC 3986 §4.2 network-path references;
    browsers read a backslash as a slash), so they are refused.
    """
    if any(char < "!" or char in "\\\x7f" for char in text):
        return None
    if text.startswith("/"):
        return None if text.startswith("//") else text
    if own and text.startswith(("?", "#")):
        return text
    try:
        parts = urlsplit(text)
    except ValueError:  # a bracket too few, say
        return None
    if parts.scheme not in ("http", "https") or not parts.netloc or "@" in parts.netloc:
        return None
    origin = uri(parts.scheme, parts.netloc, "")  # a default port that is stated changes nothing (RFC 6454 §4)
    if origin == uri(upstream.scheme, upstream.authority, ""):
        return back(parts, grant)
    if own and origin == uri(parts.scheme, own, ""):
        inside = urlunsplit(("", "", parts.path or "/", parts.query, parts.fragment))
        return None if inside.startswith("//") else inside
    granted = (each.rstrip("/").partition("://") for each in grant.redirects)
    return text if any(origin == uri(scheme, authority, "") for scheme, _, authority in granted) else None


def scripted(headers: Headers, upstream: Upstream, grant: Grant, own: str = "") -> list[tuple[bytes, bytes]] | None:
    """The headers that have htmx go somewhere (`SCRIPTED`), as they may pass; None where one leads to where it may not.

    They are redirects for all that a visitor can tell. HX-Location may be an object with a `path`, of the gateway then.
    """
    found = []
    for name, value in headers:
        if name in SCRIPTED:
            to = _scripted(value.decode("latin-1"), upstream, grant, own)
            if to is None:
                return None
            found.append((name, to.encode("latin-1")))
    return found


def _scripted(text: str, upstream: Upstream, grant: Grant, own: str) -> str | None:
    if not text.lstrip().startswith("{"):
        return location(text, upstream, grant, own)
    try:
        path = json.loads(text).get("path")
    except (ValueError, RecursionError):
        return None
    inside = isinstance(path, str) and path.startswith("/") and location(path, upstream, grant) == path
    return text if inside else None


def back(parts: SplitResult, grant: Grant) -> str | None:
    """Where the gateway shows what is at a URL under the upstream; None where no proxy route covers it.

    Dot segments are refused, spelt as they may be: what they lead to is not what is covered.
    """
    path = parts.path or "/"
    if any(unquote(segment) in (".", "..") for segment in path.split("/")):
        return None
    for each in grant.back:
        match = each.covers(path)
        if match is not None:
            found = filled(each.route, match.groupdict())
            return None if found.startswith("//") else urlunsplit(("", "", found, parts.query, parts.fragment))
    return None


def filled(route: str, given: Mapping[str, str]) -> str:
    """A route with its parameters' raw text in place."""
    return _PARAMETER.sub(lambda match: given[match[1]], route)


def ways(routes: Iterable[tuple[str, Pattern]], upstream: Upstream) -> tuple[Back, ...]:
    """The ways of proxy routes (`path`, `to`) backwards, the most telling first."""
    told = sorted(routes, key=lambda each: -sum(len(part) for part in each[1] if isinstance(part, str)))
    found = [_reverse(route, to, upstream) for route, to in told]
    return tuple(each for each in found if each is not None)


def _reverse(route: str, to: Pattern, upstream: Upstream) -> Back | None:
    """The way of a proxy route backwards; None where `to` leaves out a parameter of the route, or has one twice."""
    kinds = {match[1]: ".*" if match[2] else "[^/]+" for match in _PARAMETER.finditer(route)}
    names = [part.name for part in to if isinstance(part, Ref)]
    if sorted(names) != sorted(kinds):
        return None
    parts = [re.escape(part) if isinstance(part, str) else f"(?P<{part.name}>{kinds[part.name]})" for part in to]
    return Back(route=route, covers=re.compile(re.escape(upstream.base) + "".join(parts)).fullmatch)


def cookies(values: Iterable[bytes], grant: Grant) -> list[bytes]:
    """The Set-Cookie values that `grant.cookies` names, confined to the gateway's own host (no Domain attribute)."""
    kept = []
    for value in values:
        pair, equals, _ = value.partition(b"=")
        name = pair.strip().decode("latin-1")
        if equals and name in grant.cookies:
            attributes = value.split(b";")
            kept.append(b";".join(part for part in attributes if not part.strip().lower().startswith(b"domain")))
    return kept
