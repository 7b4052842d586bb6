"""Proxy routes as an HTTP cache, behaviour by behaviour, over real sockets and under a clock that the test moves."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from pathlib import Path

import pytest

from tests.fakes import PATIENCE
from tests.gateway import wire as front
from tests.gateway.behaviours import PAUSE, Case, Lines, Step, cases
from tests.gateway.proxies import Asked, Site, parsed, site
from tests.upstream.wire import Peer, until

pytestmark = pytest.mark.anyio

_COOKIE = "a response with Set-Cookie is never stored (contract §2); one that is granted reaches who asked alone"
_PART = "parts are passed on, not stored: a client's own ranges seldom fit another's"
_PRIVATE = "whoever forwards authorization keeps answers by principal, whatever they say (contract §2)"
KNOWN = {
    "Content-Range is kept": "a 200 with Content-Range contradicts itself and is not stored",
    "Clear-Site-Data is kept": "it holds for the whole origin, which a context shares with others",
    "Set-Cookie is kept": _COOKIE,
    "Set-Cookie2 is kept": _COOKIE,
    "Set-Cookie": _COOKIE,
    "Transfer-Encoding is not kept": "a coding that nobody knows cannot be taken off (RFC 9112 §6.1): 502",
    **dict.fromkeys((f"bytes={each} of a kept part" for each in ("-5", "6-8", "6-", "-1")), _PART),
    "a kept part is completed": _PART,
    "Vary: language, chosen": "which answer a new list of languages selects is the context's to say",
    "a POST's answer for GET": "an answer to POST is never stored",
    **dict.fromkeys(
        (
            f"Authorization with {each}"
            for each in ("max-age=3600, public", "max-age=3600, must-revalidate", "s-maxage=3600")
        ),
        _PRIVATE,
    ),
}
"""Behaviours that are not had, and why."""

ROUTES = """\
grant: {cookies: [a]}
proxy:
  - {path: '/open/{rest:path}', to: '/{rest}', methods: '*', forward: {headers: '*'}}
  - {path: '/known/{rest:path}', to: '/{rest}', methods: '*', forward: {headers: ['*', authorization]}}
"""


class Clock:
    """The time as the gateway and the origin have it."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def now(self) -> float:
        return time.monotonic() + self.ahead

    def wall(self) -> float:
        return time.time() + self.ahead


@dataclass
class Origin:
    """Answers each request as the step that it belongs to says; `asked` by path."""

    clock: Clock
    cases: dict[str, Case] = field(default_factory=dict)
    asked: dict[str, list[Asked]] = field(default_factory=dict)

    async def __call__(self, peer: Peer) -> None:
        while head := await peer.head():
            asked = parsed(head)
            await peer.reader.readexactly(int(asked.headers.get("content-length", "0")))
            key = asked.target.strip("/").partition("?")[0]
            self.asked.setdefault(key, []).append(asked)
            number = int(asked.headers["step"]) if "step" in asked.headers else len(self.cases[key].steps) - 1
            answer = self.answer(self.cases[key], number, asked)
            if answer is None:
                return
            await peer.send(answer)

    def answer(self, case: Case, number: int, asked: Asked) -> bytes | None:
        step = case.steps[number]
        if step.cut:
            return None
        early = b"".join(f"HTTP/1.1 {status} Early\r\n{self.head(lines)}\r\n".encode() for status, lines in step.early)
        conditional = "if-none-match" in asked.headers or "if-modified-since" in asked.headers
        count = f"Count: {number}\r\n"
        if step.seen in ("by-tag", "by-date") and conditional:
            return early + f"HTTP/1.1 304 Not Modified\r\n{self.head(step.origin)}{count}\r\n".encode()
        text = (
            step.text
            if step.text is not None
            else next((each.text for each in case.steps if each.text), "twenty-four bytes of text")[:24]
        )
        body = b"" if step.status in (204, 304) or asked.line.startswith("HEAD") else text.encode()
        dated = [] if any(name == "Date" for name, _ in step.origin) else [("Date", 0)]
        length = "" if step.status == 204 else f"Content-Length: {len(body)}\r\n"
        return (
            early
            + f"HTTP/1.1 {step.status} Said\r\n{self.head([*step.origin, *dated])}{count}{length}\r\n".encode()
            + body
        )

    def head(self, lines: Lines) -> str:
        told = ((name, value if isinstance(value, str) else self.date(value)) for name, value in lines)
        return "".join(f"{name}: {value}\r\n" for name, value in told)

    def date(self, ahead: int) -> str:
        return formatdate(int(self.clock.wall()) + ahead, usegmt=True)


@asynccontextmanager
async def cache(folder: Path) -> AsyncIterator[tuple[Site, Origin]]:
    """A gateway whose store and rules have the test's clock."""
    origin = Origin(Clock())
    async with site(folder, origin, ROUTES) as shop:
        proxy, clock = shop.running.proxy, origin.clock
        ground = proxy._ground
        proxy._ground = replace(ground, clock=clock.now, random=lambda: 1.0)
        ground.keeping._clock, ground.keeping._wall, ground.flights._clock = clock.now, clock.wall, clock.now
        yield shop, origin


def violations(
    case: Case, step: Step, number: int, answer: front.Answer, first: front.Answer, before: int, asked: Sequence[Asked]
) -> list[str]:
    """What of one answer is not as it should be."""
    found = []
    new = asked[before:]
    count = answer.headers.get("count")
    status = step.got or step.status
    if step.seen == "cached" and (count == str(number) or (new and not step.origin)):
        found.append("does not come from the cache")
    if step.seen == "asked" and count != str(number):
        found.append("comes from the cache")
    wanted = {"by-tag": "if-none-match", "by-date": "if-modified-since"}.get(step.seen)
    if wanted and not (new and wanted in new[0].headers):
        found.append(f"was not asked about with {wanted}")
    if answer.status != status:
        found.append(f"is {answer.status}, not {status}")
    if step.gives is not None and answer.body.decode() != step.gives:
        found.append(f"gives {answer.body!r}")
    for name, value in step.has:
        got = answer.headers.get(name.lower(), "")
        expected = first.headers.get(name.lower(), "") if value == "=" else value
        if not (int(got or 0) > value if isinstance(value, int) else got == expected):
            found.append(f"has {name} {got!r}, not {expected!r}")
    found += [f"has {name}" for name in step.lacks if name.lower() in answer.headers]
    for name, value in step.asks:
        if not new or new[0].headers.get(name.lower()) != value:
            found.append(f"was not asked with {name}: {value}")
    return [f"{number}: {each}" for each in found]


async def run(case: Case, shop: Site, origin: Origin) -> list[str]:
    """All steps of a case; what was wrong."""
    key = re.sub(r"[^a-z0-9]", lambda match: f"-{ord(match[0]):x}-", case.name.lower())
    origin.cases[key] = case
    route = "known" if any(name == "Authorization" for step in case.steps for name, _ in step.sent) else "open"
    found: list[str] = []
    first = None
    client = await shop.connect()
    for number, step in enumerate(case.steps):
        asked = origin.asked.setdefault(key, [])
        before = len(asked)
        sent = [("Host", "shop.example"), ("Step", str(number)), *step.sent]
        sent += [("Content-Length", str(len(step.body)))] if step.body else []
        lines = "".join(
            f"{name}: {value if isinstance(value, str) else origin.date(value)}\r\n" for name, value in sent
        )
        await client.send(f"{step.method} /{route}/{key}{step.path} HTTP/1.1\r\n{lines}\r\n{step.body}".encode())
        answer = await client.answer()
        for status, early in step.early:
            if answer.status != status or any(answer.headers.get(name) != value for name, value in early):
                found.append(f"{number}: {status} did not pass")
                break
            answer = await client.answer()
        first = first or answer
        await until(lambda: not shop.running.proxy._ground.flights._all)
        found += violations(case, step, number, answer, first, before, asked)
        if answer.headers.get("connection") == "close":
            client = await shop.connect()
        if step.pause:
            origin.clock.ahead += PAUSE
    await client.close()
    return found


async def test_how_a_cache_behaves(tmp_path: Path) -> None:
    failed: dict[str, list[str]] = {}
    told = cases()
    async with cache(tmp_path) as (shop, origin):
        for case in told:
            async with asyncio.timeout(PATIENCE):
                wrong = await run(case, shop, origin)
            if wrong:
                failed[case.name] = wrong

    unknown = {name: wrong for name, wrong in failed.items() if name not in KNOWN}
    assert not unknown, "\n".join(f"{name}: {wrong}" for name, wrong in unknown.items())
    assert not set(KNOWN) - set(failed), "they are had by now"
    had = [case for case in told if case.name not in failed]
    assert sum(case.required for case in had) >= 154
    assert sum(not case.required for case in had) >= 93
