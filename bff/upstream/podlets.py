"""How podlets are asked (Podium v5): the manifest says where the content is, and the content which version it is of.

A `Fetch` over another: the target that it is given is the manifest's, its query goes to the content. Manifests are kept as
long as their headers say, else until a podlet names another version (`podlet-version`); one that has run out is used while
it is fetched again, so that only the first answer takes two exchanges. Fallbacks are fetched beside it, and stand in when
the content fails. Knows the wire alone; what HTML becomes of it is `sources.podium`'s.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from bff.model import Ask, Bounds, Clock, Exchange, Failure, Fetch, Headers, Reason, Reply, Timeout, Upstream
from bff.rules.caching import fields, terms, text
from bff.upstream.manifests import Manifest, linked, manifest

AGENT: Final = b"user-agent: @podium/client 5.0.0 (bff)\r\n"
"""Podlets that see this prefix answer a layout, not their developers."""
LARGEST: Final = 256 * 1024  # bytes of a manifest, or of a fallback
HOLD: Final = 10.0  # seconds until a manifest that could not be had is tried again, while there is an older one
KNOWN: Final = 256  # podlets remembered; a parameter in the manifest's path can make any number
_LOCALE: Final = re.compile(rb"^accept-language: ([A-Za-z0-9-]+)", re.MULTILINE)
_AGENT: Final = re.compile(rb"^user-agent: [^\r\n]*\r\n", re.MULTILINE)


class Podlets:
    """All podlets of one loop, by where their manifest is."""

    def __init__(self, fetch: Fetch, clock: Clock) -> None:
        self._fetch = fetch
        self.now = clock
        self._known: dict[tuple[Upstream, str], Podlet] = {}

    def __call__(self, ask: Ask, done: Callable[[Reply | Failure], None]) -> Exchange:
        path, _, query = ask.target.partition("?")
        podlet = self._podlet(ask.upstream, path)
        trip = Trip(podlet, ask, query, self._fetch, done)
        if podlet.manifest is None:
            podlet.wait(trip)
        else:
            if self.now() >= podlet.until:
                podlet.load(ask)
            trip.go(podlet.manifest)
        return trip

    def stand_in(self, upstream: Upstream, target: str) -> tuple[bytes, Headers] | None:
        """The fallback that a podlet has registered, and the headers that it came with."""
        podlet = self._known.get((upstream, target.partition("?")[0]))
        return podlet.fallback if podlet is not None else None

    def manifest(self, upstream: Upstream, target: str) -> Manifest | None:
        """What a podlet says of itself, as far as it has been asked."""
        podlet = self._known.get((upstream, target.partition("?")[0]))
        return podlet.manifest if podlet is not None else None

    def _podlet(self, upstream: Upstream, path: str) -> Podlet:
        key = upstream, path
        if key not in self._known:
            if len(self._known) >= KNOWN:
                self._known.pop(next(iter(self._known)))
            self._known[key] = Podlet(upstream, path, self._fetch, self.now)
        return self._known[key]


class Podlet:
    """One manifest: what it says, until when, and who waits for it."""

    def __init__(self, upstream: Upstream, path: str, fetch: Fetch, now: Clock) -> None:
        self.upstream = upstream
        self.path = path
        self.now = now
        self.manifest: Manifest | None = None
        self.until = 0.0
        self.fallback: tuple[bytes, Headers] | None = None
        self._fetch = fetch
        self._loading = False
        self._waiting: list[Trip] = []

    def wait(self, trip: Trip) -> None:
        """Go on with the manifest as it is now."""
        self._waiting.append(trip)
        self.load(trip.question)

    def leave(self, trip: Trip) -> None:
        if trip in self._waiting:
            self._waiting.remove(trip)

    def load(self, of: Ask) -> None:
        """Fetch the manifest, on behalf of whose content is wanted."""
        if not self._loading:
            self._loading = True
            ask = self._about(self.path, b"application/json", of.bounds.timeout)
            ask.fragment, ask.policy = of.fragment, of.policy
            self._fetch(ask, self._loaded)

    def _about(self, target: str, accept: bytes, timeout: Timeout) -> Ask:
        bounds = Bounds(timeout, max_body=LARGEST, limit=1024)
        return Ask(self.upstream, "GET", target, b"accept: %b\r\n%b" % (accept, AGENT), bounds)

    def _loaded(self, reply: Reply | Failure) -> None:
        self._loading = False
        said = _read(reply, self.path, self.upstream)
        if isinstance(said, Manifest) and isinstance(reply, Reply):
            self._take(said, reply)
        else:
            self.until = self.now() + HOLD
        waiting, self._waiting = self._waiting, []
        for trip in waiting:
            if self.manifest is not None:
                trip.go(self.manifest)
            elif isinstance(said, Failure):
                trip.fail(said)

    def _take(self, said: Manifest, reply: Reply) -> None:
        before, self.manifest = self.manifest, said
        stated = terms(fields(reply.headers), 200, scope="shared", obey=True, wall_now=0.0).lifetime
        self.until = self.now() + stated if stated else float("inf")
        if not said.fallback:
            self.fallback = None
        elif self.fallback is None or before is None or before.version != said.version:
            timeout = Timeout(connect=1.0, first_byte=5.0, total=10.0)  # nobody waits for it
            self._fetch(self._about(said.fallback, b"text/html", timeout), self._fell_back)

    def _fell_back(self, reply: Reply | Failure) -> None:
        if isinstance(reply, Reply) and reply.status == 200:
            self.fallback = reply.body, reply.headers


class Trip:
    """One content under way: perhaps after its manifest, perhaps twice where its podlet has become another."""

    def __init__(
        self,
        podlet: Podlet,
        ask: Ask,
        query: str,
        fetch: Fetch,
        done: Callable[[Reply | Failure], None],
    ) -> None:
        self._podlet = podlet
        self.question = ask
        self._query = query
        self._fetch = fetch
        self._done = done
        self._began = podlet.now()
        self._exchange: Exchange | None = None
        self._manifest: Manifest | None = None
        self._held: Reply | None = None  # an answer of another version than the manifest that led to it

    def go(self, said: Manifest) -> None:
        """Ask for the content, or hand over what is there already where it is still the same."""
        before, self._manifest = self._manifest, said
        if self._held is not None and before is not None and before.content == said.content:
            self._hand_over(self._held, said)
            return
        question, timeout = self.question, self.question.bounds.timeout
        left = max(0.001, timeout.total - (self._podlet.now() - self._began))
        ask = replace(
            question,
            target=_joined(said.content, self._query),
            headers=_headers(question.headers, said),
            bounds=question.bounds._replace(timeout=replace(timeout, total=left)),
        )
        self._exchange = self._fetch(ask, self._answered)

    def fail(self, failure: Failure) -> None:
        self._done(failure)

    def cancel(self) -> None:
        self._podlet.leave(self)
        if self._exchange is not None:
            self._exchange.cancel()

    def _answered(self, reply: Reply | Failure) -> None:
        self._exchange = None
        said = self._manifest
        if isinstance(reply, Failure) or said is None:
            self._done(reply)
            return
        version = text(fields(reply.headers), b"podlet-version")
        if version and version != said.version and self._held is None:
            self._held = reply
            self._podlet.wait(self)
            return
        self._hand_over(reply, said)

    def _hand_over(self, reply: Reply, said: Manifest) -> None:
        if not any(name == b"link" and b"asset-type" in value for name, value in reply.headers):
            # podlets before 5.1 name their assets in the manifest alone
            reply.headers, reply.found = [*reply.headers, *linked(said)], None
        waited = self._podlet.now() - self._began - reply.timing.total
        if waited > 0:
            reply.timing = reply.timing._replace(total=reply.timing.total + waited)
        self._done(reply)


def _read(reply: Reply | Failure, asked: str, upstream: Upstream) -> Manifest | Failure:
    if isinstance(reply, Failure):
        return replace(reply, detail=f"the podlet's manifest: {reply.detail}")
    if reply.status != 200:
        return Failure(Reason.STATUS, "refused", f"the podlet's manifest answered {reply.status}", reply.timing)
    said = manifest(reply.body, asked, upstream)
    return Failure(Reason.REFUSED, "refused", said, reply.timing) if isinstance(said, str) else said


def _joined(target: str, query: str) -> str:
    return target + ("&" if "?" in target else "?") + query if query else target


def _headers(lines: bytes, said: Manifest) -> bytes:
    """What a layout sends of its context: nothing that differs between visitors but the locale, which is keyed."""
    locale = _LOCALE.search(lines)
    own = b"podium-requested-by: bff\r\npodium-debug: false\r\npodium-device-type: desktop\r\npodium-mount-pathname: /\r\n"
    own += f"podium-public-pathname: /podium-resource/{said.name}\r\n".encode()
    if locale is not None:
        own += b"podium-locale: %b\r\n" % locale[1]
    return _AGENT.sub(AGENT, lines) + own
