"""Pages over ASGI: from a request to a streamed response, under one deadline, whatever its fragments do.

`now` answers at once what needs no waiting; otherwise the page it began is streamed by `stream`. The composition owns
everything it started and is left in every case.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, replace
from typing import Any, Final

from bff.gateway import compress, pagehead, primary
from bff.gateway.alarms import Alarms
from bff.gateway.compress import Coding, Encoder, fed
from bff.gateway.cors import Cors
from bff.gateway.identity import Identity
from bff.gateway.overlay import overlay
from bff.gateway.pagehead import readable
from bff.gateway.problems import Answer, Fields, problem
from bff.gateway.request import Form, Ids, Locales, accepts_html, ahead, form, ids, ordered, picked, takes_html
from bff.model import Clock, Ended, Outcome, Reason, Report, Result, Telemetry
from bff.page.call import Visit
from bff.page.compose import Composition, Running
from bff.page.forms import JsonWriter, NdjsonWriter
from bff.page.plan import BadQuery, Planned, Planner
from bff.page.resolve import Resolver
from bff.page.wire import HtmlWriter, Writer
from bff.rules import redirects
from bff.timer import Timer

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Identify = Callable[[Any, str], Identity]

MARGIN: Final = 0.05
"""Seconds before a page's deadline at which its open slots end, so that the last byte leaves in time."""
_ASTRAY: Final = "redirects to where it may not"


@dataclass(slots=True, kw_only=True)
class Turn:
    """One page under way."""

    form: Form
    method: str
    path: str
    ids: Ids
    visit: Visit
    composition: Composition
    writer: Writer
    began: float
    ordered: bool
    html: bool  # an error may be a page
    coding: Coding | None
    status: int = 200
    extra: Fields
    first_byte: float = 0.0
    prefetch: bool = False
    lost: bool = False  # the browser went before the end
    before: tuple[Ended, ...] = ()  # the slots of the page that this one, its error page, stands in for

    def encoder(self, size: int, idle: compress.Idle, *, whole: bool) -> Encoder | None:
        """For a body of which `size` bytes are there; None, and no coding, where that is all and little."""
        if self.coding is None or (whole and size < compress.TINY):
            self.coding = None
            return None
        return compress.encoder(self.coding, idle)


class Pages:
    """Answers requests for pages; its `planner` is replaced whenever registrations change."""

    def __init__(
        self,
        *,
        planner: Planner,
        resolver: Resolver,
        timer: Timer,
        telemetry: Telemetry,
        clock: Clock,
        identify: Identify,
        trusted: Callable[[str], bool],
        locales: Locales,
        logs_slots: bool,
        dev: bool,
        cors: Cors | None = None,
    ) -> None:
        self.planner = planner
        self._resolver = resolver
        self.alarms = Alarms(timer)
        self._telemetry = telemetry
        self._clock = clock
        self._identify = identify
        self._trusted = trusted
        self._locales = locales
        self._logs_slots = logs_slots
        self._dev = dev
        self._cors = cors or Cors()
        self._idle: compress.Idle = []
        self.witness: Callable[[Report], None] | None = None  # is told of every finished page, slots included

    # --- beginning ----------------------------------------------------------------------------------------------------

    def now(self, scope: Scope) -> tuple[int, Fields, bytes] | None:
        """The whole answer where nothing must be waited for; else None, and what was begun goes on in `stream`."""
        turn = self._begin(scope)
        if isinstance(turn, Answer):
            return turn.status, readable(self._cors, turn.headers, scope["headers"]), turn.body
        if turn.composition.pending:
            scope["bff.turn"] = turn
            return None
        settled = self._settled(turn)
        if isinstance(settled, Answer):
            self._report(turn, settled.status)
            head = readable(self._cors, settled.headers, scope["headers"])
            return settled.status, head, b"" if turn.method == "HEAD" else settled.body
        if settled.composition.pending:
            scope["bff.turn"] = settled
            return None
        body = b"" if settled.method == "HEAD" else settled.writer.advance()
        if not settled.writer.complete and settled.method != "HEAD":
            scope["bff.turn"], scope["bff.body"] = settled, body
            return None
        if settled.coding is not None and body:
            if len(body) > compress.LARGE:
                scope["bff.turn"], scope["bff.body"] = settled, body
                return None
            made = settled.encoder(len(body), self._idle, whole=True)
            body = body if made is None else made.chunk(body, last=True)
        head = self._head(settled, len(body) if settled.method != "HEAD" else None)
        self._report(settled, settled.status)
        return settled.status, head, body

    def _begin(self, scope: Scope) -> Turn | Answer:
        began = self._clock()
        found = picked(scope["headers"])
        client = scope.get("client") or ("", 0)
        identity = self._identify(scope["headers"], client[0])
        locale = self._locales.negotiate(found.get(b"accept-language", b""))
        query: bytes = scope["query_string"]
        try:
            planned = self.planner.find(scope["raw_path"], query, identity.principal, locale)
        except BadQuery as bad:
            return problem(400, str(bad), html=accepts_html(scope))
        if planned is None:
            return problem(404, "There is no page at this address.", html=accepts_html(scope))
        wanted = form(found.get(b"accept", b""))
        made = ids(found, trusted=self._trusted(client[0]))
        visit = Visit(
            principal=identity.principal,
            unverified=identity.unverified,
            locale=locale,
            fields=scope["headers"],
            trace=made.trace,
            until=began + planned.plan.page.deadline - MARGIN,
        )
        turn = self._turn(
            planned,
            visit,
            wanted,
            made,
            began,
            method=scope["method"],
            in_order=wanted == "html" and ordered(found, query),
            html=takes_html(found.get(b"accept", b"*/*")),
            path=scope["path"],
            coding=pagehead.coding(found, scope["method"], wanted, planned),
        )
        turn.prefetch = ahead(found)
        self._start(turn)
        return turn

    def _turn(
        self,
        planned: Planned,
        visit: Visit,
        wanted: Form,
        made: Ids,
        began: float,
        *,
        method: str,
        in_order: bool,
        html: bool,
        path: str,
        coding: Coding | None,
    ) -> Turn:
        composition = Composition(
            planned,
            visit,
            planner=self.planner,
            resolver=self._resolver,
            telemetry=self._telemetry,
            clock=self._clock,
        )
        return Turn(
            form=wanted,
            method=method,
            path=path,
            ids=made,
            visit=visit,
            composition=composition,
            writer=self._writer(composition, wanted, made, began, in_order),
            began=began,
            ordered=in_order,
            html=html,
            coding=coding,
            extra=[],
        )

    def _writer(self, composition: Composition, wanted: Form, made: Ids, began: float, in_order: bool) -> Writer:
        match wanted:
            case "ndjson":
                return NdjsonWriter(composition, self._clock)
            case "json":
                return JsonWriter(composition, self._clock)
            case _:
                tail = (lambda: overlay(composition, self._clock() - began)) if self._dev else None
                return HtmlWriter(composition, nonce=made.nonce, suffix=made.suffix, ordered=in_order, tail=tail)

    def _start(self, turn: Turn) -> None:
        only = (lambda plan: plan.slot.kind == "primary") if turn.method == "HEAD" else None
        turn.composition.begin(ordered=turn.ordered, only=only)

    # --- the primary decides ------------------------------------------------------------------------------------------

    def _settled(self, turn: Turn) -> Turn | Answer:
        """What the primary's result makes of the page: this page, its error page, or a redirect."""
        plan = turn.composition.planned.plan
        if plan.primary is None:
            return turn
        main = turn.composition.slots[plan.primary.index]
        result = main.result
        if result is None:
            return turn
        grant = plan.primary.fragment.grant if plan.primary.fragment is not None else None
        if grant is not None:
            turn.extra += [(b"set-cookie", value) for value in redirects.cookies(result.cookies, grant)]
        if result.location or (result.status is not None and 300 <= result.status < 400):
            return self._redirect(turn, main, result)
        status = primary.status(result)
        if status < 400 or primary.has_body(result):
            turn.status = status
            return turn
        return self._error(turn, status, result)

    def _redirect(self, turn: Turn, main: Running, result: Result) -> Turn | Answer:
        fragment, to = main.plan.fragment, None
        if fragment is not None:
            host = turn.visit.headers.get("host", "")
            to = redirects.location(result.location, fragment.upstream, fragment.grant, host)
        if to is None or result.status is None:
            main.result = replace(result, outcome=Outcome.OMITTED, reason=Reason.REFUSED, detail=_ASTRAY)
            return self._error(turn, 502, main.result)
        turn.composition.leave()
        headers = [
            (b"location", to.encode("latin-1")),
            (b"content-length", b"0"),
            (b"cache-control", b"private, no-cache"),
        ]
        return Answer(result.status, [*headers, *turn.extra, (b"x-request-id", turn.ids.request.encode())])

    def _error(self, turn: Turn, status: int, result: Result) -> Turn | Answer:
        """The page's error shell under the same deadline; without one, or for programs, a problem."""
        composition = turn.composition
        composition.leave()
        more: Fields = [(b"x-request-id", turn.ids.request.encode()), *turn.extra]
        if status == 503:
            more.append((b"retry-after", b"%d" % (result.retry_after or 1)))
        planned = composition.planned.error
        if planned is None or not turn.html:
            detail = f"The main part of this page is not available ({result.reason.value})."
            return problem(status, detail, html=turn.html, headers=more)
        made = self._turn(
            planned,
            turn.visit,
            turn.form,
            turn.ids,
            turn.began,
            method=turn.method,
            in_order=turn.ordered,
            html=turn.html,
            path=turn.path,
            coding=turn.coding if turn.method != "HEAD" else None,
        )
        made.status, made.extra, made.before = status, more[1:], composition.ended()
        made.prefetch = turn.prefetch
        composition.dissolve()
        self._start(made)
        if composition.over:  # before its deadline, perhaps
            made.composition.expire()
        return made

    # --- streaming ----------------------------------------------------------------------------------------------------

    async def stream(self, scope: Scope, send: Send, closed: Callable[[Callable[[], None]], None]) -> None:
        """Send a page; `closed` registers what to call when the browser goes."""
        begun = scope.pop("bff.turn", None) or self._begin(scope)
        if isinstance(begun, Answer):
            told = readable(self._cors, begun.headers, scope["headers"])
            await send_answer(send, replace(begun, headers=told), scope["method"])
            return
        turn: Turn = begun
        alarm = self.alarms.at(turn.visit.until, lambda: turn.composition.expire())  # noqa: PLW0108 # `turn` may become its error page
        closed(lambda: self._lost(turn))
        try:
            main = turn.composition.planned.plan.primary
            if main is not None and "bff.body" not in scope:
                await turn.composition.until(turn.composition.slots[main.index])
                if turn.composition.gone:
                    return
                settled = self._settled(turn)
                if isinstance(settled, Answer):
                    turn.status = settled.status
                    told = readable(self._cors, settled.headers, scope["headers"])
                    await send_answer(send, replace(settled, headers=told), turn.method)
                    return
                turn = settled
            await self._send(turn, send, scope.pop("bff.body", None))
        finally:
            alarm.cancel()
            turn.composition.leave()
            self._report(turn, turn.status)

    def _lost(self, turn: Turn) -> None:
        turn.lost = True
        turn.composition.leave()

    async def _send(self, turn: Turn, send: Send, body: bytes | None) -> None:
        composition, writer = turn.composition, turn.writer
        if turn.method == "HEAD":
            await send({"type": "http.response.start", "status": turn.status, "headers": self._head(turn, None)})
            await send({"type": "http.response.body", "body": b""})
            return
        body = writer.advance() if body is None else body
        while not body and not writer.complete:
            await composition.more()
            if composition.gone:
                return
            body = writer.advance()
        whole = writer.complete
        made = turn.encoder(len(body), self._idle, whole=whole) if turn.coding is not None else None
        body = body if made is None else await fed(made, body, last=whole)
        length = len(body) if whole else None
        await send({"type": "http.response.start", "status": turn.status, "headers": self._head(turn, length)})
        await send({"type": "http.response.body", "body": body, "more_body": not whole})
        while not writer.complete:
            await composition.more()
            if composition.gone:
                return
            body = writer.advance()
            if body or writer.complete:
                body = body if made is None else await fed(made, body, last=writer.complete)
                await send({"type": "http.response.body", "body": body, "more_body": not writer.complete})

    # --- heads and reports --------------------------------------------------------------------------------------------

    def _head(self, turn: Turn, length: int | None) -> Fields:
        turn.first_byte = self._clock() - turn.began
        if turn.form == "html":
            head = pagehead.html(turn.composition.planned.plan, self.planner.csp.header, turn.ids.nonce)
        else:
            head = readable(self._cors, pagehead.program(turn.writer.media_type), turn.visit.fields)
        head.append((b"x-request-id", turn.ids.request.encode("latin-1")))
        head.append((b"server-timing", pagehead.timing(turn.composition, turn.first_byte)))
        if length is not None:
            head.append((b"content-length", b"%d" % length))
        if turn.coding is not None:
            head.append((b"content-encoding", turn.coding.encode()))
        if turn.extra:
            head += turn.extra
        return head

    def _report(self, turn: Turn, status: int) -> None:
        composition = turn.composition
        told = self._logs_slots or self.witness is not None
        report = Report(
            page=composition.planned.plan.page.name,
            method=turn.method,
            path=turn.path,
            status=status,
            seconds=self._clock() - turn.began,
            first_byte=turn.first_byte,
            slots=turn.before + composition.ended() if told else (),
            request_id=turn.ids.request,
            principal=turn.visit.principal is not None,
            prefetch=turn.prefetch,
            disconnected=turn.lost,
        )
        composition.dissolve()
        self._telemetry.page(report)
        if self.witness is not None:
            self.witness(report)


async def send_answer(send: Send, answer: Answer, method: str) -> None:
    body = b"" if method == "HEAD" else answer.body
    await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
    await send({"type": "http.response.body", "body": body})
