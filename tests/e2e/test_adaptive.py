"""A context that gets slower the more it is asked at once, before a gateway whose limit adapts and before one whose does not."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from statistics import median
from typing import Any

import pytest

from tests.e2e.crowd import PAGE, gateways, numbers, page, settings
from tests.e2e.gateway import Process, Site
from tests.fakes import serving, until

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

WORKERS = 10
SECONDS = 0.15  # that each of them needs for an answer
VISITORS = 56
LONG = 60.0  # seconds for what takes a tenth of that where the machine has nothing else to do


class Busy:
    """Serves so many at once, all others wait; remembers how many were under way whenever one came."""

    def __init__(self) -> None:
        self.under = 0
        self.seen: list[int] = []
        self.over = False  # nobody comes any more
        self._answered = asyncio.Event()
        self._workers = asyncio.Semaphore(WORKERS)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        self.under += 1
        self.seen.append(self.under)
        try:
            async with self._workers:
                await asyncio.sleep(SECONDS)
        finally:
            self.under -= 1
            self._answered.set()
            self._answered = asyncio.Event()
        length = (b"content-length", b"9")
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/html"), length]})
        await send({"type": "http.response.body", "body": b"<p>1!</p>"})

    async def along(self) -> None:
        """Wait until one more has been answered, if any waits for that."""
        if self.under:
            await self._answered.wait()

    async def asked(self, times: int) -> list[int]:
        """Wait until it is asked so many more times; how many were under way each time."""
        before = len(self.seen)
        await until(lambda: len(self.seen) >= before + times, f"{times} requests", within=LONG)
        return self.seen[before:]


async def visit(gateway: Process, context: Busy) -> None:
    """One visitor after another, none of whom comes before the context has got along after one who was refused."""
    while not context.over:
        if "<p>1!</p>" not in await page(gateway):
            await context.along()


@contextlib.asynccontextmanager
async def visited(site: Site, adaptive: str) -> AsyncIterator[tuple[Busy, Process]]:
    context = Busy()
    async with serving(context) as origin:
        timeout = {"first_byte": "8s", "total": "9s"}
        policy = {"adaptive": adaptive, "cache": {"mode": "off"}, "retry": {"extra": 0}, "timeout": timeout}
        slot = '<bff-fragment name="shop/one" core></bff-fragment>'
        site.page(slot, {"one": {"path": "/one"}}, upstream=origin, page=PAGE, policy=policy)
        settings(site)
        async with gateways(site, patient=False) as (gateway,):
            visitors = [asyncio.create_task(visit(gateway, context)) for _ in range(VISITORS)]
            try:
                yield context, gateway
            finally:
                context.over = True
                await asyncio.gather(*visitors)


async def test_it_is_asked_about_as_much_as_it_can_do(site: Site) -> None:
    async with visited(site, "on") as (context, gateway):
        await context.asked(400)
        seen = await context.asked(200)
        limit = await numbers(gateway, "bff_upstream_limit")
    assert WORKERS <= median(seen) <= 3.5 * WORKERS
    assert sorted(seen)[len(seen) * 95 // 100] <= 4 * WORKERS
    assert 8 <= limit < VISITORS


async def test_otherwise_all_that_come_are_passed_on(site: Site) -> None:
    async with visited(site, "off") as (context, gateway):
        await context.asked(100)
        seen = await context.asked(100)
        limit = await numbers(gateway, "bff_upstream_limit")
    assert median(seen) >= 40
    assert limit == 0
