"""`/_bff/live`: server-sent events that tell a page which of its slots show something that has changed.

A page hears of the slots that it names, and of those only what its principal may see. Who has changed what is matched in
`listeners`. Wire format: HTML Standard §9.2 (server-sent events).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import AbstractAsyncContextManager, nullcontext
from random import random
from typing import Any, Final
from urllib.parse import parse_qsl

from bff.gateway import fragments as endpoint
from bff.gateway.closing import OnClosed, closing
from bff.gateway.listeners import Listener, Listeners, Topic, Wish
from bff.gateway.problems import Answer, problem
from bff.gateway.state import Drain, Receive, Scope, Send
from bff.model import Purge, Result
from bff.page.call import Call, Visit
from bff.page.plan import Planner
from bff.page.resolve import Resolver
from bff.rules import keys
from bff.store.memory import MemoryStore

FRAGMENTS: Final = 64
"""Slots that one connection may listen for."""
PATIENCE: Final = 2.0  # seconds that a private fragment's context has to say whether its principal may listen
_HEAD: Final = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx, and those who do as it does, pass each event on at once
    (b"x-content-type-options", b"nosniff"),
)
_THEIRS: Final = frozenset({401, 403})


class Refused(Exception):
    """Nobody may listen like that: the answer says why."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


class Live:
    """The ASGI application of this one address, and its connections. `heard` and `learned` are for whoever knows."""

    def __init__(
        self,
        listeners: Listeners,
        *,
        planner: Callable[[], Planner],
        visit: Callable[[MutableMapping[str, Any], float], Visit],
        resolver: Resolver,
        store: MemoryStore,
        drain: Drain,
    ) -> None:
        self._listeners = listeners
        self._planner = planner
        self._visit = visit
        self._resolver = resolver
        self._store = store
        self._drain = drain
        self._tick: asyncio.TimerHandle | None = None

    def heard(self, purge: Purge, when: float | None = None) -> None:
        """Something was purged; `when` in wall seconds, where it was not now."""
        self._listeners.heard(purge, when)

    def learned(self, call: Call, query: str, visit: Visit, result: Result) -> None:
        """The fragment endpoint has answered a query with this: the tags that its readers' pages carry from now on."""
        fragment = call.fragment
        if not result.tags:  # a fallback tells nothing
            return
        principal = visit.principal if fragment.private else None
        self._listeners.learned(f"{fragment.name}?{query}" if query else fragment.name, principal, result.tags)

    # --- connections --------------------------------------------------------------------------------------------------

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        register = scope.get("extensions", {}).get("bff.closed")
        watched: AbstractAsyncContextManager[OnClosed] = closing(receive) if register is None else nullcontext(register)
        async with watched as closed:
            try:
                wishes = await self._wishes(scope, closed)
            except Refused as refused:
                await _send(send, refused.answer)
                return
            await self._stream(wishes, since(scope), send, closed)

    async def _stream(self, wishes: list[Wish], said: int | None, send: Send, closed: OnClosed) -> None:
        listeners = self._listeners
        listener = listeners.join(wishes)
        closed(listener.close)
        self._tick = self._tick or asyncio.get_running_loop().call_later(1, self._second)
        try:
            if said is not None:
                for topic in listeners.missed(listener, said):
                    listener.tell(topic)
            await send({"type": "http.response.start", "status": 200, "headers": list(_HEAD)})
            pause = 1000 + random() * 4000  # noqa: S311 - so that not all come again at once
            await send(_piece(b"retry: %d\nid: %d\n\n" % (pause, listeners.now())))
            await self._go_on(listener, send)
            await send({"type": "http.response.body", "body": b""})
        finally:
            listeners.leave(listener)

    async def _go_on(self, listener: Listener, send: Send) -> None:
        while (due := await listener.next()) is not None:
            await send(_piece(b"id: %d\n" % self._listeners.now() + (_events(due) or b":\n\n")))

    def _second(self) -> None:
        self._listeners.second()
        if self._drain.draining:
            self._listeners.close()
        again = asyncio.get_running_loop().call_later
        self._tick = again(1, self._second) if len(self._listeners) else None

    def close(self) -> None:
        """End all connections."""
        self._listeners.close()
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None

    # --- what somebody may listen for ---------------------------------------------------------------------------------

    async def _wishes(self, scope: Scope, closed: OnClosed) -> list[Wish]:
        """What a request asks for. Raises `Refused`: 404 for a fragment that is not there, 400, 401 or 403."""
        if scope["method"] != "GET":
            raise Refused(problem(405, "Listen with GET.", html=False, headers=[(b"allow", b"GET")]))
        named = [text for name, text in _query(scope) if name == "fragment"]
        asked = [*dict.fromkeys(named)]
        if not 0 < len(asked) <= FRAGMENTS:
            said = f"Name 1 to {FRAGMENTS} fragments: ?fragment=NAME?PARAMETERS&fragment=…"
            raise Refused(problem(400, said, html=False))
        visit = self._visit(scope, PATIENCE)
        calls = [(text, self._call(text, visit)) for text in asked]
        return [await self._wish(text, call, visit, closed) for text, call in calls]

    def _call(self, asked: str, visit: Visit) -> Call:
        name, _, query = asked.partition("?")
        planner = self._planner()
        fragment = planner.fragments.get(name)
        if fragment is None:
            raise Refused(problem(404, f"There is no fragment {name}.", html=False))
        if fragment.starts_task:
            raise Refused(problem(400, f"{name} begins work: nothing asks for it by itself.", html=False))
        if fragment.private and visit.principal is None:
            raise Refused(endpoint.fault(PermissionError()))
        try:
            return endpoint.call_for(planner, fragment, query, visit.principal)
        except endpoint.BadParameters as error:
            raise Refused(endpoint.fault(error)) from None

    async def _wish(self, asked: str, call: Call, visit: Visit, closed: OnClosed) -> Wish:
        """With the tags of what is shown now: the registration's, and the answer's own where it is kept.

        A private fragment is asked for on its principal's behalf: only its context can say whether they may see it.
        """
        fragment = call.fragment
        own = [keys.fill(pattern, call.values) for pattern in fragment.tags]
        if fragment.private:
            result = await endpoint.resolved(self._resolver, call, visit, closed)
            if result.status in _THEIRS:
                raise Refused(problem(result.status, f"{fragment.name} answered {result.status}.", html=False))
            own += result.tags
        else:
            variant = keys.variant(fragment, visit.headers, visit.cookies, None, visit.locale)
            entry = self._store.get(call.key + variant.key)
            own += entry.tags if entry is not None else ()
        principal = visit.principal if fragment.private else None
        return Wish(fragment=fragment.name, asked=asked, tags=tuple(dict.fromkeys(own)), principal=principal)


def since(scope: Scope) -> int | None:
    """What a client has last heard: an event's id, or below 0 how many milliseconds ago that was.

    `Last-Event-ID` comes from an EventSource that was interrupted, `since` from a page that closed its own while hidden.
    """
    headers: Mapping[bytes, bytes] = dict(scope["headers"])
    text = headers.get(b"last-event-id", b"").decode("latin-1") or dict(_query(scope)).get("since", "")
    text = text.partition(".")[0]  # browsers' clocks have fractions
    digits = text.removeprefix("-")
    return int(text) if digits.isascii() and digits.isdigit() and len(digits) < 16 else None


def _query(scope: Scope) -> list[tuple[str, str]]:
    return parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)


def _events(due: list[Topic]) -> bytes:
    return b"".join([topic.event for topic in due])


def _piece(body: bytes) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": True}


async def _send(send: Send, answer: Answer) -> None:
    await send({"type": "http.response.start", "status": answer.status, "headers": list(answer.headers)})
    await send({"type": "http.response.body", "body": answer.body})
