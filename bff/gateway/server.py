"""The server process: the listening socket, signals, the application's lifespan, and leaving without loss.

Owns everything that happens once per process. What happens per connection is `protocol`.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import uvloop
from uvicorn.config import Config
from uvicorn.lifespan.on import LifespanOn
from uvicorn.server import ServerState

from bff.gateway.protocol import Connection
from bff.gateway.state import App, Drain, Hosts, Limits, Settings, Shared

if TYPE_CHECKING:
    from bff.gateway.telemetry import Counters

__all__ = ["Drain", "Server", "bind", "opened", "run", "url"]

_LOG: Final = logging.getLogger("bff.server")
_BACKLOG: Final = 4096  # the kernel caps it at net.core.somaxconn
_SECOND: Final = 1.0
_ONCE: Final = 0.5  # seconds in which a further signal is the same order again: a terminal or a service manager tells parent and workers, the parent its workers
_LAST: Final = 0.5  # seconds before a drain's end, or half of a shorter one, at which pages are told to come to theirs
Opened = TypeVar("Opened")


class Server:
    """A listening socket and its connections on the running loop. Tests use it without a process."""

    def __init__(
        self,
        app: App,
        *,
        limits: Limits,
        hosts: Sequence[str] = ("*",),
        drain: Drain | None = None,
        shed: Callable[[str], None] = lambda _limit: None,
        state: dict[str, Any] | None = None,
    ) -> None:
        self.shared = Shared(
            app=app,
            limits=limits,
            hosts=Hosts(hosts),
            drain=drain or Drain(),
            now=getattr(app, "now", None),
            shed=shed,
            overloaded=getattr(app, "overloaded", None),
            hurry=getattr(app, "hurry", lambda: None),
            capacity=_capacity(),
            state=state or {},
        )
        self._servers: list[asyncio.Server] = []
        self._timers: list[asyncio.TimerHandle] = []
        self._loop = asyncio.get_running_loop()

    async def start(self, listener: socket.socket) -> None:
        """Accept connections on a bound socket."""
        config = _uvicorn(self.shared.app)
        state, shared, loop = ServerState(), self.shared, self._loop
        serve = loop.create_unix_server if listener.family == socket.AF_UNIX else loop.create_server
        self._servers.append(
            await serve(lambda: Connection(config, state, shared, loop), sock=listener, backlog=_BACKLOG)
        )
        limits = shared.limits
        shortest = min(limits.head, limits.keepalive, limits.write)
        self._every(_SECOND, lambda: shared.tick(time.time()))
        self._every(min(max(shortest / 8, 0.02), 0.5), lambda: shared.sweep(loop.time()))

    def _every(self, seconds: float, call: Callable[[], None]) -> None:
        at = len(self._timers)

        def turn() -> None:
            call()
            self._timers[at] = self._loop.call_later(seconds, turn)

        self._timers.append(self._loop.call_later(seconds, turn))
        call()

    async def leave(self, within: float | None = None) -> None:
        """Begin nothing more, finish what is under way within `limits.drain` seconds or fewer, end the rest.

        Until what was under way has ended, new connections are told of that: probes get their answers, others 503.
        """
        self.shared.drain.draining = True
        seconds = self.shared.limits.drain if within is None else within
        hurry = self._loop.call_later(max(seconds - _LAST, seconds / 2), self.shared.hurry)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._emptied()
                self._close()
                await self._emptied()
        hurry.cancel()
        await self.abort()

    async def _emptied(self) -> None:
        """Have who is connected now leave, each with the response under way, and wait until they are gone."""
        shared, gone = self.shared, asyncio.Event()
        leaving = set(shared.connections)

        def look() -> None:
            if leaving.isdisjoint(shared.connections) and not shared.cycles:
                gone.set()

        shared.settled = look
        for connection in leaving:
            connection.shutdown()
        look()
        await gone.wait()

    def _close(self) -> None:
        for server in self._servers:
            server.close()

    async def abort(self) -> None:
        """End everything now."""
        shared = self.shared
        shared.drain.draining = True
        self._close()
        tasks = [cycle.task for cycle in shared.cycles if cycle.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for connection in list(shared.connections):
            connection.transport.abort()
        for timer in self._timers:
            timer.cancel()


def bind(listen: str, *, shared: bool = False, listening: bool = True) -> socket.socket:
    """A bound socket for `host:port`, `[v6]:port` or `unix:PATH`; `OSError` or `ValueError` say why there is none.

    `shared`: other sockets of ours may have the same port, and the kernel spreads connections over those that listen.
    """
    if listen.startswith("unix:"):
        return _bind_unix(listen.removeprefix("unix:"))
    host, _, port = listen.rpartition(":")
    if not (host and port.isdecimal()):
        raise ValueError("write an address and a port, such as 127.0.0.1:8000")
    family, kind, proto, _, address = socket.getaddrinfo(
        host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    return _bound(socket.socket(family, kind, proto), address, shared=shared, listening=listening)


def _bind_unix(path: str) -> socket.socket:
    """Take over the path of a process that is gone, never one that answers."""
    with socket.socket(socket.AF_UNIX) as probe:
        if probe.connect_ex(path) == 0:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    with contextlib.suppress(FileNotFoundError):
        Path(path).unlink()
    return _bound(socket.socket(socket.AF_UNIX), path)


def _bound(listener: socket.socket, address: Any, *, shared: bool = False, listening: bool = True) -> socket.socket:
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.setblocking(False)
        listener.bind(address)
        if listening:
            listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def run(
    app: App,
    *,
    settings: Settings,
    drain: Drain | None = None,
    telemetry: Counters | None = None,
    on_reload: Callable[[], object] | None = None,
    ready: Callable[[str], object] | None = None,
    dev: bool = False,
    listener: socket.socket | None = None,
    beside: tuple[App, socket.socket] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then drain; SIGHUP calls `on_reload`; a second signal ends at once.

    `telemetry` counts what is shed, and the loop's lag. `ready` is told the URL once connections are accepted; with `dev`, leaving takes at most a second.
    `listener` is a socket that listens already, where several processes share one; `beside` another application on a socket of
    its own, which answers until the first has drained. Raises `SystemExit`: 2 where the address cannot be had, 1 where the application does not start, 128 + the signal's number
    after a second signal.
    """
    process = _Process(
        app,
        settings,
        drain=drain or Drain(),
        telemetry=telemetry,
        on_reload=on_reload,
        ready=ready,
        within=1.0 if dev else None,
        beside=beside,
    )
    listener = listener or opened(settings.listen, bind)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        code = runner.run(process.serve(listener))
    if code:
        raise SystemExit(code)


def opened(listen: str, how: Callable[[str], Opened]) -> Opened:
    """What `how` makes of an address; where it cannot be had, one line says why, and `SystemExit` is 2."""
    try:
        return how(listen)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"bff: cannot listen on {listen}: {_why(error)}\n")
        raise SystemExit(2) from None


class _Process:
    """One run of the server: from a bound socket to an exit code."""

    def __init__(
        self,
        app: App,
        settings: Settings,
        *,
        drain: Drain,
        telemetry: Counters | None,
        on_reload: Callable[[], object] | None,
        ready: Callable[[str], object] | None,
        within: float | None,
        beside: tuple[App, socket.socket] | None,
    ) -> None:
        self._app = app
        self._settings = settings
        self._drain = drain
        self._telemetry = telemetry
        self._reload = on_reload
        self._ready = ready
        self._within = within
        self._beside = beside
        self._code = 0
        self._told = 0.0  # when it was first told to end
        self._first = asyncio.Event()
        self._second = asyncio.Event()

    async def serve(self, listener: socket.socket) -> int:
        self._listen_to_signals(asyncio.get_running_loop())
        lifespan = LifespanOn(_uvicorn(self._app))
        await lifespan.startup()
        if lifespan.should_exit:
            listener.close()
            return 1
        settings = self._settings
        telemetry = self._telemetry
        shed = telemetry.shed if telemetry is not None else lambda _limit: None
        server = Server(
            self._app,
            limits=settings.limits,
            hosts=settings.hosts,
            drain=self._drain,
            shed=shed,
            state=lifespan.state,
        )
        await server.start(listener)
        second = await self._second_server()
        if telemetry is not None:
            telemetry.start(asyncio.get_running_loop())
        if self._ready is not None:
            self._ready(url(listener))
        await self._first.wait()
        await self._leave(server, second, lifespan)
        if telemetry is not None:
            telemetry.close()
        return self._code

    async def _second_server(self) -> Server | None:
        """The application beside the first one; any Host reaches it, for who reaches its port is known otherwise."""
        if self._beside is None:
            return None
        app, listener = self._beside
        server = Server(app, limits=self._settings.limits)
        await server.start(listener)
        return server

    async def _leave(self, server: Server, second: Server | None, lifespan: LifespanOn) -> None:
        """Drain, then let the application end; a second signal cuts both short."""

        async def orderly() -> None:
            await server.leave(self._within)
            if second is not None:  # it tells of the draining until there is nothing left to tell
                await second.leave(1.0)
            await lifespan.shutdown()

        leaving = asyncio.ensure_future(orderly())
        hurry = asyncio.ensure_future(self._second.wait())
        await asyncio.wait({leaving, hurry}, return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        if not leaving.done():
            leaving.cancel()
            await server.abort()
            if second is not None:
                await second.abort()

    def _listen_to_signals(self, loop: asyncio.AbstractEventLoop) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end, number)
        if self._reload is not None:
            loop.add_signal_handler(signal.SIGHUP, self._reload)

    def _end(self, number: int) -> None:
        now = time.monotonic()
        if not self._first.is_set():
            self._told = now
        elif now - self._told > _ONCE:
            self._code = 128 + number
            self._second.set()
        self._drain.draining = True
        self._first.set()


def _uvicorn(app: Any) -> Config:
    """What uvicorn's protocol class and lifespan want to know; nothing of it logs, adds headers or trusts a proxy."""
    config = Config(
        app,
        interface="asgi3",
        lifespan="on",
        ws="none",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
    )
    config.load()
    return config


def _capacity() -> int:
    """Connections to accept: half of the process's file descriptors, the other half is for contexts and files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    return max(soft // 2, 64)


def url(listener: socket.socket) -> str:
    """Where a bound socket is reached."""
    name = listener.getsockname()
    if isinstance(name, str):
        return f"unix:{name}"
    host = f"[{name[0]}]" if ":" in name[0] else name[0]
    return f"http://{host}:{name[1]}"


def _why(error: Exception) -> str:
    """A socket's error in a person's words."""
    match getattr(error, "errno", None):
        case errno.EADDRINUSE:
            return "the address is in use; stop the other process, or choose another port with --port"
        case errno.EACCES:
            return "permission denied; ports below 1024 need a privilege, choose a higher one with --port"
        case _:
            return f"{getattr(error, 'strerror', None) or error}"
