"""The demo's ecommerce context: baskets, vouchers and orders, as HTML.

Knows prices and what was put into a basket; of a course it knows the key alone. What a course is called is discovery's
to say: a line embeds `discovery/course-line` and the gateway fills it, so that this service waits for nobody.
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
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl, quote

import uvicorn
from jinja2 import DictLoader, Environment
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

PRICES = {  # ecommerce's own copy of what it sells: stock units by course run
    "course-v1:HarborX+NAV101+R1": "89.00", "course-v1:HarborX+NAV205+R1": "119.00", "course-v1:HarborX+BOAT110+R1": "99.00",
    "course-v1:NorthlightX+CS101+R1": "79.00", "course-v1:NorthlightX+CS220+R1": "99.00",
    "course-v1:LowlandX+CS340+R1": "179.00", "course-v1:LowlandX+CS215+R1": "109.00", "course-v1:MeridianX+CS230+R1": "129.00",
    "course-v1:NorthlightX+ML201+R1": "149.00", "course-v1:NorthlightX+ST101+R1": "69.00", "course-v1:TessellateX+VIZ120+R1": "79.00",
    "course-v1:MeridianX+BR105+R1": "79.00", "course-v1:CivicX+REP115+R1": "39.00", "course-v1:CivicX+ENV101+R1": "59.00",
    "course-v1:TessellateX+DES101+R1": "89.00", "course-v1:TessellateX+DES215+R1": "129.00", "course-v1:CivicX+A11Y160+R1": "79.00",
}  # fmt: skip
LIST_PRICE = "89.00"  # of everything else
VOUCHERS = {"HALYARD15": 15, "FAIRWIND": 25}
NOTES = {
    "quantity": "The basket is up to date.",
    "removed": "Taken out of the basket.",
    "voucher": "Voucher applied.",
    "novoucher": "That voucher is not known here. Try HALYARD15.",
    "added": "Added to the basket.",
    "again": "A fresh start: the basket is open again.",
}


@dataclass
class Line:
    course_key: str
    quantity: int = 1

    @property
    def id(self) -> str:
        return self.course_key

    @property
    def sku(self) -> str:
        return f"{sum(self.course_key.encode()) * 2654435761 % 2**28:07X}"

    @property
    def price(self) -> Decimal:
        return Decimal(PRICES.get(self.course_key, LIST_PRICE))

    @property
    def total(self) -> Decimal:
        return self.price * self.quantity


@dataclass
class Basket:
    id: str
    owner: str | None  # None: anybody's, as a visitor has no name
    lines: list[Line] = field(default_factory=list)
    voucher: str = ""
    status: str = "Open"  # Open | Submitted

    @property
    def subtotal(self) -> Decimal:
        return sum((line.total for line in self.lines), Decimal(0))

    @property
    def discount(self) -> Decimal:
        return (self.subtotal * VOUCHERS.get(self.voucher, 0) / 100).quantize(Decimal("0.01"))

    @property
    def count(self) -> int:
        return sum(line.quantity for line in self.lines)


def stock() -> dict[str, Basket]:
    def basket(id_: str, owner: str | None, *runs: str, voucher: str = "") -> Basket:
        return Basket(id_, owner, [Line(f"course-v1:{run}+R1") for run in runs], voucher)

    baskets = [
        basket("1", None, "HarborX+NAV101", "HarborX+NAV205", "MeridianX+BR105"),
        basket("2", "ada", "LowlandX+CS340", "TessellateX+DES215", voucher="HALYARD15"),
        basket("3", "ben", "CivicX+ENV101"),
        basket("4", "cleo", "NorthlightX+ST101", "TessellateX+VIZ120", "NorthlightX+ML201", "NorthlightX+CS101"),
        basket("5", "ada", "CivicX+A11Y160"),
        basket("6", None),
    ]
    return {basket.id: basket for basket in baskets}


TEMPLATES = {
    "basket": """\
<title>{{ "Order placed" if basket.status == "Submitted" else "Your basket" }} · Halyard</title>
<section class="basket" aria-labelledby="basket-title">
{%- if basket.status == "Submitted" %}
<h1 id="basket-title">Order HY-{{ "%05d" % (10400 + basket.id|int) }} is placed</h1>
<p class="lead">{{ basket.count }} {{ "seat is" if basket.count == 1 else "seats are" }} yours{{ ", " ~ user if user }}. Nothing was charged: this shop is a demo.</p>
{%- else %}
<h1 id="basket-title">{{ user ~ "’s basket" if user else "Your basket" }}</h1>
{%- endif %}
{%- if note %}<p class="note" role="status">{{ note }}</p>{% endif %}
{%- if basket.lines %}
<ul class="lines">
{%- for line in basket.lines %}
<li class="line">
<bff-fragment name="discovery/course-line" course_key="{{ line.course_key }}" class="r-line"><span class="about"><span class="cover cv" aria-hidden="true"></span><span><b class="name sk">Verified seat</b><span class="meta">{{ line.course_key }}</span></span></span></bff-fragment>
<span class="sku">SKU {{ line.sku }}</span>
{%- if basket.status == "Open" %}
<form class="qty" method="post"><input type="hidden" name="line" value="{{ line.id }}"><input type="hidden" name="action" value="quantity">
<label>Seats <input name="quantity" type="number" inputmode="numeric" min="0" max="99" value="{{ line.quantity }}" required></label><button>Update</button></form>
{%- else %}<span class="qty">{{ line.quantity }} × ${{ line.price }}</span>{% endif %}
<span class="sum">${{ line.total }}</span>
</li>
{%- endfor %}
</ul>
<dl class="totals">
<div><dt>Subtotal</dt><dd>${{ basket.subtotal }}</dd></div>
{%- if basket.voucher %}<div><dt>Voucher {{ basket.voucher }}</dt><dd>−${{ basket.discount }}</dd></div>{% endif %}
<div class="grand"><dt>Total</dt><dd>${{ basket.subtotal - basket.discount }}</dd></div>
</dl>
{%- if basket.status == "Open" %}
<div class="acts"><form method="post" class="voucher"><input type="hidden" name="action" value="voucher"><label>Voucher <input name="code" size="12" maxlength="32" autocomplete="off" placeholder="HALYARD15" value="{{ basket.voucher }}"></label><button>Apply</button></form>
<form method="post"><input type="hidden" name="action" value="place"><button class="primary">Place order</button></form></div>
{%- endif %}
{%- else %}
<p class="lead">Nothing in here yet. <a href="/courses">Find a course</a> and put it into the basket.</p>
{%- endif %}
{%- if basket.status == "Submitted" %}
<form method="post" class="acts"><input type="hidden" name="action" value="again"><button>Open the basket again</button></form>
{%- endif %}
</section>
""",
    "missing": """\
<title>{{ title }} · Halyard</title>
<section class="basket"><h1>{{ title }}</h1><p class="lead">{{ text }}</p><p class="acts left"><a class="button primary" href="/basket">My basket</a> <a class="button" href="/login">Switch user</a></p></section>
""",
    "buy": """\
<section class="buy" aria-label="Enrol"><p class="price"><b>${{ line.price }}</b> <span>verified seat</span></p>
<form method="post" action="/basket"><input type="hidden" name="course_key" value="{{ line.course_key }}"><button class="primary">Add to basket</button></form>
<p class="meta">SKU {{ line.sku }} · or audit it at no charge</p></section>
""",
}


class Shop:
    def __init__(self) -> None:
        self.baskets = stock()
        self.pages = Environment(loader=DictLoader(TEMPLATES), autoescape=True)

    def html(self, template: str, status: int = 200, **values: Any) -> Response:
        text = self.pages.get_template(template).render(**values)
        return HTMLResponse(text, status, {"cache-control": "no-store" if status >= 400 else "private, no-cache"})

    def find(self, request: Request) -> Basket | Response:
        """The basket, or the answer to whoever may not see it."""
        basket = self.baskets.get(request.path_params["basket_id"])
        if basket is None:
            text = "It may have been paid, emptied or never filled."
            return self.html("missing", 404, title="There is no such basket", text=text)
        if basket.owner not in (None, self.user(request)):
            return self.html(
                "missing", 403, title="This basket is somebody else’s", text="Baskets are shown to their owners only."
            )
        return basket

    def user(self, request: Request) -> str | None:
        """Whom the gateway has verified; it alone can set this header."""
        return request.headers.get("x-user")

    def mine(self, request: Request) -> Basket:
        user = self.user(request)
        return next((basket for basket in self.baskets.values() if basket.owner == user), self.baskets["6"])

    async def show(self, request: Request) -> Response:
        found = self.find(request)
        if isinstance(found, Response):
            return found
        note = NOTES.get(request.query_params.get("note", ""), "")
        return self.html("basket", basket=found, user=self.user(request), note=note)

    async def change(self, request: Request) -> Response:
        """Post/Redirect/Get: every change answers 303 to the page's own path."""
        found = self.find(request)
        if isinstance(found, Response):
            return found
        form = dict(parse_qsl((await request.body()).decode("utf-8", "replace")))
        note = self.apply(found, form)
        return RedirectResponse(f"/checkout/{quote(found.id)}{'?note=' + note if note else ''}", 303)

    def apply(self, basket: Basket, form: dict[str, str]) -> str:
        match form.get("action"):
            case "again":
                basket.status = "Open"
                return "again"
            case "place" if basket.lines:
                basket.status = "Submitted"
                return ""
            case "voucher":
                code = form.get("code", "").strip().upper()
                basket.voucher = code if code in VOUCHERS else ""
                return "voucher" if basket.voucher or not code else "novoucher"
            case "quantity":
                return self.count(basket, form.get("line", ""), form.get("quantity", ""))
        return ""

    def count(self, basket: Basket, line_id: str, text: str) -> str:
        wanted = min(int(text), 99) if text.isascii() and text.isdigit() and len(text) < 4 else 1
        for line in basket.lines:
            if line.id == line_id:
                line.quantity = wanted
        basket.lines = [line for line in basket.lines if line.quantity]
        return "quantity" if wanted else "removed"

    async def current(self, request: Request) -> Response:
        return RedirectResponse(f"/checkout/{quote(self.mine(request).id)}", 302, {"cache-control": "no-store"})

    async def add(self, request: Request) -> Response:
        form = dict(parse_qsl((await request.body()).decode("utf-8", "replace")))
        basket, key = self.mine(request), form.get("course_key", "")[:120]
        basket.status = "Open"
        known = [line for line in basket.lines if line.course_key == key]
        if known:
            known[0].quantity = min(known[0].quantity + 1, 99)
        elif key.startswith("course-v1:") and len(basket.lines) < 20:
            basket.lines.append(Line(key))
        return RedirectResponse(f"/checkout/{quote(basket.id)}?note=added", 303)

    async def buy(self, request: Request) -> Response:
        line = Line(f"course-v1:{request.path_params['course_key']}+R1")
        text = self.pages.get_template("buy").render(line=line)
        return HTMLResponse(text, headers={"cache-control": "public, max-age=30, stale-while-revalidate=300"})


def create() -> Fault:
    shop = Shop()
    return Fault(Starlette(routes=[
        Route("/baskets/current/", shop.current, methods=["GET"]),
        Route("/baskets/current/", shop.add, methods=["POST"]),
        Route("/baskets/{basket_id}/", shop.show, methods=["GET"]),
        Route("/baskets/{basket_id}/", shop.change, methods=["POST"]),
        Route("/buy/{course_key}/", shop.buy),
    ]))  # fmt: skip


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
    main(create(), port=9101)
