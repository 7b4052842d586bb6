"""Values and fakes for unit tests of the pipeline: registrations without files, upstreams without sockets, time without a clock."""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any, Literal, cast

from bff.markup.check import Checker
from bff.model import (
    Ask,
    Exchange,
    Failure,
    Forward,
    Fragment,
    Headers,
    Hole,
    Page,
    Param,
    Policy,
    Purge,
    Reason,
    Ref,
    Reply,
    Report,
    Result,
    Shell,
    Slot,
    Timing,
    Upstream,
)
from bff.page.call import Visit
from bff.page.compose import Composition
from bff.page.plan import Csp, Planner
from bff.page.replica import Replica
from bff.page.resolve import Resolver
from bff.page.tasks import Underway
from bff.rules.caching import fields
from bff.rules.policy import merge, parse
from bff.rules.tasks import Signer
from bff.store.memory import MemoryStore
from bff.store.record import Record, updated
from bff.store.tier import Tier
from bff.timer import Timer
from bff.upstream.guard import Counts
from bff.upstream.guarded import Guarded
from bff.upstream.sources.content import Source
from bff.upstream.sources.html import HtmlSource
from bff.upstream.sources.json import JsonSource

UPSTREAM = Upstream(scheme="http", host="127.0.0.1", port=9100, authority="127.0.0.1:9100")
WALL = 1_750_000_000.0
"""What the wall clock says when the virtual clock says 0."""


def text_param(name: str, **more: Any) -> Param:
    return Param(name=name, type="str", parse=lambda text: text if len(text) <= 256 else None, **more)


def int_param(name: str, **more: Any) -> Param:
    return Param(name=name, type="int", parse=lambda text: str(int(text)) if text.isdecimal() else None, **more)


def policy(*, primary: bool = False, private: bool = False, **layer: str) -> Policy:
    """The built-in policy with some keys set: `policy(cache__fresh="30s")`."""
    parsed = {name.replace("__", "."): parse(name.replace("__", "."), text) for name, text in layer.items()}
    return merge([("fragment", parsed)], primary=primary, private=private)[0]


def fragment(name: str = "shop/card", *, layer: Mapping[str, str] | None = None, **more: Any) -> Fragment:
    """A fragment at /<fragment>, or with a parameter `n` at /<fragment>/{n}."""
    context, _, short = name.partition("/")
    params = more.pop("params", {})
    path = more.pop("path", (f"/{short}/", Ref("param", next(iter(params))), "") if params else (f"/{short}",))
    parsed = {key: parse(key, text) for key, text in (layer or {}).items()}
    layers = (("fragment", parsed),)
    forward: Forward = more.get("forward", Forward())
    private = bool(forward.cookies or forward.principal or "authorization" in forward.headers)
    private = private or any(param.principal for param in params.values())
    made, origins = merge(layers, private=private)
    return Fragment(
        name=name,
        context=context,
        owner=f"team-{context}",
        upstream=UPSTREAM,
        path=path,
        params=params,
        policy=made,
        origins=origins,
        layers=layers,
        version="1",
        **more,
    )


def slot(index: int, name: str = "shop/card", **more: Any) -> Slot:
    return Slot(index=index, fragment=name, key=more.pop("key", f"{name.partition('/')[2]}-{index}"), **more)


def shell(*parts: bytes | Hole | Slot) -> Shell:
    return Shell(parts=parts, slots=tuple(part for part in parts if isinstance(part, Slot)))


def document(*inside: bytes | Hole | Slot) -> Shell:
    head = b'<!doctype html><html lang="en"><head><meta charset="utf-8">'
    return shell(
        head,
        Hole("title", b"<title>T</title>"),
        Hole("head"),
        b"</head><body>",
        *inside,
        Hole("body"),
        b"</body></html>",
    )


def page(made: Shell, route: str = "/p", **more: Any) -> Page:
    return Page(name=more.pop("name", "shop/p"), context="shop", owner="team-shop", route=route, shell=made, **more)


def planner(*pages: Page, fragments: Mapping[str, Fragment] | None = None, csp: Csp | None = None) -> Planner:
    accept = {"html": "text/html", "json": "application/json", "podium": "text/html"}
    return Planner({each.name: each for each in pages}, fragments or {}, accept=accept, ceilings={}, csp=csp or Csp({}))


class VirtualLoop:
    """As much of an event loop as `Timer` needs, with time that moves when told."""

    def __init__(self) -> None:
        self.now = 0.0
        self._heap: list[tuple[float, int, VirtualHandle]] = []
        self._ids = count()

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, call: Callable[[], None]) -> VirtualHandle:
        handle = VirtualHandle(call)
        heapq.heappush(self._heap, (self.now + delay, next(self._ids), handle))
        return handle

    def call_soon(self, call: Callable[[], None]) -> VirtualHandle:
        return self.call_later(0.0, call)

    def advance(self, seconds: float) -> None:
        """Let time pass, running what becomes due in its order."""
        until = self.now + seconds
        while self._heap and self._heap[0][0] <= until:
            when, _, handle = heapq.heappop(self._heap)
            self.now = max(self.now, when)
            if not handle.cancelled:
                handle.call()
        self.now = until

    @property
    def idle(self) -> bool:
        return all(handle.cancelled for _, _, handle in self._heap)


@dataclass
class VirtualHandle:
    call: Callable[[], None]
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


@dataclass
class Flown:
    """One exchange that was asked for: the test says how it ends."""

    ask: Ask
    done: Callable[[Reply | Failure], None]
    cancelled: bool = False
    ended: bool = False

    def cancel(self) -> None:
        self.cancelled = True

    def reply(self, body: bytes = b"<p>x</p>", status: int = 200, kind: bytes = b"text/html", **headers: str) -> None:
        assert not self.cancelled
        assert not self.ended
        self.ended = True
        lines = [(name.replace("_", "-").encode(), text.encode()) for name, text in headers.items()]
        lines.insert(0, (b"content-type", kind))
        self.done(Reply(status, lines, body, Timing(total=0.01), fields(lines)))

    def fail(self, reason: Reason = Reason.CONNECT, status: Literal["connect", "timeout", "reset"] = "connect") -> None:
        assert not self.cancelled
        assert not self.ended
        self.ended = True
        self.done(Failure(reason, status, "as the test says"))

    @property
    def headers(self) -> dict[str, str]:
        lines = self.ask.headers.decode().split("\r\n")
        return {name: text for name, _, text in (line.partition(": ") for line in lines if line)}


class Upstreams:
    """The `fetch` port: remembers every exchange."""

    def __init__(self) -> None:
        self.flown: list[Flown] = []

    def __call__(self, ask: Ask, done: Callable[[Reply | Failure], None]) -> Exchange:
        self.flown.append(Flown(ask, done))
        return self.flown[-1]

    @property
    def open(self) -> list[Flown]:
        return [each for each in self.flown if not each.ended and not each.cancelled]

    def to(self, target: str) -> Flown:
        """The open exchange for a target."""
        (found,) = [each for each in self.open if each.ask.target == target]
        return found


@dataclass
class Seen:
    """Telemetry that remembers."""

    slots: list[tuple[str, str, str]] = field(default_factory=list)
    pages: list[Report] = field(default_factory=list)
    cached: list[str] = field(default_factory=list)
    inflight: Counter[str] = field(default_factory=Counter)
    joined: int = 0
    upstreams: list[str] = field(default_factory=list)
    evictions: list[str] = field(default_factory=list)
    sheds: list[str] = field(default_factory=list)

    def page(self, report: Report) -> None:
        self.pages.append(report)

    def slot(self, fragment: str, result: Result) -> None:
        self.slots.append((fragment, result.outcome.value, result.reason.value))

    def upstream(self, fragment: Fragment, status: int | str, seconds: float) -> None:
        del fragment, seconds
        self.upstreams.append(str(status))

    def cache(self, fragment: str, result: Literal["hit", "miss", "stale", "revalidated", "bypass"]) -> None:
        del fragment
        self.cached.append(result)

    def coalesced(self, fragment: str) -> None:
        del fragment
        self.joined += 1

    def evicted(self, reason: str) -> None:
        self.evictions.append(reason)

    def shed(self, limit: str) -> None:
        self.sheds.append(limit)


class Shelf:
    """A second tier in memory that several worlds may share. `away` is True while it cannot be reached."""

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}
        self.kept: dict[str, float] = {}
        self.leases: set[str] = set()
        self.values: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.away = False
        self.reached = True

    @property
    def settled(self) -> bool:
        return self.reached

    async def get(self, key: str) -> Record | None:
        self.asked.append(key)
        return None if self.away else self.records.get(key)

    async def put(self, record: Record, *, keep: float, began: float) -> None:
        del began
        self.records[record.key], self.kept[record.key] = record, keep

    async def touch(self, key: str, headers: Headers, born: float, *, keep: float, began: float) -> None:
        del began
        record = self.records[key]
        self.records[key] = replace(record, born=born, headers=updated(record.headers, headers))
        self.kept[key] = keep

    async def lease(self, key: str, seconds: float) -> bool:
        del seconds
        if self.away:
            return True
        mine = key not in self.leases
        self.leases.add(key)
        return mine

    async def release(self, key: str) -> None:
        self.leases.discard(key)

    async def purge(self, *purges: Purge) -> bool:
        raise NotImplementedError

    def subscribe(self, heard: Callable[[Purge, float], None]) -> None:
        raise NotImplementedError

    async def value(self, name: str) -> bytes | None:
        return None if self.away else self.values.get(name)

    async def set_value(self, name: str, data: bytes, *, keep: float | None = None) -> None:
        del keep
        if not self.away:
            self.values[name] = data

    async def add_value(self, name: str, data: bytes) -> bytes:
        raise NotImplementedError

    async def start(self) -> None:
        raise NotImplementedError

    async def aclose(self) -> None:
        raise NotImplementedError


class World:
    """A resolver with everything around it faked but its rules, its store and its checks."""

    def __init__(
        self,
        *pages: Page,
        fragments: Mapping[str, Fragment] | None = None,
        tier: Tier | None = None,
        loop: VirtualLoop | None = None,
        chance: Callable[[], float] = lambda: 1.0,
        more: Mapping[str, Source] | None = None,
        counts: Counts | None = None,
    ) -> None:
        """`counts`: exchanges are guarded, and what was decided is told there."""
        self.loop = loop or VirtualLoop()
        self.timer = Timer(cast(asyncio.AbstractEventLoop, self.loop))
        self.upstreams = Upstreams()
        self.seen = Seen()
        self.store = MemoryStore(1024 * 1024, self.seen.evicted)
        self.checker = Checker()
        self.planner = planner(*pages, fragments=fragments)
        self.tasks = Underway(Signer(["a secret"]), lambda: WALL + self.loop.time(), tier)
        sources: dict[str, Source] = {
            "html": HtmlSource(self.checker),
            "json": JsonSource(self.checker),
            **(more or {}),
        }
        clock, wall = self.loop.time, lambda: WALL + self.loop.time()
        self.replica = None if tier is None else Replica(tier, sources, clock=clock, wall=wall)
        made = cast(asyncio.AbstractEventLoop, self.loop)
        guarded = None if counts is None else Guarded(self.upstreams, made, self.timer, counts=counts)
        self.resolver = Resolver(
            store=self.store,
            replica=self.replica,
            fetch=self.upstreams if guarded is None else guarded.start,
            guards=guarded,
            sources=sources,
            checker=self.checker,
            timer=self.timer,
            telemetry=self.seen,
            tasks=self.tasks,
            clock=clock,
            wall=wall,
            chance=chance,
        )

    def visit(self, principal: str | None = None, **headers: str) -> Visit:
        fields = [(name.replace("_", "-").encode(), text.encode()) for name, text in headers.items()]
        until = self.loop.time() + 1.95
        return Visit(principal=principal, locale="en", fields=fields, trace=b"x-request-id: r1\r\n", until=until)

    def compose(self, path: str = "/p", query: str = "", principal: str | None = None) -> Composition:
        planned = self.planner.find(path.encode(), query.encode(), principal, "en")
        assert planned is not None
        visit = self.visit(principal)
        return Composition(
            planned,
            visit,
            planner=self.planner,
            resolver=self.resolver,
            telemetry=self.seen,
            clock=self.loop.time,
        )
