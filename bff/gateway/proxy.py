"""Proxy routes: a context's own API under the gateway's origin, for its client code; cached as RFC 9111 has it.

Owns which requests are theirs, whether they may pass, and what of them does. What one is answered with is `proxyturn`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from urllib.parse import quote

from bff.gateway import arrivals
from bff.gateway.arrivals import Gone, Receive, Scope, arriving
from bff.gateway.pages import send_answer
from bff.gateway.problems import Answer, problem
from bff.gateway.proxied import Job
from bff.gateway.proxyturn import Ground, Send, Turn
from bff.gateway.request import accepts_html, cross_site
from bff.model import Headers, Page, Purge, Route
from bff.page.call import Visit
from bff.page.routes import Routes
from bff.registry import World
from bff.rules import cachestatus, forwarding, invalidation
from bff.rules.caching import fields
from bff.rules.forwarding import REFUSED, SAFE, Lines

Found = tuple[Route, dict[str, str]]
_KNOWN: Final = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})


class Proxy:
    """All proxy routes of one gateway; `register` is told of every new world."""

    def __init__(
        self,
        *,
        ground: Ground,
        visit: Callable[[Scope, float], Visit],
        trusted: Callable[[str], bool],
        identity: str,
    ) -> None:
        self._ground = ground
        self._visit = visit
        self._trusted = trusted
        self._identity = identity.lower().encode()
        self._prefixes: tuple[str, ...] = ()
        self._routes: Routes[Page | Route] = Routes(())

    def register(self, world: World) -> None:
        self._prefixes = tuple({route.route.partition("{")[0] for route in world.routes.values()})
        self._routes = Routes([*world.pages.values(), *world.routes.values()])

    def find(self, raw_path: bytes) -> Found | None:
        """The proxy route that a raw path belongs to, with its raw parameters; None where a page's is, or none."""
        path = raw_path.decode("latin-1")
        if not path.startswith(self._prefixes):
            return None
        found = self._routes.raw(path)
        return (found[0], found[1]) if found is not None and isinstance(found[0], Route) else None

    def heard(self, purge: Purge) -> None:
        """Something was purged: who asks from now on does not share what was asked before."""
        context = purge.context or (purge.value.partition("/")[0] if purge.kind != "tag" else "")
        self._ground.flights.part(context, invalidation.named(purge))

    async def aclose(self) -> None:
        await self._ground.flights.aclose()

    # --- one request --------------------------------------------------------------------------------------------------

    async def __call__(self, found: Found, scope: Scope, receive: Receive, send: Send) -> None:
        route, given = found
        preflight = self._preflight(route, scope) if scope["method"] == "OPTIONS" else None
        if preflight is not None:
            await send_answer(send, preflight, "OPTIONS")
            return
        visit = self._visit(scope, route.fragment.policy.timeout.total)
        job = self._judged(route, given, scope, visit)
        try:
            if isinstance(job, Answer):
                await send_answer(send, self._readable(job, scope), scope["method"])
            else:
                async with arriving(scope, receive) as coming:
                    await Turn(self._ground, job, scope["headers"], send, coming).answer()
        except Gone:
            return

    def _preflight(self, route: Route, scope: Scope) -> Answer | None:
        """What a browser is told that asks for a page of another origin; as it is: only here may it name methods and headers."""
        headers = scope["headers"]
        return self._ground.cors.preflight(headers, _asked_methods(_methods(route), headers))

    def _readable(self, answer: Answer, scope: Scope) -> Answer:
        said = (b"cache-status", cachestatus.forwarded("", detail="refused"))  # neither asked for, nor from the store
        headers = self._ground.cors.readable([*answer.headers, said], scope["headers"])
        return Answer(answer.status, headers, answer.body)

    def _judged(self, route: Route, given: dict[str, str], scope: Scope, visit: Visit) -> Job | Answer:
        """What is to be asked; or the answer to what must not be."""
        method, headers, html = scope["method"], scope["headers"], accepts_html(scope)
        refused = self._refused(route, scope, visit)
        if refused is not None:
            return refused
        query = scope["query_string"].decode("latin-1")
        target = forwarding.target(route, given, query)
        if target is None:
            return problem(400, "The path leads out of where this address belongs.", html=html)
        client = (scope.get("client") or ("", 0))[0]
        asker = forwarding.asker(headers, client, scope["scheme"], self._trusted)
        fragment = route.fragment
        lines = forwarding.request(
            fragment.forward, headers, method=method, asker=asker, principal=visit.principal, identity=self._identity
        )
        body = arrivals.body(headers)
        path = scope["raw_path"].decode("latin-1")
        uri = invalidation.uri(asker.scheme, asker.host, f"{path}?{query}" if query else path)
        whose = f" {quote(visit.principal, safe='')}" if fragment.private and visit.principal is not None else ""
        known = not fragment.private or (visit.principal is not None and not visit.unverified)
        return Job(
            route=route,
            method=method,
            target=target,
            uri=uri,
            key=f"{fragment.name}?GET {uri}{whose}",
            lines=[*lines, *_trace(visit)],
            request=fields(lines),
            asker=asker,
            principal=visit.principal,
            body=body,
            shareable=known and body is None and fragment.policy.cache.mode != "off",
            html=html,
        )

    def _refused(self, route: Route, scope: Scope, visit: Visit) -> Answer | None:
        method, headers, html = scope["method"], scope["headers"], accepts_html(scope)
        methods = _methods(route)
        if method == "OPTIONS" and forwarding.hops(headers) == 0:  # RFC 9110 §7.6.2: it ends here
            return Answer(204, [(b"allow", _allow(methods))])
        if method in REFUSED or not ("*" in methods or method in methods):
            return problem(405, f"{method} is not possible here.", html=html, headers=[(b"allow", _allow(methods))])
        if method not in SAFE and not route.cross_site and cross_site(visit.headers):
            return problem(403, "This request was made by another site.", html=html)
        if route.fragment.policy.state == "off":
            return problem(503, "This service is switched off.", html=html, headers=[(b"retry-after", b"60")])
        return None


def _trace(visit: Visit) -> Lines:
    """The lines that tell requests from each other."""
    told = [line.partition(b": ") for line in visit.trace.split(b"\r\n") if line]
    return [(name, value) for name, _, value in told]


def _methods(route: Route) -> frozenset[str]:
    return route.methods | {"HEAD"} if "GET" in route.methods else route.methods


def _allow(methods: frozenset[str]) -> bytes:
    """The value of Allow; of a route for all methods, those that everybody knows (an empty one would mean none)."""
    return ", ".join(sorted(_KNOWN if "*" in methods else methods)).encode()


def _asked_methods(methods: frozenset[str], headers: Headers) -> set[str]:
    if "*" not in methods:
        return set(methods)
    named = dict(headers)
    return {named.get(b"access-control-request-method", b"").decode("latin-1")} - REFUSED
