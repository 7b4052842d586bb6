"""What every kind of source gives: the content of one answer, or why it is none. Knows nothing of HTTP exchanges."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Protocol, runtime_checkable

from bff.markup.check import Checker
from bff.model import Clock, Fetch, Fragment, Markup
from bff.rules.caching import Fields

SLOW = 16 * 1024
"""Bytes from which work that is not memoised (a repair, a template over JSON) leaves the event loop."""
LARGE = 64 * 1024
"""Bytes from which even checking markup leaves it: a hundred thousand tags take tens of milliseconds."""


@dataclass(slots=True)
class Content:
    """An answer, read: markup to place, JSON text to hand out, and the source's own timestamp (wall)."""

    markup: Markup | None = None
    data: bytes | None = None
    as_of: float | None = None
    next: str = ""  # the fragment endpoint's address of the list's next page


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An answer that is not what the fragment's source promises; an error like any other."""

    detail: str


Read = Content | Unreadable | Callable[[], "Content | Unreadable"]
"""A callable means: this takes long, call me in a worker thread."""


class Source(Protocol):
    """One kind of backend: what to accept from it and how to read its answer."""

    accept: str

    def read(self, fragment: Fragment, found: Fields, body: bytes, params: Mapping[str, Any], *, head: bool) -> Read:
        """Read a 2xx (or a primary's 4xx) answer. `head`: it may hold elements for the page's head."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kit:
    """What a source is made with."""

    checker: Checker
    render: float  # seconds that turning one answer into HTML may take


class Kind(Protocol):
    """A class of sources, as an entry point names it."""

    accept: str

    def made(self, kit: Kit, /) -> Source: ...


class Asks(Fetch, Protocol):
    """Exchanges of a source that asks in a way of its own."""

    def fallback(self, fragment: Fragment, target: str) -> bytes | None:
        """HTML that the source itself offers where it cannot answer."""


@runtime_checkable
class Asking(Protocol):
    """A source that does not simply GET a fragment's target."""

    def through(self, fetch: Fetch, clock: Clock) -> Asks:
        """What asks for it; `clock` is the loop's."""


def content_type(found: Fields) -> bytes:
    """The media type, lower-case and without parameters; b"" where none is stated."""
    return media_type(found.get(b"content-type", b""))


@lru_cache(maxsize=256)
def media_type(stated: bytes) -> bytes:
    """As `content_type`, of a header's value."""
    return stated.partition(b";")[0].strip().lower()


def rfc3339(wall: float) -> str:
    return datetime.fromtimestamp(wall, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
