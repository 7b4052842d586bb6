"""A client's side of a proxied request: its body handed on piece by piece, and the news that it has gone.

Knows ASGI and nothing of contexts or caching.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

from bff.model import Headers
from bff.upstream.stream import Body, Stream

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class Gone(Exception):
    """The client went before its answer was complete."""


def body(headers: Headers) -> Body | None:
    """How a request's body comes; None where it has none (RFC 9112 §6.3)."""
    named = dict(headers)
    length = named.get(b"content-length")
    expects = named.get(b"expect", b"").lower() == b"100-continue"
    if b"transfer-encoding" in named:
        return Body(None, expects)
    return Body(int(length), expects) if length is not None and int(length) else None


class Arrivals:
    """`hand_on` sends the body to a stream as fast as that takes it; nothing is read of it before it is wanted."""

    def __init__(
        self, receive: Receive, *, watches: bool, gone: Callable[[], None], hint: Callable[[int, Headers], None]
    ) -> None:
        self._receive = receive
        self._watches = watches  # the server says nothing of a client that goes: it must be asked
        self._gone = gone
        self.hint = hint  # tells the client of an answer that is not the last
        self._task: asyncio.Task[None] | None = None

    def hand_on(self, stream: Stream | None) -> None:
        """Begin. None: there is no body, or nobody takes it."""
        if self._task is None and (stream is not None or self._watches):
            self._task = asyncio.get_running_loop().create_task(self._run(stream))

    async def _run(self, stream: Stream | None) -> None:
        if stream is not None and await stream.wanted() and not await self._hand_on(stream):
            return
        while self._watches:
            if (await self._receive())["type"] == "http.disconnect":
                self._gone()
                return

    async def _hand_on(self, stream: Stream) -> bool:
        """Whether the body came to its end."""
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self._gone()
                return False
            more = message.get("more_body", False)
            if not await stream.write(message.get("body", b"")):
                return True  # answered before it was read: the rest is the server's to drop
        await stream.finish()
        return True

    async def aclose(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)


@asynccontextmanager
async def arriving(scope: Scope, receive: Receive) -> AsyncIterator[Arrivals]:
    """The block is cancelled when the client goes, and `Gone` is raised then."""
    task = asyncio.current_task()
    lost = over = False

    def gone() -> None:
        nonlocal lost
        if not (lost or over) and task is not None:
            lost = True
            task.cancel()

    extensions = scope.get("extensions", {})
    register, hint = extensions.get("bff.closed"), extensions.get("bff.interim", lambda *_: None)
    arrivals = Arrivals(receive, watches=register is None, gone=gone, hint=hint)
    if register is not None:
        register(gone)
    try:
        yield arrivals
    except asyncio.CancelledError:
        if lost and task is not None and not task.uncancel():
            raise Gone from None
        raise
    finally:
        over = True
        await arrivals.aclose()
