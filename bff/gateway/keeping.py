"""What proxy routes keep of their answers: found, kept, renewed and forgotten in the store, by the rules. No I/O of its own."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from typing import Final

from bff.gateway.archive import Archive
from bff.gateway.proxied import Again, Came, Job, Renewed
from bff.model import Cache, Clock, Headers, Purge, Telemetry
from bff.rules import forwarding, invalidation, redirects, revalidation, storing, vary
from bff.rules.caching import Fields, fields, text, words
from bff.rules.early import backoff
from bff.rules.forwarding import Lines
from bff.rules.freshness import lifetime, worth
from bff.rules.limits.distinct import Distinct
from bff.rules.stored import Refused, Stored
from bff.store.answers import Answers, Kept, answers, others
from bff.store.memory import MemoryStore
from bff.store.tier import ROUNDING

TOLD: Final = (1000, 600.0)
"""URIs that changed and that other processes are told of: so many in so many seconds. Clients make them up, and the log that
all processes share forgets everybody's purges, and with them all that was kept before, once it is full."""


class Keeping:
    """The answers of all proxy routes in one store. `purge` reaches every process; `random` gives numbers from 0 to 1."""

    def __init__(
        self,
        store: MemoryStore,
        telemetry: Telemetry,
        *,
        archive: Archive | None,
        purge: Callable[[Iterable[Purge]], Awaitable[int]],
        clock: Clock,
        wall: Clock,
        random: Clock,
    ) -> None:
        self.archive = archive
        self._store = store
        self._purge = purge
        self._telemetry = telemetry
        self._clock = clock
        self._wall = wall
        self._random = random
        self._told = Distinct(*TOLD)

    # --- finding ------------------------------------------------------------------------------------------------------

    def entry(self, job: Job) -> Answers | None:
        """All that is kept of this URI for whoever asks."""
        entry = self._store.get(job.key) if job.shareable else None
        return entry if isinstance(entry, Answers) else None

    def selected(self, job: Job) -> Kept | None:
        """The latest answer that a request selects, whatever it is good for now."""
        entry = self.entry(job)
        if entry is None:
            return None
        found = vary.select([kept.stored for kept in entry.kept], job.request)
        return next((kept for kept in entry.kept if kept.stored is found), None)

    async def recall(self, job: Job) -> bool:
        """Take over what the second tier has, where that is fresh for longer than what is here; whether it was."""
        if self.archive is None:
            return False
        began = self._clock()
        kept, cache = await self.archive.find(job), job.policy.cache
        here = self.selected(job)
        if kept is None or (here is not None and _ends(kept.stored, cache) <= _ends(here.stored, cache) + ROUNDING):
            return False
        return self._put(job, kept, began, write=False)

    # --- keeping ------------------------------------------------------------------------------------------------------

    def terms(self, job: Job, status: int, headers: Headers, began: float) -> Stored | Refused:
        """On what terms an answer may be kept, `headers` being those that may be shown and its Set-Cookie."""
        cache = job.policy.cache
        if not job.shareable or cache.mode == "off":
            return Refused("private")
        found = storing.compiled(
            method=job.method,
            request=job.request,
            status=status,
            headers=headers,
            asked=began,
            now=self._clock(),
            wall_now=self._wall(),
            private=job.private,
            mode=job.mode,
        )
        if isinstance(found, Refused):
            return found
        before = self.selected(job)
        fits = worth(found, cache) and storing.displaces(found, before.stored if before is not None else None)
        return found if fits else storing.unfit(status, asks=found.no_cache)

    def keep(self, job: Job, came: Came, body: bytes, began: float) -> bool:
        """Keep an answer whose terms allow it, now that it is complete."""
        if isinstance(came.terms, Refused):
            return False
        took, version = self._clock() - began, job.route.fragment.version
        return self._put(job, Kept(stored=came.terms, body=body, tags=came.tags, took=took, version=version), began)

    def _put(self, job: Job, kept: Kept, began: float, *, without: Stored | None = None, write: bool = True) -> bool:
        """In place of the one that its request selected, and of `without`; in both tiers, if `write`."""
        selected = self.selected(job)
        before = others(self.entry(job), [selected.stored if selected is not None else None, without])
        principal = job.principal if job.private else None
        stays = self._store.put(answers(job.key, job.route.fragment.name, principal, [*before, kept]), began)
        if stays and write and self.archive is not None:
            self.archive.keep(job, kept, began)
        return stays

    def renew(self, job: Job, asked: Iterable[Kept], headers: Headers, began: float) -> Renewed | Again:
        """What a 304 to the gateway's own question makes of the answers that it asked about."""
        about = list(asked)
        which = revalidation.renewed_by(fields(headers), [kept.stored for kept in about])
        kept = next((each for each in about if each.stored is which), None)
        if which is None or kept is None:
            return Again()
        self._telemetry.cache(job.route.fragment.name, "revalidated")
        lines, now = forwarding.answer(headers), self._clock()
        stored = revalidation.renewed(
            which,
            lines,
            request=job.request,
            asked=began,
            now=now,
            wall_now=self._wall(),
            private=job.private,
            mode=job.mode,
        )
        if isinstance(stored, Refused):
            self._forget(job.route.context, [job.uri])
            shown = replace(which, headers=revalidation.updated(which.headers, lines), born=now)
            return Renewed(replace(kept, stored=shown), stored=False)
        made = replace(kept, stored=stored, took=now - began, stale_at=math.inf)
        return Renewed(made, stored=self._put(job, made, began, without=which))

    def head_came(self, job: Job, came: Came, began: float) -> None:
        """An answer to HEAD, which tells of the kept answer to GET (RFC 9111 §4.3.5)."""
        kept = self.selected(job)
        if kept is None:
            return
        stored = revalidation.head_renews(
            kept.stored,
            came.status,
            came.lines,
            request=job.request,
            asked=began,
            now=self._clock(),
            wall_now=self._wall(),
            private=job.private,
            mode=job.mode,
        )
        if stored is None:
            self._forget(job.route.context, [job.uri])
        elif stored is not kept.stored:
            self._put(job, replace(kept, stored=stored, stale_at=math.inf), began, without=kept.stored)

    def failed(self, job: Job) -> None:
        """Nobody is asked in the background for a while that grows with every failure."""
        entry = self.entry(job)
        if entry is not None:
            entry.failures += 1
            entry.retry_at = self._clock() + backoff(entry.failures, self._random())

    # --- forgetting ---------------------------------------------------------------------------------------------------

    async def changed(self, job: Job, status: int, headers: Headers) -> bool:
        """Forget what an unsafe request makes doubtful (RFC 9111 §4.4), and what its context says it changed (contract §3).

        In every process; of URIs beyond `TOLD`, in this one and the second tier.
        """
        if job.method in invalidation.SAFE or not 200 <= status < 400:
            return False
        found, context = fields(headers), job.route.context
        named = []
        for uri in self._doubtful(job, status, found):
            if self._told.take(uri, self._clock()):
                named.append(invalidation.tag(uri))
            else:
                self._forget(context, [uri])
        changed = [
            Purge(kind="tag", value=tag, context=context)
            for tag in dict.fromkeys([*named, *words(found, b"bff-changed")])
        ]
        if job.principal is not None:
            changed.append(Purge(kind="context", value=context, principal=job.principal))
        await self._purge(changed)
        return True

    def _doubtful(self, job: Job, status: int, found: Fields) -> tuple[str, ...]:
        """URIs of the gateway; the answer names them as its upstream knows them."""
        named = dict(found)
        for name in (b"location", b"content-location"):
            if name in named:
                named[name] = (location(job, text(found, name)) or "").encode("latin-1")
        return invalidation.invalidated(job.method, status, job.uri, named)

    def _forget(self, context: str, uris: Iterable[str]) -> None:
        for uri in uris:
            if self.archive is not None:
                self.archive.void(f"{context}/proxy", uri)
            self._store.purge(Purge(kind="tag", value=invalidation.tag(uri), context=context), self._clock())


def _ends(stored: Stored, cache: Cache) -> float:
    return stored.born + lifetime(stored, cache)


def location(job: Job, stated: str) -> str | None:
    """Where the gateway shows what a Location means; None where the registration does not allow it."""
    fragment = job.route.fragment
    return forwarding.location(stated, fragment.upstream, fragment.grant, job.asker)


def tags(found: Fields, uri: str) -> tuple[str, ...]:
    """The names under which an answer is purged: its URI's, and those that its upstream gave it."""
    own = words(found, b"surrogate-key")
    own += [tag.strip() for tag in text(found, b"cache-tag").split(",") if tag.strip()]
    return tuple(dict.fromkeys((invalidation.tag(uri), *own)))


def shown(job: Job, status: int, headers: Headers, task: str | None) -> Lines | None:
    """What of a head is shown, with where it leads; None where that is where it may not. `task`: the URL of a begun one."""
    scripted = redirects.scripted(headers, job.route.fragment.upstream, job.route.fragment.grant)
    if scripted is None:
        return None
    lines = [*forwarding.answer(headers), *scripted, forwarding.VIA]
    if status in (204, 205):  # RFC 9110 §8.6, §15.3.6: neither has a body, whatever is said
        lines = [line for line in lines if line[0] != b"content-length"]
    stated = text(fields(headers), b"location")
    if not stated:
        return lines
    to = task if status == 202 else location(job, stated)
    return None if to is None else [*lines, (b"location", to.encode("latin-1"))]
