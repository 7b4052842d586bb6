"""One fragment: from the store, from its context, or what stands in for it. Never raises, never waits.

Decisions are `rules.serve`; this module performs them, and `landing` what follows from an answer. Upstream exchanges are
flights: each may have several waiters (identical calls share one), outlives them where its answer could fill the store,
and ends within its policy's `total`. Where there is a second tier, a flight looks there before it asks anybody.
Callbacks instead of tasks: six fragments a page make a task per fragment a fifth of the page's cost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from random import random
from typing import Final

from bff.markup.check import Checker
from bff.model import Ask, Clock, Failure, Fetch, Fragment, Outcome, Purge, Reason, Reply, Result, Telemetry, Timing
from bff.page import results
from bff.page.call import Call, Visit
from bff.page.flight import SHOWABLE, UNKEPT, Done, Flight, Guards, Kept, Look, Wait
from bff.page.landing import Landing
from bff.page.replica import Replica
from bff.page.search import Searching
from bff.page.tasks import Underway
from bff.rules import keys, serve
from bff.store.entry import Entry
from bff.store.memory import MemoryStore
from bff.timer import Timer
from bff.upstream.sources.content import Asking, Source
from bff.upstream.sources.html import certain

SOLO: Final = 10.0  # seconds an unshareable answer keeps calls with its key from queueing behind one another
SOLO_KEYS: Final = 4096


class Resolver:
    """Resolves calls against one store and one client; belongs to one event loop."""

    def __init__(
        self,
        *,
        store: MemoryStore,
        replica: Replica | None = None,
        fetch: Fetch,
        sources: Mapping[str, Source],
        checker: Checker,
        timer: Timer,
        telemetry: Telemetry,
        tasks: Underway,
        guards: Guards | None = None,
        clock: Clock,
        wall: Clock,
        chance: Callable[[], float] = random,
        overloaded: Callable[[], str] = lambda: "",
    ) -> None:
        """`overloaded`: the limit for which optional calls ask nobody now; "" where they do."""
        self._store = store
        self._fetch = fetch
        self._asks = {name: each.through(fetch, clock) for name, each in sources.items() if isinstance(each, Asking)}
        self._checker = checker
        self._timer = timer
        self._telemetry = telemetry
        self._tasks = tasks
        self._guards = guards
        self._overloaded = overloaded
        self.now = clock
        self._flights: dict[str, Flight] = {}
        self._solo: dict[str, float] = {}
        self._alone: set[Flight] = set()
        self.landing = Landing(
            self,
            store=store,
            replica=replica,
            sources=sources,
            telemetry=telemetry,
            tasks=tasks,
            guards=guards,
            wall=wall,
            chance=chance,
        )
        self._searching = Searching(self, self.landing, store=store, replica=replica, tasks=tasks, guards=guards)

    # --- asking -------------------------------------------------------------------------------------------------------

    def start(self, call: Call, visit: Visit, done: Done) -> Result | Wait:
        """Resolve one call: a result where nothing must be waited for, else a wait that ends with `done(result)`."""
        policy = call.policy
        now = self.now()
        variant = keys.NO_VARIANT if call.plain else self._variant(call.fragment, visit)
        key = call.key + variant.key
        share = variant.shareable and policy.cache.mode != "off"
        entry = self._store.get(key) if share else None
        kept, use = UNKEPT, UNKEPT.use
        if entry is not None:
            seen = entry.seen
            if (
                seen is not None
                and now < seen[0]
                and seen[1] is policy.cache
                and now < entry.early
                and entry.version == call.fragment.version
                and policy.state == "on"
            ):  # as a moment ago: what most are on a busy page
                self._telemetry.cache(call.fragment.name, "hit")
                return self._count(call, seen[2])
            use = serve.use(entry, call.fragment.version, policy.cache, now)
            if use is serve.FRESH and policy.state == "on":
                self._telemetry.cache(call.fragment.name, "hit")
                self._renew(call, visit, variant, entry, use, now=now)
                return self.fresh(call, entry, now)
            kept = Kept(entry, use)
        if policy.state != "on":
            if policy.state == "stored" and share and use is not serve.FRESH and self._searching.beyond:
                return self._look(Wait(self, call, visit, now, done), key, variant, kept, self._searching.recall)
            return self._without_asking(call, entry, use, now)
        if entry is not None and use is serve.Use.REVALIDATE and not call.then_fresh:
            self._telemetry.cache(call.fragment.name, "stale")
            self._renew(call, visit, variant, entry, use, now=now)
            return self._count(call, results.stale(entry, policy.cache, Reason.HIT, began=now, now=now))
        if (
            self._tasks.underway
            and variant.shareable
            and not self._tasks.shared(call.fragment)
            and (task := self._tasks.shown(key, visit.principal, now))
        ):
            return self._count(call, task)
        self._telemetry.cache(call.fragment.name, "miss" if share else "bypass")
        if call.bounds.optional and (limit := self._overloaded()):
            return self._shed(call, entry if use in SHOWABLE else None, now, limit)
        wait = Wait(self, call, visit, now, done)
        if call.then_fresh and entry is not None and use in SHOWABLE:
            wait.first = results.stale(entry, policy.cache, Reason.HIT, began=now, now=now)
        self._board(wait, key, variant, kept, share=share)
        return wait

    def kept(self, call: Call, visit: Visit) -> Entry | None:
        """What is in memory for a call, whatever it is good for."""
        variant = keys.NO_VARIANT if call.plain else self._variant(call.fragment, visit)
        return self._store.get(call.key + variant.key) if variant.shareable else None

    def _variant(self, fragment: Fragment, visit: Visit) -> keys.Variant:
        return keys.variant(
            fragment, visit.headers, visit.cookies, visit.principal, visit.locale, unverified=visit.unverified
        )

    def underway(self, call: Call, visit: Visit, otherwise: Result, done: Done) -> Result | Wait:
        """The task that this call has begun and that has not ended, where nobody is to be asked for the fragment itself.

        `otherwise` stands where there is none.
        """
        variant, now = self._variant(call.fragment, visit), self.now()
        key = call.key + variant.key
        if not (variant.shareable and self._tasks.shared(call.fragment)):
            shown = self._tasks.shown(key, visit.principal, now) if variant.shareable else None
            return self._count(call, shown or otherwise)
        wait = Wait(self, call, visit, now, done)
        return self._look(wait, key, variant, UNKEPT, partial(self._searching.remember, otherwise=otherwise))

    def _look(self, wait: Wait, key: str, variant: keys.Variant, kept: Kept, look: Look) -> Wait:
        """Let a wait look beyond this process, where nobody is to be asked."""
        wait.flight = flight = Flight(wait.call, key, variant, kept, wait.began)
        flight.waits.append(wait)
        self._alone.add(flight)
        wait.alarm = self._timer.at(flight.ends, wait.expire)
        flight.search = asyncio.get_running_loop().create_task(look(flight))
        return wait

    def _shed(self, call: Call, entry: Entry | None, now: float, limit: str) -> Result:
        """The gateway does less: what stands in for an optional slot costs next to nothing."""
        self._telemetry.shed(limit)
        return self._count(call, self.fall(call, Reason.OVERLOAD, entry, now, f"the gateway is overloaded ({limit})"))

    def _without_asking(self, call: Call, entry: Entry | None, use: serve.Use, now: float) -> Result:
        kept = entry if use is not serve.Use.NOTHING and call.policy.state == "stored" else None
        if kept is not None and use is serve.FRESH:
            return self.fresh(call, kept, now)
        return self._count(call, self.fall(call, Reason.OFF, kept, now))

    def _board(self, wait: Wait, key: str, variant: keys.Variant, kept: Kept, *, share: bool) -> None:
        share = share and self._solo.get(key, 0.0) <= wait.began
        flight = self._flights.get(key) if share else None
        if flight is not None and flight.call.fragment.version != wait.call.fragment.version:
            self._part(flight)  # what it brings is read as was registered, and trusted, when it took off
            flight = None
        elif flight is not None and flight.asking and not self._calm(wait.call.fragment):
            flight, share = None, False  # it is refused at once, or finds out itself
        if flight is None:
            flight = self._take_off(wait.call, wait.visit, key, variant, kept, now=wait.began, share=share)
        else:
            flight.others += 1
            self._telemetry.coalesced(wait.call.fragment.name)
        wait.flight = flight
        flight.waits.append(wait)
        ends = wait.began + wait.call.policy.timeout.total
        if ends < flight.ends or flight.search is not None:  # the flight's own exchange may end later, or begin later
            wait.alarm = self._timer.at(ends, wait.expire)

    def _calm(self, fragment: Fragment) -> bool:
        return self._guards is None or self._guards.calm(fragment.name)

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
        search = self._searching.begin(flight, visit)
        if search is not None:
            flight.search = asyncio.get_running_loop().create_task(search)
        else:
            self.ask(flight, visit, now)
        return flight

    def ask(self, flight: Flight, visit: Visit, now: float) -> None:
        call = flight.call
        fragment = call.fragment
        flight.asking = True
        self._telemetry.inflight[fragment.context] += 1
        fetch = self._asks.get(fragment.source, self._fetch)
        flight.exchange = fetch(
            Ask(
                fragment.upstream,
                "GET",
                call.target,
                self._lines(flight, visit, now),
                call.bounds,
                b"",
                fragment.starts_task,
                fragment,
                call.policy,
            ),
            partial(self._landed, flight),
        )

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

    def _renew(
        self, call: Call, visit: Visit, variant: keys.Variant, entry: Entry, use: serve.Use, *, now: float
    ) -> None:
        """Fetch in the background what is served, unless that is too early, under way, or has failed a moment ago."""
        if use is serve.FRESH and now < entry.early:
            return
        if entry.key not in self._flights and now >= entry.retry_at and not self._overloaded():
            self._take_off(call, visit, entry.key, variant, Kept(entry, use), now=now, share=True)

    def refresh(self, entry: Entry, call: Call, variant: keys.Variant, over: Callable[[], None]) -> bool:
        """Fetch an entry anew though nobody waits for it; `over` is called in the end. False where that cannot be."""
        if entry.key in self._flights or self._store.get(entry.key) is not entry:
            return False
        now = self.now()
        visit = Visit(principal=None, locale="", fields=(), trace=b"", until=now + call.policy.timeout.total)
        use = serve.use(entry, call.fragment.version, call.policy.cache, now)
        flight = self._take_off(call, visit, entry.key, variant, Kept(entry, use), now=now, share=True)
        flight.over = over
        return True

    def forget(self, purge: Purge) -> None:
        """A purge: whoever asks from now on does not join a flight that took off before, which may bring what was purged."""
        for flight in [*self._flights.values()]:
            if flight.concerned(purge):
                self._part(flight)

    def _part(self, flight: Flight) -> None:
        """Nobody joins it any more."""
        del self._flights[flight.key]
        self._alone.add(flight)
        flight.share = False

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
        if flight.waits or useful or flight.over is not None:
            return
        if flight.exchange is not None:
            flight.exchange.cancel()
            self._telemetry.upstream(flight.call.fragment, "cancelled", self.now() - flight.began)
        elif flight.search is not None:
            flight.search.cancel()
        else:
            return  # its answer is being read
        self.gone(flight)
        self.landing.over(flight)

    def gone(self, flight: Flight) -> None:
        """It asks nobody any more."""
        if flight.asking:
            flight.asking = False
            self._telemetry.inflight[flight.call.fragment.context] -= 1
        if flight.share:
            if self._flights.get(flight.key) is flight:
                del self._flights[flight.key]
        else:
            self._alone.discard(flight)

    def close(self) -> None:
        """Cancel every exchange; nothing is called any more."""
        for flight in [*self._flights.values(), *self._alone]:
            flight.waits.clear()
            if flight.exchange is not None:
                flight.exchange.cancel()
            if flight.search is not None:
                flight.search.cancel()
            self.gone(flight)

    def _landed(self, flight: Flight, answer: Reply | Failure) -> None:
        self.gone(flight)
        flight.exchange = None
        self.landing.landed(flight, answer)

    # --- landing ------------------------------------------------------------------------------------------------------

    def alone(self, wait: Wait, flight: Flight) -> None:
        """Let a wait ask for itself: what its flight brought is for somebody else."""
        self._board(wait, flight.key, flight.variant, UNKEPT, share=False)

    def fly_solo(self, key: str) -> None:
        """For a while nobody waits for anybody else's answer with this key."""
        if len(self._solo) >= SOLO_KEYS:
            self._solo.clear()
        self._solo[key] = self.now() + SOLO

    def end(self, wait: Wait, result: Result) -> None:
        wait.done(self._count(wait.call, result))

    def _count(self, call: Call, result: Result) -> Result:
        markup = result.markup
        if markup is not None and markup.unfit & call.place:
            result = results.misplaced(result)
        self._telemetry.slot(call.fragment.name, result)
        return result

    def fresh(self, call: Call, entry: Entry, now: float) -> Result:
        """What a slot becomes by a fresh copy."""
        if entry.status in serve.NEGATIVE and not call.primary:
            detail = f"answered {entry.status}, kept"
            result = self.fall(call, Reason.NOT_FOUND, None, now, detail, status=entry.status)
            if result.outcome is Outcome.OMITTED:  # the kept answer itself, not what stands in for it
                result.age, result.left = float(int(now - entry.born)), serve.left(entry, call.policy.cache, now)
            return self._count(call, result)
        seen, cache = entry.seen, call.policy.cache
        if seen is None or now >= seen[0] or seen[1] is not cache:
            seen = serve.steady(entry, cache, now), cache, results.hit(call, entry, now)
            self._store.used(entry, seen, now)
        return self._count(call, seen[2])

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
        asks = self._asks.get(call.fragment.source)
        own = asks.fallback(call.fragment, call.target) if asks is not None else None
        if own is not None:
            call = replace(call, fragment=replace(call.fragment, fallback_html=own))
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
