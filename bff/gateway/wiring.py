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
from bff.gateway.pages import Pages
from bff.gateway.posts import Posts
from bff.gateway.tasks import Tasks
from bff.markup.check import Checker
from bff.model import Fetch
from bff.page.hoist import Hoisted
from bff.page.plan import Csp, Planner
from bff.page.resolve import Resolver
from bff.page.tasks import Underway
from bff.registry import Registry, World
from bff.rules.tasks import Signer
from bff.store.memory import MemoryStore
from bff.timer import Timer
from bff.upstream.client import Client
from bff.upstream.sources.html import HtmlSource
from bff.upstream.sources.json import JsonSource

if TYPE_CHECKING:
    from bff.gateway.app import Gateway


@dataclass(slots=True, kw_only=True)
class Running:
    """What lives while the application does, on its loop."""

    timer: Timer
    fetch: Fetch
    client: Client | None
    store: MemoryStore
    checker: Checker
    resolver: Resolver
    pages: Pages
    posts: Posts
    tasks: Tasks
    assets: Shelf


def wire(gateway: Gateway) -> Running:
    """Make what serves requests, on the running loop."""
    settings, loop = gateway.settings, asyncio.get_running_loop()
    timer = Timer(loop)
    client = None
    if gateway.given is None:
        client = Client(loop, timer, idle=settings.limits.upstream_idle, header_bytes=settings.limits.header_bytes)
    fetch: Fetch = gateway.given if gateway.given is not None else client  # type: ignore[assignment] # one of the two is there
    store = MemoryStore(settings.memory, gateway.telemetry.evicted)
    checker = Checker()
    underway = Underway(Signer(settings.secret or [os.urandom(32)]), time.time)
    resolver = Resolver(
        store=store,
        fetch=fetch,
        sources={"html": HtmlSource(checker), "json": JsonSource(checker, render=settings.limits.render)},
        checker=checker,
        timer=timer,
        telemetry=gateway.telemetry,
        tasks=underway,
        clock=time.monotonic,
        wall=time.time,
    )
    pages = Pages(
        planner=planner(gateway.registry, settings, gateway.registry.world),
        resolver=resolver,
        timer=timer,
        telemetry=gateway.telemetry,
        clock=time.monotonic,
        identify=gateway.identifier.identify,
        trusted=gateway.identifier.proxies.trust,
        locales=gateway.locales,
        logs_slots=settings.logging.access or gateway.dev,
        dev=gateway.dev,
        cors=gateway.cors,
    )
    posts = Posts(fetch=fetch, store=store, telemetry=gateway.telemetry, tasks=underway)
    tasks = Tasks(
        underway=underway,
        fetch=fetch,
        telemetry=gateway.telemetry,
        find=lambda name: pages.planner.fragments.get(name),  # noqa: PLW0108 # the planner is replaced at reloads
    )
    return Running(
        timer=timer,
        fetch=fetch,
        client=client,
        store=store,
        checker=checker,
        resolver=resolver,
        pages=pages,
        posts=posts,
        tasks=tasks,
        assets=shelf(gateway, fetch),
    )


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
    accept = {"html": "text/html", "json": "application/json"}
    ceilings = registry.settings.ceilings
    return Planner(world.pages, world.fragments, accept=accept, ceilings=ceilings, csp=csp, assets=assets)
