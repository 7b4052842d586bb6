"""A server on loopback and raw sockets that talk to it. Nothing here knows HTTP beyond splitting an answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from bff.gateway.server import Drain, Server, bind

OK = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
Handler = Callable[[Any, Any, Any], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class Limits:
    streams: int = 100
    head: float = 20.0
    header_bytes: int = 64 * 1024
    url_bytes: int = 8 * 1024
    keepalive: float = 20.0
    write: float = 20.0
    drain: float = 20.0


@dataclass(frozen=True, kw_only=True)
class Settings:
    listen: str = "127.0.0.1:0"
    hosts: tuple[str, ...] = ("*",)
    limits: Limits = Limits()


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes
    names: list[str] = field(default_factory=list)


class Client:
    """One connection, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def answer(self, *, head: bool = False) -> Answer:
        """The next response, by its own framing."""
        top = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = top.rstrip("\r\n").split("\r\n")
        pairs = [line.split(": ", 1) for line in lines]
        headers = dict(line.split(": ", 1) for line in lines)
        status = int(first.split(" ")[1])
        body = b"" if head or status < 200 or status in (204, 304) else await self._body(headers)
        return Answer(status, headers, body, [name for name, _ in pairs])

    async def _body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") == "chunked":
            found = b""
            while size := int(await self._reader.readuntil(b"\r\n"), 16):
                found += (await self._reader.readexactly(size + 2))[:-2]
            await self._reader.readexactly(2)
            return found
        if "content-length" in headers:
            return await self._reader.readexactly(int(headers["content-length"]))
        return await self._reader.read()

    async def ask(self, data: bytes = OK) -> Answer:
        await self.send(data)
        return await self.answer()

    async def rest(self) -> bytes:
        """Everything until the server ends the connection; a reset is an end too."""
        try:
            return await self._reader.read()
        except ConnectionError:
            return b""

    async def some(self, count: int) -> bytes:
        return await self._reader.readexactly(count)

    def stop_reading(self) -> None:
        transport: Any = self._writer.transport
        transport.pause_reading()

    def read_on(self) -> None:
        transport: Any = self._writer.transport
        transport.resume_reading()

    def reset(self) -> None:
        self._writer.transport.abort()

    async def close(self) -> None:
        self._writer.close()


@dataclass
class Running:
    """A server under test, what it shed, and who connects to it."""

    server: Server
    address: tuple[str, int]
    shed: list[str]
    _clients: list[Client] = field(default_factory=list)

    async def connect(self) -> Client:
        client = Client(*await asyncio.open_connection(*self.address))
        self._clients.append(client)
        return client

    async def ask(self, data: bytes = OK) -> Answer:
        """A request on a connection of its own."""
        return await (await self.connect()).ask(data)


@asynccontextmanager
async def serving(
    app: Any, *, hosts: tuple[str, ...] = ("*",), leaving: Drain | None = None, **limits: Any
) -> AsyncIterator[Running]:
    shed: list[str] = []
    server = Server(app, limits=replace(Limits(), **limits), hosts=hosts, drain=leaving, shed=shed.append)
    listener = bind("127.0.0.1:0")
    await server.start(listener)
    running = Running(server, listener.getsockname(), shed)
    try:
        yield running
    finally:
        await server.abort()
        for client in running._clients:
            client.reset()
        await asyncio.sleep(0)


def respond(status: int = 200, headers: list[tuple[bytes, bytes]] | None = None, body: bytes = b"well") -> Handler:
    """An application that gives one answer."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await start(send, status, headers if headers is not None else [(b"content-length", b"%d" % len(body))])
        await send({"type": "http.response.body", "body": body})

    return app


async def until(condition: Callable[[], object]) -> None:
    """Let the loop turn until something inside the server is so."""
    while not condition():  # noqa: ASYNC110 - what is waited for has no event of its own
        await asyncio.sleep(0)


async def start(send: Any, status: int = 200, headers: list[tuple[bytes, bytes]] | None = None) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers or []})


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the request as the application sees it: method, path, query, Host values, body."""
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message["body"], message["more_body"]
    hosts = b",".join(value for name, value in scope["headers"] if name == b"host")
    said = b"|".join((scope["method"].encode(), scope["path"].encode(), scope["query_string"], hosts, body))
    await start(send, 200, [(b"content-length", b"%d" % len(said))])
    await send({"type": "http.response.body", "body": said})
