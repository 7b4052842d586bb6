"""The Cookie header, read. Pure; standard library only."""

from __future__ import annotations

from collections.abc import Iterable


def cookies(values: Iterable[bytes]) -> dict[bytes, bytes]:
    """Names → values of all Cookie headers of a request, exactly as sent (RFC 6265 §5.4); the first of a name wins.

    Pieces without a name or `=` are skipped. Values keep their quotes and are never decoded: who forwards one sends
    what came. A value cannot hold ";", so nothing of one cookie can pass as another.
    """
    found: dict[bytes, bytes] = {}
    for header in values:
        for piece in header.split(b";"):
            name, equals, value = piece.partition(b"=")
            name = name.strip(b" \t")
            if equals and name and name not in found:
                found[name] = value.strip(b" \t")
    return found
