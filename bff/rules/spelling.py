"""One spelling for paths that are equal (RFC 3986 §6.2.2): `/%7euser` is `/~user`, `%c3` is `%C3`. Pure.

What is reserved stays encoded: `%2F` is no slash.
"""

from __future__ import annotations

import re
from typing import Final

_ENCODED: Final = re.compile(r"%([0-9A-Fa-f]{2})")
_UNRESERVED: Final = re.compile(r"[A-Za-z0-9_~-]")


def spelt(path: str) -> str:
    """`path` with nothing encoded that need not be, and capitals where it must be; an encoded dot stays: `%2E%2E` must not become `..`."""
    return _ENCODED.sub(_one, path)


def _one(match: re.Match[str]) -> str:
    char = chr(int(match[1], 16))
    return char if _UNRESERVED.fullmatch(char) else match[0].upper()
