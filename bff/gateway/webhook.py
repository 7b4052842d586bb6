"""`POST /_bff/events`: events as CloudEvents, signed by whoever knows `events.webhook_secret`.

A call told twice is acted on once; one that cannot be carried out is 503, so that its sender tells it again.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from starlette.requests import ClientDisconnect, Request

from bff.events.consumer import Consumer
from bff.events.event import from_http
from bff.events.signature import HEADER, valid
from bff.gateway.problems import Answer, problem
from bff.model import Clock

LARGEST: Final = 1 << 20  # bytes of a body


class Webhook:
    """Hands signed events to a consumer; `wall` is the clock that signatures are held against."""

    def __init__(self, consumer: Consumer, secret: str, *, wall: Clock) -> None:
        self._consumer = consumer
        self._secret = secret
        self._wall = wall

    async def answer(self, request: Request) -> Answer:
        """202 once everything that the event concerns is purged, or already was."""
        if not self._secret:
            return problem(404, "There is no webhook: events.webhook_secret is not set.", html=False)
        if request.method != "POST":
            return problem(405, "Events are told by POST.", html=False, headers=[(b"allow", b"POST")])
        body = await read_body(request, LARGEST)
        if body is None:
            return problem(413, f"An event may have {LARGEST} bytes.", html=False)
        if not valid(request.headers.get(HEADER, ""), body, self._secret, wall=self._wall()):
            self._consumer.counts.event("", "refused")
            detail = "BFF-Signature is missing, wrong or more than five minutes away from this clock."
            return problem(401, detail, html=False)
        outcome = await self._consumer.read(partial(from_http, dict(request.headers), body))
        match outcome:
            case "poison":
                return problem(400, "This is no event that can be read; the log says why.", html=False)
            case "failed":
                return problem(503, "It could not be acted on.", html=False, headers=[(b"retry-after", b"1")])
            case _:
                return Answer(202, [(b"cache-control", b"no-store"), (b"content-length", b"0")])


async def read_body(request: Request, largest: int) -> bytes | None:
    """The whole body; None as soon as it is larger, or where its sender went."""
    parts: list[bytes] = []
    size = 0
    try:
        async for part in request.stream():
            parts.append(part)
            size += len(part)
            if size > largest:
                return None
    except ClientDisconnect:
        return None
    return b"".join(parts)
