"""One request for a proxy route: what is kept answers it, or another's exchange, or one of its own; and what is sent.

Exchanges are `flights`, what is kept is `keeping`, whether it may pass at all `proxy`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from bff.gateway.arrivals import Arrivals
from bff.gateway.cors import Cors
from bff.gateway.flights import Flight, Flights
from bff.gateway.keeping import Keeping
from bff.gateway.pages import send_answer
from bff.gateway.problems import Answer, problem
from bff.gateway.proxied import Again, Brought, Came, Job, Renewed
from bff.gateway.spool import Reader
from bff.model import Clock, Failure, Headers, Reason, Telemetry
from bff.rules import cachestatus, forwarding, ranges, reuse, validators, vary
from bff.rules.caching import fields
from bff.rules.early import BETA, early
from bff.rules.forwarding import Lines
from bff.rules.reuse import Reuse, Use
from bff.rules.stored import Refused, Stored
from bff.store.answers import Kept, judged, others
from bff.upstream.stream import Torn

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

TRIES: Final = 3  # looks at the store for one request: before asking, and after others' exchanges
_BODILESS: Final = frozenset({204, 205, 304})
_CONDITIONS: Final = frozenset(
    {b"if-none-match", b"if-modified-since", b"if-match", b"if-unmodified-since", b"if-range", b"range"}
)
_NOSNIFF: Final = (b"x-content-type-options", b"nosniff")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What all requests share."""

    flights: Flights
    keeping: Keeping
    telemetry: Telemetry
    cors: Cors
    clock: Clock
    random: Clock


class Turn:
    """One request under way."""

    def __init__(self, ground: Ground, job: Job, asked: Headers, send: Send, coming: Arrivals) -> None:
        """`asked`: the client's own lines."""
        self._ground = ground
        self._flights, self._keeping = ground.flights, ground.keeping
        self._now = ground.clock
        self._job = job
        self._asked = asked
        self._send = send
        self._coming = coming

    async def answer(self) -> None:
        job = self._job
        if job.method in ("GET", "HEAD") and job.shareable:
            await self._cached()
            return
        decision = self._decision(None)
        served = self._served(None, None, decision)
        if served is not None:
            await self._whole(served)
        else:
            await self._ask(decision, (), shared=False)

    # --- from the store -----------------------------------------------------------------------------------------------

    async def _cached(self) -> None:
        """What is kept, somebody else's answer, or one's own, in this order."""
        for turn in range(TRIES):
            kept, stored, decision = self._look()
            if turn == 0 and self._looks_further(decision) and await self._keeping.recall(self._job):
                kept, stored, decision = self._look()
            served = self._served(kept, stored, decision)
            if served is not None:
                await self._whole(served)
                return
            flight = self._flights.joinable(self._job.key) if self._joins() and turn < TRIES - 1 else None
            if flight is None:
                shared = self._joins() and turn < TRIES - 1
                if await self._ask(decision, self._about(kept, decision), shared=shared):
                    return
            elif await self._joined(flight, decision):
                return

    def _look(self) -> tuple[Kept | None, Stored | None, Reuse]:
        """What is kept for this request, and what it is good for."""
        job, kept = self._job, self._keeping.selected(self._job)
        entry = self._keeping.entry(job)
        if kept is None or entry is None:
            return None, None, self._decision(None, others=entry is not None)
        stored, cache = judged(kept, entry, job.route.fragment.version, job.policy.cache)
        return kept, stored, reuse.reuse(stored, job.method, job.request, cache, self._now())

    def _decision(self, stored: Stored | None, *, others: bool = False) -> Reuse:
        job = self._job
        decision = reuse.reuse(stored, job.method, job.request, job.policy.cache, self._now(), others=others)
        return decision if job.shareable or decision.why != "uri-miss" else decision._replace(why="bypass")

    def _looks_further(self, decision: Reuse) -> bool:
        """Whether the second tier may have what memory has not, where no shared exchange looks there first.

        That is for who is to be answered from the store or not at all, and for conditions, ranges and HEAD.
        """
        if decision.use is Use.UNAVAILABLE or self._job.policy.state == "stored":
            return decision.use is not Use.HIT
        settled = decision.use in (Use.HIT, Use.REFRESH)
        return not (settled or self._joins() or self._flights.alone(self._job))

    def _served(self, kept: Kept | None, stored: Stored | None, decision: Reuse) -> Answer | None:
        """The answer where nobody must be asked."""
        job = self._job
        only_stored = job.policy.state == "stored"
        if kept is not None and stored is not None:
            entry = self._keeping.entry(job)
            if decision.use is Use.HIT or (only_stored and self._showable(stored)):
                if entry is not None and not only_stored and self._soon(kept, decision):
                    self._flights.refresh(job, entry, kept)
                return self._kept(kept, decision)
            if decision.use is Use.REFRESH and entry is not None:
                self._flights.refresh(job, entry, kept)
                return self._kept(kept, decision)
        if decision.use is Use.UNAVAILABLE or only_stored:
            return self._unavailable(504 if decision.use is Use.UNAVAILABLE else 503)
        return None

    def _showable(self, stored: Stored) -> bool:
        """Whether a stale answer may be shown where nobody is asked: whatever the request's conditions are (RFC 9111 §4.2.4)."""
        forbidden = stored.no_cache or stored.must_revalidate
        return not forbidden and self._now() - stored.born <= self._job.policy.cache.max_stale

    def _soon(self, kept: Kept, decision: Reuse) -> bool:
        """Whether to renew it ahead of its end, so that not all who come then wait (XFetch)."""
        if decision.ttl > 20 * kept.took:
            return False
        return early(0.0, decision.ttl, kept.took, BETA, self._ground.random())

    def _kept(self, kept: Kept, decision: Reuse, detail: str = "", *, member: bytes = b"") -> Answer:
        """A kept answer as this request gets it: not modified, a part, or the whole (RFC 9111 §4.3.2, RFC 9110 §14)."""
        job, stored, body = self._job, kept.stored, kept.body
        entry = self._keeping.entry(job)
        if entry is not None:
            entry.hit = True
        self._count("hit" if decision.ttl > 0 else "stale")
        own = [(b"age", reuse.age_header(stored, self._now()))]
        said = member or cachestatus.hit(decision.ttl, detail=detail)
        if validators.not_modified(stored, job.method, job.request):
            lines = validators.not_modified_headers(stored.headers)
            return Answer(304, self._head([*lines, *own], said))
        lines = [line for line in stored.headers if line[0] != b"content-length"]
        part = ranges.span(stored, job.method, job.request, len(body))
        if part == "unsatisfiable":
            return Answer(416, self._head([*ranges.unsatisfiable_headers(len(body)), *own], said))
        if part == "whole":
            length = [] if stored.status in _BODILESS else [(b"content-length", b"%d" % len(body))]
            return Answer(stored.status, self._head([*lines, *length, *own], said), body)
        head = ranges.partial_headers(lines, part, len(body))
        return Answer(206, self._head([*head, *own], said), body[part.first : part.last + 1])

    # --- from others' exchanges ---------------------------------------------------------------------------------------

    def _joins(self) -> bool:
        """Whether this request may have an answer that another one asked for."""
        job, said = self._job, reuse.asked(self._job.request)
        plain = job.method == "GET" and _CONDITIONS.isdisjoint(job.request)
        return plain and not (said.no_cache or said.no_store) and not self._flights.alone(job)

    async def _joined(self, flight: Flight, decision: Reuse) -> bool:
        """Wait for what another request's answer is; whether it is this one's too. A failure is."""
        self._ground.telemetry.coalesced(self._job.route.fragment.name)
        reader = flight.spool.reader()
        try:
            landed = await asyncio.shield(flight.landed)
            kept, _, _ = self._look()
            if isinstance(landed, Failure):
                await self._failed(landed, kept, decision)
                return True
            if not isinstance(landed, Came):
                return False
            if reuse.stands_in(decision, landed.status) and kept is not None:
                await self._whole(self._kept(kept, decision, "stale-error"))
                return True
            if not self._shares(flight, landed):
                return False
            self._count("miss")
            said = cachestatus.forwarded(decision.why, collapsed=True)
            await self._stream(landed._replace(cookies=[]), reader, said)
            return True
        finally:
            reader.leave()

    def _shares(self, flight: Flight, landed: Came) -> bool:
        """Whether another request's answer is this one's: one that may be kept, or an error that this one would get as well."""
        terms, mine = landed.terms, self._job.request
        if isinstance(terms, Stored):
            return bool(flight.spool.keep) and vary.matches(terms, mine)
        return terms.collapses and vary.alike(fields(landed.lines), flight.job.request, mine)

    # --- from the context ---------------------------------------------------------------------------------------------

    def _about(self, kept: Kept | None, decision: Reuse) -> tuple[Kept, ...]:
        """The kept answers to ask about: the selected one, or those among which a 304 would choose (RFC 9111 §4.3.1)."""
        job = self._job
        if job.method != "GET" or (decision.why == "request" and kept is None):
            return ()
        if kept is not None:
            mine = kept.version == job.route.fragment.version and bool(kept.stored.etag or kept.stored.last_modified)
            return (kept,) if mine and decision.use in (Use.RESERVE, Use.VALIDATE) else ()
        if not _CONDITIONS.isdisjoint(job.request):
            return ()
        version = job.route.fragment.version
        return tuple(
            each for each in others(self._keeping.entry(job), []) if each.version == version and each.stored.etag
        )

    async def _ask(self, decision: Reuse, about: tuple[Kept, ...], *, shared: bool) -> bool:
        """Ask the context, and answer; False where another process has brought the answer into the store."""
        flight = self._flights.start(self._job, about, shared=shared)
        reader = flight.spool.reader()
        flight.hint = lambda status, headers: self._coming.hint(status, forwarding.answer(headers))
        self._coming.hand_on(flight.stream if self._job.body is not None else None)
        try:
            landed = await asyncio.shield(flight.landed)
            match landed:
                case Renewed():
                    await self._renewed(landed, decision)
                case Again():
                    await self._ask(decision, (), shared=False)
                case Failure():
                    await self._failed(landed, self._keeping.selected(self._job), decision)
                case Came():
                    await self._came(landed, flight, reader, decision)
                case Brought():
                    return False
        finally:
            reader.leave()
        return True

    async def _renewed(self, landed: Renewed, decision: Reuse) -> None:
        """The kept answer, which still holds."""
        said = cachestatus.forwarded(decision.why, status=304, stored=landed.stored)
        await self._whole(self._kept(landed.kept, decision, member=said))

    async def _came(self, landed: Came, flight: Flight, reader: Reader, decision: Reuse) -> None:
        job, keeps = self._job, bool(flight.spool.keep)
        if job.method == "HEAD":
            self._keeping.head_came(job, landed, flight.began)
        kept = self._keeping.selected(job) if job.method in ("GET", "HEAD") else None
        if reuse.stands_in(decision, landed.status) and kept is not None:
            await self._whole(self._kept(kept, decision, "stale-error"))
            return
        self._count("bypass" if decision.why in ("bypass", "method") else "miss")
        asked = job.shareable and job.method == "GET"
        detail = landed.terms.reason if asked and isinstance(landed.terms, Refused) else ""
        said = cachestatus.forwarded(decision.why, stored=keeps, detail=detail)
        if (
            flight.asked
            and isinstance(landed.terms, Stored)
            and validators.not_modified(landed.terms, job.method, job.request)
        ):
            lines = validators.not_modified_headers(landed.lines)
            await self._whole(Answer(304, self._head(lines, said)))
            return
        await self._stream(landed, reader, said)

    async def _failed(self, failure: Failure, kept: Kept | None, decision: Reuse) -> None:
        if kept is not None and reuse.stands_in(decision, None):
            await self._whole(self._kept(kept, decision, "stale-error"))
            return
        self._count("miss")
        await self._whole(self._problem(failure, decision))

    def _problem(self, failure: Failure, decision: Reuse) -> Answer:
        detail, html = f"The service did not answer ({failure.reason.value}).", self._job.html
        own = [(b"cache-status", cachestatus.forwarded(decision.why, detail=failure.reason.value))]
        match failure.reason:
            case Reason.TIMEOUT:
                return problem(504, detail, html=html, headers=own)
            case Reason.CONCURRENCY | Reason.BREAKER:
                pause = (b"retry-after", b"%d" % (failure.retry_after or 1))
                return problem(503, detail, html=html, headers=[*own, pause])
            case _:
                return problem(502, detail, html=html, headers=own)

    def _unavailable(self, status: int) -> Answer:
        self._count("miss")
        pause = [(b"retry-after", b"60")] if status == 503 else []
        own = [(b"cache-status", cachestatus.forwarded("", detail="not-kept")), *pause]
        return problem(status, "There is no kept answer to this.", html=self._job.html, headers=own)

    # --- sending ------------------------------------------------------------------------------------------------------

    def _head(self, lines: Lines, said: bytes) -> Lines:
        """A whole head: what may be shown, what the store did, and what the gateway adds."""
        before = b", ".join(value for name, value in lines if name == b"cache-status")
        head = [line for line in lines if line[0] != b"cache-status"]
        head.append((b"cache-status", cachestatus.appended(before, said)))
        names = {name for name, _ in lines}
        if _NOSNIFF[0] not in names:
            head.append(_NOSNIFF)
        if self._job.private and b"cache-control" not in names:
            head.append((b"cache-control", b"private"))
        head += [line for line in self._job.lines if line[0] == b"x-request-id"]
        return head

    async def _whole(self, answer: Answer) -> None:
        headers = self._ground.cors.readable(answer.headers, self._asked)
        await send_answer(self._send, Answer(answer.status, headers, answer.body), self._job.method)

    async def _stream(self, landed: Came, reader: Reader, said: bytes) -> None:
        """Pass an answer on as it comes, its head at once; one that ends early is never ended well."""
        head = self._ground.cors.readable(self._head([*landed.lines, *landed.cookies], said), self._asked)
        await self._send({"type": "http.response.start", "status": landed.status, "headers": head})
        if self._job.method == "HEAD" or landed.status in _BODILESS:
            await self._send({"type": "http.response.body", "body": b""})
            return
        try:
            piece = reader.ready()
            while True:
                await self._send({"type": "http.response.body", "body": piece, "more_body": True})
                piece = await reader.next()
                if not piece:
                    break
        except Torn:
            return
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    def _count(self, result: Literal["hit", "miss", "stale", "bypass"]) -> None:
        self._ground.telemetry.cache(self._job.route.fragment.name, result)
