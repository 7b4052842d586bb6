"""Other methods than GET and HEAD on a page: they go to the primary's own path, and its answer goes back.

Never cached, never retried, never sent for another site, nor to a service whose breaker is open. What the answer may do
is what the registration grants.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, Final

from bff.gateway.asking import exchanged
from bff.gateway.closing import OnClosed, closing
from bff.gateway.problems import Answer, problem
from bff.gateway.problems import Fields as Head
from bff.gateway.request import accepts_html, cross_site
from bff.gateway.tasks import task_location
from bff.model import Ask, Bounds, Failure, Fetch, Purge, Reason, Reply, Telemetry
from bff.page.call import Call, Visit
from bff.page.tasks import Underway
from bff.rules import forwarding, keys, redirects, tasks
from bff.rules.caching import Fields, fields, text, words

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

_PASSED_ON: Final = ("content-type", "accept", "accept-language", "origin", "referer", "x-csrftoken")
_OWN: Final = frozenset({b"age", b"cache-control", b"content-length", b"expires", b"pragma", b"x-content-type-options"})
"""Of an answer: what is said here instead, as nobody keeps it."""
_ALLOW: Final = (b"allow", b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")


class ClientGone(Exception):
    """The browser went before its request was complete."""


class Posts:
    """Exchanges unsafe requests with primaries; what such a request may have changed is purged."""

    def __init__(
        self,
        *,
        fetch: Fetch,
        purge: Callable[[Iterable[Purge]], Awaitable[object]],
        telemetry: Telemetry,
        tasks: Underway,
    ) -> None:
        self._fetch = fetch
        self._purge = purge
        self._telemetry = telemetry
        self._tasks = tasks

    async def answer(
        self, scope: Mapping[str, Any], receive: Receive, call: Call, visit: Visit, *, cross: bool
    ) -> Answer:
        """The primary's answer to this request, or why there is none."""
        method, html = scope["method"], accepts_html(scope)
        if method in forwarding.REFUSED:
            return problem(405, f"{method} is not possible here.", html=html, headers=[_ALLOW])
        if not cross and method not in forwarding.SAFE and cross_site(visit.headers):
            return problem(403, "This request was made by another site.", html=html)
        if call.policy.state != "on":  # `stored` too: there is nothing kept that could take it
            pause = (b"retry-after", b"60")
            return problem(503, "This page's own service is switched off.", html=html, headers=[pause])
        try:
            body = await _body(receive, call.policy.max_body)
        except ClientGone:
            return problem(400, "The request ended early.", html=html)
        if body is None:
            return problem(413, "The request is larger than this page accepts.", html=html)
        ask = Ask(
            call.fragment.upstream,
            method,
            call.target,
            _lines(call, visit),
            Bounds.of(call.policy),
            body,
            once=True,
            fragment=call.fragment,
            policy=call.policy,
        )
        changes = method not in forwarding.SAFE
        try:
            async with _watched(scope, receive) as closed:
                reply = await exchanged(self._fetch, self._telemetry, call.fragment, ask, closed=closed)
        except asyncio.CancelledError:
            if changes:  # whether it has is not known, and will not be
                await self._changed(call.fragment.context, visit.principal, [])
            raise
        if isinstance(reply, Failure):
            return _failed(reply, html=html)
        found = fields(reply.headers)
        if reply.status < 400 and changes:  # whatever becomes of the answer: the work is done
            await self._changed(call.fragment.context, visit.principal, words(found, b"bff-changed"))
        return await self._passed(reply, found, call, visit, html=html)

    async def _passed(self, reply: Reply, found: Fields, call: Call, visit: Visit, *, html: bool) -> Answer:
        """As a proxy route's answer would pass, but that nobody keeps it."""
        grant = call.fragment.grant
        back: Head = [(b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"), *_request_id(visit)]
        back += [pair for pair in forwarding.answer(reply.headers) if pair[0] not in _OWN]
        back += forwarding.granted_cookies(reply.headers, grant)
        stated, host = text(found, b"location"), visit.headers.get("host", "")
        if reply.status == 202 and tasks.begun(found, reply.body):
            return await self._begun(reply, found, call, visit, html=html)
        if stated:
            to = redirects.location(stated, call.fragment.upstream, grant, host)
            if to is None:
                return problem(502, "The page's own service redirects to where it may not.", html=html)
            back.append((b"location", to.encode("latin-1")))
        scripted = redirects.scripted(reply.headers, call.fragment.upstream, grant, host)
        if scripted is None:
            return problem(502, "The page's own service redirects to where it may not.", html=html)
        back += scripted
        if reply.status in (204, 304):  # which state no length (RFC 9110 §8.6)
            return Answer(reply.status, back)
        body = reply.body if reply.status != 205 else b""
        return Answer(reply.status, [*back, (b"content-length", b"%d" % len(body))], body)

    async def _begun(self, reply: Reply, found: Fields, call: Call, visit: Visit, *, html: bool) -> Answer:
        """Slow work: the browser goes to where the task shows itself, a program is told where that is."""
        fragment = call.fragment
        stated = tasks.begun(found, reply.body)
        upstream, principal = fragment.upstream, visit.principal
        to = task_location(self._tasks, fragment.name, upstream, stated=stated, asked=call.target, principal=principal)
        if to is None:
            return problem(502, "The page's own service began a task where it may not.", html=html)
        back: Head = [(b"location", to.encode()), (b"cache-control", b"no-store"), (b"content-length", b"0")]
        back += forwarding.granted_cookies(reply.headers, fragment.grant)
        return Answer(303 if html else 202, back)

    async def _changed(self, context: str, principal: str | None, tags: list[str]) -> None:
        """Forget the context's private entries of this principal, and its entries with the tags that it names."""
        changed = [Purge(kind="tag", value=tag, context=context) for tag in dict.fromkeys(tags)]
        if principal is not None:
            changed.insert(0, Purge(kind="context", value=context, principal=principal))
        await self._purge(changed)


def _watched(scope: Mapping[str, Any], receive: Receive) -> AbstractAsyncContextManager[OnClosed]:
    """How to learn that the browser has gone, once all of its request has been read."""
    register = scope.get("extensions", {}).get("bff.closed")
    return closing(receive) if register is None else nullcontext(register)


def _failed(failure: Failure, *, html: bool) -> Answer:
    detail = f"The page's own service did not answer ({failure.reason.value})."
    match failure.reason:
        case Reason.TIMEOUT:
            return problem(504, detail, html=html)
        case Reason.CONCURRENCY | Reason.BREAKER:
            pause = (b"retry-after", b"%d" % (failure.retry_after or 1))
            return problem(503, detail, html=html, headers=[pause])
        case _:
            return problem(502, detail, html=html)


def _request_id(visit: Visit) -> Head:
    """What the service was told of the request, for the browser too."""
    lines = [line.partition(b": ") for line in visit.trace.split(b"\r\n")]
    return [(name, value) for name, _, value in lines if name == b"x-request-id"]


def _lines(call: Call, visit: Visit) -> bytes:
    sent = keys.variant(call.fragment, visit.headers, visit.cookies, visit.principal, visit.locale).lines
    named = frozenset(call.fragment.forward.headers)
    own = [
        f"{name}: {value}\r\n"
        for name, value in visit.headers.items()
        if name not in named and (name in _PASSED_ON or name.startswith("hx-"))
    ]
    return b"%buser-agent: bff\r\n%b%b" % ("".join(own).encode("latin-1"), sent, visit.trace)


async def _body(receive: Receive, limit: int) -> bytes | None:
    """The whole request body, or None once it is larger than `limit`."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            return None
        if not message.get("more_body"):
            return b"".join(parts)
