"""The kinds of sources that are installed: every one, the project's own too, is an entry point of the group `bff.sources`.

An entry point names a class with `accept` and a class method `made(kit)`. One that cannot be loaded takes down the
fragments that name it, and nothing else.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

from bff.model import Fragment
from bff.rules.caching import Fields
from bff.upstream.sources.content import Kind, Kit, Read, Source, Unreadable

GROUP: Final = "bff.sources"
OWN: Final = "bff.upstream.sources."
_LOG: Final = logging.getLogger("bff.sources")


class Broken:
    """Stands for a source that could not be loaded."""

    accept = "*/*"

    def __init__(self, why: str) -> None:
        self.why = why

    def made(self, _: Kit) -> Source:
        return self

    def read(self, fragment: Fragment, found: Fields, body: bytes, params: Mapping[str, Any], *, head: bool) -> Read:
        del found, body, params, head
        return Unreadable(f"the source {fragment.source} is not there: {self.why}")


@cache
def kinds() -> Mapping[str, Kind]:
    """All kinds by name; the project's own are replaced by nobody's."""
    found = sorted(entry_points(group=GROUP), key=lambda each: (not each.value.startswith(OWN), each.name, each.value))
    made: dict[str, Kind] = {}
    for each in found:
        if each.name not in made:
            made[each.name] = load(each)
    return made


def load(entry: EntryPoint) -> Kind:
    """One kind, or what stands for it."""
    try:
        kind: Kind = entry.load()
    except Exception as error:  # noqa: BLE001 - somebody else's package
        _LOG.warning("the source %s cannot be loaded: %s", entry.name, error)
        return Broken(f"{type(error).__name__}: {error}")
    return kind


def sources(kit: Kit) -> dict[str, Source]:
    """A source of every kind, for one event loop."""
    return {name: kind.made(kit) for name, kind in kinds().items()}


def accepts() -> dict[str, str]:
    """The Accept header by source."""
    return {name: kind.accept for name, kind in kinds().items()}
