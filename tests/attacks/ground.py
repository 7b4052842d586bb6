"""What attacks are made on: a whole gateway in this process, behind our own server, with raw bytes at both ends.

Contexts are scripts by path, on one upstream that remembers everything it was asked. Nothing here promises anything.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
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
from bff.model import Purge
from bff.registry import Registry
from tests.fakes import PATIENCE
from tests.gateway import wire as front
from tests.gateway.proxies import Asked, parsed, said
from tests.upstream import wire as back

NONE: Mapping[str, str] = MappingProxyType({})
SHELL = (
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>T</title></head>\n'
    "<body><main>SLOTS</main><footer>the end</footer></body></html>\n"
)
CARD: Mapping[str, Any] = MappingProxyType({"path": "/card"})
KEEP = "max-age=60"

Said = Callable[[Asked], bytes]


@dataclass
class Context:
    """The one upstream: what each path answers, and who asked. Paths without an answer are 404."""

    answers: dict[str, bytes | Said] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    def html(self, path: str, body: bytes | str, **headers: str) -> None:
        """`headers` by name, "_" for "-"."""
        data = body if isinstance(body, bytes) else body.encode()
        self.answers[path] = said(data, content_type="text/html; charset=utf-8", **headers)

    def to(self, path: str) -> list[Asked]:
        return [each for each in self.asked if each.target.partition("?")[0] == path]

    async def __call__(self, peer: back.Peer) -> None:
        while head := await peer.head():
            asked = parsed(head)
            asked.body = await _body(peer, asked)
            self.asked.append(asked)
            await self.gate.wait()
            answer = self.answers.get(asked.target.partition("?")[0], said(b"no", "404 Not Found"))
            await peer.send(answer(asked) if callable(answer) else answer)


async def _body(peer: back.Peer, asked: Asked) -> bytes:
    """A body as plain as the gateway sends it: chunks without extensions, no trailers."""
    if "transfer-encoding" not in asked.headers:
        return await peer.reader.readexactly(int(asked.headers.get("content-length", "0")))
    assert asked.headers["transfer-encoding"] == "chunked"
    assert "content-length" not in asked.headers
    body = b""
    while size := int(await peer.reader.readuntil(b"\r\n"), 16):
        body += (await peer.reader.readexactly(size + 2))[:-2]
    assert await peer.reader.readexactly(2) == b"\r\n"
    return body


@dataclass
class Ground:
    """The running whole."""

    gateway: Gateway
    running: Running
    server: front.Running
    context: Context
    logged: list[bytes]

    async def raw(self, data: bytes) -> front.Answer:
        """Bytes on a connection of their own; the first answer."""
        client = await self.server.connect()
        await client.send(data)
        async with asyncio.timeout(PATIENCE):
            return await client.answer()

    async def ask(
        self, target: str = "/page", method: str = "GET", body: bytes = b"", headers: Mapping[str, str] = NONE
    ) -> front.Answer:
        """One request; `headers` replace the Host header too."""
        client = await self.server.connect()
        await client.send(request(target, method, body, headers))
        async with asyncio.timeout(PATIENCE):
            return await client.answer(head=method == "HEAD")

    async def page(self, target: str = "/page", **headers: str) -> str:
        """A page's text; header names with "_" for "-"."""
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        return (await self.ask(target, headers={"Accept": "text/html"} | named)).body.decode()

    async def renewed(self) -> Ground:
        """Itself as it was at the beginning: nothing asked, nothing kept."""
        self.context.asked.clear()
        self.context.answers.clear()
        self.context.html("/card", "<p>card</p>")
        await self.running.invalidation.changes.purge(Purge(kind="all"))
        return self

    def lines(self) -> list[str]:
        """All that was logged."""
        self.gateway.log.flush()
        return b"".join(self.logged).decode().split("\n")[:-1]


def request(target: str, method: str = "GET", body: bytes = b"", headers: Mapping[str, str] = NONE) -> bytes:
    length = {"content-length": str(len(body))} if body or method in ("POST", "PUT") else {}
    lines = {"host": "shop.example", **length, **{name.lower(): text for name, text in headers.items()}}
    head = "".join(f"{name}: {text}\r\n" for name, text in lines.items())
    return f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body


def registration(
    slots: str = '<bff-fragment name="shop/card"></bff-fragment>',
    fragments: Mapping[str, Any] | None = None,
    page: Mapping[str, Any] = NONE,
    **rest: Any,
) -> dict[str, Any]:
    """A context.yaml of `shop` with one page at /page that shows `slots`; `rest`: more of it."""
    entry = {"path": "/page", "template": "pages/page.html", "_slots": slots} | dict(page)
    return {"fragments": dict(fragments or {"card": dict(CARD)}), "pages": {"page": entry}, **rest}


def written(
    folder: Path, contexts: Mapping[str, Mapping[str, Any]], upstream: str, settings: Mapping[str, Any]
) -> Path:
    """Registrations and settings as files (JSON is YAML); gives bff.yaml."""
    for name, given in contexts.items():
        root = folder / "fragments" / name
        made = {"owner": f"team-{name}", "upstream": upstream, **given}
        for key, page in given.get("pages", {}).items():
            made["pages"] = {**made["pages"], key: {k: v for k, v in page.items() if k != "_slots"}}
            file = root / page["template"]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(SHELL.replace("SLOTS", page.get("_slots", "")))
        root.mkdir(parents=True, exist_ok=True)
        (root / "context.yaml").write_text(json.dumps(made))
    (folder / "bff.yaml").write_text(json.dumps({"watch": False, "trusted_proxies": ["127.0.0.1"], **settings}))
    return folder / "bff.yaml"


@asynccontextmanager
async def ground(
    folder: Path,
    shop: Mapping[str, Any] | None = None,
    *,
    others: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    settings: Mapping[str, Any] = NONE,
    dev: bool = False,
    **limits: float,
) -> AsyncIterator[Ground]:
    """A gateway with the context `shop` (by default one page with one card) and `others`, all on one upstream.

    Loopback is a trusted proxy: `X-Forwarded-User` names who is signed in.
    """
    context = Context()
    context.html("/card", "<p>card</p>")
    async with back.serving(context) as fake:
        upstream = f"http://{fake.upstream.authority}"
        file = written(folder, {"shop": shop or registration(), **others}, upstream, settings)
        read, _ = read_settings(file, env={})
        registry = Registry(read, {}, config=file)
        world = registry.load()
        assert not [finding for finding in world.findings if finding.severity == "error"], world.findings
        logged: list[bytes] = []
        gateway = make(read, registry, log=Log(write=logged.append), dev=dev)
        async with (
            gateway.started() as running,
            front.serving(gateway, hosts=tuple(read.hosts), leaving=gateway.drain, **limits) as server,
        ):
            yield Ground(gateway, running, server, context, logged)
