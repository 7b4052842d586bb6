"""Whether a URL in a context's answer stays under that context's upstream, and what to ask there. Pure."""

from __future__ import annotations

from typing import Final
from urllib.parse import unquote, urljoin, urlsplit

from bff.model import Upstream

_PORTS: Final = {"http": 80, "https": 443}


def within(stated: str, asked: str, upstream: Upstream) -> str | None:
    """The request target that a URL in an answer means, or None where it leaves the upstream.

    `asked` is the target that the answer is to (RFC 3986 §5: relative references). What the gateway asks there is asked
    with a visitor's forwarded credentials, so an origin, a base path or an encoded dot that differs is refused.
    """
    if not stated or any(not "!" <= char <= "~" or char == "\\" for char in stated):
        return None
    origin = f"{upstream.scheme}://{upstream.authority}"
    try:
        url = urlsplit(urljoin(origin + asked, stated))
        port = url.port
    except ValueError:
        return None
    here = upstream.scheme, upstream.host, upstream.port
    if (url.scheme, url.hostname, port or _PORTS.get(url.scheme)) != here or "@" in url.netloc:
        return None
    path = url.path or "/"
    if any(unquote(segment) in (".", "..") for segment in path.split("/")) or not path.startswith(f"{upstream.base}/"):
        return None
    return path + (f"?{url.query}" if url.query else "")
