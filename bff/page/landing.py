"""What becomes of an answer: kept where it may be, given to whoever waits for it, or what stands in for it.

Decisions are `rules.serve`; this module performs them on flights that have landed. It starts nothing but work in threads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from math import inf, log
from typing import Final, Protocol

from bff.model import Clock, Failure, Policy, Reason, Reply, Result, Telemetry, Timing
from bff.page import results
from bff.page.call import Call
from bff.page.flight import Flight, Guards, Wait
from bff.page.replica import Replica, reading
from bff.page.tasks import Underway
from bff.rules import serve
from bff.rules.caching import Fields, Terms, fields, terms, text
from bff.rules.early import BETA, backoff
from bff.store.entry import Entry
from bff.store.memory import MemoryStore
from bff.upstream.sources.content import Content, Read, Source, Unreadable

_STORABLE: Final = frozenset({200, 203, 204, 404, 410})
_SAID: Final = {
    late: (f"fwd={why}; stored", f"fwd={why}; collapsed", f"fwd={why}")
    for late, why in ((False, "uri-miss"), (True, "stale"))
}
"""Cache-Status (RFC 9211 §2.2): by whether there was a copy past its time; to whoever asked first, who joined, of what is not kept."""


class Desk(Protocol):
    """What landing needs of the resolver whose flights land."""

    def now(self) -> float: ...
    def end(self, wait: Wait, result: Result) -> None: ...
    def alone(self, wait: Wait, flight: Flight) -> None:
        """Let a wait ask for itself: what its flight brought is for somebody else."""

    def fly_solo(self, key: str) -> None:
        """For a while nobody waits for anybody else's answer with this key."""

    def fall(
        self,
        call: Call,
        reason: Reason,
        entry: Entry | None,
        began: float,
        detail: str = "",
        *,
        timing: Timing | None = None,
        status: int | None = None,
    ) -> Result: ...


class Landing:
    """Lands the flights of one resolver."""

    def __init__(
        self,
        desk: Desk,
        *,
        store: MemoryStore,
        replica: Replica | None,
        sources: Mapping[str, Source],
        telemetry: Telemetry,
        tasks: Underway,
        guards: Guards | None,
        wall: Clock,
        chance: Callable[[], float],
    ) -> None:
        self._desk = desk
        self._store = store
        self._replica = replica
        self._sources = sources
        self._telemetry = telemetry
        self._tasks = tasks
        self._guards = guards
        self._wall = wall
        self._chance = chance
        self.kept: Callable[[Entry, Policy], None] = lambda _entry, _policy: None  # told of every entry that is kept

    def landed(self, flight: Flight, answer: Reply | Failure) -> None:
        fragment = flight.call.fragment
        self._telemetry.upstream(fragment, answer.status, answer.timing.total)
        if flight.others and self._guards is not None:
            self._guards.waited(fragment, flight.call.policy, answer, flight.others)
        if answer.status == 200:  # what most are: the rest are sorted below
            self._read(flight, answer, answer.found or fields(answer.headers))
            return
        if isinstance(answer, Failure):
            self.failed(flight, answer.reason, answer.detail, answer.timing, retry_after=answer.retry_after)
            return
        found, primary = answer.found or fields(answer.headers), flight.call.primary
        match serve.classify(answer.status, conditional=flight.entry is not None):
            case serve.Answer.CONTENT | serve.Answer.EMPTY | serve.Answer.NOT_FOUND:
                self._read(flight, answer, found)
            case serve.Answer.ACCEPTED if not primary:
                self._accepted(flight, answer, found)
            case serve.Answer.NOT_MODIFIED:
                self._revalidated(flight, answer, found)
            case serve.Answer.REDIRECT if primary:
                self._redirected(flight, answer, found)
            case serve.Answer.AUTH | serve.Answer.CLIENT_ERROR if primary:
                self._read(flight, answer, found)
            case serve.Answer.AUTH:
                self.failed(flight, Reason.AUTH, f"answered {answer.status}", answer.timing, answer.status)
            case _:
                self.failed(flight, Reason.STATUS, f"answered {answer.status}", answer.timing, answer.status)

    # --- content ------------------------------------------------------------------------------------------------------

    def _read(self, flight: Flight, reply: Reply, found: Fields) -> None:
        read = reading(self._sources, flight.call, reply.status, found, reply.body)
        if callable(read):
            future = asyncio.get_running_loop().run_in_executor(None, read)
            future.add_done_callback(lambda made: self._made(flight, reply, found, made.result()))
        else:
            self._made(flight, reply, found, read)

    def _made(self, flight: Flight, reply: Reply, found: Fields, made: Read) -> None:
        if isinstance(made, Content):
            self._keep(flight, reply, found, made)
        elif reply.status >= 400:  # a primary's own error without a body to show: its status still counts
            self._keep(flight, reply, found, Content(markup=results.EMPTY))
        else:
            detail = made.detail if isinstance(made, Unreadable) else ""
            self.failed(flight, Reason.REFUSED, detail, reply.timing, reply.status)

    def _keep(self, flight: Flight, reply: Reply, found: Fields, content: Content) -> None:
        """An answer that is none of the errors: store it where it may be, then hand it to whoever waits."""
        call, share = flight.call, flight.variant.shareable and reply.status in _STORABLE
        stated, tags = self._terms(call, found, reply.status), results.tags(call, found)
        if serve.keepable(stated, reply.status, call.policy.cache, shareable=share):
            entry = self._entry(flight, reply, content, stated, tags)
            if self._store.put(entry, flight.began):
                self.kept(entry, call.policy)
            if self._replica is not None:
                self._replica.keep(call, entry, reply.headers, reply.body, flight.began)
            self._hand_out(flight, reply, content, stated, tags, kept=True)
        else:
            if flight.share:
                self._desk.fly_solo(flight.key)
            self._hand_out(flight, reply, content, stated, tags, kept=False)

    def _entry(self, flight: Flight, reply: Reply, content: Content, stated: Terms, tags: tuple[str, ...]) -> Entry:
        call, fragment, now = flight.call, flight.call.fragment, self._desk.now()
        born, took = now - stated.age, reply.timing.total
        return Entry(
            key=flight.key,
            fragment=fragment.name,
            version=fragment.version,
            status=reply.status,
            markup=content.markup,
            data=content.data,
            terms=stated,
            born=born,
            as_of=content.as_of,
            tags=tags,
            next=content.next,
            principal=flight.principal if fragment.private else None,
            took=took,
            early=self._early(born + serve.lifetime(stated, reply.status, call.policy.cache), took),
            used=now if flight.waits or flight.entry is None else flight.entry.used,
        )

    def _early(self, expiry: float, took: float) -> float:
        """When a hit refreshes the entry in advance: XFetch's condition (`rules.early`), solved for the time."""
        return expiry + took * BETA * log(max(self._chance(), 1e-12))

    def _terms(self, call: Call, found: Fields, status: int) -> Terms:
        return terms(
            found,
            status,
            scope="private" if call.fragment.private else "shared",
            obey=call.policy.cache.mode == "http",
            wall_now=self._wall(),
        )

    def _hand_out(
        self, flight: Flight, reply: Reply, content: Content, stated: Terms, tags: tuple[str, ...], *, kept: bool
    ) -> None:
        """Give the answer to all waiters, or, where it is not kept, to the first; the others ask for themselves."""
        first, joined, alone = _SAID[flight.entry is not None]
        waits, word = flight.waits, first if kept else alone
        if len(waits) > 1:
            waits, others = (waits[:], []) if kept else (waits[:1], waits[1:])
            for wait in others:
                wait.let_go()
                self._desk.alone(wait, flight)
        now = self._desk.now()
        for wait in waits:
            wait.let_go()
            call, began = wait.call, wait.began
            if reply.status in serve.NEGATIVE and not call.primary:
                detail, status = f"answered {reply.status}", reply.status
                fall = self._desk.fall
                result = fall(call, Reason.NOT_FOUND, None, began, detail, timing=reply.timing, status=status)
                result.cache = word
            else:
                result = results.answered(call, reply, content, stated, tags, began=began, now=now, kept=word)
            self._desk.end(wait, result)
            word = joined
        self.over(flight)

    # --- other answers ------------------------------------------------------------------------------------------------

    def _accepted(self, flight: Flight, reply: Reply, found: Fields) -> None:
        """Slow work: where it can be asked for is remembered by the key, so that asking again begins no other."""
        key = flight.key if flight.variant.shareable else None
        task = self._tasks.accept(flight.call, key, reply, found)
        if isinstance(task, Failure):
            self.failed(flight, task.reason, task.detail, reply.timing, reply.status)
            return
        for wait in flight.waits[:]:
            wait.let_go()
            self._desk.end(wait, self._tasks.begun(task, wait, reply, found, now=self._desk.now()))
        self.over(flight)

    def _redirected(self, flight: Flight, reply: Reply, found: Fields) -> None:
        to = text(found, b"location")
        for wait in flight.waits[:]:
            wait.let_go()
            self._desk.end(wait, results.redirected(reply, to, began=wait.began, now=self._desk.now()))
        self.over(flight)

    def _revalidated(self, flight: Flight, reply: Reply, found: Fields) -> None:
        entry = flight.entry
        if entry is None:
            return
        now, call = self._desk.now(), flight.call
        entry.terms = self._terms(call, results.merged(entry, found), entry.status)
        entry.born = now - entry.terms.age
        entry.retry_at, entry.failures, entry.seen = 0.0, 0, None
        entry.early = self._early(entry.born + serve.lifetime(entry.terms, entry.status, call.policy.cache), entry.took)
        if self._store.put(entry, flight.began):
            self.kept(entry, call.policy)
        if self._replica is not None:
            self._replica.renew(call, entry, reply.headers, flight.began)
        self._telemetry.cache(call.fragment.name, "revalidated")
        for wait in flight.waits[:]:
            wait.let_go()
            self._desk.end(wait, results.revalidated(wait.call, entry, reply, began=wait.began, now=now))
        self.over(flight)

    def failed(
        self,
        flight: Flight,
        reason: Reason,
        detail: str,
        timing: Timing,
        status: int | None = None,
        *,
        retry_after: int | None = None,
    ) -> None:
        """An error: it never replaces a good entry; every waiter goes down its own chain."""
        entry = flight.entry
        if flight.reserve is not None and flight.reserve.stale_at == -inf:
            flight.reserve = None  # purged meanwhile
        if entry is not None:
            entry.failures += 1
            entry.retry_at = self._desk.now() + backoff(entry.failures, self._chance())
        for wait in flight.waits[:]:
            wait.let_go()
            fall = self._desk.fall
            result = fall(wait.call, reason, flight.reserve, wait.began, detail, timing=timing, status=status)
            if retry_after is not None and result.retry_after is not None:
                result.retry_after = retry_after
            self._desk.end(wait, result)
        self.over(flight)

    def over(self, flight: Flight) -> None:
        """It has brought what it brings."""
        if flight.leased and self._replica is not None:
            flight.leased = False
            self._replica.release(flight.key)
        over, flight.over = flight.over, None
        if over is not None:
            over()
