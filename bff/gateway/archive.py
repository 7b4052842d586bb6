"""The second tier as proxy routes see it: the latest answer to each URI, and who is to fetch it among all processes.

Nothing here raises or waits for longer than the tier allows; what is written is written in the background. What comes from
it is read again by the rules in force, and shown only as far as the registration allows now.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine
from typing import Any, Final

from bff.gateway.proxied import Job
from bff.model import Clock
from bff.rules import forwarding, storing, vary
from bff.rules.caching import fields, text
from bff.rules.freshness import keep_for
from bff.store.answers import Kept
from bff.store.record import Record
from bff.store.tier import Tier

_SELECTED: Final = b"bff-selected"  # the request that the answer was to, as far as it selects answers
_VOID: Final = 0  # the status of what stands where an answer was forgotten
_FORGOTTEN: Final = 60.0  # seconds; whoever was fetching the old answer has ended by then


class Archive:
    """One tier, for the proxy routes of one gateway; belongs to its event loop."""

    def __init__(self, tier: Tier, *, clock: Clock, wall: Clock) -> None:
        self._tier = tier
        self._clock = clock
        self._wall = wall
        self._writing: dict[str, asyncio.Task[None]] = {}
        self._others: set[asyncio.Task[None]] = set()

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
        self._write(job.key, self._tier.put(record, keep=keep_for(stored, job.policy.cache), began=began))

    def void(self, fragment: str, uri: str) -> None:
        """Forget the shared answer to a URI, whoever wrote it."""
        key = f"{fragment}?GET {uri}"
        record = Record(key=key, fragment=fragment, version="", status=_VOID, headers=(), body=b"", born=self._wall())
        self._write(key, self._tier.put(record, keep=_FORGOTTEN, began=self._clock()))

    async def lease(self, key: str, seconds: float) -> bool:
        """Whether this process is the one to fetch."""
        return await self._tier.lease(key, seconds)

    def release(self, key: str) -> None:
        """Others may fetch it again, once what was fetched is written."""
        writing = self._writing.get(key)
        if writing is None:
            self._later(self._tier.release(key))
        else:
            writing.add_done_callback(lambda _: self._later(self._tier.release(key)))

    def _write(self, key: str, work: Coroutine[Any, Any, None]) -> None:
        task = self._later(work)
        self._writing[key] = task
        task.add_done_callback(lambda _: self._written(key, task))

    def _written(self, key: str, task: asyncio.Task[None]) -> None:
        if self._writing.get(key) is task:
            del self._writing[key]

    def _later(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._others.add(task)
        task.add_done_callback(self._others.discard)
        return task

    async def aclose(self) -> None:
        """Let what is being written be written."""
        while self._others:
            await asyncio.gather(*self._others, return_exceptions=True)
