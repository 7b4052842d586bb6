"""One fragment: from the store, from its context, or what stands in for it. Never raises, never waits.

Decisions are `rules.serve`; this module performs them. Upstream exchanges are flights: each may have several waiters
(identical calls share one), outlives them where its answer could fill the store, and ends within its policy's `total`.
Callbacks instead of tasks: six fragments a page make a task per fragment a fifth of the page's cost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Final

from bff.markup.check import Checker
from bff.model import Ask, Clock, Failure, Fetch, Fragment, Markup, Reason, Reply, Result, Telemetry, Timing
from bff.page import results
from bff.page.call import Call, Visit
from bff.page.flight import SHOWABLE, Done, Flight, Kept, Wait
from bff.page.tasks import Underway
from bff.rules import keys, serve
from bff.rules.caching import Fields, Terms, fields, terms, text
from bff.store.entry import Entry
from bff.store.memory import MemoryStore
from bff.timer import Timer
from bff.upstream.sources import paged
from bff.upstream.sources.content import Content, Read, Source, Unreadable
from bff.upstream.sources.html import certain

HOLD_DOWN: Final = 1.0  # seconds a failed background refresh is not tried again
SOLO: Final = 10.0  # seconds an unshareable answer keeps calls with its key from queueing behind one another
SOLO_KEYS: Final = 4096
EMPTY: Final = Markup(parts=(b"",), flat=b"")


class Resolver:
    """Resolves calls against one store and one client; belongs to one event loop."""

    def __init__(
        self,
        *,
        store: MemoryStore,
        fetch: Fetch,
        sources: Mapping[str, Source],
        checker: Checker,
        timer: Timer,
        telemetry: Telemetry,
        tasks: Underway,
        clock: Clock,
        wall: Clock,
    ) -> None:
        self._store = store
        self._fetch = fetch
        self._sources = sources
        self._checker = checker
        self._timer = timer
        self._telemetry = telemetry
        self._tasks = tasks
        self.now = clock
        self._wall = wall
        self._flights: dict[str, Flight] = {}
        self._solo: dict[str, float] = {}
        self._alone: set[Flight] = set()

    # --- asking -------------------------------------------------------------------------------------------------------

    def start(self, call: Call, visit: Visit, done: Done) -> Result | Wait:
        """Resolve one call: a result where nothing must be waited for, else a wait that ends with `done(result)`."""
        policy = call.policy
        now = self.now()
        variant = keys.NO_VARIANT if call.plain else self._variant(call.fragment, visit)
        key = call.key + variant.key
        share = variant.shareable and policy.cache.mode != "off"
        entry = self._store.get(key) if share else None
        use = serve.use(entry, call.fragment.version, policy.cache, now) if entry is not None else serve.Use.NOTHING
        kept = Kept(entry, use)
        if policy.state != "on":
            return self._without_asking(call, entry, use, now)
        if use is serve.Use.FRESH and entry is not None:
            self._telemetry.cache(call.fragment.name, "hit")
            return self._fresh(call, entry, now)
        if use is serve.Use.REVALIDATE and entry is not None and not call.then_fresh:
            self._telemetry.cache(call.fragment.name, "stale")
            if key not in self._flights and now >= entry.retry_at:
                self._take_off(call, visit, key, variant, kept, now=now, share=True)
            return self._count(call, results.stale(entry, policy.cache, Reason.HIT, began=now, now=now))
        if self._tasks and variant.shareable and (task := self._tasks.shown(key, visit.principal, now)):
            return self._count(call, task)
        self._telemetry.cache(call.fragment.name, "miss" if share else "bypass")
        wait = Wait(self, call, visit, now, done)
        if call.then_fresh and entry is not None and use in SHOWABLE:
            wait.first = results.stale(entry, policy.cache, Reason.HIT, began=now, now=now)
        self._board(wait, key, variant, kept, share=share)
        return wait

    def _variant(self, fragment: Fragment, visit: Visit) -> keys.Variant:
        return keys.variant(
            fragment, visit.headers, visit.cookies, visit.principal, visit.locale, unverified=visit.unverified
        )

    def underway(self, call: Call, visit: Visit) -> Result | None:
        """The task that this call has begun and that has not ended, where nobody is to be asked for the fragment itself."""
        variant = self._variant(call.fragment, visit)
        shown = self._tasks.shown(call.key + variant.key, visit.principal, self.now()) if variant.shareable else None
        return None if shown is None else self._count(call, shown)

    def _without_asking(self, call: Call, entry: Entry | None, use: serve.Use, now: float) -> Result:
        kept = entry if use is not serve.Use.NOTHING and call.policy.state == "stored" else None
        if kept is not None and use is serve.Use.FRESH:
            return self._fresh(call, kept, now)
        return self._count(call, self.fall(call, Reason.OFF, kept, now))

    def _board(self, wait: Wait, key: str, variant: keys.Variant, kept: Kept, *, share: bool) -> None:
        share = share and self._solo.get(key, 0.0) <= wait.began
        flight = self._flights.get(key) if share else None
        if flight is None:
            flight = self._take_off(wait.call, wait.visit, key, variant, kept, now=wait.began, share=share)
        else:
            self._telemetry.coalesced(wait.call.fragment.name)
        wait.flight = flight
        flight.waits.append(wait)
        ends = wait.began + wait.call.policy.timeout.total
        if ends < flight.ends:  # it joined a flight that may take longer than its own policy allows
            wait.alarm = self._timer.at(ends, wait.expire)

    def _take_off(
        self, call: Call, visit: Visit, key: str, variant: keys.Variant, kept: Kept, *, now: float, share: bool
    ) -> Flight:
        flight = Flight(call, key, variant, kept, now)
        flight.principal = visit.principal
        flight.share = share
        if share:
            self._flights[key] = flight
        else:
            self._alone.add(flight)
        policy, fragment = call.policy, call.fragment
        self._telemetry.inflight(fragment.context, 1)
        flight.exchange = self._fetch(
            Ask(fragment.upstream, "GET", call.target, self._lines(flight, visit, now)),
            timeout=policy.timeout,
            max_body=policy.max_body,
            limit=policy.concurrency,
            optional=call.optional,
            done=partial(self._landed, flight),
        )
        return flight

    def _lines(self, flight: Flight, visit: Visit, now: float) -> bytes:
        left = max(0, int((min(flight.ends, visit.until) - now) * 1000))
        lines = b"%b%b%bbff-deadline: %d\r\n" % (flight.call.head, flight.variant.lines, visit.trace, left)
        if flight.entry is None or flight.entry.status != 200 or flight.entry.version != flight.call.fragment.version:
            return lines
        kept = flight.entry.terms
        if kept.etag:
            lines += f"if-none-match: {kept.etag}\r\n".encode("latin-1")
        if kept.last_modified:
            lines += f"if-modified-since: {kept.last_modified}\r\n".encode("latin-1")
        return lines

    # --- leaving ------------------------------------------------------------------------------------------------------

    def abandon(self, wait: Wait) -> None:
        """Take a wait off its flight; a flight that nobody waits for and that cannot fill the store ends now."""
        flight, wait.flight = wait.flight, None
        if wait.alarm is not None:
            wait.alarm.cancel()
        if flight is None:
            return
        flight.waits.remove(wait)
        useful = flight.share and flight.call.policy.late == "keep"
        if not flight.waits and not useful and flight.exchange is not None:
            flight.exchange.cancel()
            self._gone(flight)
            self._telemetry.upstream(flight.call.fragment, "cancelled", self.now() - flight.began)

    def _gone(self, flight: Flight) -> None:
        self._telemetry.inflight(flight.call.fragment.context, -1)
        if flight.share:
            self._flights.pop(flight.key, None)
        else:
            self._alone.discard(flight)

    def close(self) -> None:
        """Cancel every exchange; nothing is called any more."""
        for flight in [*self._flights.values(), *self._alone]:
            flight.waits.clear()
            if flight.exchange is not None:
                flight.exchange.cancel()
            self._gone(flight)

    # --- answers ------------------------------------------------------------------------------------------------------

    def _landed(self, flight: Flight, answer: Reply | Failure) -> None:
        self._gone(flight)
        flight.exchange = None
        fragment = flight.call.fragment
        self._telemetry.upstream(fragment, str(answer.status), answer.timing.total)
        if isinstance(answer, Failure):
            self._failed(flight, answer.reason, answer.detail, answer.timing)
            return
        found = fields(answer.headers)
        match serve.classify(answer.status, conditional=flight.entry is not None):
            case serve.Answer.CONTENT:
                self._read(flight, answer, found)
            case serve.Answer.ACCEPTED if not flight.call.primary:
                self._accepted(flight, answer, found)
            case serve.Answer.EMPTY:
                self._keep(flight, answer, found, Content(markup=EMPTY))
            case serve.Answer.NOT_MODIFIED:
                self._revalidated(flight, answer, found)
            case serve.Answer.REDIRECT if flight.call.primary:
                self._redirected(flight, answer, found)
            case serve.Answer.NOT_FOUND | serve.Answer.AUTH | serve.Answer.CLIENT_ERROR if flight.call.primary:
                self._read(flight, answer, found)
            case serve.Answer.NOT_FOUND:
                self._keep(flight, answer, found, Content())
            case serve.Answer.AUTH:
                self._failed(flight, Reason.AUTH, f"answered {answer.status}", answer.timing, answer.status)
            case _:
                self._failed(flight, Reason.STATUS, f"answered {answer.status}", answer.timing, answer.status)

    def _read(self, flight: Flight, reply: Reply, found: Fields) -> None:
        call = flight.call
        source = self._sources[call.fragment.source]
        read = paged.read(source, call.fragment, found, reply.body, values=call.values, params=call.params, head=call.primary)
        if callable(read):
            future = asyncio.get_running_loop().run_in_executor(None, read)
            future.add_done_callback(lambda made: self._made(flight, reply, found, made.result()))
        else:
            self._made(flight, reply, found, read)

    def _made(self, flight: Flight, reply: Reply, found: Fields, made: Read) -> None:
        if isinstance(made, Content):
            self._keep(flight, reply, found, made)
        elif reply.status >= 400:  # a primary's own error without a body to show: its status still counts
            self._keep(flight, reply, found, Content(markup=EMPTY))
        else:
            detail = made.detail if isinstance(made, Unreadable) else ""
            self._failed(flight, Reason.REFUSED, detail, reply.timing, reply.status)

    def _keep(self, flight: Flight, reply: Reply, found: Fields, content: Content) -> None:
        """An answer that is none of the errors: store it where it may be, then hand it to whoever waits."""
        call, share = flight.call, flight.variant.shareable and reply.status in _STORABLE
        kept, tags = self._terms(call, found, reply.status), results.tags(call, found)
        if serve.keepable(kept, reply.status, call.policy.cache, shareable=share):
            self._store.put(self._entry(flight, reply, content, kept, tags))
            self._hand_out(flight, reply, content, kept, tags, word="stored")
            return
        if flight.share:
            self._fly_solo(flight.key, self.now())
        self._hand_out(flight, reply, content, kept, tags)

    def _entry(self, flight: Flight, reply: Reply, content: Content, kept: Terms, tags: tuple[str, ...]) -> Entry:
        fragment = flight.call.fragment
        return Entry(
            key=flight.key,
            fragment=fragment.name,
            version=fragment.version,
            status=reply.status,
            markup=content.markup,
            data=content.data,
            terms=kept,
            born=self.now() - kept.age,
            as_of=content.as_of,
            tags=tags,
            next=content.next,
            principal=flight.principal if fragment.private else None,
        )

    def _terms(self, call: Call, found: Fields, status: int) -> Terms:
        return terms(
            found,
            status,
            scope="private" if call.fragment.private else "shared",
            obey=call.policy.cache.mode == "http",
            wall_now=self._wall(),
        )

    def _fly_solo(self, key: str, now: float) -> None:
        if len(self._solo) >= SOLO_KEYS:
            self._solo.clear()
        self._solo[key] = now + SOLO

    def _hand_out(
        self, flight: Flight, reply: Reply, content: Content, kept: Terms, tags: tuple[str, ...], *, word: str = ""
    ) -> None:
        """Give the answer to all waiters, or, where it is not kept, to the first; the others ask for themselves."""
        waits = flight.waits[:] if word else flight.waits[:1]
        for wait in flight.waits[len(waits) :]:
            self._let_go(wait)
            self._board(wait, flight.key, flight.variant, Kept(None, serve.Use.NOTHING), share=False)
        now = self.now()
        for wait in waits:
            self._let_go(wait)
            call, began = wait.call, wait.began
            if reply.status in serve.NEGATIVE and not call.primary:
                detail, status = f"answered {reply.status}", reply.status
                result = self.fall(call, Reason.NOT_FOUND, None, began, detail, timing=reply.timing, status=status)
            else:
                result = results.answered(call, reply, content, kept, tags, began=began, now=now, kept=word)
            self.end(wait, result)
            word = word and "collapsed"

    def _accepted(self, flight: Flight, reply: Reply, found: Fields) -> None:
        """Slow work: where it can be asked for is remembered by the key, so that asking again begins no other."""
        key = flight.key if flight.variant.shareable else None
        task = self._tasks.accept(flight.call, key, reply, found)
        if isinstance(task, Failure):
            self._failed(flight, task.reason, task.detail, reply.timing, reply.status)
            return
        for wait in flight.waits[:]:
            self._let_go(wait)
            self.end(wait, self._tasks.begun(task, wait, reply, found, now=self.now()))

    def _redirected(self, flight: Flight, reply: Reply, found: Fields) -> None:
        to = text(found, b"location")
        for wait in flight.waits[:]:
            self._let_go(wait)
            self.end(wait, results.redirected(reply, to, began=wait.began, now=self.now()))

    def _revalidated(self, flight: Flight, reply: Reply, found: Fields) -> None:
        entry = flight.entry
        if entry is None:
            return
        now, call = self.now(), flight.call
        entry.terms = self._terms(call, results.merged(entry, found), entry.status)
        entry.born = now - entry.terms.age
        entry.retry_at = 0.0
        self._store.put(entry)
        self._telemetry.cache(call.fragment.name, "revalidated")
        for wait in flight.waits[:]:
            self._let_go(wait)
            self.end(wait, results.revalidated(wait.call, entry, reply, began=wait.began, now=now))

    def _failed(self, flight: Flight, reason: Reason, detail: str, timing: Timing, status: int | None = None) -> None:
        """An error: it never replaces a good entry; every waiter goes down its own chain."""
        if flight.entry is not None:
            flight.entry.retry_at = self.now() + HOLD_DOWN
        for wait in flight.waits[:]:
            self._let_go(wait)
            result = self.fall(wait.call, reason, flight.reserve, wait.began, detail, timing=timing, status=status)
            self.end(wait, result)

    def _let_go(self, wait: Wait) -> None:
        wait.flight = None
        if wait.alarm is not None:
            wait.alarm.cancel()
            wait.alarm = None

    # --- ending -------------------------------------------------------------------------------------------------------

    def end(self, wait: Wait, result: Result) -> None:
        wait.done(self._count(wait.call, result))

    def _count(self, call: Call, result: Result) -> Result:
        markup = result.markup
        if markup is not None and ((markup.tabular and call.wrapped) or (markup.form and call.in_form)):
            result = results.misplaced(result)
        self._telemetry.slot(call.fragment.name, result)
        return result

    def _fresh(self, call: Call, entry: Entry, now: float) -> Result:
        if entry.status in serve.NEGATIVE and not call.primary:
            detail = f"answered {entry.status}, kept"
            return self._count(call, self.fall(call, Reason.NOT_FOUND, None, now, detail, status=entry.status))
        return self._count(call, results.hit(call, entry, now))

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
    ) -> Result:
        """What stands in for an answer that did not come, or was none."""
        return results.fallen(
            call,
            reason,
            entry,
            lambda body: certain(self._checker, call.fragment, body, head=call.primary),
            began=began,
            now=self.now(),
            detail=detail,
            timing=timing,
            status=status,
        )


_STORABLE: Final = frozenset({200, 203, 204, 404, 410})
