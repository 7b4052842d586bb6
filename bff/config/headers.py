"""Which request headers a registration may ask for, and why not the others. Pure."""

from __future__ import annotations

from typing import Final

_FRAMING: Final = frozenset(  # hop by hop (RFC 9110 §7.6.1), or what frames and routes a request
    {
        "connection", "content-length", "expect", "host", "keep-alive", "proxy-authenticate", "proxy-authorization",
        "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
    }
)  # fmt: skip
_OWN: Final = frozenset({"forwarded", "traceparent", "tracestate", "x-request-id"})
_CONDITIONAL: Final = frozenset(  # would make an answer partial, encoded or empty under a key that does not say so
    {
        "accept-encoding", "if-match", "if-modified-since", "if-none-match", "if-range", "if-unmodified-since", "range",
    }
)  # fmt: skip


def forbidden_header(name: str, *, identity: str = "", proxy: bool = False) -> str:
    """Why a registration may not name this header for forwarding, with a remedy after `; `; empty: it may.

    `name` in lower case; `identity`: the header that carries the principal; `proxy`: on a proxy route.
    """
    if name == "*":
        return '"*" is for proxy routes only; name the headers'
    if name == "cookie":
        return "cookies are forwarded by name; write forward: {cookies: [NAME]}"
    if name in _OWN or name in _FRAMING or name.startswith(("bff-", "x-forwarded-")) or (identity and name == identity):
        return f"{name} is the gateway's own; leave it out"
    if name in _CONDITIONAL and not proxy:
        return f"{name} is between the browser and the gateway; leave it out"
    return ""


def principal_header(name: str, headers: tuple[str, ...], *, identity: str = "") -> str:
    """Why the principal may not be sent under this header, as above."""
    if name in headers or "*" in headers:
        return f"{name} is forwarded from the browser too, who could write any name into it; leave it out of headers"
    if name in {"authorization", "accept-language", "cookie", *_CONDITIONAL}:
        return f"{name} has a meaning of its own; choose a name such as x-user"
    return forbidden_header(name) if name != identity else ""
