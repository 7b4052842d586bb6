"""A change at its source reaches the next page: over the webhook, over the bus, by `bff purge`, in all workers."""

import asyncio
import contextlib
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bff.paths import demo_folder
from tests.e2e.gateway import BFF, Process, Site, running
from tests.e2e.wire import ask
from tests.fakes import free_port
from tests.redis import redis_server

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

PAGE = "/courses/HarborX+NAV101"
COURSE = "/api/v1/courses/HarborX+NAV101/"
TITLE = "Winds and tides"
CONTROL = 100
FRESH = {"contexts": {"discovery": {"cache": {"mode": "fixed", "fresh": "1h"}}}}
"""Nothing becomes old by itself while a test runs."""


@contextlib.asynccontextmanager
async def discovery(**env: str) -> AsyncIterator[str]:
    """The demo's publisher as a process; gives its origin."""
    port = next(port for port in iter(free_port, 0) if port + CONTROL < 1 << 16)
    script = str(demo_folder() / "discovery" / "service.py")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, script, "--port", str(port)), stdout=asyncio.subprocess.PIPE, env={**os.environ, **env}
    )
    assert process.stdout is not None
    try:
        assert await process.stdout.readline(), "it did not start"
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        await process.wait()


async def get(origin: str, path: str) -> tuple[int, str]:
    async with await ask(origin, path) as answer:
        return answer.status, await answer.rest()


async def has_title(origin: str) -> bool:
    """Whether the page that is loaded now shows the changed title."""
    status, html = await get(origin, PAGE)
    assert status == 200, html
    return TITLE in html


async def shown(origin: str) -> None:
    """Wait until the page has the changed title; what is marked stale is fetched at once, but not in no time."""
    async with asyncio.timeout(20):
        while not await has_title(origin):  # noqa: ASYNC110 - other processes do it
            await asyncio.sleep(0.01)


async def rename(origin: str) -> None:
    told = json.dumps({"title": TITLE}).encode()
    async with await ask(origin, COURSE, method="PATCH", body=told) as answer:
        assert answer.status == 200, await answer.rest()


def demo(site: Site, upstream: str, **settings: object) -> None:
    """The demo's registrations with discovery at `upstream`; the other contexts are away."""
    shutil.rmtree(site.fragments)
    shutil.copytree(demo_folder(), site.fragments, ignore=shutil.ignore_patterns("__pycache__"))
    file = site.fragments / "discovery" / "context.yaml"
    file.write_text(file.read_text().replace("http://127.0.0.1:9102", upstream))
    site.settings({"overrides": FRESH, "watch": "false", **settings})


@contextlib.asynccontextmanager
async def gateway(site: Site, port: int, *, asked: int = 0) -> AsyncIterator[Process]:
    """`bff serve` on `port`; `asked`: the port of its probes, where that is another one."""
    where = ("--config", str(site.root / "bff.yaml"), "--fragments", str(site.fragments), "--host", "127.0.0.1")
    log = site.root / f"gateway-{free_port()}.log"
    async with running("serve", *where, "--port", str(port), port=asked or port, log=log, ready=60) as process:
        yield process


async def test_the_webhook_makes_the_next_page_fresh_and_operators_have_a_port_of_their_own(site: Site) -> None:
    port, own = free_port(), free_port()
    origin = f"http://127.0.0.1:{port}"
    async with discovery(EVENTS_WEBHOOK=f"{origin}/_bff/events", EVENTS_SECRET="hush") as upstream:
        admin = {"listen": f"127.0.0.1:{own}", "token": "operators-own"}
        demo(site, upstream, events={"webhook_secret": "hush"}, admin=admin)
        async with gateway(site, port, asked=own) as process:
            assert not await has_title(origin)
            await rename(upstream)
            await shown(origin)
            _, numbers = await get(process.origin, "/_bff/metrics")
            type_ = "org.openedx.content_authoring.course.catalog_info.changed.v1"
            assert f'bff_events_total{{result="applied",type="{type_}"}} 2.0' in numbers
            for path in ("/_bff/metrics", "/_bff/livez", "/_bff/readyz", "/_bff/admin/status"):
                assert (await get(origin, path))[0] == 404, f"{path} is not public"
            assert (await get(process.origin, "/_bff/admin/status"))[0] == 401
            assert (await get(process.origin, PAGE))[0] == 404, "and pages are not the operators'"


async def test_without_being_told_the_copy_stays(site: Site) -> None:
    """What the other tests show is the events' doing."""
    port = free_port()
    async with discovery() as upstream:
        demo(site, upstream)
        async with gateway(site, port) as process:
            assert not await has_title(process.origin)
            await rename(upstream)
            assert not await has_title(process.origin)


async def test_the_bus_is_read_on_where_a_gateway_stopped(site: Site, tmp_path: Path) -> None:
    """The copies outlive a restart, and so does the place in the stream: what was changed meanwhile is not missed."""
    port = free_port()
    async with redis_server(tmp_path) as redis, discovery(EVENTS_BUS=redis.url, EVENTS_PREFIX="dev") as upstream:
        bus = {"bus": redis.url, "prefix": "dev"}
        demo(site, upstream, events=bus, store="sqlite:///bff.sqlite", admin={"token": "operators-own"})
        async with gateway(site, port) as process:
            await connected(process)
            assert not await has_title(process.origin)
        await rename(upstream)
        async with gateway(site, port) as process:
            await shown(process.origin)


async def connected(process: Process) -> None:
    """Wait until the gateway reads the bus."""
    async with asyncio.timeout(20):
        while True:
            headers = {"authorization": "Bearer operators-own"}
            async with await ask(process.origin, "/_bff/admin/status", headers=headers) as answer:
                if json.loads(await answer.rest())["events"]["bus"]["connected"]:
                    return
            await asyncio.sleep(0.02)


async def test_a_purge_reaches_all_workers(site: Site) -> None:
    port = free_port()
    async with discovery() as upstream:
        demo(site, upstream, store="sqlite:///bff.sqlite", workers="2", admin={"token": "operators-own"})
        async with gateway(site, port) as process:
            assert not any([await has_title(process.origin) for _ in range(12)])
            await rename(upstream)
            assert not any([await has_title(process.origin) for _ in range(12)])
            code, said = await bff(
                "purge", "--tag", "course:HarborX+NAV101", "--url", process.origin, BFF_ADMIN__TOKEN="operators-own"
            )
            assert code == 0, said
            assert said.endswith(f" purged on {process.origin} (tag course:HarborX+NAV101)\n")
            async with asyncio.timeout(20):
                while not all([await has_title(process.origin) for _ in range(12)]):
                    pass
            code, said = await bff("purge", "--all", "--url", process.origin, "--token", "wrong")
            assert (code, "does not know this token" in said) == (2, True)


async def bff(*words: str, **env: str) -> tuple[int, str]:
    """A command, its exit code, and what it said."""
    out = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        str(BFF), *words, stdout=out, stderr=asyncio.subprocess.STDOUT, env={**os.environ, **env}
    )
    said, _ = await process.communicate()
    return process.returncode or 0, said.decode()
