"""Overrides of a running gateway: kept with the other processes, applied to the registrations, ended in time.

Owns the list; what an override may say is `rules.overrides`, what it does is the registry's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from bff.gateway.logs import Log
from bff.model import Clock
from bff.registry import World
from bff.rules import overrides as rules
from bff.rules.overrides import Kind, Layers, Override
from bff.rules.policy import suggestion
from bff.store.tier import Tier

NAME = "overrides"
BEAT = 0.2
"""Seconds between looks at what other processes have changed, and at what is over."""

Apply = Callable[[Layers], Awaitable[None]]
Change = Callable[[list[Override]], list[Override]]
"""The list as it is to be; done twice, it changes nothing more."""


class Overrides:
    """The overrides that hold. Without a second tier they end with the process."""

    def __init__(
        self,
        tier: Tier | None,
        *,
        world: Callable[[], World],
        ceilings: Callable[[], Mapping[str, object]],
        trusted: Callable[[str, str], bool] = lambda _context, _level: True,
        apply: Apply,
        log: Log,
        wall: Clock,
    ) -> None:
        """`trusted`: whether a context may have a level of trust."""
        self._tier = tier
        self._world = world
        self._ceilings = ceilings
        self._trusted = trusted
        self._apply = apply
        self._log = log
        self._wall = wall
        self._all: list[Override] = []
        self._applied: Sequence[Override] = ()
        self._waiting: list[Change] = []  # for the tier

    @property
    def everywhere(self) -> bool:
        """Whether what is changed or purged here holds in all processes now; else where it was asked for, and elsewhere later."""
        return self._tier is None or (self._tier.settled and not self._waiting)

    def listed(self) -> list[Override]:
        """Those that hold now, the latest last."""
        return rules.holding(self._all, self._wall())

    async def add(self, target: str, values: Mapping[str, str], *, lasting: str, reason: str, by: str) -> Override:
        """Let values hold for a target. `ValueError` says what is wrong."""
        kind = self._kind(target, values)
        context = target.partition("/")[0]
        rules.parse(kind, values, self._ceilings(), trusted=lambda level: self._trusted(context, level))
        if not reason.strip():
            raise ValueError("say why, for whoever finds it later: a reason is part of the record")
        now = self._wall()
        until = now + rules.lasting(lasting)
        made = Override(target=target, kind=kind, values=values, until=until, reason=reason, by=by, made=now)
        await self._change(lambda all_: [*(each for each in all_ if each != made), made])
        return made

    async def clear(self, target: str) -> int:
        """End all overrides of a target; how many there were."""
        ended = sum(each.target == target for each in await self._read())
        await self._change(lambda all_: [each for each in all_ if each.target != target])
        return ended

    async def run(self) -> None:
        """Follow the other processes and the time, until cancelled."""
        while True:
            if self._tier is not None and self._waiting and self._tier.reached:
                waiting, self._waiting = self._waiting, []
                for change in waiting:
                    await self._change(change)
            self._all = await self._read()
            await self._hold()
            await asyncio.sleep(BEAT)

    async def _read(self) -> list[Override]:
        if self._tier is not None and (data := await self._tier.value(NAME)) is not None:
            return rules.holding(rules.read(data), self._wall())
        return self.listed()  # what is known, where the tier is away or has none

    async def _change(self, change: Change) -> None:
        """Change what all processes have, and see whether they do; else what is known here, and theirs later."""
        self._all = changed = change(await self._read())
        if self._tier is not None:
            await self._tier.set_value(NAME, rules.written(changed))
            data = await self._tier.value(NAME)
            if data is None or change(kept := rules.read(data)) != kept:
                self._waiting.append(change)
        await self._hold()

    async def _hold(self) -> None:
        held = self.listed()
        if held != self._applied:
            for each in self._applied:
                if each not in held:
                    self._log.event("override-over", target=each.target, values=dict(each.values), by=each.by)
            self._applied = held
            await self._apply(rules.layers(held))

    def _kind(self, target: str, values: Mapping[str, str]) -> Kind:
        world = self._world()
        if target in world.pages and (target not in world.fragments or "deadline" in values):
            return "page"
        if target in world.fragments:
            return "fragment"
        if target in world.contexts:
            return "context"
        known = [*world.contexts, *world.fragments, *world.pages]
        raise ValueError(f"there is no context, fragment or page {target}; {suggestion(target, known)}")
