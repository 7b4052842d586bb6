"""The demo's recommendations context: which courses to look at next and why, as HTML. Slow by nature.

Knows keys and reasons; how a course looks is discovery's to show: each place embeds `discovery/course-card`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import uvicorn
from jinja2 import Environment
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

THINKING = (0.7, 1.1)  # seconds: the model is large and nobody has made it quick yet
POPULAR = [
    ("CivicX+REP115", "Finished by most who begin"),
    ("TessellateX+VIZ120", "On many wish lists this week"),
    ("HarborX+OCE210", "New, and well reviewed"),
    ("NorthlightX+PHIL110", "Good company for anything"),
]
NEXT = {  # what people took after a course, by its letters
    "NAV": [("HarborX+NAV310", "The next step out to sea"), ("HarborX+OCE210", "Same water, from below"), ("HarborX+HIS220", "The same harbours, 1400")],
    "BOAT": [("MeridianX+BR105", "Loads and how they flow"), ("HarborX+NAV101", "Take her out")],
    "CS": [("LowlandX+CS340", "Where it leads"), ("TessellateX+DES215", "The other side of a failure"), ("NorthlightX+MATH230", "Helps more than you think")],
    "SEC": [("LowlandX+CS215", "Know what you defend"), ("LowlandX+CS340", "Failure, the honest kind")],
    "ML": [("MeridianX+ST240", "From what to why"), ("NorthlightX+MATH230", "The language it is written in")],
    "ST": [("TessellateX+VIZ120", "Show what you found"), ("NorthlightX+ML201", "The usual next course")],
    "DES": [("CivicX+A11Y160", "Taken together by many"), ("TessellateX+PUZ120", "Pattern, with proof")],
    "ENV": [("MeridianX+SOIL160", "Under the river bank"), ("CivicX+GIS130", "Put it on a map")],
}  # fmt: skip
PAGE = """\
<section class="recs" aria-labelledby="recs-title"><h2 id="recs-title">{{ title }}</h2>
<ul class="cards">
{%- for key, why in picks %}
<li><p class="why">{{ why }}</p><bff-fragment name="discovery/course-card" course_key="{{ key }}" class="r-card"><div class="card" aria-hidden="true"><div class="cover cv sk"></div><p class="sk">&nbsp;</p></div></bff-fragment></li>
{%- endfor %}
</ul></section>
"""


def picks(course_key: str) -> list[tuple[str, str]]:
    letters = course_key.partition("+")[2].rstrip("0123456789")
    found = [pick for pick in NEXT.get(letters, []) if pick[0] not in course_key]
    return (found + [pick for pick in POPULAR if pick not in found and pick[0] not in course_key])[:4]


class Model:
    def __init__(self, thinking: tuple[float, float]) -> None:
        self.thinking = thinking
        self.page = Environment(autoescape=True).from_string(PAGE)

    async def show(self, request: Request) -> Response:
        """`course_key`: what to go on from; none: what is popular."""
        await asyncio.sleep(random.uniform(*self.thinking))  # noqa: S311 — a pause, not a secret
        key = request.query_params.get("course_key", "")
        title = "Taken next by others" if key else "Others are looking at"
        return HTMLResponse(
            self.page.render(title=title, picks=picks(key)), headers={"cache-control": "public, max-age=5"}
        )


def create(thinking: tuple[float, float] = THINKING) -> Fault:
    return Fault(Starlette(routes=[Route("/for-you", Model(thinking).show)]))


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
    main(create(), port=9105)
