"""The second tier as pages see it: entries instead of records, and who is to fetch among all processes.

What comes from it is read and checked as if its context had just answered. Nothing here raises or waits for longer than
the tier allows; what is written is written in the background.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from bff.model import Clock, Headers
from bff.page import results
from bff.page.call import Call
from bff.rules import serve
from bff.rules.caching import Fields, fields, terms
from bff.rules.dates import written
from bff.store.background import Background
from bff.store.entry import Entry
from bff.store.record import Record
from bff.store.tier import Tier
from bff.upstream.sources import paged
from bff.upstream.sources.content import Content, Read, Source, Unreadable

_LOG: Final = logging.getLogger("bff.page")
_NOT_KEPT: Final = frozenset(
    (b"age", b"connection", b"content-length", b"keep-alive", b"proxy-authenticate", b"proxy-connection", b"set-cookie",
     b"te", b"trailer", b"transfer-encoding", b"upgrade")
)  # fmt: skip
PAUSE: Final = (0.02, 0.2)
"""Seconds between looks for what another process is fetching: the first, and the longest."""


def reading(sources: Mapping[str, Source], call: Call, status: int, found: Fields, body: bytes) -> Read:
    """The content of an answer that is none of the errors."""
    fragment = call.fragment
    if status == 204:
        return Content(markup=results.EMPTY)
    if status in serve.NEGATIVE and not call.primary:
        return Content()
    source = sources[fragment.source]
    try:
        if fragment.paginate:
            made = paged.read(source, fragment, found, body, values=call.values, params=call.params, head=call.primary)
        else:
            made = source.read(fragment, found, body, call.params, head=call.primary)
    except Exception:  # noqa: BLE001 - see `_unreadable`
        return _unreadable()
    return partial(_contained, made) if callable(made) else made


def _contained(work: Callable[[], Content | Unreadable]) -> Content | Unreadable:
    try:
        return work()
    except Exception:  # noqa: BLE001 - see `_unreadable`
        return _unreadable()


def _unreadable() -> Unreadable:
    """A defect of a source's makes its answer unreadable, or nobody who waits would ever hear of it."""
    _LOG.exception("an answer could not be read")
    return Unreadable("reading it failed; the log says how")


class Replica(Background):
    """One tier, for one resolver; belongs to its event loop."""

    def __init__(self, tier: Tier, sources: Mapping[str, Source], *, clock: Clock, wall: Clock) -> None:
        super().__init__(tier)
        self._sources = sources
        self._clock = clock
        self._wall = wall

    async def find(self, call: Call, key: str) -> Entry | None:
        """What the tier has for a call, as an entry."""
        record = await self._tier.get(key)
        if record is None or record.fragment != call.fragment.name:
            return None
        found = fields(record.headers)
        read = reading(self._sources, call, record.status, found, record.body)
        made = await asyncio.get_running_loop().run_in_executor(None, read) if callable(read) else read
        return self._entry(call, record, found, made) if isinstance(made, Content) else None

    def _entry(self, call: Call, record: Record, found: Fields, content: Content) -> Entry:
        fragment, behind = call.fragment, self._wall() - self._clock()  # from the wall's clock to ours
        scope, obey = ("private" if fragment.private else "shared"), call.policy.cache.mode == "http"
        return Entry(
            key=record.key,
            fragment=record.fragment,
            version=record.version,
            status=record.status,
            markup=content.markup,
            data=content.data,
            terms=terms(found, record.status, scope=scope, obey=obey, wall_now=record.born),  # type: ignore[arg-type] # one of the two
            born=min(record.born - behind, self._clock()),  # a clock that is ahead makes nothing younger than new
            as_of=content.as_of,
            tags=record.tags,
            next=content.next,
            principal=record.principal,
            stale_at=math.inf if record.stale_at is None else record.stale_at - behind,
        )

    def keep(self, call: Call, entry: Entry, headers: Headers, body: bytes, began: float) -> None:
        """Write an answer that was just kept in memory; dated, if it was not (RFC 9110 §6.6.1): a template may say when it came."""
        kept = [(name, value) for name, value in headers if name not in _NOT_KEPT]
        if all(name != b"date" for name, _ in kept):
            kept.append((b"date", written(int(self._wall()))))
        record = Record(
            key=entry.key,
            fragment=entry.fragment,
            version=entry.version,
            status=entry.status,
            headers=tuple(kept),
            body=body,
            born=self._born(entry),
            tags=entry.tags,
            principal=entry.principal,
        )
        keep = serve.keep_for(entry.terms, entry.status, call.policy.cache)
        self.write(entry.key, self._tier.put(record, keep=keep, began=began))

    def renew(self, call: Call, entry: Entry, headers: Headers, began: float) -> None:
        """Write that a 304 with these headers has confirmed an entry."""
        kept = [(name, value) for name, value in headers if name not in _NOT_KEPT]
        keep = serve.keep_for(entry.terms, entry.status, call.policy.cache)
        self.write(entry.key, self._tier.touch(entry.key, kept, self._born(entry), keep=keep, began=began))

    def _born(self, entry: Entry) -> float:
        return self._wall() - (self._clock() - entry.born)
