"""Where a page goes on for people without scripts: itself with other query parameters, where it has them, or in order. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import parse_qs, quote, urlsplit

from bff.model import Page, Ref, Slot
from bff.page.call import Call

_PARAMETER: Final = re.compile(r"\{([a-z][a-z0-9_]*)(?:(:path))?\}")


def onward(page: Page, given: Mapping[str, Sequence[str]], slot: Slot, call: Call, following: str) -> str:
    """The page's own address with the list's next page in it; the fragment's, where the page's query does not decide it.

    `given`: what the page's URL said, by "path.x" and "query.x"; `following`: the fragment endpoint's address.
    """
    fed = {name: part.name for name, pattern in slot.params if (part := _alone(pattern)) is not None}
    next_values = parse_qs(urlsplit(following).query, keep_blank_values=True)
    params = call.fragment.params
    changed = {
        name: texts
        for name in params
        if (texts := tuple(next_values.get(name, params[name].default))) != call.values[name]
        and not params[name].principal
    }
    if not changed or any(name not in fed for name in changed):
        return following
    pairs = _pairs(page, given, {fed[name]: texts for name, texts in changed.items()})
    return _path(page.route, given) + ("?" + "&".join(pairs) if pairs else "")


def whole(page: Page, given: Mapping[str, Sequence[str]]) -> str:
    """The page's own address with everything in place (contract §3: `ordered` mode)."""
    return f"{_path(page.route, given)}?{'&'.join([*_pairs(page, given, {}), '_bff=ordered'])}"


def _pairs(page: Page, given: Mapping[str, Sequence[str]], changed: Mapping[str, tuple[str, ...]]) -> list[str]:
    """What the page's query says beyond its defaults, with `changed` in it."""
    query = {name: tuple(given.get(f"query.{name}", ())) for name in page.query} | dict(changed)
    return [
        f"{name}={quote(text, safe='')}"
        for name, texts in query.items()
        if texts != page.query[name].default
        for text in texts
    ]


def _alone(pattern: Sequence[str | Ref]) -> Ref | None:
    """The query parameter of the page that a slot's attribute is, and nothing else."""
    refs = [part for part in pattern if part != ""]
    return refs[0] if len(refs) == 1 and isinstance(refs[0], Ref) and refs[0].kind == "query" else None


def _path(route: str, given: Mapping[str, Sequence[str]]) -> str:
    def filled(match: re.Match[str]) -> str:
        return quote("".join(given.get(f"path.{match[1]}", ())), safe="/" if match[2] else "")

    return _PARAMETER.sub(filled, route)
