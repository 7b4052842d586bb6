"""All slots of one page at once: started together, collected as they end, ended together by the deadline.

The composition owns what it started: `expire` gives every open slot what stands in for it, `leave` cancels silently.
It knows nothing of bytes; `wire` turns what has arrived into HTML, NDJSON or JSON.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import replace

from bff.model import Clock, Ended, Outcome, Reason, Result, Slot, Telemetry
from bff.page.call import Call, Visit
from bff.page.flight import Wait
from bff.page.plan import LEFT_TO_BROWSER, Planned, Planner, SlotPlan, omitted
from bff.page.resolve import Resolver

MAX_EMBEDDED = 50
MAX_DEPTH = 3


class Running:
    """One slot of one response: `result` is None while it runs; `interim` is a stale copy to show until then."""

    # what most never set is the class's: making one is on the hot path
    depth = 0
    result: Result | None = None
    interim: Result | None = None
    wait: Wait | None = None
    marked = False  # its marker is written: what it becomes goes into a template

    def __init__(
        self, composition: Composition, plan: SlotPlan, call: Call | None, began: float, parent: Running | None = None
    ) -> None:
        self.composition = composition
        self.plan = plan
        self.call = call
        self.began = began
        self.parent = parent
        if parent is not None:
            self.depth = parent.depth + 1

    def end(self, result: Result) -> None:
        """Its wait is over."""
        self.result = result
        self.wait = None
        composition = self.composition
        composition.pending -= 1
        composition.arrived.append(self)
        blocked = composition.blocked
        if blocked is None or blocked is self or self.marked:
            composition.ready = True
            composition.wake()


def _placeable(plan: SlotPlan) -> bool:
    """Whether what the browser would fetch by itself can stand in the page: JSON without a template cannot."""
    fragment = plan.fragment
    shown = fragment is not None and (fragment.source != "json" or fragment.template is not None)
    return shown and plan.slot.load in ("visible", "client")


class Composition:
    """The slots of one response. `arrived` holds those that ended since it was last taken, in that order."""

    def __init__(
        self,
        planned: Planned,
        visit: Visit,
        *,
        planner: Planner,
        resolver: Resolver,
        telemetry: Telemetry,
        clock: Clock,
    ) -> None:
        self.planned = planned
        self.visit = visit
        self._planner = planner
        self._resolver = resolver
        self._telemetry = telemetry
        self._clock = clock
        self.began = clock()
        self.slots: list[Running] = []
        self.arrived: list[Running] = []
        self.pending = 0
        self.ready = False  # something has ended that the writer can go on with
        self.blocked: Running | None = None  # the one slot that the stream waits for where it stands
        self.gone = False
        self.over = False
        self._ordered = False
        self._awake: asyncio.Future[None] | None = None
        self._embedded = 0
        self._keys: set[str] | None = None

    def begin(self, *, ordered: bool = False, only: Callable[[SlotPlan], bool] | None = None) -> None:
        """Start every slot (or those that `only` names); what the store holds has ended when this returns.

        `ordered`: nothing is left to the browser that could be in place.
        """
        planned = self.planned
        self._ordered = ordered
        for plan, call, decided in zip(planned.plan.slots, planned.calls, planned.decided, strict=True):
            running = Running(self, plan, call, self.began)
            self.slots.append(running)
            if only is not None and not only(plan):
                running.result = omitted(Reason.OFF)
            else:
                self._start(running, decided)

    def _start(self, running: Running, decided: Result | None) -> None:
        if decided is None and running.call is not None and not self._ordered:  # what most are
            self._awaits(running, self._resolver.start(running.call, self.visit, running.end))
            return
        fragment = running.plan.fragment
        if self._ordered and decided is LEFT_TO_BROWSER and _placeable(running.plan):
            decided = None
        if decided is LEFT_TO_BROWSER and fragment is not None and fragment.starts_task and running.call is not None:
            self._awaits(running, self._resolver.underway(running.call, self.visit, decided, running.end))
            return
        if decided is not None or running.call is None:
            running.result = decided or omitted(Reason.DANGLING)
            if running.plan.fragment is not None:
                self._telemetry.slot(running.plan.fragment.name, running.result)
            return
        call = replace(running.call, client=False) if self._ordered else running.call
        self._awaits(running, self._resolver.start(call, self.visit, running.end))

    def _awaits(self, running: Running, answer: Result | Wait) -> None:
        if isinstance(answer, Wait):
            running.wait = answer
            if answer.first is not None:
                running.interim = answer.first
            self.pending += 1
        else:
            running.result = answer

    def embed(self, parent: Running, slots: Iterable[Slot]) -> list[Running]:
        """Start the slots found in an answer; beyond the limits of number and depth they are left out."""
        started = []
        for slot in slots:
            named = replace(slot, key=self._unique(slot.key))
            plan, call, decided = self._planner.embedded(parent.plan, named, len(self.slots) + 1)
            running = Running(self, plan, call, self._clock(), parent)
            self.slots.append(running)
            self._embedded += 1
            if self._embedded > MAX_EMBEDDED or running.depth > MAX_DEPTH:
                decided = omitted(Reason.REFUSED)
            self._start(running, decided)
            if self.over and running.wait is not None:
                running.wait.expire()
            started.append(running)
        return started

    def _unique(self, key: str) -> str:
        """A key that no other slot of this page has: `-2`, `-3`… on repeats."""
        if self._keys is None:
            self._keys = {running.plan.slot.key for running in self.slots}
        number, found = 1, key
        while found in self._keys:
            number += 1
            found = f"{key}-{number}"
        self._keys.add(found)
        return found

    # --- waiting ------------------------------------------------------------------------------------------------------

    def wake(self) -> None:
        if self._awake is not None and not self._awake.done():
            self._awake.set_result(None)

    async def more(self) -> None:
        """Wait until a slot has ended that the writer can go on with, or the browser is gone.

        While the stream waits for one slot where it stands, others that end there later wake nobody.
        """
        while not self.ready and not self.gone:
            await self._sleep()

    async def until(self, running: Running) -> None:
        """Wait until this slot has ended, or the browser is gone."""
        self.blocked = running
        while running.result is None and not self.gone:
            await self._sleep()
        self.blocked = None

    async def _sleep(self) -> None:
        self._awake = asyncio.get_running_loop().create_future()
        try:
            await self._awake
        finally:
            self._awake = None

    def take(self) -> list[Running]:
        arrived, self.arrived, self.ready = self.arrived, [], False
        return arrived

    def expire(self) -> None:
        """The page's time is over: every open slot ends now, as its policy says; so does one that begins later."""
        self.over = True
        for running in self.slots[:]:
            if running.wait is not None:
                running.wait.expire()

    def leave(self) -> None:
        """The browser is gone, or the page has become another one: nothing more is wanted of any slot."""
        self.gone = True
        for running in self.slots:
            if running.wait is not None:
                wait, running.wait = running.wait, None
                wait.leave()
        self.wake()

    def dissolve(self) -> None:
        """The page is over: let go of its slots, which refer back to it. Cycles would wait for the garbage collector."""
        self.slots = []
        self.arrived = []

    # --- telling ------------------------------------------------------------------------------------------------------

    def ended(self) -> tuple[Ended, ...]:
        """Every slot that has ended, for logs, the overlay and the waterfall."""
        return tuple(self._ended(running) for running in self.slots if running.result is not None)

    def _ended(self, running: Running) -> Ended:
        fragment, call, result = running.plan.fragment, running.call, running.result
        return Ended(
            slot=running.plan.number,
            key=running.plan.slot.key,
            fragment=running.plan.slot.fragment,
            owner=fragment.owner if fragment is not None else "",
            params=call.params if call is not None else {},
            result=result if result is not None else Result(outcome=Outcome.OMITTED, reason=Reason.OFF),
            started=running.began - self.began,
            parent=running.parent.plan.number if running.parent is not None else "",
        )
