"""The second tier as proxy routes see it: the latest answer to each URI, and who is to fetch it among all processes.

Nothing here raises or waits for longer than the tier allows; what is written is written in the background. What comes from
it is read again by the rules in force, and shown only as far as the registration allows now.
"""

from __future__ import annotations

import math
from typing import Final

from bff.gateway.proxied import Job
from bff.model import Clock
from bff.rules import forwarding, storing, vary
from bff.rules.caching import fields, text
from bff.rules.freshness import keep_for
from bff.store.answers import Kept
from bff.store.background import Background
from bff.store.record import Record
from bff.store.tier import Tier

_SELECTED: Final = b"bff-selected"  # the request that the answer was to, as far as it selects answers
_VOID: Final = 0  # the status of what stands where an answer was forgotten
_FORGOTTEN: Final = 60.0  # seconds; whoever was fetching the old answer has ended by then


class Archive(Background):
    """One tier, for the proxy routes of one gateway; belongs to its event loop."""

    def __init__(self, tier: Tier, *, clock: Clock, wall: Clock) -> None:
        super().__init__(tier)
        self._clock = clock
        self._wall = wall

    async def find(self, job: Job) -> Kept | None:
        """The answer that the tier has, where this request selects it."""
        record = await self._tier.get(job.key)
        if record is None or record.fragment != job.route.fragment.name or record.status == _VOID:
            return None
        found, selected = fields(record.headers), text(fields(record.headers), _SELECTED)
        if vary.key(vary.names(found) or (), job.request) != selected:
            return None
        lines = forwarding.answer(record.headers)
        stated = text(found, b"location")
        if stated:
            to = forwarding.location(stated, job.route.fragment.upstream, job.route.fragment.grant, job.asker)
            if to is None:
                return None
            lines.append((b"location", to.encode("latin-1")))
        behind = self._wall() - self._clock()  # from the wall's clock to ours
        stored = storing.restored(
            status=record.status,
            headers=lines,
            request=job.request,
            born=min(record.born - behind, self._clock()),  # a clock that is ahead makes nothing younger than new
            wall_now=self._wall(),
            private=job.private,
            mode=job.mode,
        )
        stale_at = math.inf if record.stale_at is None else record.stale_at - behind
        return Kept(
            stored=stored, body=record.body, tags=record.tags, took=0.0, version=record.version, stale_at=stale_at
        )

    def keep(self, job: Job, kept: Kept, began: float) -> None:
        """Write an answer that was just kept in memory, or renewed there."""
        stored = kept.stored
        selected = (_SELECTED, vary.key(stored.vary, job.request).encode())
        record = Record(
            key=job.key,
            fragment=job.route.fragment.name,
            version=kept.version,
            status=stored.status,
            headers=(*stored.headers, selected),
            body=kept.body,
            born=self._wall() - (self._clock() - stored.born),
            tags=kept.tags,
            principal=job.principal if job.private else None,
        )
        self.write(job.key, self._tier.put(record, keep=keep_for(stored, job.policy.cache), began=began))

    def void(self, fragment: str, uri: str) -> None:
        """Forget the shared answer to a URI, whoever wrote it."""
        key = f"{fragment}?GET {uri}"
        record = Record(key=key, fragment=fragment, version="", status=_VOID, headers=(), body=b"", born=self._wall())
        self.write(key, self._tier.put(record, keep=_FORGOTTEN, began=self._clock()))
