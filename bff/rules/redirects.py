"""Where a context may send the browser, and which cookies it may set: nothing that its registration does not grant. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from bff.model import Grant, Upstream


def location(text: str, upstream: Upstream, grant: Grant) -> str | None:
    r"""The Location to pass on, or None where the registration does not allow it.

    A path is a path of the gateway. `//host`, `/\host` and control characters are what open redirects are made of
    (RFC 3986 §4.2 network-path references; browsers read a backslash as a slash), so they are refused.
    """
    if any(char < "!" or char in "\\\x7f" for char in text):
        return None
    if text.startswith("/"):
        return None if text.startswith("//") else text
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.netloc or "@" in parts.netloc:
        return None
    origin = f"{parts.scheme}://{parts.netloc}".lower()
    if origin == f"{upstream.scheme}://{upstream.authority}".lower():
        return None  # only a proxy route could map it back
    return text if origin in (granted.lower().rstrip("/") for granted in grant.redirects) else None


def cookies(values: Iterable[bytes], grant: Grant) -> list[bytes]:
    """The Set-Cookie values that `grant.cookies` names, confined to the gateway's own host (no Domain attribute)."""
    kept = []
    for value in values:
        name = value.partition(b"=")[0].strip().decode("latin-1")
        if name in grant.cookies:
            attributes = value.split(b";")
            kept.append(b";".join(part for part in attributes if not part.strip().lower().startswith(b"domain")))
    return kept
