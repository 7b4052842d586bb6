"""Errors that the gateway makes itself: RFC 9457 problem JSON, or a small page where HTML is accepted."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from html import escape
from http import HTTPStatus
from typing import Final

Fields = list[tuple[bytes, bytes]]

_STYLE: Final = (
    ":root{color-scheme:light dark;font:100%/1.5 system-ui,sans-serif}main{max-width:36rem;margin:16vh auto;padding:0 1.25rem}"
    "h1{font-size:1.75rem;line-height:1.2;margin:0}small{opacity:.7}"
)
_PAGE: Final = (
    '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    f"<title>{{title}}</title><style>{_STYLE.replace('{', '{{').replace('}', '}}')}</style></head>"
    "<body><main><h1>{title}</h1><p>{detail}</p><p><small>Status {status}</small></p></main></body></html>\n"
)
_CSP: Final = (
    f"default-src 'none'; style-src 'sha256-{b64encode(sha256(_STYLE.encode()).digest()).decode()}'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'self'"
).encode()


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole response, ready to be sent."""

    status: int
    headers: Fields
    body: bytes = b""
    more: dict[str, str] = field(default_factory=dict)


def problem(status: int, detail: str, *, html: bool, headers: Sequence[tuple[bytes, bytes]] = ()) -> Answer:
    """An error with a status and a sentence for whoever sees it; never stored by anybody."""
    title = _title(status)
    if html:
        body = _PAGE.format(status=status, title=escape(title), detail=escape(detail)).encode()
        kind, more = b"text/html; charset=utf-8", [(b"content-security-policy", _CSP)]
    else:
        body = json.dumps({"type": "about:blank", "title": title, "status": status, "detail": detail}).encode()
        kind, more = b"application/problem+json", []
    own = [
        (b"content-type", kind),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
    ]
    return Answer(status, [*own, *more, *headers], body)


def _title(status: int) -> str:
    """A context may answer with a status that nobody registered: one of its class (RFC 9110 §15)."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Client Error" if status < 500 else "Server Error"
