"""Heads as bytes: a response's head written, a request's target and framing judged, a refusal spelled out.

Pure: no I/O, no clock. What the parser (llhttp, strict) already refuses is not repeated here.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from bff.model import Headers

STATUS_LINES: Final = {
    code: f"HTTP/1.1 {code} {HTTPStatus(code).phrase if code in HTTPStatus._value2member_map_ else ''}\r\n".encode()
    for code in range(100, 600)
}
BODYLESS: Final = frozenset({204, 304})
CLOSE: Final = b"connection: close\r\n"
CHUNKED: Final = b"transfer-encoding: chunked\r\n"


class Refused(Exception):
    """A request that is not answered by the application; the connection ends with this status."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


class Stop(Exception):
    """Nothing more is read from this connection; what was answered stands."""


def problem(status: int, detail: str) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Headers and body of an error that the gateway makes itself (RFC 9457), without framing."""
    title = HTTPStatus(status).phrase
    body = json.dumps({"type": "about:blank", "title": title, "status": status, "detail": detail}).encode()
    return [
        (b"content-type", b"application/problem+json"),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
    ], body


def head(status: int, headers: Headers, date: bytes) -> tuple[bytes, int | None, bool]:
    """A response's head without its blank line, its Content-Length, and whether it ends the connection.

    Raise `ValueError` where a name or a value would end its line, or Content-Length is no number.
    """
    named = dict(headers)
    if b"transfer-encoding" in named:  # framing is the server's
        headers = [pair for pair in headers if pair[0] != b"transfer-encoding"]
    lines = STATUS_LINES[status] + b"".join([b"%b: %b\r\n" % pair for pair in headers])
    count = len(headers) + 1
    if lines.count(b"\n") != count or lines.count(b"\r") != count or b"\0" in lines:
        raise ValueError("a response header holds a line break or a NUL")
    length = named.get(b"content-length")
    close = b"connection" in named and b"close" in named[b"connection"].lower()
    return lines if b"date" in named else lines + date, int(length) if length is not None else None, close


def target(url: bytes) -> tuple[bytes, bytes, bytes | None]:
    """Path, query and, of the absolute form, the authority that stands for Host (RFC 9112 §3.2.2).

    Raise `Refused` for what is neither: the asterisk form has no use here, a fragment or userinfo no place.
    """
    authority = None
    if not url.startswith(b"/"):
        scheme, _, rest = url.partition(b"://")
        if scheme.lower() not in (b"http", b"https"):
            raise Refused(400, "The request target must be a path.")
        end = min((at for at in (rest.find(b"/"), rest.find(b"?")) if at >= 0), default=len(rest))
        authority, url = rest[:end], rest[end:]
        if not url.startswith(b"/"):
            url = b"/" + url
    if b"#" in url:
        raise Refused(400, "The request target holds a fragment.")
    path, _, query = url.partition(b"?")
    return path, query, authority
