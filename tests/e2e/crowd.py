"""Gateways that share a store, and crowds of visitors before them. Knows pages by their address alone."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

from tests.e2e.gateway import BFF, Process, Site, running
from tests.e2e.wire import Exchange
from tests.fakes import PATIENCE, free_port

LONG = 30.0
"""Seconds that a crowd may take on a machine that has other things to do."""
TOKEN = "operators-own"
PATIENT = {"timeout": {"total": "30s"}, "concurrency": 256}
"""A policy under which what a test holds back is waited for."""
PAGE = {"path": "/page", "template": "pages/page.html", "deadline": "30s"}
ONE = '<bff-fragment name="shop/one"></bff-fragment>'


def arguments(site: Site, port: int) -> list[str]:
    where = ["--config", str(site.root / "bff.yaml"), "--fragments", str(site.fragments)]
    return ["serve", *where, "--host", "127.0.0.1", "--port", str(port)]


def settings(site: Site, **more: object) -> None:
    """Visitors are whom a header names; nothing is looked at again while a test runs."""
    common = {"trusted_proxies": ["127.0.0.1"], "watch": False, "secret": "kept", "admin": {"token": TOKEN}}
    common["ceilings"] = {"timeout.total": "60s"}
    site.settings(common | more)


@contextlib.asynccontextmanager
async def gateways(site: Site, count: int = 1, *, patient: bool = True) -> AsyncIterator[list[Process]]:
    """So many processes of `bff serve`, all of the same settings; `patient`: they wait for their store (see there)."""
    command = (sys.executable, str(Path(__file__).with_name("patient.py"))) if patient else (str(BFF),)
    async with contextlib.AsyncExitStack() as stack:
        ports = [free_port() for _ in range(count)]
        starting = (
            stack.enter_async_context(
                running(
                    *arguments(site, port), port=port, log=site.root / f"gateway-{port}.log", ready=60, command=command
                )
            )
            for port in ports
        )
        yield [await each for each in starting]


@contextlib.asynccontextmanager
async def doomed(site: Site) -> AsyncIterator[Process]:
    """A gateway that ends by SIGKILL when the block does, without a chance to do anything about it."""
    port = free_port()
    log = site.root / f"doomed-{port}.log"
    with log.open("wb") as sink:
        process = await asyncio.create_subprocess_exec(
            str(BFF), *arguments(site, port), stdout=sink, stderr=sink, start_new_session=True
        )
    gateway = Process(process, f"http://127.0.0.1:{port}", log)
    try:
        await gateway.ready(60)
        yield gateway
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        sys.stderr.write(f"── what the one that was killed said ──\n{gateway.logs()}\n")


async def page(gateway: Process, path: str = "/page", **headers: str) -> str:
    async with await gateway.get(path, **headers) as answer:
        assert answer.status == 200, await answer.rest()
        return await answer.rest(LONG)


class Crowd:
    """Visitors of one page who came at the same time, each on a connection of its own."""

    def __init__(self, visitors: Sequence[Exchange]) -> None:
        self.visitors = visitors

    @classmethod
    @contextlib.asynccontextmanager
    async def coming(
        cls, *origins: Process, count: int, who: Callable[[int], str] | None = None, early: bool = True
    ) -> AsyncIterator[Crowd]:
        """`early`: all have been sent what comes before slots are filled when the block begins, so that all have asked."""
        async with contextlib.AsyncExitStack() as stack:

            async def come(number: int) -> Exchange:
                headers = {} if who is None else {"x_forwarded_user": who(number)}
                visitor = await origins[number % len(origins)].get("/page", **headers)
                stack.push_async_callback(visitor.leave)
                if early:
                    await visitor.until("the end", LONG)
                return visitor

            yield cls(await asyncio.gather(*(come(number) for number in range(count))))

    async def pages(self) -> list[str]:
        """The whole page of each."""
        return await asyncio.gather(*(visitor.rest(LONG) for visitor in self.visitors))


async def told(gateway: Process, path: str, body: bytes) -> str:
    """Ask the admin API."""
    headers = {"authorization": f"Bearer {TOKEN}", "content-type": "application/json"}
    async with await gateway.ask(path, method="POST", headers=headers, body=body) as answer:
        said = await answer.rest()
        assert answer.status == 200, said
        return said


async def numbers(gateway: Process, name: str) -> float:
    """A metric, summed over its labels and over the workers."""
    async with await gateway.get("/_bff/metrics") as answer:
        lines = (await answer.rest()).splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))


async def eventually(condition: Callable[[], Awaitable[object]], what: str, within: float = PATIENCE) -> None:
    """Ask other processes until it is so."""
    try:
        async with asyncio.timeout(within):
            while not await condition():  # noqa: ASYNC110 - what is asked is another process
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"not within {within} s: {what}") from None
