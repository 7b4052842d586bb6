"""The words of proxy routes: one request, judged, and how its exchange may land. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from bff.model import Failure, Policy, Route
from bff.rules.caching import Fields
from bff.rules.forwarding import Asker, Lines
from bff.rules.stored import Mode, Refused, Stored
from bff.store.answers import Kept
from bff.upstream.stream import Body


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is asked of whom, and by what key its answer may be kept."""

    route: Route
    method: str
    target: str  # under upstream
    uri: str  # of the gateway
    key: str
    lines: Lines  # what reaches the context
    request: Fields  # the same by name
    asker: Asker
    principal: str | None
    body: Body | None
    shareable: bool  # its answer may be kept and shared at all
    html: bool  # an error may be a page

    @property
    def policy(self) -> Policy:
        return self.route.fragment.policy

    @property
    def private(self) -> bool:
        return self.route.fragment.private

    @property
    def mode(self) -> Mode:
        return "fixed" if self.policy.cache.mode == "fixed" else "http"


class Came(NamedTuple):
    """A final answer. `lines` is what of its head may be shown, `terms` those it may be kept on; its body is in the spool."""

    status: int
    lines: Lines
    cookies: Lines  # for whoever asked alone
    terms: Stored | Refused
    tags: tuple[str, ...]


class Renewed(NamedTuple):
    """A 304 to the gateway's own question: the kept answer still holds."""

    kept: Kept
    stored: bool  # and goes on being kept


class Again(NamedTuple):
    """A 304 that fits nothing that is kept: ask without conditions."""


class Brought(NamedTuple):
    """Another process has brought the answer: it is kept here now."""


Landed = Came | Renewed | Again | Brought | Failure
