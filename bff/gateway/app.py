"""The gateway as an ASGI application: routes, lifespan and wiring. Every object that lives as long as the process is made here."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import anyio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from bff.config.settings import Settings
from bff.errors import Finding
from bff.gateway import fragments as endpoint
from bff.gateway.identity import Identifier
from bff.gateway.pages import Pages, send_answer
from bff.gateway.posts import Posts
from bff.gateway.problems import Answer, problem
from bff.gateway.request import Locales, accepts_html, ids, picked
from bff.gateway.state import Drain
from bff.gateway.telemetry import Counters
from bff.markup.check import Checker
from bff.model import Fetch, Report
from bff.page.call import Visit
from bff.page.plan import BadQuery, Csp, Planned, Planner
from bff.page.resolve import Resolver
from bff.paths import static_folder
from bff.registry import Registry, World
from bff.store.memory import MemoryStore
from bff.timer import Timer
from bff.upstream.client import Client
from bff.upstream.sources.html import HtmlSource
from bff.upstream.sources.json import JsonSource

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
OnClosed = Callable[[Callable[[], None]], None]

_LOG: Final = logging.getLogger("bff")
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
        identifier: Identifier,
        dev: bool = False,
        fetch: Fetch | None = None,
        drain: Drain | None = None,
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._telemetry = telemetry
        self._identifier = identifier
        self._dev = dev
        self._given = fetch
        self._locales = Locales(settings.locales)
        self.drain = drain if drain is not None else Drain()
        self.running: Running | None = None
        self._reports: Callable[[Report], None] | None = None
        self._system = Starlette(routes=self._routes())

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
            async with _closing(scope, receive) as closed:
                await self._live.pages.stream(scope, send, closed)
        else:
            await send_answer(send, await self._post(scope, receive), scope["method"])

    def now(self, scope: Scope) -> tuple[int, Sequence[tuple[bytes, bytes]], bytes] | None:
        """The whole answer to a GET or HEAD where nothing must be waited for (called by our own server)."""
        if self.running is None or scope["path"].startswith("/_bff/"):
            return None
        return self.running.pages.now(scope)

    @property
    def _live(self) -> Running:
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
            async with anyio.create_task_group() as tasks:
                await self._identifier.start(tasks)
                if self._settings.watch:
                    tasks.start_soon(self._registry.watch, self._changed)
                yield running
                tasks.cancel_scope.cancel()
        finally:
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
        store = MemoryStore(settings.memory, self._telemetry.evicted)
        checker = Checker()
        resolver = Resolver(
            store=store,
            fetch=fetch,
            sources={"html": HtmlSource(checker), "json": JsonSource(checker)},
            checker=checker,
            timer=timer,
            telemetry=self._telemetry,
            clock=loop.time,
            wall=time.time,
        )
        pages = Pages(
            planner=self._planner(self._registry.world),
            resolver=resolver,
            timer=timer,
            telemetry=self._telemetry,
            clock=loop.time,
            identify=self._identify,
            trusted=self._identifier.trusts,
            locales=self._locales,
            logs_slots=settings.logging.access or self._dev,
            dev=self._dev,
        )
        posts = Posts(fetch=fetch, store=store, telemetry=self._telemetry)
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
        csp = Csp(self._settings.csp.add, self._settings.csp.report_uri)
        accept = {"html": "text/html", "json": "application/json"}
        return Planner(world.pages, world.fragments, accept=accept, ceilings=self._settings.ceilings, csp=csp)

    def _changed(self, world: World, findings: Sequence[Finding]) -> None:
        """Registrations have changed: what is under way ends as it began, what comes next is new."""
        for finding in findings:
            self._telemetry.finding(finding)
        if self.running is not None:
            self.running.pages.planner = self._planner(world)

    def reload(self) -> None:
        """Read the registrations again (SIGHUP)."""
        world = self._registry.reload()
        self._changed(world, world.findings)

    def _identify(self, fields: Any, client: str) -> tuple[str | None, bool]:
        identity = self._identifier.identify(fields, client)
        return identity.principal, identity.unverified

    # --- other methods on pages ---------------------------------------------------------------------------------------

    async def _post(self, scope: Scope, receive: Receive) -> Answer:
        principal, visit = self._visit(scope, self._settings.ceilings.get("timeout.total", 10.0))
        html = accepts_html(scope)
        pages = self._live.pages
        try:
            planned = pages.planner.find(scope["raw_path"], scope["query_string"], principal, visit.locale)
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
        return await self._live.posts.answer(scope, receive, call, visit, cross=planned.plan.page.cross_site)

    def _visit(self, scope: Scope, seconds: float) -> tuple[str | None, Visit]:
        """One request's facts for fragments that are not part of a page."""
        client = (scope.get("client") or ("", 0))[0]
        found = picked(scope["headers"])
        principal, _ = self._identify(scope["headers"], client)
        visit = Visit(
            principal=principal,
            locale=self._locales.negotiate(found.get(b"accept-language", b"")),
            fields=scope["headers"],
            trace=ids(found, trusted=self._identifier.trusts(client)).trace,
            until=asyncio.get_running_loop().time() + seconds,
        )
        return principal, visit

    # --- /_bff/ -------------------------------------------------------------------------------------------------------

    def _routes(self) -> list[Route | Mount]:
        return [
            Route("/_bff/livez", _alive),
            Route("/_bff/readyz", self._ready),
            Route("/_bff/metrics", self._metrics),
            Route("/_bff/fragments/{context}/{fragment}", self._fragment),
            Mount("/_bff/static", StaticFiles(directory=static_folder())),
        ]

    async def _ready(self, _: Request) -> Response:
        if self.drain.draining or self.running is None:
            return PlainTextResponse("draining\n", 503)
        return PlainTextResponse("ready\n")

    async def _metrics(self, _: Request) -> Response:
        return Response(self._telemetry.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def _fragment(self, request: Request) -> Response:
        made = await self._endpoint(request)
        body = b"" if request.method == "HEAD" else made.body
        response = Response(body, made.status)
        response.raw_headers = list(made.headers)
        return response

    async def _endpoint(self, request: Request) -> Answer:
        planner, scope = self._live.pages.planner, request.scope
        name = f"{request.path_params['context']}/{request.path_params['fragment']}"
        fragment = planner.fragments.get(name)
        if fragment is None:
            return problem(404, f"There is no fragment {name}.", html=False)
        principal, visit = self._visit(scope, fragment.policy.timeout.total)
        try:
            call = endpoint.call_for(planner, fragment, scope["query_string"].decode("latin-1"), principal)
        except (endpoint.BadParameters, PermissionError) as error:
            return endpoint.fault(error)
        async with _closing(scope, request.receive) as closed:
            result = await endpoint.resolved(self._live.resolver, call, visit, closed)
        return endpoint.answer(call, result, planner, scope)

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
        with self._telemetry.reporting(reports.append):
            await self(scope, receive, send)
        start, *bodies = sent
        body = b"".join(message.get("body", b"") for message in bodies)
        return Rendered(
            status=start["status"], headers=start["headers"], body=body, report=reports[0] if reports else None
        )


async def _alive(_: Request) -> Response:
    return PlainTextResponse("alive\n")


@asynccontextmanager
async def _closing(scope: Scope, receive: Receive) -> AsyncIterator[OnClosed]:
    """How to learn that the browser has gone: from our own server, or from `receive` on any other."""
    register = scope.get("extensions", {}).get("bff.closed")
    if register is not None:
        yield register
        return
    calls: list[Callable[[], None]] = []

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        for call in calls:
            call()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch)
        yield calls.append
        tasks.cancel_scope.cancel()
