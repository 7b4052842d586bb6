"""Whose a path is, a page's or a proxy route's: literal segments before parameters, longer before shorter. Pure.

A parameter is a segment, which is not empty; `{name:path}` is all that is left, nothing too: `/api/{rest:path}` has `/api/`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, Generic, Protocol, TypeVar
from urllib.parse import unquote_to_bytes

from bff.rules.spelling import spelt

_PARAMETER: Final = re.compile(r"\{([a-z][a-z0-9_]*)(:path)?\}")


class Routed(Protocol):
    """What has a route."""

    @property
    def route(self) -> str: ...


T = TypeVar("T", bound=Routed)


class Routes(Generic[T]):
    """The routes of one world, compiled. Both look-ups take the raw path, so that an encoded slash stays within its segment."""

    def __init__(self, routed: Iterable[T]) -> None:
        self._fixed: dict[str, T] = {}
        self._open: list[tuple[re.Pattern[str], T]] = []
        for each in sorted(routed, key=_rank):
            if "{" in each.route:
                self._open.append((re.compile(_expression(spelt(each.route))), each))
            else:
                self._fixed.setdefault(spelt(each.route), each)

    def find(self, path: str) -> tuple[T, dict[str, str]] | None:
        """Who is at a raw path, with its decoded path parameters, or None; undecodable text is nobody's."""
        found = self.raw(path)
        if found is None:
            return None
        decoded = _decoded(found[1])
        return None if decoded is None else (found[0], decoded)

    def raw(self, path: str) -> tuple[T, dict[str, str]] | None:
        """Who is at a raw path, with its path parameters as they were sent (or spelt, where the route itself was encoded)."""
        plain = spelt(path) if "%" in path else path
        fixed = self._fixed.get(plain)
        if fixed is not None:
            return fixed, {}
        for expression, each in self._open:
            match = expression.fullmatch(path)
            if match is None and plain != path:
                match = expression.fullmatch(plain)
            if match is not None:
                return each, match.groupdict()
        return None


def _rank(each: Routed) -> tuple[list[int], str]:
    kinds = [2 if ":path}" in segment else 1 if "{" in segment else 0 for segment in each.route.split("/")]
    return [*kinds, 0], each.route


def _expression(route: str) -> str:
    out, at = "", 0
    for match in _PARAMETER.finditer(route):
        out += re.escape(route[at : match.start()]) + f"(?P<{match[1]}>{'.*' if match[2] else '[^/]+'})"
        at = match.end()
    return out + re.escape(route[at:])


def _decoded(groups: dict[str, str]) -> dict[str, str] | None:
    try:
        return {name: unquote_to_bytes(text).decode() for name, text in groups.items()}
    except UnicodeDecodeError:
        return None
