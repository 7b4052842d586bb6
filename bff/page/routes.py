"""Which page a path belongs to: literal segments before parameters, longer before shorter. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import unquote_to_bytes

from bff.model import Page

_PARAMETER: Final = re.compile(r"\{([a-z][a-z0-9_]*)(:path)?\}")


class Routes:
    """The routes of one world, compiled. `find` takes the raw path, so that an encoded slash stays within its segment."""

    def __init__(self, pages: Iterable[Page]) -> None:
        self._fixed: dict[str, Page] = {}
        self._open: list[tuple[re.Pattern[str], Page]] = []
        for page in sorted(pages, key=_rank):
            if "{" in page.route:
                self._open.append((re.compile(_expression(page.route)), page))
            else:
                self._fixed.setdefault(page.route, page)

    def find(self, path: str) -> tuple[Page, dict[str, str]] | None:
        """The page at a raw path with its decoded path parameters, or None; undecodable text is no page's."""
        fixed = self._fixed.get(path)
        if fixed is not None:
            return fixed, {}
        for expression, page in self._open:
            match = expression.fullmatch(path)
            if match is not None:
                decoded = _decoded(match.groupdict())
                return None if decoded is None else (page, decoded)
        return None


def _rank(page: Page) -> tuple[list[int], str]:
    kinds = [2 if ":path}" in segment else 1 if "{" in segment else 0 for segment in page.route.split("/")]
    return [*kinds, 0], page.route


def _expression(route: str) -> str:
    out, at = "", 0
    for match in _PARAMETER.finditer(route):
        out += re.escape(route[at : match.start()]) + f"(?P<{match[1]}>{'.+' if match[2] else '[^/]+'})"
        at = match.end()
    return out + re.escape(route[at:])


def _decoded(groups: dict[str, str]) -> dict[str, str] | None:
    try:
        return {name: unquote_to_bytes(text).decode() for name, text in groups.items()}
    except UnicodeDecodeError:
        return None
