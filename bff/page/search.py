"""Looking at what other processes have, before anybody is asked: in the second tier, and among the tasks that were begun.

Flights are the resolver's; this module finds what ends them, or lets them ask. Nothing here raises, and every look is
bounded by the tier.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Protocol

from bff.model import UNTIMED, Reason, Result
from bff.page import results
from bff.page.call import Call, Visit
from bff.page.flight import SHOWABLE, Flight, Guards, Wait
from bff.page.landing import Landing
from bff.page.replica import PAUSE, Replica
from bff.page.tasks import Underway
from bff.rules import serve
from bff.rules.tasks import Task
from bff.store.entry import Entry
from bff.store.memory import MemoryStore
from bff.store.tier import ROUNDING


class Home(Protocol):
    """What searching needs of the resolver whose flights search."""

    def now(self) -> float: ...
    def ask(self, flight: Flight, visit: Visit, now: float) -> None: ...
    def gone(self, flight: Flight) -> None: ...
    def fresh(self, call: Call, entry: Entry, now: float) -> Result: ...
    def fall(self, call: Call, reason: Reason, entry: Entry | None, began: float) -> Result: ...
    def end(self, wait: Wait, result: Result) -> None: ...


class Searching:
    """Searches for the flights of one resolver."""

    def __init__(
        self,
        home: Home,
        landing: Landing,
        *,
        store: MemoryStore,
        replica: Replica | None,
        tasks: Underway,
        guards: Guards | None,
    ) -> None:
        self._home = home
        self._landing = landing
        self._store = store
        self._replica = replica
        self._tasks = tasks
        self._guards = guards
        self._within = replica is None and not tasks.tiered  # nothing is known beyond this process

    def begin(self, flight: Flight, visit: Visit) -> Coroutine[Any, Any, None] | None:
        """What is to be looked for before this flight asks; None: nothing, it asks at once."""
        if self._within:
            return None
        if flight.share and self._replica is not None:
            return self._search(flight, visit, self._replica)
        return self._ask(flight, visit) if self._tell(flight) else None

    @property
    def beyond(self) -> bool:
        """Whether there is a second tier."""
        return self._replica is not None

    async def recall(self, flight: Flight) -> None:
        """Look in the second tier alone."""
        if self._replica is not None:
            self._met(flight, await self._replica.find(flight.call, flight.key))
        self._over(flight)
        for wait in flight.waits[:]:
            wait.let_go()
            self._home.end(wait, self._home.fall(wait.call, Reason.OFF, flight.reserve, wait.began))

    async def remember(self, flight: Flight, otherwise: Result) -> None:
        """Look for a task alone; `otherwise` is what the flight's waits end with where there is none."""
        task = await self._tasks.recall(flight.key)
        self._over(flight)
        if task is not None:
            self._show(flight, task)
        for wait in flight.waits[:]:
            wait.let_go()
            self._home.end(wait, otherwise)

    def _tell(self, flight: Flight) -> bool:
        """Whether another process may have begun a task by asking the same."""
        return flight.variant.shareable and self._tasks.shared(flight.call.fragment)

    async def _search(self, flight: Flight, visit: Visit, replica: Replica) -> None:
        """Take what another process has, or wait for what it is fetching; else be the one that fetches."""
        pause, longest = PAUSE
        key, waited = flight.key, False
        while not (met := self._met(flight, await replica.find(flight.call, key))):
            if self._guards is not None and not self._guards.calm(flight.call.fragment.name):
                await self._ask(flight, visit)  # it is refused at once, or finds out for this process
                return
            if await replica.lease(key, flight.call.policy.timeout.total):
                flight.leased = True
                met = self._met(flight, await replica.find(flight.call, key))
                if met:  # whoever had the lease has just kept it
                    break
                await self._ask(flight, visit)
                return
            if not flight.waits or self._home.now() >= flight.ends:  # whoever is fetching it does so for us too
                break
            await asyncio.sleep(pause)
            pause, waited = min(pause * 1.5, longest), True
        if waited and self._guards is not None:
            call = flight.call
            self._guards.elsewhere(call.fragment, call.policy, fine=met, others=flight.others)
        self._over(flight)
        if flight.waits:
            self._landing.failed(flight, Reason.TIMEOUT, "another process was fetching it", UNTIMED)
        else:
            self._landing.over(flight)

    async def _ask(self, flight: Flight, visit: Visit) -> None:
        """Ask, unless asking has begun a task before, here or in another process: that is shown then."""
        task = await self._tasks.recall(flight.key) if self._tell(flight) else None
        if task is None:
            flight.search = None
            flight.began = self._home.now()  # what was purged while it looked elsewhere is no longer to come
            self._home.ask(flight, visit, flight.began)
            return
        self._over(flight)
        self._show(flight, task)
        self._landing.over(flight)

    def _over(self, flight: Flight) -> None:
        """The search has ended, and the flight asks nobody."""
        flight.search = None
        self._home.gone(flight)

    def _show(self, flight: Flight, task: Task) -> None:
        waits, flight.waits = flight.waits, []
        for wait in waits:
            wait.let_go()
            now = self._home.now()
            self._home.end(wait, self._tasks.showing(task, wait.visit.principal, began=wait.began, now=now))

    def _met(self, flight: Flight, found: Entry | None) -> bool:
        """Take over what the second tier has, if it is news; whether that is all that was wanted."""
        call, now = flight.call, self._home.now()
        if found is None or (flight.entry is not None and found.born <= flight.entry.born + ROUNDING):
            return False
        marked = found.stale_at  # by a purge that the tier has seen, which memory need not have
        if not self._store.put(found, flight.began):
            return False
        found.stale_at = min(found.stale_at, marked)
        self._landing.kept(found, call.policy)
        use = serve.use(found, call.fragment.version, call.policy.cache, now)
        found.used = now if flight.waits or flight.entry is None else flight.entry.used
        flight.entry, flight.reserve = found, (found if use in SHOWABLE else None)
        waits, flight.waits = flight.waits, []
        for wait in waits:
            if use is serve.Use.FRESH:
                wait.let_go()
                wait.done(self._home.fresh(wait.call, found, now))
            elif use is serve.Use.REVALIDATE and not wait.call.then_fresh:
                wait.let_go()
                self._home.end(
                    wait, results.stale(found, wait.call.policy.cache, Reason.HIT, began=wait.began, now=now)
                )
            else:
                flight.waits.append(wait)
        return use is serve.Use.FRESH
