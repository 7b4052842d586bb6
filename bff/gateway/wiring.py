"""What lives as long as the application runs, made and wired in one place: client, store, resolver, pages, posts."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from random import random
from typing import TYPE_CHECKING

from bff.allow import permits
from bff.config.settings import Settings
from bff.gateway.archive import Archive
from bff.gateway.assets import REFRESH, Shelf
from bff.gateway.flights import Flights
from bff.gateway.invalidation import Invalidation, invalidate
from bff.gateway.keeping import Keeping
from bff.gateway.listeners import Listeners
from bff.gateway.live import Live
from bff.gateway.overriding import Overrides
from bff.gateway.pages import Pages
from bff.gateway.posts import Posts
from bff.gateway.proxied import Job
from bff.gateway.proxy import Proxy
from bff.gateway.proxyturn import Ground
from bff.gateway.tasks import Tasks, task_location
from bff.gateway.trying import Trying
from bff.markup.check import Checker
from bff.model import Fetch, Fragment, Purge
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
from bff.upstream.guarded import Guarded
from bff.upstream.sources import known
from bff.upstream.sources.content import Kit
from bff.upstream.stream import Streams

if TYPE_CHECKING:
    from bff.gateway.app import Gateway


@dataclass(slots=True, kw_only=True)
class Running:
    """What lives while the application does, on its loop."""

    timer: Timer
    guarded: Guarded
    client: Client
    store: MemoryStore
    tier: Tier | None
    replica: Replica | None
    signer: Signer
    underway: Underway
    checker: Checker
    resolver: Resolver
    pages: Pages
    posts: Posts
    tasks: Tasks
    proxy: Proxy
    assets: Shelf
    changes: Live
    invalidation: Invalidation
    overrides: Overrides


def wire(gateway: Gateway) -> Running:
    """Make what serves requests, on the running loop."""
    settings, timer = gateway.settings, Timer(asyncio.get_running_loop())
    client = _client(settings, timer, local=gateway.dev)
    guarded = Guarded(gateway.given or client.start, asyncio.get_running_loop(), timer, counts=gateway.telemetry)
    store = MemoryStore(settings.memory, gateway.telemetry.evicted)
    tier = open_tier(settings.store, failed=gateway.telemetry.failed, tell=gateway.log.event)
    checker = Checker()
    signer = Signer(settings.secret or [os.urandom(32)])
    underway = Underway(signer, time.time, tier)
    sources = known.sources(Kit(checker=checker, render=settings.limits.render))
    replica = None if tier is None else Replica(tier, sources, clock=time.monotonic, wall=time.time)
    resolver = Resolver(
        store=store,
        replica=replica,
        fetch=guarded.start,
        sources=sources,
        checker=checker,
        timer=timer,
        telemetry=gateway.telemetry,
        tasks=underway,
        guards=guarded,
        clock=time.monotonic,
        wall=time.time,
        overloaded=gateway.overload.optional,
    )
    pages = _pages(gateway, resolver, timer)
    changes = _live(gateway, pages, resolver, store)

    def heard(purge: Purge, when: float | None) -> None:
        if gateway.running is not None:
            gateway.running.proxy.heard(purge)
        changes.heard(purge, when)

    overrides = _overrides(gateway, tier)
    invalidation = invalidate(gateway, store=store, resolver=resolver, tier=tier, overrides=overrides, heard=heard)
    purge = invalidation.changes.purge_all
    posts = Posts(fetch=guarded.start, purge=purge, telemetry=gateway.telemetry, tasks=underway)
    return Running(
        timer=timer,
        guarded=guarded,
        client=client,
        store=store,
        tier=tier,
        replica=replica,
        signer=signer,
        underway=underway,
        checker=checker,
        resolver=resolver,
        pages=pages,
        posts=posts,
        tasks=_tasks(gateway, underway, guarded.start, client, pages),
        proxy=_proxy(gateway, client=client, guarded=guarded, store=store, tier=tier, underway=underway, purge=purge),
        assets=shelf(gateway, guarded.start),
        changes=changes,
        invalidation=invalidation,
        overrides=overrides,
    )


def _client(settings: Settings, timer: Timer, *, local: bool) -> Client:
    limits = settings.limits
    loop = asyncio.get_running_loop()
    return Client(loop, timer, idle=limits.upstream_idle, header_bytes=limits.header_bytes, local=local)


def _pages(gateway: Gateway, resolver: Resolver, timer: Timer) -> Pages:
    return Pages(
        planner=planner(gateway.registry, gateway.registry.world),
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


def _proxy(
    gateway: Gateway,
    *,
    client: Client,
    guarded: Guarded,
    store: MemoryStore,
    tier: Tier | None,
    underway: Underway,
    purge: Callable[[Iterable[Purge]], Awaitable[int]],
) -> Proxy:
    """What answers proxy routes, over the registrations as they are now."""
    telemetry, clock = gateway.telemetry, time.monotonic
    archive = None if tier is None else Archive(tier, clock=clock, wall=time.time)
    keeping = Keeping(store, telemetry, archive=archive, purge=purge, clock=clock, wall=time.time, random=random)

    def task_url(job: Job, stated: str) -> str | None:
        route, principal = job.route, job.principal
        upstream = route.fragment.upstream
        return task_location(underway, route.name, upstream, stated=stated, asked=job.target, principal=principal)

    trying = Trying(start=Streams(client), permit=guarded.permit, telemetry=telemetry)
    flights = Flights(trying=trying, calm=guarded.calm, keeping=keeping, task_url=task_url, clock=clock)
    ground = Ground(
        flights=flights, keeping=keeping, telemetry=telemetry, cors=gateway.cors, clock=clock, random=random
    )
    trusted, identity = gateway.identifier.proxies.trust, gateway.settings.identity.header.name
    proxy = Proxy(ground=ground, visit=gateway.visit, trusted=trusted, identity=identity)
    proxy.register(gateway.registry.world)
    return proxy


def _tasks(gateway: Gateway, underway: Underway, fetch: Fetch, client: Client, pages: Pages) -> Tasks:
    def find(name: str) -> Fragment | None:
        return pages.planner.fragments.get(name) or _routed(gateway.registry.world, name)

    return Tasks(underway=underway, fetch=fetch, start=Streams(client), telemetry=gateway.telemetry, find=find)


def _overrides(gateway: Gateway, tier: Tier | None) -> Overrides:
    return Overrides(
        tier,
        world=lambda: gateway.registry.world,
        ceilings=lambda: gateway.registry.settings.ceilings,
        trusted=lambda context, level: permits(gateway.registry.settings.allow.get(context), "trust", level),
        apply=gateway.override,
        log=gateway.log,
        wall=time.time,
    )


def _routed(world: World, name: str) -> Fragment | None:
    """What stands for a proxy route where fragments do."""
    route = world.routes.get(name)
    return route.fragment if route is not None else None


def _live(gateway: Gateway, pages: Pages, resolver: Resolver, store: MemoryStore) -> Live:
    return Live(
        Listeners(settle=_settle(gateway.settings), wall=time.time),
        planner=lambda: pages.planner,
        visit=gateway.visit,
        resolver=resolver,
        store=store,
        drain=gateway.drain,
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


def planner(registry: Registry, world: World, assets: Mapping[str, Hoisted] | None = None) -> Planner:
    """What finds pages and plans them, over these registrations and the assets that are there."""
    own = registry.settings.csp
    csp = Csp(own.add, own.report_uri, own.mode == "enforce")
    ceilings = registry.settings.ceilings
    return Planner(world.pages, world.fragments, accept=known.accepts(), ceilings=ceilings, csp=csp, assets=assets)
