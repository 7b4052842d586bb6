"""The demo's registrar context: who is enrolled in a program, a page at a time, and the whole list as a file, later.

Routes, field names and the shape of a job are those of Open edX's Registrar. A file is made for whoever asked for it and
for nobody else; it takes some seconds, as it would with ten thousand rows. Students are numbers: no names leave it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import csv
import io
import json
import os
import random
import signal
import socket
import sys
import time
import uuid
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

PRIVATE = {"cache-control": "private, max-age=30", "vary": "X-User"}
NOT_KEPT = {"cache-control": "no-store"}
JOBS = 500  # kept; the oldest are forgotten
WRITING = 6.0  # seconds that a file takes
FIELDS = ("student_key", "status", "curriculum_uuid", "enrolled")


def rows(program: str) -> list[dict[str, str]]:
    """A program's enrolments: always the same for the same program."""
    dice = random.Random(program)  # noqa: S311 - a demo's students
    count = dice.randint(180, 420)
    curriculum = str(uuid.uuid5(uuid.NAMESPACE_URL, program))
    return [
        {"student_key": f"S{number:05}", "status": dice.choices(("enrolled", "pending", "canceled"), (8, 2, 1))[0],
         "curriculum_uuid": curriculum, "enrolled": f"2026-{dice.randint(1, 9):02}-{dice.randint(1, 28):02}"}
        for number in sorted(dice.sample(range(1, 99999), count))
    ]  # fmt: skip


def table(found: list[dict[str, str]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, FIELDS)
    writer.writeheader()
    writer.writerows(found)
    return out.getvalue()


@dataclass(frozen=True)
class Job:
    id: str
    user: str
    program: str
    began: float  # time.monotonic()
    created: str

    def share(self, now: float, writing: float) -> float:
        return min(1.0, (now - self.began) / writing) if writing else 1.0


class Registrar:
    def __init__(self, *, writing: float, clock: Callable[[], float]) -> None:
        self.writing = writing
        self.clock = clock
        self.jobs: OrderedDict[str, Job] = OrderedDict()

    async def program(self, request: Request) -> Response:
        """How many are enrolled, for everybody."""
        program = request.path_params["program"]
        data = {"program_uuid": program, "enrollments": len(rows(program))}
        return JSONResponse(data, headers={"cache-control": "public, max-age=60"})

    async def learners(self, request: Request) -> Response:
        """`page` and `page_size` as DRF has them, of a program's enrolments."""
        user = request.headers.get("x-user")
        texts = request.query_params.get("page", "1"), request.query_params.get("page_size", "10")
        if user is None:
            return refused()
        if not all(text.isascii() and text.isdigit() and 0 < int(text) < 10**6 for text in texts):
            return JSONResponse({"detail": "Invalid page."}, 404)
        page, size = int(texts[0]), min(int(texts[1]), 100)
        found = rows(request.path_params["program"])
        pages = -(-len(found) // size)
        if page > pages:
            return JSONResponse({"detail": "Invalid page."}, 404)
        start = (page - 1) * size

        def link(to: int) -> str | None:
            return str(request.url.include_query_params(page=to)) if 1 <= to <= pages else None

        data = {"count": len(found), "next": link(page + 1), "previous": link(page - 1), "num_pages": pages,
                "current_page": page, "start": start, "results": found[start : start + size]}  # fmt: skip
        return JSONResponse(data, headers=PRIVATE)

    async def export(self, request: Request) -> Response:
        """202, and where to ask: `?fmt=csv` begins to write all of a program's enrolments into a file."""
        user = request.headers.get("x-user")
        if user is None:
            return refused()
        if request.query_params.get("fmt") != "csv":
            return JSONResponse({"detail": "Not found."}, 404)
        created = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        job = Job(str(uuid.uuid4()), user, request.path_params["program"], self.clock(), created)
        self.jobs[job.id] = job
        while len(self.jobs) > JOBS:
            self.jobs.popitem(last=False)
        url = str(request.url.replace(path=f"/api/v1/jobs/{job.id}/", query=""))
        return JSONResponse({"job_id": job.id, "job_url": url}, 202, headers=NOT_KEPT)

    async def job(self, request: Request) -> Response:
        """How far it is; `result` is the file's address once it is there."""
        job = self.asked(request)
        if job is None:
            return JSONResponse({"detail": "Not found."}, 404)
        share = job.share(self.clock(), self.writing)
        state = "Succeeded" if share >= 1 else "In Progress" if share > 0.1 else "Pending"
        total = len(rows(job.program))
        file = str(request.url.replace(path=f"/api/v1/jobs/{job.id}/file/", query=""))
        data = {"job_id": job.id, "name": "Export of a program's enrolments", "created": job.created, "state": state,
                "completed_steps": int(share * total), "total_steps": total,
                "result": file if state == "Succeeded" else None, "text": ""}  # fmt: skip
        return JSONResponse(data, headers=NOT_KEPT)

    async def file(self, request: Request) -> Response:
        job = self.asked(request)
        if job is None or job.share(self.clock(), self.writing) < 1:
            return JSONResponse({"detail": "Not found."}, 404)
        named = f'attachment; filename="enrolments-{job.program[:8]}.csv"'
        headers = {**NOT_KEPT, "content-disposition": named}
        return Response(table(rows(job.program)), headers=headers, media_type="text/csv")

    def asked(self, request: Request) -> Job | None:
        """The job of a request, where it is the visitor's own."""
        job = self.jobs.get(request.path_params["job"])
        return job if job is not None and job.user == request.headers.get("x-user") else None


def refused() -> Response:
    return JSONResponse({"detail": "Authentication credentials were not provided."}, 401, PRIVATE)


def create(*, writing: float = WRITING, clock: Callable[[], float] = time.monotonic) -> Fault:
    api = Registrar(writing=writing, clock=clock)
    routes = {
        "programs/{program}/": api.program,
        "programs/{program}/learners/": api.learners,
        "programs/{program}/enrollments/": api.export,
        "jobs/{job}/": api.job,
        "jobs/{job}/file/": api.file,
    }
    return Fault(Starlette(routes=[Route(f"/api/v1/{path}", view) for path, view in routes.items()]))


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
    main(create(writing=float(os.environ.get("WRITING", WRITING))), port=9107)
