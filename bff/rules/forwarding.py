"""What of a request and of its answer passes through a proxy route: lines kept, dropped, rebuilt and added. Pure.

Sources: RFC 9110 §7.6 (hop by hop, Connection, Max-Forwards, Via), RFC 7239 §1 on X-Forwarded-*, the project's contract (§2).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple
from urllib.parse import quote, unquote, urlsplit

from bff.model import Forward, Grant, Headers, Route, Upstream
from bff.rules import redirects
from bff.rules.cookies import cookies
from bff.rules.invalidation import uri
from bff.rules.stored import HOP_BY_HOP, listed

Lines = list[tuple[bytes, bytes]]

SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})  # RFC 9110 §9.2.1
REFUSED: Final = frozenset({"CONNECT", "TRACE"})
"""Never let through: a tunnel, and what would show a script the headers that are kept from it."""

_PASSED: Final = frozenset(
    {
        b"cache-control", b"if-match", b"if-modified-since", b"if-none-match", b"if-range", b"if-unmodified-since", b"pragma",
        b"range",
    }
)  # fmt: skip
"""Of every request, besides `accept*` (negotiation) and `content-*` (what a body is, and which part of a whole): conditions,
ranges and directives to caches (RFC 9111 §5.2)."""
_METADATA: Final = (b"accept", b"content-")
_WITH_WORK: Final = frozenset({b"origin", b"referer", b"x-csrftoken"})
"""Of requests that no cache answers, besides `hx-*` and what asks before a request of another origin."""
_OWN: Final = frozenset(
    {
        b"content-length", b"expect", b"forwarded", b"host", b"http2-settings", b"max-forwards", b"proxy", b"traceparent",
        b"tracestate", b"true-client-ip", b"via", b"x-client-ip", b"x-host", b"x-http-method", b"x-http-method-override",
        b"x-method-override", b"x-middleware-subrequest", b"x-original-host", b"x-original-uri", b"x-original-url", b"x-real-ip",
        b"x-request-id", b"x-rewrite-url",
    }
)  # fmt: skip
"""Never passed by `*`: what the gateway says itself, in whatever words (who asks, under which host), and what would have the
context answer something else than was asked, or ask through somebody else (`Proxy` is HTTP_PROXY to CGI, CVE-2016-5385)."""
_INTERNAL: Final = (b"bff-", b"x-forwarded-")
_ORIGIN_WIDE: Final = frozenset(
    {
        b"alt-svc", b"clear-site-data", b"nel", b"origin-agent-cluster", b"refresh", b"report-to",
        b"reporting-endpoints", b"service-worker-allowed", b"set-cookie2", b"strict-transport-security",
    }
)  # fmt: skip
"""Of an answer: what would hold for the whole origin, which its context shares with others; Refresh is a redirect."""
_HANDLED: Final = frozenset(
    {b"set-cookie", b"location", b"x-request-id", b"surrogate-key", b"surrogate-control", b"cache-tag"}
    | redirects.SCRIPTED
)
VIA: Final = (b"via", b"1.1 bff")


class Asker(NamedTuple):
    """Who asks, as a context is told (X-Forwarded-*), and under which origin of the gateway."""

    chain: str  # addresses, the browser's first
    scheme: str
    host: str


def asker(headers: Headers, client: str, scheme: str, trusted: Callable[[str], bool]) -> Asker:
    """X-Forwarded-* rebuilt: only what trusted proxies say is believed, back to the first address that is none of theirs."""
    found = _joined(headers)
    host, chain = found.get(b"host", ""), [client] if client else []
    if not (client and trusted(client)):
        return Asker(", ".join(chain), scheme, host.lower())
    for address in reversed([part.strip() for part in found.get(b"x-forwarded-for", "").split(",") if part.strip()]):
        if not _ADDRESS.fullmatch(address):
            break
        chain.insert(0, address)
        if not trusted(address):
            break
    said = found.get(b"x-forwarded-proto", "").split(",")[-1].strip().lower()
    named = found.get(b"x-forwarded-host", "").split(",")[-1].strip().lower()
    return Asker(
        ", ".join(chain),
        said if said in ("http", "https") else scheme,
        named if _HOST.fullmatch(named) else host.lower(),
    )


_ADDRESS: Final = re.compile(r"[0-9A-Fa-f.:]{2,45}")
_HOST: Final = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._~-]+)(:[0-9]{1,5})?")


def _joined(headers: Headers) -> dict[bytes, str]:
    found: dict[bytes, str] = {}
    for name, value in headers:
        text = value.decode("latin-1")
        found[name] = f"{found[name]}, {text}" if name in found else text
    return found


# --- the request ------------------------------------------------------------------------------------------------------


def target(route: Route, given: dict[str, str], query: str) -> str | None:
    """The request target under upstream, or None where a raw path parameter could lead elsewhere.

    What one or two decodings make a dot segment (`..;` too, which some servers take for one) is refused, as are control
    characters and an empty first segment; everything else passes as it was sent.
    """
    filled = "".join(part if isinstance(part, str) else given[part.name] for part in route.to)
    path, text = route.fragment.upstream.base + filled, filled
    for _ in range(2):
        text = unquote(text, "latin-1")
        if _CONTROL.search(text) or any(part.partition(";")[0] in (".", "..") for part in _SEGMENTS.split(text)):
            return None
    if path.startswith("//"):
        return None
    return f"{path}?{query}" if query else path


_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_SEGMENTS: Final = re.compile(r"[/\\]")


def connection(headers: Headers) -> frozenset[bytes]:
    """The fields that are of one connection: the known ones, and those that Connection names (RFC 9110 §7.6.1)."""
    return HOP_BY_HOP | listed(value for name, value in headers if name == b"connection")


def request(
    forward: Forward, headers: Headers, *, method: str, asker: Asker, principal: str | None, identity: bytes
) -> Lines:
    """What of a browser's request reaches the context, without Host and framing. `identity`: a header that is the gateway's."""
    dropped = connection(headers)
    passes = _passes(forward, method, identity)
    lines = [(name, value) for name, value in headers if name not in dropped and passes(name)]
    jar = cookies(value for name, value in headers if name == b"cookie")
    sent = [name.encode("latin-1") for name in forward.cookies]
    baked = b"; ".join(b"%b=%b" % (name, jar[name]) for name in sent if name in jar)
    if baked:
        lines.append((b"cookie", baked))
    if forward.principal and principal is not None:
        lines.append((forward.principal.encode(), quote(principal, safe="@+ ").encode()))
    if not any(name == b"user-agent" for name, _ in lines):
        lines.append((b"user-agent", b"bff"))
    before = [line for line in headers if line[0] == b"via"] if "*" in forward.headers else []
    left = hops(headers) if method == "OPTIONS" else None
    counted = [(b"max-forwards", b"%d" % (left - 1))] if left else []
    return [*lines, *counted, *before, VIA, *_forwarded(asker)]


def plain(lines: Lines) -> Lines:
    """A request for the whole answer, whoever asks: without conditions, ranges and words to caches."""
    return [line for line in lines if line[0] not in _PASSED]


def _passes(forward: Forward, method: str, identity: bytes) -> Callable[[bytes], bool]:
    """Whether a field passes, by its name.

    One with an underscore passes only where it is named: CGI's servers cannot tell `x_forwarded_for` from `x-forwarded-for`.
    The one under which the principal is sent never does: nobody but the gateway writes it.
    """
    named = {name.encode() for name in forward.headers}
    works = method not in ("GET", "HEAD")
    everything = b"*" in named
    withheld = _OWN | {b"cookie", b"authorization", identity}

    own = forward.principal.encode()

    def passes(name: bytes) -> bool:
        if name == own:
            return False
        if name in named or name in _PASSED:
            return True
        if name.startswith(_METADATA):
            return name not in _OWN
        if works and (name in _WITH_WORK or name.startswith((b"hx-", b"access-control-request-"))):
            return True
        return everything and name not in withheld and not name.startswith(_INTERNAL) and b"_" not in name

    return passes


def _forwarded(asker: Asker) -> Lines:
    stated = [
        (b"x-forwarded-for", asker.chain),
        (b"x-forwarded-host", asker.host),
        (b"x-forwarded-proto", asker.scheme),
    ]
    return [(name, value.encode("latin-1")) for name, value in stated if value]


# --- the answer -------------------------------------------------------------------------------------------------------


def answer(headers: Headers) -> Lines:
    """What of an answer may be kept and shown: without what is of one connection, of the gateway, or of its whole origin.

    Cookies and redirects are not among it: they are granted one by one. Who may read it from another origin is the
    operator's to say (`cors`), so Access-Control-* goes too.
    """
    dropped = connection(headers) | _ORIGIN_WIDE | _HANDLED
    return [
        (name, value)
        for name, value in headers
        if name not in dropped and not name.startswith((b"bff-", b"access-control-"))
    ]


def granted_cookies(headers: Headers, grant: Grant) -> Lines:
    """The cookies that the answer may set."""
    stated = [value for name, value in headers if name == b"set-cookie"]
    return [(b"set-cookie", value) for value in redirects.cookies(stated, grant)]


def location(text: str, upstream: Upstream, grant: Grant, asker: Asker) -> str | None:
    """`redirects.location`; a reference relative to what was asked, or to the gateway's own origin, passes too."""
    try:
        parts = urlsplit(text)
    except ValueError:
        return None
    plain = text.isascii() and all("!" <= char not in "\\\x7f" for char in text)
    inside = not parts.scheme and not parts.netloc and not text.startswith("/") and ":" not in text.partition("/")[0]
    own = uri(parts.scheme, parts.netloc, "") == uri(asker.scheme, asker.host, "")
    if plain and text and (inside or own):
        return text
    return redirects.location(text, upstream, grant)


def hops(headers: Headers) -> int | None:
    """Max-Forwards (RFC 9110 §7.6.2); None where there is none, or no number."""
    stated = [value for name, value in headers if name == b"max-forwards"]
    return int(stated[0]) if len(stated) == 1 and stated[0].isdigit() and len(stated[0]) < 10 else None


def written(lines: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Lines as they go over the wire."""
    return b"".join([b"%b: %b\r\n" % line for line in lines])
