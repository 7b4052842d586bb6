"""One browser's request as the gateway reads it: the few headers that decide how a page is answered. No I/O."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal
from urllib.parse import urlsplit

Form = Literal["html", "ndjson", "json"]
_INTERESTING: Final = frozenset(
    (
        b"accept",
        b"accept-encoding",
        b"accept-language",
        b"authorization",
        b"cookie",
        b"hx-request",
        b"sec-fetch-site",
        b"sec-purpose",
        b"turbo-frame",
        b"user-agent",
        b"x-request-id",
        b"x-sec-purpose",
        b"x-turbo-request-id",
        b"x-up-target",
        b"traceparent",
    )
)
_WHOLE: Final = frozenset((b"hx-request", b"turbo-frame", b"x-up-target", b"x-turbo-request-id"))  # decisions/0015
_CRAWLER: Final = re.compile(
    rb"bot\b|bot/|crawl|spider|slurp|facebookexternalhit|facebookcatalog|meta-external|embedly|quora link preview|pinterest|whatsapp|telegram"
    rb"|google-inspectiontool|googleother|mediapartners-google|feedfetcher|apis-google|bingpreview|ia_archiver|heritrix|chatgpt-user"
    rb"|perplexity-user|claude-user|skypeuripreview|iframely|cardyb|mastodon/|vkshare|qwantify|yeti/|w3c_validator|lynx|w3m|links \(|elinks",
    re.IGNORECASE,
)
"""As their operators document them: search engines, archives, link previews, assistants that fetch for somebody, text browsers."""
_LONGEST: Final = 512
"""Bytes of a header that are read, and remembered: of longer ones by the thousand, anybody could fill the memory."""
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_TRACEPARENT: Final = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


@dataclass(slots=True, kw_only=True)
class Ids:
    """What is random per response, from one read of the system's generator: 128 bits of nonce and of trace."""

    nonce: str
    suffix: str
    request: str
    trace: bytes  # the header lines sent with every fetch


def picked(fields: Sequence[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """The headers that decide anything, the last of duplicates."""
    return {name: value for name, value in fields if name in _INTERESTING}


def ids(found: dict[bytes, bytes], *, trusted: bool) -> Ids:
    """Fresh identifiers; a trusted proxy's request id and trace go on where it sent them."""
    text = os.urandom(45).hex()
    request, trace, span = text[32:48], text[48:80], text[64:80]
    parent = f"00-{trace}-{span}-01"
    if trusted:
        given = found.get(b"x-request-id", b"").decode("latin-1")
        request = given if _REQUEST_ID.fullmatch(given) else request
        given = found.get(b"traceparent", b"").decode("latin-1")
        parent = f"{given[:36]}{span}{given[52:]}" if _TRACEPARENT.fullmatch(given) else parent
    lines = f"traceparent: {parent}\r\nx-request-id: {request}\r\n".encode()
    return Ids(nonce=text[:32], suffix=text[80:90], request=request, trace=lines)


def form(accept: bytes) -> Form:
    """The form of a page that an Accept header prefers; HTML unless a JSON form is named with a higher quality."""
    return _form(accept[:_LONGEST])


@lru_cache(maxsize=1024)
def _form(accept: bytes) -> Form:
    if b"json" not in accept.lower():
        return "html"
    text = accept.decode("latin-1")
    ranked: list[tuple[float, int, Form]] = [(0.0, 0, "html")]
    for rank, (kind, chosen) in enumerate(_FORMS):
        quality = _quality(text, kind)
        if quality:  # 0: not acceptable
            ranked.append((quality, -rank, chosen))
    return max(ranked)[2]


_FORMS: Final[tuple[tuple[str, Form], ...]] = (
    ("text/html", "html"),
    ("application/x-ndjson", "ndjson"),
    ("application/json", "json"),
    ("text/*", "html"),
    ("*/*", "html"),
)
"""Media ranges in the order that decides among equal qualities: what is named before what is merely admitted."""


def _quality(accept: str, kind: str) -> float | None:
    """RFC 9110 §12.5.1: the quality of exactly this media range; None where it is not named, or with none that is a number."""
    for part in accept.lower().split(","):
        name, *params = (piece.strip() for piece in part.split(";"))
        if name != kind:
            continue
        for param in params:
            if param.startswith("q="):
                return _weight(param[2:])
        return 1.0
    return None


def _weight(text: str) -> float | None:
    try:
        weight = float(text)
    except ValueError:
        return None
    return weight if 0.0 <= weight <= 1.0 else None


def crawler(agent: bytes) -> bool:
    """Known crawlers and text browsers, which need the whole page in order."""
    return _crawler(agent[:_LONGEST])


@lru_cache(maxsize=4096)
def _crawler(agent: bytes) -> bool:
    return _CRAWLER.search(agent) is not None


def ahead(found: Mapping[bytes, bytes]) -> bool:
    """Whether this is asked for in case somebody goes there: by a browser, or by Turbo when a link is pointed at."""
    return b"prefetch" in found.get(b"sec-purpose", b"") or b"prefetch" in found.get(b"x-sec-purpose", b"")


def ordered(found: dict[bytes, bytes], query: bytes) -> bool:
    """Whether everything must stand in place: asked for, a crawler, or a library that swaps whole answers."""
    if not _WHOLE.isdisjoint(found):
        return True
    return (b"_bff=ordered" in query and b"_bff=ordered" in query.split(b"&")) or crawler(found.get(b"user-agent", b""))


def accepts_html(scope: Any) -> bool:
    """Whether the client takes HTML for an error: it names text/html or anything at all."""
    return takes_html(picked(scope["headers"]).get(b"accept", b"*/*"))


def navigates(scope: Any) -> bool:
    """Whether a browser goes there itself, rather than a script of its page (Fetch Metadata; else by what is accepted)."""
    found = dict(scope["headers"])
    mode = found.get(b"sec-fetch-mode", b"")
    return accepts_html(scope) and (mode == b"navigate" or (not mode and b"text/html" in found.get(b"accept", b"")))


def takes_html(accept: bytes) -> bool:
    """`accepts_html` of an Accept header's value."""
    return _takes_html(accept[:_LONGEST])


@lru_cache(maxsize=1024)
def _takes_html(accept: bytes) -> bool:
    if form(accept) != "html":
        return False
    named = (_quality(accept.decode("latin-1"), kind) for kind in ("text/html", "text/*", "*/*"))
    return next((quality for quality in named if quality is not None), 0.0) > 0  # the most specific range decides


def matches(fields: Sequence[tuple[bytes, bytes]], etag: bytes) -> bool:
    """RFC 9110 §13.1.2: whether If-None-Match names what we would send (weak comparison)."""
    stated = b",".join(value for name, value in fields if name == b"if-none-match")
    tags = [tag.strip().removeprefix(b"W/") for tag in stated.split(b",")]
    return stated.strip() == b"*" or etag.removeprefix(b"W/") in tags


def cross_site(headers: Mapping[str, str]) -> bool:
    """Whether a browser says that another site made this request (Fetch Metadata, else Origin against Host)."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site not in ("same-origin", "none")
    origin = headers.get("origin")
    try:
        return origin is not None and urlsplit(origin).netloc.lower() != headers.get("host", "").lower()
    except ValueError:  # no browser says such a thing
        return True


class Locales:
    """The negotiated locale: one of `locales` by Accept-Language (RFC 4647 lookup), or the header itself, lower-cased."""

    def __init__(self, locales: Sequence[str]) -> None:
        self._known = {locale.lower(): locale for locale in locales}
        self._default = locales[0] if locales else ""
        self._negotiated = lru_cache(maxsize=1024)(self._negotiate)

    def negotiate(self, accept: bytes) -> str:
        return self._negotiated(accept[:_LONGEST])

    def _negotiate(self, accept: bytes) -> str:
        text = accept.decode("latin-1").strip().lower()
        if not self._known:
            return text
        for wanted in _by_quality(text):
            tag = wanted
            while tag:
                if tag in self._known:
                    return self._known[tag]
                tag = tag.rpartition("-")[0]
        return self._default


def _by_quality(text: str) -> list[str]:
    ranked = []
    for at, part in enumerate(text.split(",")):
        tag, _, param = part.partition(";")
        weight = (_weight(param.strip().removeprefix("q=")) or 0.0) if param else 1.0
        if weight > 0 and tag.strip():
            ranked.append((-weight, at, tag.strip()))
    return [tag for _, _, tag in sorted(ranked)]
