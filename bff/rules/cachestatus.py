"""Cache-Status (RFC 9211): what the gateway's store did for an answer, as a structured field. Pure."""

from __future__ import annotations

from math import floor
from typing import Final

from bff.rules.reuse import Forward
from bff.rules.rule import Rule
from bff.rules.structured import word

CACHE: Final = "bff"


def hit(ttl: float, *, detail: str = "") -> bytes:
    """An answer from the store, `ttl` seconds before it is stale; negative once it is (RFC 9211 §2.1, §2.4)."""
    return f"{CACHE}; hit; ttl={floor(ttl)}{_detail(detail)}".encode()


def forwarded(
    why: Forward,
    *,
    status: int | None = None,
    ttl: float | None = None,
    stored: bool = False,
    collapsed: bool = False,
    detail: str = "",
) -> bytes:
    """An answer that was asked for (RFC 9211 §2.2 to §2.6). `status`: the upstream's, where it is not the answer's."""
    said = [
        CACHE,
        *([f"fwd={why}"] if why else []),
        *([f"fwd-status={status}"] if status is not None else []),
        *([f"ttl={floor(ttl)}"] if ttl is not None else []),
        *(["stored"] if stored else []),
        *(["collapsed"] if collapsed else []),
    ]
    return ("; ".join(said) + _detail(detail)).encode()


def _detail(text: str) -> str:
    return f"; detail={word(text)}" if text else ""


def appended(upstream: bytes, member: bytes) -> bytes:
    """The list with ours last: the first member is the cache nearest the origin (RFC 9211 §2)."""
    return upstream + b", " + member if upstream.strip() else member


RULES: Final = (
    Rule(
        "RFC 9211 §2",
        "Every answer says what the store did: hit with its ttl, or why it was asked for, whether it was stored or shared.",
        "test_cachestatus.py::test_what_is_said",
    ),
    Rule(
        "RFC 9211 §2",
        "Caches nearer the origin stay first in the list.",
        "test_cachestatus.py::test_ours_comes_last",
    ),
)
