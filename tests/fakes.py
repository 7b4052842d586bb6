"""Fake contexts: real ASGI apps on real loopback sockets whose answers wait for the test. Knows nothing of the gateway."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

import uvicorn

PATIENCE = 10.0
"""Seconds that a test waits for what must happen; only a failing test ever waits so long."""

Message = MutableMapping[str, Any]
HTML = "text/html; charset=utf-8"


class App(Protocol):
    """An ASGI application as uvicorn calls it."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the test run's own."""
        yield


def listener(port: int = 0) -> socket.socket:
    """A listening loopback socket on a free port, or on this one: connections queue from now on, so nobody has to wait for a server."""
    sock = socket.socket()
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accepted sockets inherit it
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", port))
    sock.listen(128)
    return sock


def free_port() -> int:
    """A port that was free a moment ago."""
    with contextlib.closing(listener()) as sock:
        return int(sock.getsockname()[1])


@contextlib.asynccontextmanager
async def serving(app: App, port: int = 0) -> AsyncIterator[str]:
    """Serve `app` on loopback while the block runs; gives its origin. `port`: where it was served before."""
    sock = listener(port)
    port = sock.getsockname()[1]
    server = _Server(
        uvicorn.Config(app, log_level="error", lifespan="off", timeout_graceful_shutdown=1, timeout_keep_alive=60)
    )
    task = asyncio.create_task(server.serve(sockets=[sock]))
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await task
        sock.close()


async def until(condition: Callable[[], object], what: str, within: float = PATIENCE) -> None:
    """Poll until `condition()` is true; `what` names it where it never becomes so."""
    try:
        async with asyncio.timeout(within):
            while not condition():  # noqa: ASYNC110 - what is polled lives in another process
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"not within {within} s: {what}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One request as the context saw it. Header names are lower-case."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True, kw_only=True)
class Answer:
    """What a route answers."""

    body: bytes | str | Callable[[Seen], str] = b""
    status: int = 200
    type: str = HTML
    headers: dict[str, str] = field(default_factory=dict)


class Route:
    """One path of a fake context: what it answers and when, who asked, who went away without the answer."""

    def __init__(self, answer: Answer, *, gated: bool) -> None:
        self.answer = answer
        self.requests: list[Seen] = []
        self.abandoned = 0
        self.answered = 0
        self._open = asyncio.Event()
        if not gated:
            self._open.set()

    def open(self) -> None:
        """Let those who wait, and all who come, have their answer."""
        self._open.set()

    def close(self) -> None:
        """Let those who come wait."""
        self._open.clear()

    async def asked(self, times: int = 1) -> None:
        await until(lambda: len(self.requests) >= times, f"{times} requests; there are {len(self.requests)}")

    async def left(self, times: int = 1) -> None:
        """Wait until so many requests were abandoned by the gateway."""
        await until(lambda: self.abandoned >= times, f"{times} requests abandoned; there are {self.abandoned}")

    async def passes(self, receive: Any) -> bool:
        """Wait for the gate; False where the asker goes first."""
        opening, leaving = asyncio.create_task(self._open.wait()), asyncio.create_task(_gone(receive))
        try:
            await asyncio.wait({opening, leaving}, return_when=asyncio.FIRST_COMPLETED)
            return opening.done()
        finally:
            for task in (opening, leaving):
                task.cancel()
            await asyncio.gather(opening, leaving, return_exceptions=True)


async def _gone(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class FakeContext:
    """A context's own service. Paths without a route are 404."""

    def __init__(self) -> None:
        self.routes: dict[str, Route] = {}
        self.origin = ""
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        self.origin = await self._stack.enter_async_context(serving(self))
        return self

    async def __aexit__(self, *failure: object) -> None:
        for route in self.routes.values():
            route.open()
        await self._stack.aclose()

    def route(
        self,
        path: str,
        body: bytes | str | Callable[[Seen], str] = b"",
        *,
        status: int = 200,
        type: str = HTML,  # noqa: A002 - as the header is called
        headers: dict[str, str] | None = None,
        gated: bool = False,
    ) -> Route:
        """Answer `path` so; `gated`: only once the test opens the route's gate."""
        answer = Answer(body=body, status=status, type=type, headers=headers or {})
        self.routes[path] = Route(answer, gated=gated)
        return self.routes[path]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        route = self.routes.get(scope["path"])
        if route is None:
            await _send(send, Answer(body="no such path", status=404), b"no such path")
            return
        seen = Seen(
            method=scope["method"],
            path=scope["path"],
            query=scope["query_string"].decode(),
            headers={name.decode().lower(): value.decode("latin-1") for name, value in scope["headers"]},
            body=body,
        )
        route.requests.append(seen)
        if not await route.passes(receive):
            route.abandoned += 1
            return
        answer = route.answer
        text = answer.body(seen) if callable(answer.body) else answer.body
        await _send(send, answer, text.encode() if isinstance(text, str) else text)
        route.answered += 1


async def _send(send: Any, answer: Answer, body: bytes) -> None:
    headers = {"content-type": answer.type, "content-length": str(len(body))} | answer.headers
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": answer.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


@contextlib.asynccontextmanager
async def answering(raw: bytes, *, reset: bool = False) -> AsyncIterator[str]:
    """Serve the same bytes to everybody who sends a request head, then close: for answers that no HTTP library gives.

    `reset`: leave by RST instead (a linger of zero; RFC 9293 §3.10.5).
    """

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(raw)
            await writer.drain()
        if reset:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.close()

    server = await asyncio.start_server(talk, sock=listener())
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
