"""The demo's credentials context: its own copy of grades, as JSON, each learner's for that learner alone.

The learning platform is the source; what is shown says as of when this copy was made (`lms_last_updated_at`).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

GRADES = {  # learner → (course, letter, percent, verified, hours since the learning platform said so)
    "ada": [("NorthlightX+CS220", "A", "0.9400", True, 7), ("LowlandX+CS215", "A", "0.9150", True, 31),
            ("NorthlightX+PHIL110", "B", "0.8620", False, 54), ("NorthlightX+MATH230", "Pass", "0.7780", True, 160)],
    "ben": [("CivicX+REP115", "A", "0.9700", True, 3), ("MeridianX+SOIL160", "B", "0.8350", True, 75)],
    "cleo": [("NorthlightX+CS101", "B", "0.8810", True, 12), ("MeridianX+MATH105", "", "0.4120", False, 12),
             ("CivicX+GIS130", "A", "0.9020", True, 220)],
}  # fmt: skip


class Records:
    def __init__(self, now: datetime) -> None:
        self.grades = {user: self.rows(user, now) for user in GRADES}

    def rows(self, user: str, now: datetime) -> list[dict[str, Any]]:
        def stamp(hours: int) -> str:
            return (now - timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%SZ")

        return [
            {"username": user, "course_run": f"course-v1:{course}+R1", "letter_grade": letter, "percent_grade": percent,
             "verified": verified, "lms_last_updated_at": stamp(hours), "created": stamp(hours), "modified": stamp(hours)}
            for course, letter, percent, verified, hours in GRADES[user]
        ]  # fmt: skip

    async def list(self, request: Request) -> Response:
        """`?username=` must be whom the gateway has verified: 401 for nobody, 403 for anybody else."""
        user, asked = request.headers.get("x-user"), request.query_params.get("username", "")
        headers = {"cache-control": "private, max-age=5", "vary": "X-User"}
        if user is None:
            return JSONResponse({"detail": "Authentication credentials were not provided."}, 401, headers)
        if user != asked:
            return JSONResponse({"detail": "You do not have permission to perform this action."}, 403, headers)
        rows = self.grades.get(user, [])
        newest = max((row["lms_last_updated_at"] for row in rows), default=None)
        page = {"count": len(rows), "next": None, "previous": None, "num_pages": 1, "current_page": 1, "start": 0}
        return JSONResponse(page | {"lms_last_updated_at": newest, "results": rows}, headers=headers)


def create() -> Fault:
    return Fault(Starlette(routes=[Route("/api/v2/grades/", Records(datetime.now(UTC)).list)]))


# --- faults: how this service is broken on purpose. The same lines stand in every demo service, so that none imports another.


class Fault:
    """ASGI before ASGI: misbehaves as told at `POST /_fault?mode=ok|slow|error|silent|down&delay=3&heal=0`.

    `delay`: seconds added in mode slow; `heal`: seconds until it is well again by itself, 0: never. The endpoint also
    answers on a control port (the service's own port + 100), which stays up when the service is down.
    """

    modes = ("ok", "slow", "error", "silent", "down")

    def __init__(self, app: ASGIApp, *, spared: str = "/_fault") -> None:
        self.app, self.spared = app, spared
        self.mode, self.delay = "ok", 3.0
        self.listen: Callable[[bool], Awaitable[None]] | None = None
        self.healing: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("path") == "/_fault":
            await self.control(scope, receive, send)
            return
        mode = "ok" if scope.get("path") == self.spared else self.mode
        if mode in ("silent", "down"):
            while (await receive())["type"] != "http.disconnect":
                pass
            return
        if mode == "slow":
            await asyncio.sleep(self.delay)
        app = PlainTextResponse("broken on purpose\n", 500) if mode == "error" else self.app
        await app(scope, receive, send)

    async def control(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        told: dict[str, Any] = dict(request.query_params)
        if request.method == "POST" and request.headers.get("content-type", "").startswith("application/json"):
            told |= json.loads(await request.body())
        mode = told.get("mode", self.mode)
        if request.method == "POST" and mode in self.modes:
            if self.healing:
                self.healing.cancel()
            heal = float(told.get("heal", 0))
            self.healing = asyncio.create_task(self.set("ok", self.delay, after=heal)) if heal else None
            await self.set(mode, float(told.get("delay", self.delay)))
        status = 200 if mode in self.modes else 400
        await JSONResponse({"mode": self.mode, "delay": self.delay, "modes": self.modes}, status)(scope, receive, send)

    async def set(self, mode: str, delay: float, *, after: float = 0) -> None:
        await asyncio.sleep(after)
        self.mode, self.delay = mode, delay
        if self.listen:
            await self.listen(mode != "down")


class Server(uvicorn.Server):
    """uvicorn that leaves signals to `serve`, and that can be cut off: listener closed, connections reset."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    async def start(self) -> asyncio.Task[None]:
        self.listening = asyncio.Event()
        bound = socket.create_server((self.config.host, self.config.port), backlog=1024)
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accepted sockets inherit it; asyncio forgets them
        task = asyncio.create_task(self.serve([bound]))
        await self.listening.wait()
        return task

    async def cut(self, task: asyncio.Task[None]) -> None:
        self.should_exit = self.force_exit = True
        for listener in self.servers:
            listener.close()
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await task


async def serve(fault: Fault, *, host: str, port: int) -> None:
    """Listen until SIGINT or SIGTERM: on `port` while not down, and on `port` + 100 for `/_fault` always."""
    stop, up = asyncio.Event(), list[tuple[Server, asyncio.Task[None]]]()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)

    def server(app: ASGIApp, port: int) -> Server:
        # kept alive for longer than the gateway keeps an idle connection, so that it never sends on one being closed
        return Server(uvicorn.Config(app, host=host, port=port, log_level="warning", interface="asgi3", lifespan="off",
                                     timeout_keep_alive=30))  # fmt: skip

    async def listen(wanted: bool) -> None:
        if wanted and not up:
            main = server(fault, port)
            up.append((main, await main.start()))
        while up and not wanted:
            main, task = up.pop()
            await main.cut(task)

    fault.listen = listen
    await listen(True)
    control = server(fault.control, port + 100)
    task = await control.start()
    sys.stdout.write(f"http://{host}:{port}/ and, to break it, http://{host}:{port + 100}/_fault\n")
    sys.stdout.flush()
    await stop.wait()
    await listen(False)
    await control.cut(task)


def main(fault: Fault, *, port: int) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument(
        "--port", type=int, default=int(os.environ.get("PORT", port)), help="%(default)s; control: + 100"
    )
    options = parser.parse_args()
    try:
        asyncio.run(serve(fault, host=options.host, port=options.port))
    except OSError as error:
        raise SystemExit(
            f"{parser.prog}: cannot listen on port {options.port} and {options.port + 100}: {error}"
        ) from error


# --- end of faults


if __name__ == "__main__":
    main(create(), port=9103)
