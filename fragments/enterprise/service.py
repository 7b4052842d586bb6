"""The demo's enterprise context: what employers pay for, as JSON in DRF's pages.

Field names are those of Open edX's enterprise learner offers. Knows no course by name and no learner at all.
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
import uuid
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

SPACE = uuid.UUID("f3a3d3a4-1d2f-4c43-8a4c-9f5f7c1f2a55")
OFFERS = [  # (customer, slug, catalogue, usage type, value, seats left, days left)
    ("Tidewater Ferries", "tidewater-ferries", "Seamanship and safety", "Percentage", 50, 38, 61),
    ("Tidewater Ferries", "tidewater-ferries", "Languages on board", "Percentage", 100, 12, 24),
    ("Quarry Lane Hospital", "quarry-lane-hospital", "Data for clinicians", "Percentage", 75, 140, 92),
    ("Quarry Lane Hospital", "quarry-lane-hospital", "Meetings and teams", "Absolute", 40, 55, 18),
    ("City of Alder", "city-of-alder", "Greener streets", "Percentage", 100, 64, 120),
    ("City of Alder", "city-of-alder", "Accessible services", "Percentage", 60, 200, 45),
    ("Millrace Energy", "millrace-energy", "Wind, water and grid", "Absolute", 75, 27, 80),
    ("Millrace Energy", "millrace-energy", "Statistics and control", "Percentage", 40, 33, 33),
    ("Lark & Finch Press", "lark-and-finch", "Type and charts", "Percentage", 30, 90, 150),
    ("Northbound Rail", "northbound-rail", "Queues, stock and waiting", "Percentage", 80, 310, 70),
    ("Northbound Rail", "northbound-rail", "Resilient software", "Absolute", 60, 18, 12),
]


class Offers:
    def __init__(self, now: datetime) -> None:
        self.offers = [self.offer(number, now, row) for number, row in enumerate(OFFERS, 1)]

    def offer(self, number: int, now: datetime, row: tuple[str, str, str, str, int, int, int]) -> dict[str, Any]:
        customer, slug, catalog, usage, value, left, days = row
        stamp = "%Y-%m-%dT00:00:00Z"
        return {
            "id": 4100 + number,
            "display_name": catalog,
            "enterprise_customer": {"uuid": str(uuid.uuid5(SPACE, slug)), "name": customer, "slug": slug},
            "enterprise_catalog_uuid": str(uuid.uuid5(SPACE, catalog)),
            "usage_type": usage,
            "discount_value": f"{value:.2f}",
            "status": "Open",
            "is_current": True,
            "start_datetime": (now - timedelta(days=30)).strftime(stamp),
            "end_datetime": (now + timedelta(days=days)).strftime(stamp),
            "max_discount": None,
            "remaining_balance": None,
            "remaining_balance_for_user": None,
            "max_global_applications": left + 60,
            "max_user_applications": 2,
            "remaining_applications": left,
        }

    async def list(self, request: Request) -> Response:
        """`page` and `page_size` as DRF has them; a page past the end is 404."""
        texts = request.query_params.get("page", "1"), request.query_params.get("page_size", "3")
        if not all(text.isascii() and text.isdigit() and 0 < int(text) < 10**6 for text in texts):
            return JSONResponse({"detail": "Invalid page."}, 404)
        page, size = int(texts[0]), min(int(texts[1]), 100)
        pages = -(-len(self.offers) // size)
        if page > pages:
            return JSONResponse({"detail": "Invalid page."}, 404)
        start = (page - 1) * size

        def link(to: int) -> str | None:
            return str(request.url.include_query_params(page=to)) if 1 <= to <= pages else None

        data = {"count": len(self.offers), "next": link(page + 1), "previous": link(page - 1), "num_pages": pages,
                "current_page": page, "start": start, "results": self.offers[start : start + size]}  # fmt: skip
        return JSONResponse(data, headers={"cache-control": "public, max-age=60, stale-while-revalidate=600"})


def create() -> Fault:
    return Fault(Starlette(routes=[Route("/api/v2/enterprise/offers/", Offers(datetime.now(UTC)).list)]))


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
    main(create(), port=9104)
