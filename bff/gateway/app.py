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
from anyio.abc import TaskGroup

from bff.config.settings import Settings
from bff.errors import Finding
from bff.gateway.closing import closing
from bff.gateway.compress import suited
from bff.gateway.cors import Cors
from bff.gateway.hints import Hints
from bff.gateway.identity import Identifier
from bff.gateway.logs import Log
from bff.gateway.overload import Overload, memory_share
from bff.gateway.pages import send_answer
from bff.gateway.peers import Peers
from bff.gateway.problems import Answer, problem
from bff.gateway.request import Locales, accepts_html, ids, picked
from bff.gateway.state import Drain
from bff.gateway.system import operations, system
from bff.gateway.telemetry import Counters
from bff.gateway.watchdog import Block, Watchdog
from bff.gateway.wiring import Running, planner, wire
from bff.model import Fetch, Report
from bff.page.call import Visit
from bff.page.plan import BadQuery, Planned
from bff.registry import Registry, World
from bff.rules.overrides import Layers

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_LOG: Final = logging.getLogger("bff")
LONGEST: Final = 10.0
"""Seconds that the answer to an unsafe request may take at most, where its policy says nothing shorter."""
_UNSTYLED: Final = 1.0  # seconds that a start waits for assets at most; pages do without those that are not there
_SAFE: Final = frozenset(("GET", "HEAD"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """One page made in process, for `bff render`."""

    status: int
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes
    report: Report | None


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
        peers: Peers | None = None,
    ) -> None:
        self.settings = settings
        self.registry = registry
        self.telemetry = telemetry
        self.log = log
        self.identifier = identifier
        self.dev = dev
        self.given = fetch
        self.locales = Locales(settings.locales)
        self.cors = Cors(settings.cors.origins, credentials=settings.cors.credentials)
        self._hints = Hints(identifier.proxies.trust) if settings.early_hints else None
        self.drain = drain if drain is not None else Drain()
        self.peers = peers
        self.overload = Overload(memory_share(settings.workers))
        self.watchdog = Watchdog(self._blocked)
        telemetry.beats = (self.overload.beat, lambda _lag: self.watchdog.beat())
        self.running: Running | None = None
        self._tasks: TaskGroup | None = None
        self._system = system(self)
        self.operations = operations(self)

    # --- ASGI ---------------------------------------------------------------------------------------------------------

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        if scope["type"] != "http":
            return
        raw: bytes = scope["raw_path"]
        if raw == b"/_bff/live":
            await self.live.changes(scope, receive, send)
        elif raw.startswith(b"/_bff/"):
            scope["path"] = raw.decode("latin-1")  # as it was sent: who guards a prefix in front of us reads no %61dmin
            await self._system(scope, receive, send)
        elif (proxied := self.live.proxy.find(scope["raw_path"])) is not None:
            await self.live.proxy(proxied, scope, receive, send)
        elif scope["method"] in _SAFE:
            register = scope.get("extensions", {}).get("bff.closed")
            if register is not None:
                if self._hints is not None:
                    self._hints.give(scope)
                await self.live.pages.stream(scope, send, register)
                return
            async with closing(receive) as closed:
                await self.live.pages.stream(scope, send, closed)
        else:
            answer = await suited(await self._post(scope, receive), scope["headers"])
            await send_answer(send, answer, scope["method"])

    def now(self, scope: Scope) -> tuple[int, Sequence[tuple[bytes, bytes]], bytes] | None:
        """The whole answer to a GET or HEAD where nothing must be waited for (called by our own server)."""
        raw: bytes = scope["raw_path"]
        if self.running is None or raw.startswith(b"/_bff/") or self.running.proxy.find(raw):
            return None
        return self.running.pages.now(scope)

    def overloaded(self, path: bytes) -> str:
        """The limit for which nothing is begun at a path now (asked by our own server); what is under `/_bff/` goes on."""
        return "" if path.startswith(b"/_bff/") else self.overload.pages()

    def hurry(self) -> None:
        """End the open slots of every page, so that its document ends (asked by our own server when it must leave)."""
        if self.running is not None:
            self.running.pages.alarms.hurry()

    def _blocked(self, block: Block) -> None:
        """The loop stands still (told from another thread)."""
        self.log.event("loop-blocking", level="error", where=block.where, fragments=block.fragments)

    @property
    def live(self) -> Running:
        if self.running is None:
            raise RuntimeError("the application has not been started")
        return self.running

    async def numbers(self) -> bytes:
        """The metrics of this gateway, all its workers together."""
        own = self.telemetry.exposition()
        return own if self.peers is None else await self.peers.summed(own)

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
        running = wire(self)
        self.running = running
        if running.tier is not None:
            await running.tier.start()
            if not self.settings.secret:  # all processes that share the store sign with the same one
                running.signer.secrets = [await running.tier.add_value("secret", running.signer.secrets[0])]
        try:
            async with anyio.create_task_group() as tasks, self._keys():
                self._tasks = tasks
                self.telemetry.start(asyncio.get_running_loop())
                self.watchdog.start()
                if self.peers is not None:
                    standing = running.invalidation.standings.told
                    await self.peers.start({"metrics": self.telemetry.exposition, "standing": standing})
                if self.settings.watch:
                    tasks.start_soon(self.registry.watch, self._reloaded)
                tasks.start_soon(running.overrides.run)
                tasks.start_soon(running.assets.run)
                await running.assets.settled(_UNSTYLED)
                if running.invalidation.listener is not None:
                    tasks.start_soon(running.invalidation.listener.run)
                yield running
                tasks.cancel_scope.cancel()
        finally:
            self._tasks = None
            self.telemetry.close()
            self.watchdog.close()
            if self.peers is not None:
                await self.peers.aclose()
            with anyio.CancelScope(shield=True), anyio.move_on_after(5):
                await self.identifier.aclose()
            running.changes.close()
            await running.invalidation.aclose()
            running.resolver.close()
            with anyio.CancelScope(shield=True), anyio.move_on_after(5):
                await running.proxy.aclose()
                await running.client.aclose()
            if running.tier is not None and running.replica is not None:
                with anyio.CancelScope(shield=True), anyio.move_on_after(5):
                    await running.underway.aclose()
                    await running.replica.aclose()
                    await running.tier.aclose()
            running.timer.close()
            self.running = None

    @asynccontextmanager
    async def _keys(self) -> AsyncIterator[None]:
        """Have the keys of tokens fetched, where they are behind a URL."""
        if not self.identifier.remote:
            yield
            return
        from bff.upstream.remote import Remote  # noqa: PLC0415 - only where it is used: a start waits for it

        async with Remote() as remote:
            self.identifier.start(remote.get_json)
            yield

    def _reloaded(self, world: World, findings: list[Finding]) -> None:
        """Files have changed; of several workers the first tells what it found in them, and that they hold."""
        if self.peers is None or self.peers.first:
            for finding in findings:
                self.log.finding(finding)
            broken = [name for name, good in world.loaded.items() if not good]
            level = "warning" if broken else "info"
            self.log.event(
                "reloaded", level=level, pages=len(world.pages), fragments=len(world.fragments), broken=broken
            )
        self._changed()

    def _changed(self) -> None:
        """Registrations have changed: what is under way ends as it began, what comes next is new.

        The newest count, whoever tells of a change: one may have been overtaken by another on its way here.
        """
        world = self.registry.world
        cors = self.registry.settings.cors
        self.cors.allow(cors.origins, credentials=cors.credentials)
        if self.running is not None:
            self.running.assets.register(world.fragments)
            self.running.proxy.register(world)
            self.replan()
            if self.running.invalidation.listener is not None:
                self.running.invalidation.listener.changed()

    async def override(self, layers: Layers) -> None:
        """Let what operators have changed hold from the next page on."""
        await anyio.to_thread.run_sync(self.registry.override, layers)
        self._changed()

    def replan(self) -> None:
        """Plan pages anew: registrations have changed, or the files that their heads refer to."""
        if self.running is not None:
            held, world = self.running.assets.hoisted, self.registry.world
            self.running.pages.planner = planner(self.registry, world, held)

    def reload(self) -> None:
        """Read the registrations again (SIGHUP)."""
        if self._tasks is not None:
            self._tasks.start_soon(self._reload)

    async def _reload(self) -> None:
        world = await anyio.to_thread.run_sync(self.registry.reload)
        self._reloaded(world, [*world.findings])

    # --- other methods on pages ---------------------------------------------------------------------------------------

    async def _post(self, scope: Scope, receive: Receive) -> Answer:
        if scope["method"] == "OPTIONS":  # for its JSON forms; what else may be sent here is for our own pages
            preflight = self.cors.preflight(scope["headers"], _SAFE)
            if preflight is not None:  # wherever it leads: what is wrong there is read in the answer itself
                return preflight
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
        identity = self.identifier.identify(scope["headers"], client)
        return Visit(
            principal=identity.principal,
            unverified=identity.unverified,
            locale=self.locales.negotiate(found.get(b"accept-language", b"")),
            fields=scope["headers"],
            trace=ids(found, trusted=self.identifier.proxies.trust(client)).trace,
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
