"""What lives as long as the application runs, made and wired in one place: client, store, resolver, pages, posts."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bff.config.settings import Settings
from bff.gateway.assets import REFRESH, Shelf
from bff.gateway.invalidation import Invalidation, invalidate
from bff.gateway.listeners import Listeners
from bff.gateway.live import Live
from bff.gateway.pages import Pages
from bff.gateway.posts import Posts
from bff.gateway.tasks import Tasks
from bff.markup.check import Checker
from bff.model import Fetch
from bff.page.hoist import Hoisted
from bff.page.plan import Csp, Planner
from bff.page.replica import Replica
from bff.page.resolve import Resolver
from bff.page.tasks import Underway
from bff.registry import Registry, World
from bff.rules.tasks import Signer
from bff.store.memory import MemoryStore
from bff.store.open import open_tier
from bff.store.tier import Tier
from bff.timer import Timer
from bff.upstream.client import Client
from bff.upstream.sources import known
from bff.upstream.sources.content import Kit

if TYPE_CHECKING:
    from bff.gateway.app import Gateway


@dataclass(slots=True, kw_only=True)
class Running:
    """What lives while the application does, on its loop."""

    timer: Timer
    fetch: Fetch
    client: Client | None
    store: MemoryStore
    tier: Tier | None
    replica: Replica | None
    signer: Signer
    checker: Checker
    resolver: Resolver
    pages: Pages
    posts: Posts
    tasks: Tasks
    assets: Shelf
    changes: Live
    invalidation: Invalidation


def wire(gateway: Gateway) -> Running:
    """Make what serves requests, on the running loop."""
    settings, timer = gateway.settings, Timer(asyncio.get_running_loop())
    client = _client(settings, timer) if gateway.given is None else None
    fetch: Fetch = gateway.given or client  # type: ignore[assignment] # one of the two is there
    store = MemoryStore(settings.memory, gateway.telemetry.evicted)
    tier = open_tier(settings.store, failed=gateway.telemetry.failed, tell=gateway.log.event)
    checker = Checker()
    signer = Signer(settings.secret or [os.urandom(32)])
    underway = Underway(signer, time.time)
    sources = known.sources(Kit(checker=checker, render=settings.limits.render))
    replica = None if tier is None else Replica(tier, sources, clock=time.monotonic, wall=time.time)
    resolver = Resolver(
        store=store,
        replica=replica,
        fetch=fetch,
        sources=sources,
        checker=checker,
        timer=timer,
        telemetry=gateway.telemetry,
        tasks=underway,
        clock=time.monotonic,
        wall=time.time,
    )
    pages = _pages(gateway, resolver, timer)
    tasks = Tasks(
        underway=underway,
        fetch=fetch,
        telemetry=gateway.telemetry,
        find=lambda name: pages.planner.fragments.get(name),  # noqa: PLW0108 # the planner is replaced at reloads
    )
    changes = Live(
        Listeners(settle=_settle(settings), wall=time.time),
        planner=lambda: pages.planner,
        visit=gateway.visit,
        resolver=resolver,
        store=store,
        drain=gateway.drain,
    )
    invalidation = invalidate(gateway, store=store, resolver=resolver, tier=tier, heard=changes.heard)
    posts = Posts(fetch=fetch, purge=invalidation.changes.purge, telemetry=gateway.telemetry, tasks=underway)
    return Running(
        timer=timer,
        fetch=fetch,
        client=client,
        store=store,
        tier=tier,
        replica=replica,
        signer=signer,
        checker=checker,
        resolver=resolver,
        pages=pages,
        posts=posts,
        tasks=tasks,
        assets=shelf(gateway, fetch),
        changes=changes,
        invalidation=invalidation,
    )


def _client(settings: Settings, timer: Timer) -> Client:
    limits = settings.limits
    loop = asyncio.get_running_loop()
    return Client(loop, timer, idle=limits.upstream_idle, header_bytes=limits.header_bytes)


def _pages(gateway: Gateway, resolver: Resolver, timer: Timer) -> Pages:
    return Pages(
        planner=planner(gateway.registry, gateway.settings, gateway.registry.world),
        resolver=resolver,
        timer=timer,
        telemetry=gateway.telemetry,
        clock=time.monotonic,
        identify=gateway.identifier.identify,
        trusted=gateway.identifier.proxies.trust,
        locales=gateway.locales,
        logs_slots=gateway.settings.logging.access or gateway.dev,
        dev=gateway.dev,
        cors=gateway.cors,
    )


def _settle(settings: Settings) -> float:
    """Seconds until every process that shares the store has heard of a purge."""
    return 0.25 if settings.workers > 1 or settings.store != "memory://" else 0.0


def shelf(gateway: Gateway, fetch: Fetch) -> Shelf:
    """The assets of what is registered; `bff dev` looks every second."""
    made = Shelf(
        fetch=fetch,
        telemetry=gateway.telemetry,
        log=gateway.log,
        changed=gateway.replan,
        refresh=1.0 if gateway.dev else REFRESH,
    )
    made.register(gateway.registry.world.fragments)
    return made


def planner(
    registry: Registry, settings: Settings, world: World, assets: Mapping[str, Hoisted] | None = None
) -> Planner:
    """What finds pages and plans them, over these registrations and the assets that are there."""
    own = settings.csp
    csp = Csp(own.add, own.report_uri, own.mode == "enforce")
    ceilings = registry.settings.ceilings
    return Planner(world.pages, world.fragments, accept=known.accepts(), ceilings=ceilings, csp=csp, assets=assets)
