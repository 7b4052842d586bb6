"""Proxy routes of a gateway with two workers: what one of them has changed, the other one does not show any more."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.e2e.crowd import gateways, settings
from tests.e2e.gateway import Process, Site
from tests.fakes import PATIENCE, FakeContext
from tests.gateway.wire import Answer, Client

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

FRESH = {"cache-control": "max-age=3600"}


class Visitor:
    """One connection, so that one worker answers all of it."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def ask(self, path: str, method: str = "GET", **headers: str) -> Answer:
        lines = {"host": "shop.example", **headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        async with asyncio.timeout(PATIENCE):
            return await self._client.ask(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode())

    async def text(self, path: str) -> str:
        return (await self.ask(path)).body.decode()


@contextlib.asynccontextmanager
async def two(gateway: Process) -> AsyncIterator[list[Visitor]]:
    """A visitor of each of its workers."""
    host, port = gateway.origin.removeprefix("http://").split(":")
    found: dict[int, Visitor] = {}
    async with contextlib.AsyncExitStack() as stack:
        async with asyncio.timeout(PATIENCE):
            while len(found) < 2:
                reader, writer = await asyncio.open_connection(host, int(port))
                visitor = Visitor(Client(reader, writer))
                stack.callback(writer.close)
                assert (await visitor.ask("/_bff/livez")).status == 200
                found.setdefault(holder(gateway, int(port), writer.get_extra_info("sockname")[1]), visitor)
        yield [*found.values()]


def holder(gateway: Process, port: int, ours: int) -> int:
    """The worker that has the other end of a connection from our port."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    (inode,) = [row[9] for row in rows if row[1].endswith(f":{port:04X}") and row[2].endswith(f":{ours:04X}")]
    parent = gateway.process.pid
    workers = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    (found,) = [each for each in workers if f"socket:[{inode}]" in map(str, links(Path(f"/proc/{each}/fd")))]
    return int(found)


def links(folder: Path) -> Iterator[Path]:
    for each in folder.iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile
            yield each.readlink()


async def test_what_is_changed_by_one_worker_is_shown_by_no_other(
    site: Site, context: FakeContext, tmp_path: Path
) -> None:
    paths = ("/api/cart", "/api/cart/1", "/api/cart/sum")
    routes = [context.route(path, "as it was", type="text/plain", headers=FRESH) for path in paths]
    add = context.route("/api/add", "", type="text/plain", headers={"location": "/shop/api/cart/1"}, status=303)
    add.answer.headers["content-location"] = f"{context.origin}/api/cart/sum"
    proxy = [{"path": "/shop/api/{rest:path}", "to": "/api/{rest}", "methods": "*"}]
    site.context("shop", {"proxy": proxy}, upstream=context.origin)
    settings(site, store="sqlite:///bff.sqlite", workers=2)
    async with gateways(site, patient=False) as (gateway,), two(gateway) as (here, there):
        for visitor in (here, there):
            for path in paths:
                assert await visitor.text(f"/shop{path}") == "as it was"
                assert "hit" in (await visitor.ask(f"/shop{path}")).headers["cache-status"]
        for route in routes:
            route.answer.body = "as it is"
        assert (await here.ask("/shop/api/add", "POST", **{"content-length": "0"})).status == 303
        for path in paths[1:]:
            await shown(there, f"/shop{path}", "as it is")
        for path in paths[1:]:
            assert await here.text(f"/shop{path}") == "as it is"
        for visitor in (here, there):
            assert await visitor.text("/shop/api/cart") == "as it was", "nothing was said of it"


async def shown(visitor: Visitor, path: str, text: str) -> None:
    async with asyncio.timeout(PATIENCE):
        while await visitor.text(path) != text:  # noqa: ASYNC110 - the worker is another process
            await asyncio.sleep(0.01)
