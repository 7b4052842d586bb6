"""Everything under `/_bff/`: fragments by themselves, static files, probes and numbers, as a small Starlette application."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from bff.gateway import fragments as endpoint
from bff.gateway.closing import closing
from bff.gateway.problems import Answer, problem
from bff.gateway.request import accepts_html, navigates
from bff.gateway.tasks import PATIENCE
from bff.gateway.telemetry import CONTENT_TYPE
from bff.paths import static_folder

if TYPE_CHECKING:
    from bff.gateway.app import Gateway


def system(gateway: Gateway) -> Starlette:
    """The application that answers `/_bff/` for a gateway."""
    own = _System(gateway)
    routes = [
        Route("/_bff/livez", own.alive),
        Route("/_bff/readyz", own.ready),
        Route("/_bff/metrics", own.metrics),
        Route("/_bff/fragments/{context}/{fragment}", own.fragment),
        Route("/_bff/tasks/{id}", own.task),
        Route("/_bff/tasks/{id}/result", own.result),
        Mount("/_bff/static", StaticFiles(directory=static_folder())),
        Route("/_bff/{rest:path}", own.missing),
    ]
    return Starlette(routes=routes)


class _System:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def alive(self, _: Request) -> Response:
        return PlainTextResponse("alive\n")

    async def ready(self, _: Request) -> Response:
        if self._gateway.drain.draining or self._gateway.running is None:
            return PlainTextResponse("draining\n", 503)
        return PlainTextResponse("ready\n")

    async def metrics(self, _: Request) -> Response:
        return Response(await self._gateway.numbers(), media_type=CONTENT_TYPE.decode())

    async def missing(self, request: Request) -> Response:
        return _response(problem(404, "There is nothing at this address.", html=accepts_html(request.scope)), request)

    async def fragment(self, request: Request) -> Response:
        return _response(await self._fragment(request), request)

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
        return endpoint.answer(call, result, planner, scope)

    async def task(self, request: Request) -> Response:
        gateway, html = self._gateway, navigates(request.scope)
        visit = gateway.visit(request.scope, PATIENCE)
        return _response(await gateway.live.tasks.status(request.path_params["id"], visit, html=html), request)

    async def result(self, request: Request) -> Response:
        gateway, html = self._gateway, navigates(request.scope)
        visit = gateway.visit(request.scope, PATIENCE)
        return _response(await gateway.live.tasks.result(request.path_params["id"], visit, html=html), request)


def _response(answer: Answer, request: Request) -> Response:
    response = Response(b"" if request.method == "HEAD" else answer.body, answer.status)
    response.raw_headers = list(answer.headers)
    return response
