"""A context's body on its way to a client, piece by piece, only as fast as the client takes it."""

from __future__ import annotations

from typing import Any, Protocol

from starlette.responses import Response

from bff.gateway.closing import closing
from bff.gateway.problems import Fields
from bff.upstream.stream import Torn


class Pieces(Protocol):
    """A streamed exchange whose head has been read."""

    async def read(self) -> bytes: ...
    def cancel(self) -> None: ...


class Passing(Response):
    """200 with these headers and that body. A body that ends early is not ended well, so that nobody takes it for whole."""

    def __init__(self, fields: Fields, pieces: Pieces) -> None:
        super().__init__(b"", 200)
        self.raw_headers = [*fields]
        self._pieces = pieces

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        register = scope.get("extensions", {}).get("bff.closed")
        try:
            if scope["method"] == "HEAD":
                await self._end(send)
            elif register is not None:
                register(self._pieces.cancel)
                await self._pass(send)
            else:
                async with closing(receive) as closed:
                    closed(self._pieces.cancel)
                    await self._pass(send)
        finally:
            self._pieces.cancel()

    async def _pass(self, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        try:
            while piece := await self._pieces.read():
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        except Torn:
            return
        await send({"type": "http.response.body", "body": b""})

    async def _end(self, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": b""})
