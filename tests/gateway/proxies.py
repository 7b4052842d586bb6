"""A gateway with one proxy route over real sockets: our own server in front, a scripted upstream behind, raw bytes at both ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from bff.config.settings import read_settings
from bff.gateway.app import Gateway
from bff.gateway.logs import Log
from bff.gateway.process import make
from bff.gateway.wiring import Running
from bff.registry import Registry
from tests.fakes import PATIENCE
from tests.gateway import wire as front
from tests.upstream import wire as back

NONE: Mapping[str, str] = MappingProxyType({})
ROUTE = "proxy: [{path: '/shop/api/{rest:path}', to: '/api/{rest}', methods: '*'}]\n"


@dataclass
class Asked:
    """One request as the upstream read it."""

    line: str
    headers: dict[str, str]
    lines: list[str]
    body: bytes = b""

    @property
    def target(self) -> str:
        return self.line.split(" ")[1]


@dataclass
class Upstream:
    """An upstream that answers each request from a list, the last answer again and again; bodies by Content-Length are read."""

    answers: list[bytes]
    asked: list[Asked] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    async def __call__(self, peer: back.Peer) -> None:
        while head := await peer.head():
            asked = parsed(head)
            with contextlib.suppress(asyncio.IncompleteReadError):
                asked.body = await peer.reader.readexactly(int(asked.headers.get("content-length", "0")))
            self.asked.append(asked)
            await self.gate.wait()
            await peer.send(self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])


def parsed(head: bytes) -> Asked:
    line, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    return Asked(line, {name.lower(): value for name, value in (each.split(": ", 1) for each in lines)}, lines)


def said(body: bytes = b"hello", status: str = "200 OK", **headers: str) -> bytes:
    """An answer as bytes: `said(cache_control="max-age=60")`."""
    lines = {"content-length": str(len(body))} | {name.replace("_", "-"): text for name, text in headers.items()}
    head = "".join(f"{name}: {text}\r\n" for name, text in lines.items() if text)
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode("latin-1") + body


@dataclass
class Site:
    """The running whole."""

    gateway: Gateway
    running: Running
    server: front.Running
    fake: back.Fake

    async def connect(self) -> front.Client:
        return await self.server.connect()

    async def ask(
        self, target: str = "/shop/api/x", method: str = "GET", body: bytes = b"", headers: Mapping[str, str] = NONE
    ) -> front.Answer:
        """One request on a connection of its own."""
        client = await self.connect()
        await client.send(request(target, method, body, headers))
        async with asyncio.timeout(PATIENCE):
            answer = await client.answer(head=method == "HEAD")
        await client.close()
        return answer


def request(
    target: str = "/shop/api/x", method: str = "GET", body: bytes = b"", headers: Mapping[str, str] = NONE
) -> bytes:
    lines = {"Host": "shop.example", **({"Content-Length": str(len(body))} if body else {}), **headers}
    head = "".join(f"{name}: {text}\r\n" for name, text in lines.items())
    return f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body


@asynccontextmanager
async def site(
    folder: Path, script: back.Script, rest: str = ROUTE, settings: str = "", **limits: Any
) -> AsyncIterator[Site]:
    """`rest` of the registration beside owner and upstream; `settings`: lines of bff.yaml."""
    async with back.serving(script) as fake:
        shop = folder / "fragments" / "shop"
        shop.mkdir(parents=True, exist_ok=True)
        (shop / "context.yaml").write_text(f"owner: team-shop\nupstream: http://{fake.upstream.authority}\n{rest}")
        (folder / "bff.yaml").write_text(f"watch: false\n{settings}")
        async with beside(folder, fake, **limits) as made:
            yield made


@asynccontextmanager
async def beside(folder: Path, fake: back.Fake, **limits: Any) -> AsyncIterator[Site]:
    """A gateway of the registrations and settings in a folder: the first, or another one."""
    read, _ = read_settings(folder / "bff.yaml", env={})
    registry = Registry(read, {}, config=folder / "bff.yaml")
    world = registry.load()
    assert not [finding for finding in world.findings if finding.severity == "error"], world.findings
    gateway = make(read, registry, log=Log(write=lambda _: None))
    async with gateway.started() as running, front.serving(gateway, **limits) as server:
        yield Site(gateway, running, server, fake)
