"""Exchanges of proxy routes under way: each is pumped into a spool, told how it landed, and kept where it may be.

Owns what is shared: who may join whose exchange, and how long one lives that nobody waits for. What a request is answered
with is `proxy`'s business, what the store makes of an answer `keeping`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from bff.gateway.archive import Archive
from bff.gateway.keeping import Keeping, shown, tags
from bff.gateway.proxied import Brought, Came, Job, Landed
from bff.gateway.spool import Spool
from bff.gateway.trying import GIVEN_UP, Try, Trying
from bff.model import Clock, Failure, Headers, Reason
from bff.rules import forwarding, revalidation
from bff.rules.caching import Fields, fields, text
from bff.rules.forwarding import Lines
from bff.rules.stored import Stored
from bff.store.answers import Answers, Kept
from bff.upstream.stream import Head, Stream, Torn

SOLO: Final = 10.0
"""Seconds for which nobody waits for another's exchange after an answer that could not be shared (Varnish's hit-for-miss)."""
SOLO_KEYS: Final = 4096
PAUSE: Final = (0.02, 0.2)
"""Seconds between looks for what another process is fetching: the first, and the longest."""
_ASTRAY: Final = Failure(Reason.REFUSED, "refused", "the context leads to where it may not")


@dataclass(slots=True, eq=False, kw_only=True)
class Flight:
    """One exchange. `landed` comes with the head of its answer; `asked`: the kept answers it asks about."""

    job: Job
    asked: tuple[Kept, ...]
    spool: Spool
    landed: asyncio.Future[Landed]
    began: float
    shared: bool
    tried: Try | None = None  # once leave to ask was given, or not
    hint: Callable[[int, Headers], None] | None = None  # is told of answers that are not the last
    leased: bool = False  # no other process asks meanwhile
    closing: asyncio.TimerHandle | None = None
    task: asyncio.Task[None] | None = field(default=None, repr=False)

    @property
    def stream(self) -> Stream | None:
        """Once it is asked for, and as long as that goes on."""
        return self.tried.stream if self.tried is not None else None


class Flights:
    """All of them, of one gateway. `task_url(job, stated)`: where a 202's task is asked for, None where it may not be.

    `calm`: whether a route's breaker is closed, so that there is something to wait for.
    """

    def __init__(
        self,
        *,
        trying: Trying,
        calm: Callable[[str], bool],
        keeping: Keeping,
        task_url: Callable[[Job, str], str | None],
        clock: Clock,
    ) -> None:
        self._trying = trying
        self._calm = calm
        self._keeping = keeping
        self._task_url = task_url
        self._clock = clock
        self._shared: dict[str, Flight] = {}
        self._solo: dict[str, float] = {}
        self._all: set[Flight] = set()

    # --- starting and joining -----------------------------------------------------------------------------------------

    def joinable(self, key: str) -> Flight | None:
        """The exchange under way whose answer a request of this key may turn out to share."""
        return self._shared.get(key)

    def alone(self, job: Job) -> bool:
        """Whether waiting for another's answer is in vain: the last one could not be shared, or a breaker is not closed."""
        return self._solo.get(job.key, 0.0) > self._clock() or not self._calm(job.route.name)

    def start(self, job: Job, asked: tuple[Kept, ...] = (), *, shared: bool = False) -> Flight:
        """Ask the context. `asked`: whether these still hold; `shared`: others may join."""
        loop = asyncio.get_running_loop()
        flight = Flight(
            job=job,
            asked=asked,
            spool=Spool(lambda: self._unread(flight), lambda: self._close(flight)),
            landed=loop.create_future(),
            began=self._clock(),
            shared=shared,
        )
        self._all.add(flight)
        if shared:
            self._shared[job.key] = flight
        else:
            self._open(flight)
        flight.task = loop.create_task(self._fly(flight))
        flight.task.add_done_callback(lambda _: self._over(flight))
        return flight

    def refresh(self, job: Job, entry: Answers, kept: Kept) -> None:
        """Ask in the background whether an answer still holds, unless somebody does, or it failed just now."""
        if job.key not in self._shared and entry.retry_at <= self._clock():
            asked = (kept,) if kept.version == job.route.fragment.version else ()
            lines = forwarding.plain(job.lines)
            self.start(replace(job, method="GET", lines=lines, request=fields(lines)), asked, shared=True)

    def part(self, context: str, uri: str = "") -> None:
        """Something of a context has changed, or what is at one URI: nobody joins what was asked before."""
        for flight in [*self._shared.values()]:
            job = flight.job
            if context in ("", job.route.context) and uri in ("", job.uri):
                del self._shared[job.key]

    async def aclose(self) -> None:
        """End everything."""
        tasks = [flight.task for flight in self._all if flight.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._keeping.archive is not None:
            await self._keeping.archive.aclose()

    # --- one exchange -------------------------------------------------------------------------------------------------

    def _open(self, flight: Flight) -> Try:
        """Ask, where that is allowed now."""
        job, asked = flight.job, [kept.stored for kept in flight.asked]
        flight.tried = tried = self._trying.begin(
            job,
            revalidation.conditional(job.lines, asked) if asked else job.lines,
            lambda status, headers: flight.hint(status, headers) if flight.hint is not None else None,
        )
        return tried

    async def _fly(self, flight: Flight) -> None:
        archive = self._keeping.archive
        if flight.shared and archive is not None:
            flight.leased = await self._leased(flight, archive)
            if not flight.leased:
                flight.landed.set_result(Brought())
                self._end(flight, None)
                return
        tried = flight.tried
        if tried is None:
            flight.began = self._clock()  # what was changed while it looked elsewhere is no longer to come
            tried = self._open(flight)
        self._end(flight, await self._exchange(flight, tried))

    def _over(self, flight: Flight) -> None:
        """Its task has ended, or was cancelled, perhaps before it began: all that it held is given back."""
        if flight.tried is not None:
            self._trying.leave(flight.tried)
        self._end(flight, GIVEN_UP)
        if flight.leased and self._keeping.archive is not None:
            self._keeping.archive.release(flight.job.key)

    async def _leased(self, flight: Flight, archive: Archive) -> bool:
        """Whether this process is the one to ask; else another one has, and what it brought is kept here now.

        Who waits for another process waits for as long as that may take at most.
        """
        job, pause = flight.job, PAUSE[0]
        until = flight.began + job.policy.timeout.total
        while not await self._keeping.recall(job):
            if await archive.lease(job.key, job.policy.timeout.total):
                if not await self._keeping.recall(job):  # what came between the two looks
                    return True
                archive.release(job.key)
                return False
            if self._clock() >= until or not self._calm(job.route.name):
                return True
            await asyncio.sleep(pause)
            pause = min(pause * 2, PAUSE[1])
        return False

    async def _exchange(self, flight: Flight, tried: Try) -> Failure | None:
        """Pass on what is said; why it did not end well."""
        try:
            head = await self._trying.head(tried)
            if flight.spool.readers > 1:
                tried.permit.waited(flight.spool.readers - 1)
            if isinstance(head, Failure):
                self._keeping.failed(flight.job)
                return head
            if await self._keeping.changed(flight.job, head.status, head.headers):
                self.part(flight.job.route.context)
            flight.landed.set_result(self._land(flight, head))
            if not flight.spool.readers:
                self._unread(flight)
            await self._pump(flight)
        except Torn as torn:
            tried.label = torn.failure.status
            tried.permit.ended(torn.failure)
            return torn.failure
        tried.permit.ended(None)
        return None

    async def _pump(self, flight: Flight) -> None:
        spool, stream = flight.spool, flight.stream
        while piece := await stream.read() if stream is not None else b"":
            spool.add(piece)
            await spool.room()
        landed = flight.landed.result()
        if spool.keep and isinstance(landed, Came):
            self._keeping.keep(flight.job, landed, spool.whole(), flight.began)

    def _end(self, flight: Flight, failure: Failure | None) -> None:
        if failure is not None and not flight.landed.done():
            flight.landed.set_result(failure)
        flight.spool.end(failure)
        self._close(flight)
        self._all.discard(flight)
        if flight.closing is not None:
            flight.closing.cancel()
            flight.closing = None

    def _land(self, flight: Flight, head: Head) -> Landed:
        """What the head of an answer makes of a flight."""
        job, status, headers = flight.job, head.status, head.headers
        if status == 304 and flight.asked:
            self._close(flight)
            return self._keeping.renew(job, flight.asked, headers, flight.began)
        if status >= 500 or status == 429:
            self._keeping.failed(job)
        found = fields(headers)
        lines = shown(job, status, headers, self._task(job, status, found))
        if lines is None:
            self._close(flight)
            return _ASTRAY
        return self._came(flight, head, lines, found)

    def _came(self, flight: Flight, head: Head, lines: Lines, found: Fields) -> Came:
        job, status, headers = flight.job, head.status, head.headers
        baked = [line for line in headers if line[0] == b"set-cookie"]
        terms = self._keeping.terms(job, status, [*lines, *baked], flight.began)
        most = job.policy.max_body
        if isinstance(terms, Stored) and (head.length is None or head.length <= most):
            flight.spool.keep = most
        else:
            self._alone(flight, status)
        cookies = forwarding.granted_cookies(headers, job.route.fragment.grant)
        return Came(status, lines, cookies, terms, tags(found, job.uri))

    def _task(self, job: Job, status: int, found: Fields) -> str | None:
        stated = text(found, b"location")
        return self._task_url(job, stated) if status == 202 and stated else None

    # --- sharing ------------------------------------------------------------------------------------------------------

    def _alone(self, flight: Flight, status: int) -> None:
        """Its answer is nobody else's: who waits for it asks for himself, and so does who comes soon, but after an error."""
        self._close(flight)
        if flight.shared and status < 500 and status != 429:
            if len(self._solo) >= SOLO_KEYS:
                self._solo.clear()
            self._solo[flight.job.key] = self._clock() + SOLO

    def _close(self, flight: Flight) -> None:
        """Nobody joins it any more."""
        if self._shared.get(flight.job.key) is flight:
            del self._shared[flight.job.key]

    def _unread(self, flight: Flight) -> None:
        """Nobody waits for it any more: it goes on where it could fill the store, within `total`; else it ends now."""
        task = flight.task
        if task is None or flight.spool.ended:
            return
        unknown = flight.shared and not flight.landed.done()
        if not (unknown or flight.spool.keep):
            task.cancel()
        elif flight.closing is None:
            left = flight.began + flight.job.policy.timeout.total - self._clock()
            flight.closing = asyncio.get_running_loop().call_later(max(left, 0.0), self._overdue, flight)

    def _overdue(self, flight: Flight) -> None:
        flight.closing = None
        if not flight.spool.readers and flight.task is not None:
            flight.task.cancel()
