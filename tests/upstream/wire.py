"""Upstreams of scripted bytes, a client to ask them, and a loop whose clock a test can move.

A script plays one connection of the fake upstream: it reads what came and writes bytes, whatever bytes. Owns no promise
of its own; every fake ends when its `with` does, and what a script raised is raised there.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from bff.model import Ask, Bounds, Exchange, Failure, Reply, Timeout, Upstream
from bff.timer import Timer
from bff.upstream.client import Client

TIMEOUT = Timeout(connect=5.0, first_byte=10.0, total=20.0)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


class MovableClock(asyncio.SelectorEventLoop):
    """Real sockets under a clock that only goes faster when told to."""

    def __init__(self) -> None:
        super().__init__()
        self._ahead = 0.0

    def time(self) -> float:
        return super().time() + self._ahead

    def advance(self, seconds: float) -> None:
        """All that is due by then runs in the loop's next turns."""
        self._ahead += seconds
        self.call_soon(lambda: None)


async def advance(seconds: float) -> None:
    """Move the clock of the running loop, and let what is due then run."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, MovableClock)
    turned = loop.create_future()
    loop.call_later(seconds, turned.set_result, None)
    loop.advance(seconds)
    await turned


async def until(condition: Callable[[], object]) -> None:
    """Let the loop turn until something holds; no time is waited for."""
    while not condition():  # noqa: ASYNC110 - what is waited for tells nobody
        await asyncio.sleep(0)


class Peer:
    """The upstream's side of one connection."""

    def __init__(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.number = number  # 0 for the first connection
        self.reader = reader
        self.writer = writer
        self.over = asyncio.Event()  # its script has come to its end

    async def head(self) -> bytes:
        """One request's head; b"" where the connection ended instead."""
        try:
            return await self.reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return b""

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def ended(self) -> bool:
        """Wait until the other side is gone; whether it went without sending more."""
        try:
            return await self.reader.read() == b""
        except ConnectionError:
            return True

    def reset(self) -> None:
        """End it with RST."""
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    def cut(self) -> None:
        """End what is sent below TLS: FIN without close_notify."""
        with socket.socket(fileno=os.dup(self.writer.get_extra_info("socket").fileno())) as raw:
            raw.shutdown(socket.SHUT_WR)


Script = Callable[[Peer], Awaitable[None]]


@dataclass
class Fake:
    upstream: Upstream
    peers: list[Peer] = field(default_factory=list)
    heads: list[bytes] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)
    running: set[asyncio.Task[None]] = field(default_factory=set)


@asynccontextmanager
async def serving(
    script: Script, *, host: str = "127.0.0.1", name: str = "", path: str = "", tls: ssl.SSLContext | None = None
) -> AsyncIterator[Fake]:
    """A fake upstream that plays `script` on every connection, by TCP or on a unix socket."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        fake.running.add(task)
        peer = Peer(len(fake.peers), reader, writer)
        fake.peers.append(peer)
        try:
            await script(peer)
        except (ConnectionError, asyncio.CancelledError):
            pass  # a test's end; the stream's own callback would report it as an error
        except Exception as error:  # noqa: BLE001 - raised again where the test can see it
            fake.errors.append(error)
        finally:
            writer.close()
            peer.over.set()
            fake.running.discard(task)

    if path:
        server = await asyncio.start_unix_server(connected, path)
        upstream = Upstream(scheme="http", host="localhost", port=80, authority="localhost", socket=path)
    else:
        server = await asyncio.start_server(connected, host, 0, ssl=tls)
        port = server.sockets[0].getsockname()[1]
        shown = name or (f"[{host}]" if ":" in host else host)
        upstream = Upstream(
            scheme="https" if tls else "http", host=name or host, port=port, authority=f"{shown}:{port}"
        )
    fake = Fake(upstream)
    try:
        yield fake
    finally:
        server.close()
        for task in list(fake.running):
            task.cancel()
        await asyncio.gather(*fake.running, return_exceptions=True)
        await server.wait_closed()
    if fake.errors:
        raise fake.errors[0]


def answering(*answers: bytes, after: Callable[[Peer], Awaitable[Any]] | None = None) -> Script:
    """A script: one answer for each request of a connection, the last one for ever; `after` each, whatever it does."""

    async def script(peer: Peer) -> None:
        for index in range(1_000_000):
            if not await peer.head():
                return
            await peer.send(answers[min(index, len(answers) - 1)])
            if after is not None:
                await after(peer)

    return script


async def close(peer: Peer) -> None:
    peer.writer.close()


@asynccontextmanager
async def connecting(*, settled: bool = True, **options: Any) -> AsyncIterator[Client]:
    """A client that must have given back every place by the end, and leaves no connection and no task."""
    loop = asyncio.get_running_loop()
    before = asyncio.all_tasks()
    timer = Timer(loop)
    client = Client(loop, timer, **options)
    try:
        yield client
        if settled:
            assert [(s.active, s.queued) for s in client.stats().values() if s.active or s.queued] == []
            assert not any(timer._buckets.values())
    finally:
        await client.aclose()
        timer.close()
    assert [s.connections for s in client.stats().values() if s.connections] == []
    left = {task for task in asyncio.all_tasks() - before if "client" in repr(task) or "dialer" in repr(task)}
    assert not left


@dataclass
class Asked:
    """An exchange under way, and what it ended as."""

    exchange: Exchange
    outcome: asyncio.Future[Reply | Failure]
    calls: list[Reply | Failure]

    async def reply(self) -> Reply:
        outcome = await self.outcome
        assert isinstance(outcome, Reply), outcome
        return outcome

    async def failure(self) -> Failure:
        outcome = await self.outcome
        assert isinstance(outcome, Failure), outcome
        return outcome


def ask(
    client: Client,
    upstream: Upstream,
    target: str = "/",
    *,
    method: str = "GET",
    headers: bytes = b"",
    body: bytes = b"",
    timeout: Timeout = TIMEOUT,
    max_body: int = 1 << 20,
    limit: int = 64,
    optional: bool = False,
    once: bool = False,
) -> Asked:
    """Start one exchange; nothing may be heard of it before this returns."""
    outcome: asyncio.Future[Reply | Failure] = asyncio.get_running_loop().create_future()
    calls: list[Reply | Failure] = []

    def done(ended: Reply | Failure) -> None:
        calls.append(ended)
        if not outcome.done():
            outcome.set_result(ended)

    bounds = Bounds(timeout, max_body, limit, optional)
    exchange = client.start(Ask(upstream, method, target, headers, bounds, body, once), done)
    assert not calls
    return Asked(exchange, outcome, calls)
