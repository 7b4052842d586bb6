"""A page whose bytes the test sends piece by piece, and a pass-through that serves pages under another policy."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from bff.paths import static_folder
from tests.fakes import FakeContext, serving

NONCE = "8J3bX2kq"
STRICT = f"default-src 'self'; script-src 'self' 'nonce-{NONCE}'; style-src 'self' 'nonce-{NONCE}'; base-uri 'none'; object-src 'none'"
TRUSTED = STRICT + "; require-trusted-types-for 'script'"


class Stage(FakeContext):
    """Serves `/page` as it is pushed, `/_bff/static/` from the checkout, and routes like any fake context."""

    def __init__(self, policy: str = STRICT) -> None:
        super().__init__()
        self._policy = policy
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue()

    def push(self, html: str) -> None:
        self._pieces.put_nowait(html.encode())

    def finish(self) -> None:
        self._pieces.put_nowait(None)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        path = scope["path"]
        if path.startswith("/_bff/static/"):
            body = (static_folder() / path.removeprefix("/_bff/static/")).read_bytes()
            await _start(send, "text/javascript", "")
            await send({"type": "http.response.body", "body": body})
        elif path == "/page":
            await _start(send, "text/html; charset=utf-8", self._policy)
            while (piece := await self._pieces.get()) is not None:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body"})
        else:
            await super().__call__(scope, receive, send)


async def _start(send: Any, content_type: str, policy: str) -> None:
    headers = [(b"content-type", content_type.encode())]
    headers += [(b"content-security-policy", policy.encode())] if policy else []
    await send({"type": "http.response.start", "status": 200, "headers": headers})


@contextlib.asynccontextmanager
async def under_policy(origin: str, policy: str) -> AsyncIterator[str]:
    """Serve `origin` unencoded, with another Content-Security-Policy."""
    async with passing(origin, {"accept-encoding": "identity"}, {"content-security-policy": policy}) as through:
        yield through


OWN = {"connection", "keep-alive", "transfer-encoding", "date", "server"}
"""Headers of one connection, and those that our own server writes."""


@contextlib.asynccontextmanager
async def passing(
    origin: str, asked: Mapping[str, str], answered: Mapping[str, str] | None = None
) -> AsyncIterator[str]:
    """Pass every GET on to `origin` and its answer back as it arrives; `asked` and `answered` replace headers on the way."""
    where = urlsplit(origin)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        reader, writer = await asyncio.open_connection(where.hostname, where.port)
        target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
        wanted = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]} | dict(asked)
        # HTTP/1.0: the answer comes without chunks and ends with its connection.
        head = f"GET {target.decode()} HTTP/1.0\r\n" + _lines(wanted | {"connection": "close"}) + "\r\n"
        writer.write(head.encode("latin-1"))
        try:
            status, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            pairs = [(name.lower(), value) for name, _, value in (line.partition(": ") for line in lines if line)]
            told = [(name, value) for name, value in pairs if name not in OWN and name not in (answered or {})]
            headers = [(name.encode(), value.encode("latin-1")) for name, value in (*told, *(answered or {}).items())]
            await send({"type": "http.response.start", "status": int(status.split()[1]), "headers": headers})
            while piece := await reader.read(65536):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            writer.close()

    async with serving(app) as through:
        yield through


def _lines(headers: Mapping[str, str]) -> str:
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items())
