"""What an event means to the registrations: which of their entries it concerns, and what becomes of them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from bff.events.event import Event
from bff.model import Pattern, Purge, Ref, Subscription

LONGEST: Final = 1024  # characters of a tag


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One purge; `refresh`: what it marks stale is fetched again at once."""

    purge: Purge
    refresh: bool = False


def orders(event: Event, subscriptions: Iterable[Subscription]) -> list[Order]:
    """What is to be done, each thing once. A context's event never reaches another context's entries."""
    made: dict[Order, None] = {}
    for subscription in subscriptions:
        for tag in _tags(event, subscription.tags):
            purge = Purge(
                kind="tag", value=tag, soft=subscription.action != "purge", context=subscription.context
            )  # fmt: skip
            made[Order(purge=purge, refresh=subscription.action == "refresh")] = None
    return [*made]


def missed(topics: Iterable[str], subscriptions: Iterable[Subscription]) -> list[Order]:
    """What is to be done where messages of these topics are lost: nobody knows what they concerned, so everything may be old."""
    lost = {*topics}
    contexts = sorted({each.context for each in subscriptions if each.topic in lost})
    return [Order(purge=Purge(kind="context", value=context, soft=True)) for context in contexts]


def _tags(event: Event, patterns: Iterable[Pattern]) -> Iterator[str]:
    for pattern in patterns:
        tag = _filled(pattern, event.data)
        if tag is not None:
            yield tag


def _filled(pattern: Pattern, data: Mapping[str, Any]) -> str | None:
    """A tag with the event's values in it; None where one is missing, empty or no single value."""
    pieces = [_text(data, part.name) if isinstance(part, Ref) else part for part in pattern]
    if any(piece is None for piece in pieces):
        return None
    tag = "".join(piece for piece in pieces if piece is not None)
    return tag if len(tag) <= LONGEST else None


def _text(data: Mapping[str, Any], path: str) -> str | None:
    found: Any = data
    for step in path.split("."):
        found = found.get(step) if isinstance(found, Mapping) else None
    match found:
        case bool():
            return "true" if found else "false"
        case str() | int() | float():
            return str(found) or None
        case _:
            return None
