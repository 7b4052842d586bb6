"""A page of two healthy slots around one whose context does what a fault says, over real sockets; and what must be true of it.

Nothing here promises anything. Faults are scripts of raw bytes, one connection of the upstream each.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from types import MappingProxyType
from typing import Any

from bff.config.settings import read_settings
from bff.gateway.app import Gateway
from bff.gateway.logs import Log
from bff.gateway.process import make
from bff.gateway.wiring import Running
from bff.registry import Registry
from tests.fakes import PATIENCE, until
from tests.gateway import wire as front
from tests.gateway.proxies import request, said
from tests.upstream import wire as back

NOTHING: Mapping[str, Any] = MappingProxyType({})
SHELL = (
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>T</title></head>\n<body><header>the top</header>'
    '<bff-fragment name="good/one"></bff-fragment><bff-fragment name="bad/slot"></bff-fragment>'
    '<bff-fragment name="good/two"></bff-fragment><footer>the end</footer></body></html>\n'
)
QUICK = {"first_byte": "200ms", "total": "300ms"}
HTML = {"content_type": "text/html"}
GROWTH = 50 * 1024 * 1024
VOID = frozenset({"meta", "link", "wbr", "br", "hr", "img", "input"})


@dataclass
class Seen:
    """A whole page: its bytes, and how each slot ended."""

    status: int
    text: str

    @property
    def states(self) -> dict[str, str]:
        """By fragment. Each slot's last state is its outcome."""
        return dict(re.findall(r'<bff-fragment name="([a-z/]+)"[^>]* state="([a-z]+)"', self.text))


@dataclass(frozen=True)
class Left:
    """What a process has of that which may be left behind."""

    tasks: int
    descriptors: int
    memory: int  # resident bytes

    @classmethod
    def now(cls) -> Left:
        return cls(len(asyncio.all_tasks()), _descriptors(), _memory())


@dataclass
class Ground:
    """The running whole."""

    gateway: Gateway
    running: Running
    server: front.Running
    bad: back.Fake
    baseline: Left

    async def page(self) -> Seen:
        client = await self.server.connect()
        await client.send(request("/page", headers={"Accept": "text/html"}))
        async with asyncio.timeout(PATIENCE):
            answer = await client.answer()
        await client.close()
        return Seen(answer.status, answer.body.decode())

    async def slots(self) -> dict[str, Any]:
        client = await self.server.connect()
        await client.send(request("/page", headers={"Accept": "application/json"}))
        async with asyncio.timeout(PATIENCE):
            answer = await client.answer()
        await client.close()
        assert answer.status == 200
        slots: dict[str, Any] = json.loads(answer.body)["slots"]
        return slots

    async def bad_slot(self) -> tuple[str, str]:
        """(outcome, reason) of the slot in trouble; the others are well."""
        slots = await self.slots()
        assert [slots[name]["outcome"] for name in ("one", "two")] == ["fresh", "fresh"]
        return slots["slot"]["outcome"], slots["slot"]["reason"]

    async def settled(self) -> None:
        """Quiet again: no place taken, no task, no descriptor that was not there before, and hardly any memory."""
        await until(lambda: not any(s.active or s.queued for s in self.running.client.stats().values()), "free places")
        await until(lambda: not self.server.server.shared.cycles, "the end of all requests")
        await self.running.client.aclose()
        await gone(self.baseline, peers=lambda: len(self.bad.running))


async def gone(baseline: Left, *, peers: Callable[[], int] = lambda: 0) -> None:
    """Wait until nothing is left that was not there before, but for a script's `peers` that go on."""
    await until(lambda: len(asyncio.all_tasks()) <= baseline.tasks + peers(), "the end of all tasks")
    await until(lambda: _descriptors() <= baseline.descriptors + 2 * peers(), "all descriptors closed")
    gc.collect()
    grown = _memory() - baseline.memory
    assert grown <= GROWTH, f"{grown / 2**20:.0f} MiB are held that were not before"


class Balance(HTMLParser):
    """Which elements are open, of a text in which each end tag must match."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> ends nothing"
        assert self.open.pop() == tag


def whole(page: Seen) -> None:
    """What every page is, whatever its contexts do: 200, complete, well-formed as its parts are, each slot with one end."""
    assert page.status == 200
    assert page.text.startswith("<!doctype html>")
    assert page.text.endswith("</body></html>\n")
    assert page.text.count("</body>") == page.text.count("the end") == 1
    assert page.states["good/one"] == page.states["good/two"] == "fresh"
    assert "<p>one</p>" in page.text
    assert "<p>two</p>" in page.text
    balance = Balance()
    balance.feed(page.text)
    balance.close()
    assert balance.open == []
    markers = set(re.findall(r'<\?start name="([^"]+)"', page.text))
    assert set(re.findall(r'<template for="([^"]+)"', page.text)) == markers


@asynccontextmanager
async def ground(
    folder: Path, script: back.Script, *, policy: Mapping[str, Any] = NOTHING, upstream: str = "", **bad: Any
) -> AsyncIterator[Ground]:
    """`bad`: more of its registration; `upstream`: where it is said to be, else at the script."""

    async def well(peer: back.Peer) -> None:
        while head := await peer.head():
            name = head.split(b" ")[1].strip(b"/")
            await peer.send(said(b"<p>%b</p>" % name, **HTML))

    async with back.serving(script) as fake, back.serving(well) as other:
        write(
            folder / "fragments" / "bad",
            owner="team-bad",
            upstream=upstream or f"http://{fake.upstream.authority}",
            policy={"timeout": QUICK, "retry": {"extra": 0}, **policy},
            fragments={"slot": {"path": "/slot"}},
            **bad,
        )
        site = folder / "fragments" / "good"
        write(
            site,
            owner="team-good",
            upstream=f"http://{other.upstream.authority}",
            fragments={"one": {"path": "/one"}, "two": {"path": "/two"}},
            pages={"page": {"path": "/page", "template": "pages/page.html"}},
        )
        (site / "pages").mkdir()
        (site / "pages" / "page.html").write_text(SHELL)
        (folder / "bff.yaml").write_text(json.dumps({"watch": False}))
        read, _ = read_settings(folder / "bff.yaml", env={})
        registry = Registry(read, {}, config=folder / "bff.yaml")
        world = registry.load()
        assert not [finding for finding in world.findings if finding.severity == "error"], world.findings
        gateway = make(read, registry, log=Log(write=lambda _: None))
        async with gateway.started() as running, front.serving(gateway) as server:
            yield Ground(gateway, running, server, fake, Left.now())


def write(folder: Path, **registration: Any) -> None:
    folder.mkdir(parents=True)
    (folder / "context.yaml").write_text(json.dumps(registration))


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def _memory() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
