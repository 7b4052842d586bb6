"""The gateway as an ASGI application: routes, lifespan and wiring. Every object that lives as long as the process is made here."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import anyio
from anyio.abc import TaskGroup

from bff.config.settings import Settings
from bff.errors import Finding
from bff.gateway.closing import closing
from bff.gateway.identity import Identifier, Rules, Tokens
from bff.gateway.logs import Log
from bff.gateway.pages import Pages, send_answer
from bff.gateway.posts import Posts
from bff.gateway.problems import Answer, problem
from bff.gateway.request import Locales, accepts_html, ids, picked
from bff.gateway.server import run
from bff.gateway.state import Drain
from bff.gateway.system import system
from bff.gateway.telemetry import Counters, Gauges
from bff.markup.check import Checker
from bff.model import Fetch, Report
from bff.page.call import Visit
from bff.page.plan import BadQuery, Csp, Planned, Planner
from bff.page.resolve import Resolver
from bff.registry import Registry, World
from bff.store.memory import MemoryStore
from bff.timer import Timer
from bff.upstream.client import Client
from bff.upstream.remote import Remote
from bff.upstream.sources.html import HtmlSource
from bff.upstream.sources.json import JsonSource

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_LOG: Final = logging.getLogger("bff")
LONGEST: Final = 10.0
"""Seconds that the answer to an unsafe request may take at most, where its policy says nothing shorter."""
_SAFE: Final = frozenset(("GET", "HEAD"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """One page made in process, for `bff render`."""

    status: int
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes
    report: Report | None


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


class Gateway:
    """The ASGI application. Pages are answered here; everything under `/_bff/` by a small Starlette application."""

    def __init__(
        self,
        settings: Settings,
        registry: Registry,
        *,
        telemetry: Counters,
        log: Log,
        identifier: Identifier,
        dev: bool = False,
        fetch: Fetch | None = None,
        drain: Drain | None = None,
    ) -> None:
        self._settings = settings
        self._registry = registry
        self.telemetry = telemetry
        self._log = log
        self._identifier = identifier
        self._dev = dev
        self._given = fetch
        self._locales = Locales(settings.locales)
        self.drain = drain if drain is not None else Drain()
        self.running: Running | None = None
        self._tasks: TaskGroup | None = None
        self._system = system(self)

    # --- ASGI ---------------------------------------------------------------------------------------------------------

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        if scope["type"] != "http":
            return
        if scope["path"].startswith("/_bff/"):
            await self._system(scope, receive, send)
        elif scope["method"] in _SAFE:
            register = scope.get("extensions", {}).get("bff.closed")
            if register is not None:
                await self.live.pages.stream(scope, send, register)
                return
            async with closing(receive) as closed:
                await self.live.pages.stream(scope, send, closed)
        else:
            await send_answer(send, await self._post(scope, receive), scope["method"])

    def now(self, scope: Scope) -> tuple[int, Sequence[tuple[bytes, bytes]], bytes] | None:
        """The whole answer to a GET or HEAD where nothing must be waited for (called by our own server)."""
        if self.running is None or scope["path"].startswith("/_bff/"):
            return None
        return self.running.pages.now(scope)

    @property
    def live(self) -> Running:
        if self.running is None:
            raise RuntimeError("the application has not been started")
        return self.running

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            async with self.started():
                await send({"type": "lifespan.startup.complete"})
                await receive()
        except Exception as error:
            if self.running is None:
                _LOG.exception("the gateway could not start")
                await send({"type": "lifespan.startup.failed", "message": str(error)})
                return
            raise
        await send({"type": "lifespan.shutdown.complete"})

    # --- life ---------------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def started(self) -> AsyncIterator[Running]:
        """The application, running on this loop; registrations are watched where the settings say so."""
        running = self._make()
        self.running = running
        try:
            async with anyio.create_task_group() as tasks, Remote() as remote:
                self._tasks = tasks
                self._identifier.start(remote.get_json)
                self.telemetry.start(asyncio.get_running_loop())
                if self._settings.watch:
                    tasks.start_soon(self._registry.watch, self._changed)
                yield running
                tasks.cancel_scope.cancel()
        finally:
            self._tasks = None
            self.telemetry.close()
            with anyio.CancelScope(shield=True), anyio.move_on_after(5):
                await self._identifier.aclose()
            running.resolver.close()
            if running.client is not None:
                with anyio.CancelScope(shield=True), anyio.move_on_after(5):
                    await running.client.aclose()
            running.timer.close()
            self.running = None

    def _make(self) -> Running:
        settings, loop = self._settings, asyncio.get_running_loop()
        timer = Timer(loop)
        client = None
        if self._given is None:
            client = Client(loop, timer, idle=settings.limits.upstream_idle, header_bytes=settings.limits.header_bytes)
        fetch: Fetch = self._given if self._given is not None else client  # type: ignore[assignment] # one of the two is there
        store = MemoryStore(settings.memory, self.telemetry.evicted)
        checker = Checker()
        resolver = Resolver(
            store=store,
            fetch=fetch,
            sources={"html": HtmlSource(checker), "json": JsonSource(checker)},
            checker=checker,
            timer=timer,
            telemetry=self.telemetry,
            clock=time.monotonic,
            wall=time.time,
        )
        pages = Pages(
            planner=self._planner(self._registry.world),
            resolver=resolver,
            timer=timer,
            telemetry=self.telemetry,
            clock=time.monotonic,
            identify=self._identifier.identify,
            trusted=self._identifier.proxies.trust,
            locales=self._locales,
            logs_slots=settings.logging.access or self._dev,
            dev=self._dev,
        )
        posts = Posts(fetch=fetch, store=store, telemetry=self.telemetry)
        return Running(
            timer=timer,
            fetch=fetch,
            client=client,
            store=store,
            checker=checker,
            resolver=resolver,
            pages=pages,
            posts=posts,
        )

    def _planner(self, world: World) -> Planner:
        own = self._settings.csp
        csp = Csp(own.add, own.report_uri, own.mode == "enforce")
        accept = {"html": "text/html", "json": "application/json"}
        return Planner(world.pages, world.fragments, accept=accept, ceilings=self._registry.settings.ceilings, csp=csp)

    def _changed(self, world: World, findings: list[Finding]) -> None:
        """Registrations have changed: what is under way ends as it began, what comes next is new."""
        for finding in findings:
            self._log.finding(finding)
        if self.running is not None:
            self.running.pages.planner = self._planner(world)

    def reload(self) -> None:
        """Read the registrations again (SIGHUP)."""
        if self._tasks is not None:
            self._tasks.start_soon(self._reload)

    async def _reload(self) -> None:
        world = await anyio.to_thread.run_sync(self._registry.reload)
        self._changed(world, [*world.findings])

    # --- other methods on pages ---------------------------------------------------------------------------------------

    async def _post(self, scope: Scope, receive: Receive) -> Answer:
        visit = self.visit(scope, LONGEST)
        html = accepts_html(scope)
        pages = self.live.pages
        try:
            planned = pages.planner.find(scope["raw_path"], scope["query_string"], visit.principal, visit.locale)
        except BadQuery as bad:
            return problem(400, str(bad), html=html)
        if planned is None:
            return problem(404, "There is no page at this address.", html=html)
        return await self._posted(scope, receive, planned, visit, html=html)

    async def _posted(self, scope: Scope, receive: Receive, planned: Planned, visit: Visit, *, html: bool) -> Answer:
        primary = planned.plan.primary
        if primary is None:
            return problem(405, "This page takes no input.", html=html, headers=[(b"allow", b"GET, HEAD")])
        call = planned.calls[primary.index]
        if call is None:
            return problem(404, "There is nothing at this address.", html=html)
        return await self.live.posts.answer(scope, receive, call, visit, cross=planned.plan.page.cross_site)

    def visit(self, scope: Scope, seconds: float) -> Visit:
        """One request's facts for fragments that are not part of a page."""
        client = (scope.get("client") or ("", 0))[0]
        found = picked(scope["headers"])
        identity = self._identifier.identify(scope["headers"], client)
        return Visit(
            principal=identity.principal,
            unverified=identity.unverified,
            locale=self._locales.negotiate(found.get(b"accept-language", b"")),
            fields=scope["headers"],
            trace=ids(found, trusted=self._identifier.proxies.trust(client)).trace,
            until=time.monotonic() + seconds,
        )

    # --- in process ---------------------------------------------------------------------------------------------------

    async def render(self, path: str, *, headers: Sequence[tuple[bytes, bytes]] = ()) -> Rendered:
        """Make one page as a browser would get it, and say how each slot ended."""
        parts = urlsplit(path)
        sent: list[Message] = []
        reports: list[Report] = []

        async def send(message: Message) -> None:
            sent.append(message)

        async def receive() -> Message:
            await asyncio.Event().wait()
            return {"type": "http.disconnect"}

        scope: Scope = {
            "type": "http",
            "method": "GET",
            "path": parts.path,
            "raw_path": parts.path.encode(),
            "query_string": parts.query.encode(),
            "headers": list(headers),
            "client": ("127.0.0.1", 0),
            "extensions": {},
        }
        pages = self.live.pages
        pages.witness = reports.append
        try:
            await self(scope, receive, send)
        finally:
            pages.witness = None
        start, *bodies = sent
        body = b"".join(message.get("body", b"") for message in bodies)
        return Rendered(
            status=start["status"], headers=start["headers"], body=body, report=reports[0] if reports else None
        )


def serve(
    settings: Settings, *, env: Mapping[str, str], config: Path | None, dev: bool = False, log_format: str | None = None
) -> None:
    """Run the gateway until a signal ends it: `bff serve`, and with `dev` `bff dev`."""
    registry = Registry(settings, env, config=config)
    log = Log(
        form="console" if (log_format or settings.logging.format) == "console" else "json",
        access=settings.logging.access,
    )
    log.start()
    try:
        gateway = make(settings, registry, log=log, dev=dev)
        for finding in registry.load().findings:
            log.finding(finding)
        _settle_down()
        run(
            gateway,
            settings=settings,
            drain=gateway.drain,
            telemetry=gateway.telemetry,
            on_reload=gateway.reload,
            ready=lambda url: log.event(
                "ready", url=url, pages=len(registry.world.pages), fragments=len(registry.world.fragments)
            ),
            dev=dev,
        )
        log.event("stopped")
    finally:
        log.close()


def _settle_down() -> None:
    """Take what lives as long as the process out of the garbage collector's sight, and let it look less often.

    Pages make no reference cycles; collecting after every 700 allocations was measured at a tenth of an uncached page.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def make(settings: Settings, registry: Registry, *, log: Log, dev: bool = False, fetch: Fetch | None = None) -> Gateway:
    """The application with everything that the settings name."""
    drain = Drain()
    identity, tokens = settings.identity, None
    if identity.jwt is not None:
        jwt = identity.jwt
        rules = Rules(
            authorization=tuple(jwt.authorization),
            cookies=tuple(jwt.cookies),
            keys=jwt.keys,
            issuer=jwt.issuer,
            audience=jwt.audience,
            claim=jwt.claim,
        )
        tokens = Tokens(rules)
    identifier = Identifier(header=identity.header.name, trusted_proxies=settings.trusted_proxies, tokens=tokens)
    telemetry = Counters(log)
    gateway = Gateway(
        settings, registry, telemetry=telemetry, log=log, identifier=identifier, dev=dev, fetch=fetch, drain=drain
    )
    telemetry.gauges = Gauges(
        streams=lambda: drain.streams,
        entries=lambda: gateway.running.store.entries if gateway.running else 0,
        bytes=lambda: gateway.running.store.bytes if gateway.running else 0,
        contexts=lambda: _contexts(registry.world),
    )
    return gateway


def _contexts(world: World) -> list[tuple[str, str, bool]]:
    owners = {name: context.owner for name, context in world.contexts.items()}
    return [(name, owners.get(name, ""), good) for name, good in world.loaded.items()]
