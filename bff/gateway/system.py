"""Everything under `/_bff/`: fragments by themselves, events, static files, probes, numbers and admin, as small Starlette applications."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from bff.gateway import forms
from bff.gateway import fragments as endpoint
from bff.gateway.closing import closing
from bff.gateway.compress import Idle, suited
from bff.gateway.packed import Static
from bff.gateway.passing import Passing
from bff.gateway.problems import Answer, problem
from bff.gateway.request import accepts_html, navigates
from bff.gateway.tasks import PATIENCE, Passed
from bff.gateway.telemetry import CONTENT_TYPE
from bff.paths import static_folder

if TYPE_CHECKING:
    from bff.gateway.app import Gateway


_READ: Final = ("GET", "HEAD", "OPTIONS")
_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


def system(gateway: Gateway) -> Starlette:
    """The application that answers `/_bff/` for a gateway; without what has a port of its own (`admin.listen`)."""
    own = _System(gateway)
    routes: list[BaseRoute] = [
        Route("/_bff/fragments/{context}/{fragment}", own.fragment, methods=_READ),
        Route("/_bff/tasks/{id}", own.task, methods=_READ),
        Route("/_bff/tasks/{id}/result", own.result, methods=_READ),
        Route("/_bff/static/{file:path}", own.static),
        Route("/_bff/assets/{file:path}", own.asset),
        Route("/_bff/events", own.events, methods=_METHODS),
    ]
    apart = [] if gateway.settings.admin.listen else own.operations()
    routes = [*apart, *routes, Route("/_bff/{rest:path}", own.missing)]
    return Starlette(routes=routes, exception_handlers={405: own.refused})


def operations(gateway: Gateway) -> Starlette:
    """What operators and their machines ask for, and nothing else: the application on `admin.listen`."""
    own = _System(gateway)
    static = Route("/_bff/static/{file:path}", own.static)  # the dashboard's
    routes = [*own.operations(), static, Route("/{rest:path}", own.missing)]
    return Starlette(routes=routes, exception_handlers={405: own.refused})


class _System:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._idle: Idle = []
        self._static = Static(static_folder(), changing=gateway.dev)

    def operations(self) -> list[BaseRoute]:
        return [
            Route("/_bff/livez", self.alive),
            Route("/_bff/readyz", self.ready),
            Route("/_bff/metrics", self.metrics),
            Route("/_bff/admin/{what:path}", self.admin, methods=_METHODS),
        ]

    async def alive(self, _: Request) -> Response:
        return PlainTextResponse("alive\n")

    async def ready(self, _: Request) -> Response:
        if self._gateway.drain.draining or self._gateway.running is None:
            return PlainTextResponse("draining\n", 503)
        return PlainTextResponse("ready\n")

    async def metrics(self, _: Request) -> Response:
        return Response(await self._gateway.numbers(), media_type=CONTENT_TYPE.decode())

    async def admin(self, request: Request) -> Response:
        return _response(await self._gateway.live.invalidation.admin.answer(request), request)

    async def events(self, request: Request) -> Response:
        return _response(await self._gateway.live.invalidation.webhook.answer(request), request)

    async def missing(self, request: Request) -> Response:
        return _response(problem(404, "There is nothing at this address.", html=accepts_html(request.scope)), request)

    async def refused(self, request: Request, error: Exception) -> Response:
        """A method that a route does not take; where there is nothing, and at what settles that itself, it is no matter of methods."""
        match request.scope["endpoint"]:
            case self.missing:
                return await self.missing(request)
            case self.admin:
                return await self.admin(request)
        allow = [(b"allow", value.encode()) for name, value in getattr(error, "headers", {}).items() if name == "Allow"]
        detail = f"{request.method} is not possible here."
        return _response(problem(405, detail, html=accepts_html(request.scope), headers=allow), request)

    async def static(self, request: Request) -> Response:
        return self._open(self._static.answer(request.path_params["file"], request.scope["headers"]), request)

    async def asset(self, request: Request) -> Response:
        answer = await self._gateway.live.assets.answer(request.path_params["file"], request.scope["headers"])
        return self._open(answer, request)

    async def fragment(self, request: Request) -> Response:
        return await self._readable(request, self._fragment)

    async def _readable(self, request: Request, ask: Callable[[Request], Awaitable[Answer]]) -> Response:
        """What other origins may read where `cors` says so."""
        fields, cors = request.scope["headers"], self._gateway.cors
        if request.method == "OPTIONS":
            answer = cors.preflight(fields, ("GET", "HEAD")) or Answer(204, [(b"allow", b"GET, HEAD, OPTIONS")])
            return _response(answer, request)
        return self._open(await ask(request), request)

    def _open(self, answer: Answer, request: Request) -> Response:
        """Readable for them: modules, and what is checked by its digest, load from another origin in no other way (HTML)."""
        headers = self._gateway.cors.readable(answer.headers, request.scope["headers"])
        return _response(replace(answer, headers=headers), request)

    async def _fragment(self, request: Request) -> Answer:
        gateway, scope = self._gateway, request.scope
        planner = gateway.live.pages.planner
        name = f"{request.path_params['context']}/{request.path_params['fragment']}"
        fragment = planner.fragments.get(name)
        if fragment is None:
            return problem(404, f"There is no fragment {name}.", html=False)
        visit = gateway.visit(scope, fragment.policy.timeout.total)
        try:
            call = endpoint.call_for(planner, fragment, scope["query_string"].decode("latin-1"), visit.principal)
        except (endpoint.BadParameters, PermissionError) as error:
            return endpoint.fault(error)
        refused = endpoint.unbidden(fragment, visit.headers)
        if refused is not None:
            return refused
        register = scope.get("extensions", {}).get("bff.closed")
        if register is not None:
            result = await endpoint.resolved(gateway.live.resolver, call, visit, register)
        else:
            async with closing(request.receive) as closed:
                result = await endpoint.resolved(gateway.live.resolver, call, visit, closed)
        gateway.live.changes.learned(call, scope["query_string"].decode("latin-1"), visit, result)
        running = gateway.live
        kept = running.resolver.kept(call, visit)
        answer = endpoint.answer(call, result, planner, scope, kept)
        return await forms.suited(answer, scope["headers"], kept, running.store, self._idle)

    async def task(self, request: Request) -> Response:
        return await self._readable(request, self._task)

    async def _task(self, request: Request) -> Answer:
        gateway, html = self._gateway, navigates(request.scope)
        visit = gateway.visit(request.scope, PATIENCE)
        made = await gateway.live.tasks.status(request.path_params["id"], visit, html=html)
        return await suited(made, request.scope["headers"], self._idle)

    async def result(self, request: Request) -> Response:
        if request.method == "OPTIONS":
            return await self._readable(request, self._task)
        gateway, html = self._gateway, navigates(request.scope)
        visit, fields = gateway.visit(request.scope, PATIENCE), request.scope["headers"]
        made = await gateway.live.tasks.result(request.path_params["id"], visit, html=html)
        lines = gateway.cors.readable(made.headers, fields)
        if isinstance(made, Passed):
            return Passing(lines, made.pieces)
        return _response(replace(made, headers=lines), request)


def _response(answer: Answer, request: Request) -> Response:
    response = Response(b"" if request.method == "HEAD" else answer.body, answer.status)
    response.raw_headers = list(answer.headers)
    return response
