"""Errors that the gateway makes itself: RFC 9457 problem JSON, or a small page where HTML is accepted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from http import HTTPStatus

Fields = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole response, ready to be sent."""

    status: int
    headers: Fields
    body: bytes = b""
    more: dict[str, str] = field(default_factory=dict)


def problem(status: int, detail: str, *, html: bool, headers: Sequence[tuple[bytes, bytes]] = ()) -> Answer:
    """An error with a status and a sentence for whoever sees it; never stored by anybody."""
    title = HTTPStatus(status).phrase
    if html:
        body = _PAGE.format(status=status, title=escape(title), detail=escape(detail)).encode()
        kind = b"text/html; charset=utf-8"
    else:
        body = json.dumps({"type": "about:blank", "title": title, "status": status, "detail": detail}).encode()
        kind = b"application/problem+json"
    own = [
        (b"content-type", kind),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
    ]
    return Answer(status, [*own, *headers], body)


_PAGE = (
    '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    "<title>{title}</title></head><body><main><h1>{title}</h1><p>{detail}</p><p>Status {status}</p></main></body></html>\n"
)
