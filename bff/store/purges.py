"""What was purged of late: a bounded log, in which anything kept or fetched can be looked up. Pure.

Marks are numbers that only grow: seconds of one clock in a process, or what a shared tier counts by. Whatever has a mark
is judged by the purges with a later one: that needs no index of entries, and a purge costs the same however many it meets.
"""

from __future__ import annotations

import json
import math
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Final

from bff.model import Purge

LIMIT: Final = 20_000
"""Purges that are remembered; beyond, the oldest are forgotten, and what is older than those counts as purged."""

Scope = str | tuple[str, str, str, str | None]
"""What a purge meets: (kind, value, context, principal); of everybody's tag in whatever context, as most are, the tag itself."""


def scope(purge: Purge) -> Scope | None:
    """The scope of a purge in its one form; None where it meets nothing."""
    if purge.kind == "tag":
        if not purge.context and purge.principal is None:
            return purge.value
        return ("tag", purge.value, purge.context, purge.principal)
    match purge.kind, purge.context:
        case "all", "":
            return ("all", "", "", purge.principal)
        case "all", context:
            return ("context", context, "", purge.principal)
        case "fragment", context:
            fits = not context or owner(purge.value) == context
        case _, context:
            fits = not context or purge.value == context
    return (purge.kind, purge.value, "", purge.principal) if fits else None


def owner(fragment: str) -> str:
    """The context of a fragment."""
    return fragment.partition("/")[0]


def scopes(fragment: str, tags: Sequence[str], principal: str | None) -> Iterator[Scope]:
    """Every scope that an answer lies in."""
    context = owner(fragment)
    for whose in (None,) if principal is None else (None, principal):
        yield ("all", "", "", whose)
        yield ("context", context, "", whose)
        yield ("fragment", fragment, "", whose)
        for tag in tags:
            yield tag if whose is None else ("tag", tag, "", whose)
            yield ("tag", tag, context, whose)


class Purges:
    """The log. Anything with a mark before `floor` counts as purged: nobody remembers what happened to it."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._hard: OrderedDict[Scope, float] = OrderedDict()
        self._soft: OrderedDict[Scope, float] = OrderedDict()
        self.floor: float = -math.inf
        self.latest: float = -math.inf

    def add(self, purge: Purge, mark: float) -> None:
        met = scope(purge)
        if met is None:
            return
        log = self._soft if purge.soft else self._hard
        before = len(log)
        log[met] = mark
        self.latest = max(self.latest, mark)
        if len(log) == before:
            log.move_to_end(met)
        elif before == self._limit:
            self.floor = max(self.floor, log.popitem(last=False)[1])

    def since(self, mark: float, fragment: str, tags: Sequence[str], principal: str | None) -> float:
        """What purges after `mark` made of such an answer: -inf, gone; inf, nothing; else stale, since this mark."""
        if mark < self.floor:
            return -math.inf
        if mark >= self.latest:
            return math.inf
        marked = math.inf
        for each in scopes(fragment, tags, principal):
            if self._hard.get(each, -math.inf) > mark:
                return -math.inf
            soft = self._soft.get(each, -math.inf)
            if soft > mark:
                marked = min(marked, soft)
        return marked

    def clear(self) -> None:
        self._hard.clear()
        self._soft.clear()
        self.floor = self.latest = -math.inf

    def __len__(self) -> int:
        return len(self._hard) + len(self._soft)


def written(purge: Purge) -> str:
    """A purge as text: the same for the same one, so that a shared log keeps only its latest."""
    said = [purge.kind, purge.value, purge.context, purge.principal, int(purge.soft)]
    return json.dumps(said, separators=(",", ":"))


def read(text: str) -> Purge | None:
    """The purge in such a text; None where it is none."""
    try:
        kind, value, context, principal, soft = json.loads(text)
    except (ValueError, TypeError):
        return None
    texts = isinstance(value, str) and isinstance(context, str) and isinstance(principal, str | None)
    if not texts or kind not in {"tag", "fragment", "context", "all"}:
        return None
    return Purge(kind=kind, value=value, context=context, principal=principal, soft=bool(soft))
