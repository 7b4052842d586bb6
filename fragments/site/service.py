"""The demo's site context: the account corner, sign-in by JWT cookies, and the switchboard that breaks things on purpose.

Layouts, styles and the error page are files beside this one. The switchboard talks to the control ports of the six
demo services (each service's port + 100): that is the demo's own lever, no backend waiting on a backend.
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
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import uvicorn
from jinja2 import DictLoader, Environment
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

USERS = {"ada": "distributed systems, basket of two", "ben": "rivers and repairs", "cleo": "statistics, basket of four"}
OTHERS = {
    "ecommerce": -5,
    "discovery": -4,
    "credentials": -3,
    "enterprise": -2,
    "recommendations": -1,
    "site": 0,
    "registrar": 1,
}  # from this one's port
WORDS = {"ok": "well", "slow": "slow", "error": "failing", "silent": "silent", "down": "down"}
SIGNED_IN = 3600  # seconds, as in Open edX
LIFETIME_OF_OPEN = 30  # seconds for which the panel of the strip opens by itself after it was used
HEAL = 20  # seconds until the site heals itself: its own buttons are out of reach while it is down
PAYLOAD, SIGNATURE = "edx-jwt-cookie-header-payload", "edx-jwt-cookie-signature"
ISSUER, AUDIENCE = "http://127.0.0.1:9106/oauth2", "halyard"


# --- sign-in: the two cookies of Open edX's JWT cookie scheme, signed with a key made when the service starts


class Tokens:
    def __init__(self) -> None:
        self.key = ECKey.generate_key("P-256", {"use": "sig", "alg": "ES256", "kid": uuid.uuid4().hex[:12]})

    def jwks(self) -> Mapping[str, Any]:
        return dict(KeySet([self.key]).as_dict(private=False))

    def sign(self, user: str, now: float) -> tuple[str, str]:
        """The token's two halves: header and payload, which scripts may read, and the signature, which they may not."""
        claims = {"iss": ISSUER, "aud": AUDIENCE, "iat": int(now), "exp": int(now) + SIGNED_IN, "sub": uuid.uuid5(uuid.NAMESPACE_DNS, user).hex,
                  "preferred_username": user, "version": "1.2.0", "scopes": ["user_id", "email", "profile"], "is_restricted": False}  # fmt: skip
        token = jwt.encode({"alg": "ES256", "kid": self.key.kid, "typ": "JWT"}, claims, self.key)
        front, _, signature = token.rpartition(".")
        return front, signature


def own_path(text: str) -> str:
    """A path of this site to go back to, whatever was sent: never another origin."""
    parts = urlsplit(text)
    path = parts.path if parts.path.startswith("/") and not parts.path.startswith(("//", "/\\", "/login")) else "/"
    query = "&".join(part for part in parts.query.split("&") if part and not part.startswith("note="))
    return f"{path}?{query}" if query else path


# --- the switchboard


async def exchange(port: int, line: str) -> dict[str, Any]:
    """One request to a control port on this machine; {} where nobody answers within half a second."""
    try:
        async with asyncio.timeout(0.5):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(
                f"{line} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
            )
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
            writer.close()
            return dict(json.loads(body)) if head.startswith(b"HTTP/1.1 200") else {}
    except (OSError, TimeoutError, ValueError):
        return {}


TEMPLATES = {
    "account": """\
<nav class="who" aria-label="Account">{% if user %}<span><i>Signed in as </i><b>{{ user }}</b></span> <a href="/login">Switch</a>{% else %}<i>Just looking</i> <a href="/login">Sign in</a>{% endif %}</nav>
""",
    "join": """\
<aside class="join"><p><b>Sign in, and your grades show up here.</b> Baskets and grades are private to each user.</p><a class="button" href="/login">Choose a user</a></aside>
""",
    "login": """\
<title>Sign in · Halyard</title>
<section class="login"><h1>Who is at the helm?</h1><p class="lead">No passwords in a demo. Pick somebody: the site signs a token, the gateway verifies it, and each context learns no more than the name.</p>
<ul class="people">{% for name, about in users.items() %}
<li><form method="post"><input type="hidden" name="user" value="{{ name }}"><input type="hidden" name="next" value="{{ next }}"><button{% if name == user %} aria-current="true"{% endif %}><b>{{ name }}</b><span>{{ about }}</span></button></form></li>{% endfor %}
<li><form method="post"><input type="hidden" name="user" value=""><input type="hidden" name="next" value="{{ next }}"><button{% if not user %} aria-current="true"{% endif %}><b>nobody</b><span>a visitor without a name</span></button></form></li></ul></section>
""",
    "panel": """\
{% macro panel(states) %}<ul class="faults">{% for name, state in states.items() %}
<li><form method="post" action="/demo/fault"><input type="hidden" name="context" value="{{ name }}"><b><i class="dot {{ state }}" aria-hidden="true"></i>{{ name }}</b><span>{% for mode, word in words.items() %}<button name="mode" value="{{ mode }}" aria-pressed="{{ "true" if mode == state else "false" }}" aria-label="{{ name }} {{ word }}">{{ word }}</button>{% endfor %}</span></form></li>{% endfor %}
</ul>{% endmacro %}
""",
    "strip": """\
{% from "panel" import panel with context %}<details class="strip"{% if open %} open{% endif %}><summary><b>Break it</b>{% for name, state in states.items() %}<span class="chip"><i class="dot {{ state }}" aria-hidden="true"></i><span>{{ name }}<span class="vh"> is {{ words.get(state, "not there") }}</span></span></span>{% endfor %}</summary>
{{ panel(states) }}</details>
""",
    "board": """\
{% from "panel" import panel with context %}<title>Break something · Halyard</title>
<section class="board"><h1>Break something</h1><p class="lead">Seven services of seven teams feed these pages. Break one and look: the rest of the page does not care, and what was known a moment ago is still shown.</p>
{{ panel(states) }}
<dl class="legend"><dt>slow</dt><dd>answers three seconds late</dd><dt>failing</dt><dd>answers 500</dd><dt>silent</dt><dd>accepts, and never answers</dd><dt>down</dt><dd>refuses connections; <em>site</em> heals after {{ heal }} seconds, since it serves these buttons</dd></dl></section>
""",
}


class Site:
    def __init__(self, controls: Mapping[str, int] | None) -> None:
        self.told, self.tokens = controls, Tokens()
        self.pages = Environment(loader=DictLoader(TEMPLATES), autoescape=True)

    def html(self, template: str, request: Request, **values: Any) -> Response:
        user = request.headers.get("x-user")
        text = self.pages.get_template(template).render(user=user, users=USERS, words=WORDS, heal=HEAL, **values)
        return HTMLResponse(text, headers={"cache-control": "private, no-store"})

    async def account(self, request: Request) -> Response:
        return self.html("account", request)

    async def join(self, request: Request) -> Response:
        return self.html("join", request)

    async def jwks(self, _: Request) -> Response:
        return JSONResponse(self.tokens.jwks(), headers={"cache-control": "public, max-age=60"})

    async def login(self, request: Request) -> Response:
        return self.html("login", request, next=own_path(request.headers.get("referer", "/")))

    async def enter(self, request: Request) -> Response:
        """Post/Redirect/Get: sets the two cookies, or clears them for nobody."""
        form = dict(parse_qsl((await request.body()).decode("utf-8", "replace")))
        user = form.get("user", "")
        response = RedirectResponse(own_path(form.get("next", "/")), 303)
        front, signature = self.tokens.sign(user, time.time()) if user in USERS else ("", "")
        for name, value, hidden in ((PAYLOAD, front, False), (SIGNATURE, signature, True)):
            response.set_cookie(
                name, value, max_age=SIGNED_IN if value else 0, path="/", httponly=hidden, samesite="lax"
            )
        return response

    def controls(self, request: Request) -> Mapping[str, int]:
        """The control ports: those told, or those beside the port that this service was asked on."""
        own = request.scope["server"][1] or 0
        return {name: own + place + 100 for name, place in OTHERS.items()} if self.told is None else self.told

    async def states(self, request: Request) -> dict[str, str]:
        controls = self.controls(request)
        answers = await asyncio.gather(*(exchange(port, "GET /_fault") for port in controls.values()))
        return {name: str(answer.get("mode", "gone")) for name, answer in zip(controls, answers, strict=True)}

    async def strip(self, request: Request) -> Response:
        return self.html("strip", request, states=await self.states(request), open="demo-strip" in request.cookies)

    async def board(self, request: Request) -> Response:
        return self.html("board", request, states=await self.states(request))

    async def switch(self, request: Request) -> Response:
        form = dict(parse_qsl((await request.body()).decode("utf-8", "replace")))
        context, mode = form.get("context", ""), form.get("mode", "")
        port = self.controls(request).get(context)
        if port and mode in WORDS:
            heal = f"&heal={HEAL}" if context == "site" and mode == "down" else ""
            order = exchange(port, f"POST /_fault?mode={mode}{heal}")
            if context == "site" and mode == "down":  # this very answer must leave before the door shuts
                self.closing = asyncio.create_task(self.later(order))
            else:
                await order
        response = RedirectResponse(own_path(request.headers.get("referer", "/")), 303)
        response.set_cookie("demo-strip", "open", max_age=LIFETIME_OF_OPEN, path="/", httponly=True, samesite="lax")
        return response

    async def later(self, order: Awaitable[object]) -> None:
        await asyncio.sleep(0.3)
        await order


def create(controls: Mapping[str, int] | None = None) -> Fault:
    site = Site(controls)
    return Fault(Starlette(routes=[
        Route("/account", site.account),
        Route("/join", site.join),
        Route("/jwks.json", site.jwks),
        Route("/session", site.login, methods=["GET"]),
        Route("/session", site.enter, methods=["POST"]),
        Route("/strip", site.strip),
        Route("/switchboard", site.board, methods=["GET"]),
        Route("/switchboard", site.switch, methods=["POST"]),
    ]), spared="/switchboard")  # fmt: skip


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
    main(create(), port=9106)
