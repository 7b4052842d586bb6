"""A context's live service against its registration: each fragment asked once with its examples, and judged as pages would.

Findings stand where the fragment is registered. An error is what no page would show; a warning is what costs somebody
something; a note is worth knowing. Work is never begun: a fragment that `starts_task` is not asked.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from bff.errors import Finding
from bff.link import Place
from bff.markup.check import Checker
from bff.model import Ask, Bounds, Failure, Fetch, Fragment, Headers, Reply
from bff.page.call import Call, Visit
from bff.page.plan import Csp, Planner
from bff.registry import World
from bff.rules import pages, serve, tasks
from bff.rules.caching import Fields, fields, terms, text, words
from bff.rules.keys import variant
from bff.timer import Timer
from bff.units import show_duration, show_size
from bff.upstream.client import Client
from bff.upstream.podlets import Podlets
from bff.upstream.sources import known, paged
from bff.upstream.sources.content import Asking, Content, Kit, Source, Unreadable

Severity = Literal["error", "warning", "note"]
NEARLY: Final = 0.8
"""The share of a limit from which it is told: a busy day takes the rest."""
SHOWN: Final = 3  # tags that are named
_KEYED: Final = frozenset({"accept", "accept-encoding", "accept-language", "origin"})
"""What may stand in Vary without being forwarded: nothing of it differs between the gateway's own requests."""
_SAYS: Final[Mapping[str, tuple[str, str]]] = {
    "connect": ("unreachable", "start the service, or mend `upstream`"),
    "timeout": ("timeout", "answer sooner, or raise policy.timeout within the operator's ceiling"),
    "torn": ("torn", "send all that Content-Length promises, and end chunked bodies"),
    "too_large": ("too-large", "answer less, in pages, or raise policy.max_body within the operator's ceiling"),
    "refused": ("refused", "answer plain HTTP/1.1 without a content coding"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """Who asks, and with what."""

    fetch: Fetch
    render: float  # seconds
    principal: str | None = None
    headers: Headers = ()


async def verify(
    world: World, context: str, *, render: float, header_bytes: int, principal: str | None, headers: Headers
) -> list[Finding]:
    """All findings about one context of `world`, over a client of its own. `render`: seconds a template may take."""
    loop = asyncio.get_running_loop()
    timer = Timer(loop)
    client = Client(
        loop, timer, idle=4.0, header_bytes=header_bytes, local=True
    )  # as `bff dev`: on a developer's machine
    try:
        return await judged(
            world, context, Asker(fetch=client.start, render=render, principal=principal, headers=headers)
        )
    finally:
        await client.aclose()
        timer.close()


async def judged(world: World, context: str, asker: Asker) -> list[Finding]:
    """All findings about one context, in the order of its fragments."""
    sources = known.sources(Kit(checker=Checker(), render=asker.render))
    planner = Planner({}, world.fragments, accept=known.accepts(), ceilings={}, csp=Csp({}))
    found: list[Finding] = []
    for fragment in world.contexts[context].fragments.values():
        place = world.places[f"embeds:{fragment.name}"]
        judge = Judge(fragment=fragment, place=place, asker=asker, source=sources[fragment.source], found=found)
        await judge.run(planner)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """One fragment, asked and judged; what there is to say goes to `found`."""

    fragment: Fragment
    place: Place
    asker: Asker
    source: Source
    found: list[Finding]

    async def run(self, planner: Planner) -> None:
        fragment = self.fragment
        if fragment.starts_task:
            self.tell("not-asked", "begins work, and was not asked", severity="note")
            return
        call = self._call(planner)
        if call is None:
            return
        fetch = self.source.through(self.asker.fetch, time.monotonic) if isinstance(self.source, Asking) else None
        answer = await self._exchange(fetch or self.asker.fetch, call, b"")
        if isinstance(answer, Failure):
            code, remedy = _SAYS.get(answer.reason.value, ("failed", "see the service's own log"))
            self.tell(code, f"did not answer: {answer.detail or answer.reason.value}", remedy)
            return
        self.status(call, answer)
        if isinstance(fetch, Podlets):
            self.podlet(fetch, call)
        etag = text(fields(answer.headers), b"etag")
        if answer.status == 200 and etag:
            await self._again(fetch or self.asker.fetch, call, etag)

    # --- asking -------------------------------------------------------------------------------------------------------

    def _call(self, planner: Planner) -> Call | None:
        """The fragment with its examples; None where one is missing."""
        given: dict[str, Sequence[str]] = {}
        for name, param in self.fragment.params.items():
            if param.principal and self.asker.principal is not None:
                given[name] = [self.asker.principal]
            elif param.principal:
                self.tell(
                    "not-asked",
                    "is somebody's own, and was not asked",
                    "name somebody with --principal",
                    severity="note",
                )
                return None
            elif param.example:
                given[name] = [param.example]
            elif param.required:
                remedy = f"write params: {{{name}: {{example: …}}}} with a value that the service knows"
                self.tell("no-example", f"has no example of {name}, and was not asked", remedy, severity="warning")
                return None
        return planner.call(self.fragment, self.fragment.policy, given)

    async def _exchange(self, fetch: Fetch, call: Call, more: bytes) -> Reply | Failure:
        future: asyncio.Future[Reply | Failure] = asyncio.get_running_loop().create_future()
        policy, asker = self.fragment.policy, self.asker
        visit = Visit(principal=asker.principal, locale="en", fields=asker.headers, trace=b"", until=0.0)
        sent = variant(self.fragment, visit.headers, visit.cookies, visit.principal, visit.locale).lines
        deadline = b"bff-deadline: %d\r\n" % int(policy.timeout.total * 1000)
        lines = b"%b%b%b%b" % (call.head, sent, deadline, more)
        fetch(Ask(self.fragment.upstream, "GET", call.target, lines, Bounds.of(policy)), future.set_result)
        return await future

    async def _again(self, fetch: Fetch, call: Call, etag: str) -> None:
        """Whether a validator is good for anything (RFC 9110 §13.1.2)."""
        answer = await self._exchange(fetch, call, f"if-none-match: {etag}\r\n".encode("latin-1"))
        if isinstance(answer, Reply) and answer.status != 304:
            said = f"answered {answer.status} to its own ETag"
            self.tell("no-304", said, "answer 304, so that a copy can be confirmed without its body", severity="note")

    # --- judging ------------------------------------------------------------------------------------------------------

    def status(self, call: Call, reply: Reply) -> None:
        match serve.classify(reply.status):
            case serve.Answer.CONTENT:
                self.content(call, reply)
            case serve.Answer.ACCEPTED:
                self.task(call, reply)
            case serve.Answer.EMPTY:
                self.tell("empty", "answered 204: its slot is empty", severity="note")
            case serve.Answer.NOT_FOUND:
                said = f"answered {reply.status} to {call.target}"
                self.tell("not-found", said, "give its parameters examples that the service knows", severity="warning")
            case serve.Answer.AUTH:
                said = f"answered {reply.status}"
                remedy = "forward what it needs, and name somebody with --principal or --header"
                self.tell("auth", said, remedy, severity="warning")
            case serve.Answer.REDIRECT:
                self.tell("redirect", f"answered {reply.status}", "register where it leads to; none is followed")
            case _:
                self.tell("status", f"answered {reply.status}", "see the service's own log")

    def content(self, call: Call, reply: Reply) -> None:
        found = fields(reply.headers)
        values, params = call.values, call.params
        read = paged.read(self.source, self.fragment, found, reply.body, values=values, params=params, head=False)
        made = read() if callable(read) else read
        if isinstance(made, Unreadable):
            self.tell("unreadable", made.detail, "no page can show this")
            return
        self.tell("verified", self._summary(reply, found), severity="note")
        if made.markup is not None and made.markup.repaired:
            remedy = "close every element, in order: a repair is work at every new answer"
            self.tell(
                "repaired",
                "its markup is not well-formed, and is mended before it is shown",
                remedy,
                severity="warning",
            )
        self.limits(reply)
        self.keeping(reply, found)
        self.list(reply, found, made)

    def limits(self, reply: Reply) -> None:
        policy, took = self.fragment.policy, reply.timing.total
        if took > NEARLY * policy.timeout.total:
            said = f"took {show_duration(round(took, 3))} of the {show_duration(policy.timeout.total)} that it may take"
            self.tell("slow", said, "make it quicker, or raise policy.timeout.total", severity="warning")
        if len(reply.body) > NEARLY * policy.max_body:
            said = f"is {show_size(len(reply.body))} of the {show_size(policy.max_body)} that it may be"
            self.tell("large", said, "answer less, or raise policy.max_body", severity="warning")

    def keeping(self, reply: Reply, found: Fields) -> None:
        """What its headers mean for keeping a copy (RFC 9111)."""
        cache, stated = self.fragment.policy.cache, self._terms(found, reply.status)
        if cache.mode == "off":
            return
        private = self.fragment.private
        if b"set-cookie" in found and not private:
            self.tell(
                "set-cookie", "sets a cookie, and is never kept", "leave Set-Cookie to primaries", severity="warning"
            )
        elif not stated.storable:
            said = text(found, b"cache-control") or f"Vary: {text(found, b'vary')}"
            self.tell(
                "not-kept", f"forbids keeping it ({said})", "nothing of it can be shown when it fails", severity="note"
            )
        elif stated.lifetime is None and cache.fresh == 0:
            remedy = "send Cache-Control: max-age=…, or write policy.cache.fresh"
            self.tell("no-lifetime", "says nothing of how long it is fresh", remedy, severity="note")
        elif not stated.etag and not stated.last_modified:
            remedy = "send an ETag or Last-Modified, so that a copy can be confirmed"
            self.tell("no-validator", "cannot be asked whether it has changed", remedy, severity="note")
        for name in (part.strip().lower() for part in text(found, b"vary").split(",")):
            if name and name != "*" and name not in _KEYED and name not in self.fragment.forward.headers:
                remedy = f"forward {name}, or leave it out: it is the same in all of the gateway's requests"
                if name != "cookie" or not self.fragment.forward.cookies:
                    self.tell("vary", f"varies by {name}, which never reaches it", remedy, severity="warning")

    def list(self, reply: Reply, found: Fields, made: Content) -> None:
        style = self.fragment.paginate
        if not style:
            return
        stated: Any = pages.linked(text(found, b"link"))
        if style != "link":
            items, following = ("results", "next") if isinstance(style, str) else (style["items"], style["next"])
            data = json.loads(reply.body)
            if not isinstance(_at(data, items), list):
                self.tell("no-items", f"has no list at {items}", "mend `paginate`", severity="warning")
            stated = _at(data, following)
        if stated and not made.next:
            remedy = "declare the parameter that its query names, and send it as `query`"
            self.tell(
                "next-unmapped", f"goes on at {stated}, which no declared parameter says", remedy, severity="warning"
            )

    def task(self, call: Call, reply: Reply) -> None:
        stated = tasks.begun(fields(reply.headers), reply.body)
        if not stated or tasks.target(stated, call.target, self.fragment.upstream) is None:
            said = f"answered 202 with {stated!r}, where its task cannot be asked for"
            self.tell("task-location", said, "send a Location under the upstream")
        else:
            remedy = 'write starts_task: true, and load="click" on its slots'
            self.tell("starts-task", "began work by being read", remedy, severity="warning")

    def podlet(self, podlets: Podlets, call: Call) -> None:
        """What a podlet's manifest asks of its layout that the registration does not grant."""
        said = podlets.manifest(self.fragment.upstream, call.target)
        covered = {back.route.partition("{")[0].rstrip("/") for back in self.fragment.grant.back}
        for name, target in said.proxies if said is not None else ():
            route = f"/podium-resource/{said.name if said else ''}/{name}"
            if route not in covered:
                remedy = f'write proxy: [{{path: "{route}/{{rest:path}}", to: "{target.rstrip("/")}/{{rest}}"}}]'
                self.tell("no-proxy", f"its manifest proxies {name}, which no route does", remedy, severity="warning")

    # --- telling ------------------------------------------------------------------------------------------------------

    def _summary(self, reply: Reply, found: Fields) -> str:
        stated = self._terms(found, reply.status)
        life = serve.lifetime(stated, reply.status, self.fragment.policy.cache)
        said = [
            f"answered {reply.status} in {show_duration(round(reply.timing.total, 3))}",
            show_size(len(reply.body)),
            f"fresh for {show_duration(life)}" if life else "not fresh for any time",
        ]
        tagged = words(found, b"surrogate-key") or text(found, b"cache-tag").replace(",", " ").split()
        if tagged:
            said.append(f"{len(tagged)} tags ({', '.join(tagged[:SHOWN])}{', …' if len(tagged) > SHOWN else ''})")
        return ", ".join(said)

    def _terms(self, found: Fields, status: int) -> Any:
        scope: Literal["shared", "private"] = "private" if self.fragment.private else "shared"
        return terms(found, status, scope=scope, obey=self.fragment.policy.cache.mode == "http", wall_now=time.time())

    def tell(self, code: str, message: str, remedy: str = "", *, severity: Severity = "error") -> None:
        fragment, place = self.fragment, self.place
        self.found.append(
            Finding(
                file=place.file,
                line=place.line,
                column=place.column,
                code=code,
                message=f"{fragment.name} {message}",
                remedy=remedy,
                context=fragment.context,
                owner=fragment.owner,
                severity=severity,
            )
        )


def _at(data: Any, path: str) -> Any:
    for name in path.split("."):
        data = data.get(name) if isinstance(data, dict) else None
    return data
