"""Everything that makes entries of the store count no longer, wired: the admin API, the webhook, the event bus."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import islice
from operator import attrgetter
from typing import TYPE_CHECKING

from bff.events.bus import Listener, opener
from bff.events.consumer import Consumer
from bff.gateway.admin import Admin
from bff.gateway.overriding import Overrides
from bff.gateway.standing import Standings
from bff.gateway.webhook import Webhook
from bff.model import Purge, Subscription
from bff.page.refresh import QUEUED, Refresher
from bff.page.resolve import Resolver
from bff.rules import invalidation as uris
from bff.store.entry import Entry
from bff.store.follower import BATCH
from bff.store.memory import MemoryStore
from bff.store.purger import Purger
from bff.store.tier import Tier

if TYPE_CHECKING:
    from bff.gateway.app import Gateway

Told = Callable[[Purge, float | None], None]
"""A purge that holds now, and when another process made it (wall); None: this one, just now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Invalidation:
    """What hears of changes, and what carries them out."""

    changes: Changes
    purger: Purger
    refresher: Refresher
    admin: Admin
    standings: Standings
    webhook: Webhook
    listener: Listener | None

    async def aclose(self) -> None:
        """Begin nothing more, and end what is under way."""
        self.refresher.close()
        await self.purger.aclose()


class Changes:
    """Carries purges out: in the store's tiers, for flights that may bring what was purged, for browsers that are listening."""

    def __init__(
        self,
        *,
        store: MemoryStore,
        resolver: Resolver,
        purger: Purger,
        refresher: Refresher,
        heard: Told,
    ) -> None:
        self._store = store
        self._resolver = resolver
        self._purger = purger
        self._refresher = refresher
        self._heard = heard

    async def purge(self, purge: Purge, refresh: bool = False) -> int:
        """Purge, and where `refresh` is true fetch ahead what that has marked stale; how many entries it met here."""
        return await self.purge_all([purge], refresh)

    async def purge_all(self, purges: Iterable[Purge], refresh: bool = False) -> int:
        """The same for very many, some at a time: whatever else there is to do is done in between."""
        met, left = 0, iter(purges)
        while some := [*islice(left, BATCH)]:
            for purge in some:
                if not uris.named(purge):
                    self._resolver.forget(purge)
            met += await self._purger(*some)
            for purge in some:
                if refresh:
                    self._refresher.soon(await self._latest(self._store.matching(purge)))
                self._heard(purge, None)
        return met

    async def _latest(self, entries: list[Entry]) -> list[Entry]:
        """Those used last, as many as wait to be fetched at most; of very many they are chosen in several turns of the loop."""
        chosen = entries[:QUEUED]
        for first in range(QUEUED, len(entries), QUEUED):
            await asyncio.sleep(0)
            chosen += entries[first : first + QUEUED]
            chosen.sort(key=attrgetter("used"), reverse=True)
            del chosen[QUEUED:]
        return chosen


def invalidate(
    gateway: Gateway, *, store: MemoryStore, resolver: Resolver, tier: Tier | None, overrides: Overrides, heard: Told
) -> Invalidation:
    """Make what hears of changes, on the running loop; `heard` is told of each once it holds."""

    def elsewhere(purge: Purge, when: float) -> None:
        if not uris.named(purge):
            resolver.forget(purge)
        heard(purge, when)

    settings, loop = gateway.settings, asyncio.get_running_loop()
    purger = Purger(store, tier, clock=time.monotonic, heard=elsewhere)
    refresher = Refresher(resolver, store, loop.call_later, lambda: gateway.live.pages.planner)
    changes = Changes(store=store, resolver=resolver, purger=purger, refresher=refresher, heard=heard)
    consumer = Consumer(
        subscriptions=partial(_subscriptions, gateway),
        on_event=changes.purge,
        counts=gateway.telemetry,
        tell=gateway.log.event,
        wall=time.time,
    )
    listener = _listener(gateway, consumer, tier)
    standings = Standings(gateway, store, tier, listener)
    admin = Admin(
        settings.admin,
        world=lambda: gateway.registry.world,
        purging=lambda purges, soft: changes.purge_all(purges, refresh=soft),
        status=standings.all,
        live=partial(_guarded, gateway),
        overrides=overrides,
        ceilings=lambda: gateway.registry.settings.ceilings,
        log=gateway.log,
        wall=time.time,
    )
    webhook = Webhook(consumer, settings.events.webhook_secret, wall=time.time)
    return Invalidation(
        changes=changes,
        purger=purger,
        refresher=refresher,
        admin=admin,
        standings=standings,
        webhook=webhook,
        listener=listener,
    )


def _listener(gateway: Gateway, consumer: Consumer, tier: Tier | None) -> Listener | None:
    """What reads the bus. Without a second tier nothing that is kept outlives this process: it reads on from now."""
    events = gateway.settings.events
    opened = opener(events.bus) if events.bus else None
    if opened is None:
        return None
    return Listener(consumer, partial(opened, events.bus, events.prefix), positions=tier)


def _subscriptions(gateway: Gateway) -> Iterable[Subscription]:
    return [each for context in gateway.registry.world.contexts.values() for each in context.events]


def _guarded(gateway: Gateway, fragment: str) -> list[str]:
    """How a fragment's breaker, its context's budgets and its limit, where that adapts, stand in this process now; nothing where it was never asked."""
    for live in gateway.live.guarded.states():
        if live.name == fragment:
            asked, tried = live.retries
            hedged = f", {live.hedges[1]} hedges" if live.hedges[1] else ""
            left = f" for {live.left:.1f} s" if live.left else ""
            why = f" ({live.why})" if live.why and live.left else ""
            spared = f"  optional slots spared {live.spared:.0%}" if live.spared else ""
            breaker = f"breaker {live.state.word}{left}{why}, {live.failures} of {live.requests} failed"
            budget = f"budget of {live.context}: {tried} retries{hedged} to {asked} requests{spared}"
            limit = "" if live.limit is None else f"  limit of {live.context}: {live.limit}, {live.under} under way"
            return [f"now {fragment}  {breaker}  {budget}{limit}"]
    return []
