"""The stampede table, counted at the context that is asked: crowds on one entry, in every state that it can be in.

Each row holds for one worker, for two that share a file, and for two gateways that share a Redis.
"""

import contextlib
import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.crowd import ONE, PAGE, PATIENT, Crowd, eventually, gateways, numbers, page, settings
from tests.e2e.gateway import Process, Site
from tests.fakes import FakeContext, Seen, until
from tests.redis import redis_server

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

FRESH = {"cache-control": "max-age=3600"}
EXPIRED = {"cache-control": "max-age=50, stale-while-revalidate=3600", "age": "100"}
"""Older on arrival than it may become: it is kept for its windows alone."""
RESERVE = {"cache-control": "max-age=50, stale-if-error=3600", "age": "100"}
CROWD = 50


class Ground:
    """A kind of store, a context with one route, and the gateways over them once they are started."""

    def __init__(self, kind: str, site: Site, context: FakeContext, stack: contextlib.AsyncExitStack) -> None:
        self.kind, self.site, self.context, self._stack = kind, site, context, stack
        self.processes = 1 if kind == "memory" else 2
        self.origins: list[Process] = []

    async def start(self, folder: Path, *, primary: bool = False, **fragment: Any) -> None:
        """Serve one page of one fragment at /one."""
        slot = ONE.replace("></", " primary></") if primary else ONE
        one = {"path": "/one", "policy": PATIENT} | fragment
        self.site.page(slot, {"one": one}, upstream=self.context.origin, page=PAGE, grant={"cookies": ["sid"]})
        match self.kind:
            case "redis":
                redis = await self._stack.enter_async_context(redis_server(folder))
                settings(self.site, store=redis.url)
            case "sqlite":
                settings(self.site, store="sqlite:///bff.sqlite", workers=2)
            case _:
                settings(self.site)
        count = 2 if self.kind == "redis" else 1
        self.origins = await self._stack.enter_async_context(gateways(self.site, count))

    async def known(self) -> None:
        """Have every process hold what the route gives now."""
        for origin in self.origins:
            workers = 2 if self.kind == "sqlite" else 1

            async def everywhere(origin: Process = origin, workers: int = workers) -> bool:
                await page(origin)
                return await numbers(origin, "bff_cache_entries") >= workers

            await eventually(everywhere, "an entry in every process")

    def crowd(self, *, early: bool = True) -> contextlib.AbstractAsyncContextManager[Crowd]:
        return Crowd.coming(*self.origins, count=CROWD, early=early)


@pytest.fixture(params=["memory", "sqlite", "redis"])
async def ground(request: pytest.FixtureRequest, site: Site, context: FakeContext) -> AsyncIterator[Ground]:
    async with contextlib.AsyncExitStack() as stack:
        yield Ground(request.param, site, context, stack)


async def test_a_crowd_on_nothing_asks_once(ground: Ground, tmp_path: Path) -> None:
    one = ground.context.route("/one", "<p>it</p>", headers=FRESH, gated=True)
    await ground.start(tmp_path)
    async with ground.crowd() as crowd:
        await one.asked()
        one.open()
        assert all("<p>it</p>" in each for each in await crowd.pages())
    assert "<p>it</p>" in await page(ground.origins[-1])
    assert len(one.requests) == 1


async def test_a_crowd_on_what_nobody_may_share_is_not_put_in_a_row(ground: Ground, tmp_path: Path) -> None:
    """Whoever waited asks as soon as the first answer shows that it is nobody else's: all the others at the same time.

    Another process learns it by asking for itself, once.
    """

    def said(_: Seen) -> str:
        one.close()  # behind whoever waited: those who come next are held, to be counted
        return "<p>mine</p>"

    one = ground.context.route("/one", said, headers={"cache-control": "no-store"}, gated=True)
    await ground.start(tmp_path)
    async with ground.crowd() as crowd:
        for held in {"memory": (1, CROWD), "redis": (1, CROWD // 2 + 1, CROWD), "sqlite": (1,)}[ground.kind]:
            await one.asked(held)
            if held < CROWD:
                one.open()
        one.answer.body = "<p>mine</p>"
        one.open()
        assert all("<p>mine</p>" in each for each in await crowd.pages())
    assert len(one.requests) == CROWD


async def test_a_crowd_on_what_is_renewed_meanwhile_waits_for_nobody(ground: Ground, tmp_path: Path) -> None:
    one = ground.context.route("/one", "<p>first</p>", headers=EXPIRED)
    await ground.start(tmp_path)
    await ground.known()
    one.close()
    async with ground.crowd() as crowd:
        assert all("<p>first</p>" in each and 'state="stale"' in each for each in await crowd.pages())
    await until(lambda: len(one.requests) - one.answered == 1, "one is asking, and nobody else")
    asked = len(one.requests)
    one.answer.body, one.answer.headers = "<p>second</p>", FRESH
    one.open()
    for origin in ground.origins:

        async def renewed(origin: Process = origin) -> bool:
            return "<p>second</p>" in await page(origin)

        await eventually(renewed, "the second")
    assert len(one.requests) == asked


async def test_a_crowd_on_what_stands_in_for_errors_asks_once_and_is_served(ground: Ground, tmp_path: Path) -> None:
    one = ground.context.route("/one", "<p>kept</p>", headers=RESERVE)
    await ground.start(tmp_path)
    await ground.known()
    one.close()
    one.answer.status, one.answer.headers = 503, {}
    before = len(one.requests)
    async with ground.crowd() as crowd:
        await one.asked(before + 1)
        one.open()
        assert all("<p>kept</p>" in each and 'state="stale"' in each for each in await crowd.pages())
    assert len(one.requests) - before <= 2 * ground.processes  # each tries again once


async def test_the_fetch_goes_on_for_the_others_when_the_first_leaves(ground: Ground, tmp_path: Path) -> None:
    one = ground.context.route("/one", "<p>it</p>", headers=FRESH, gated=True)
    await ground.start(tmp_path)
    first = await ground.origins[0].get("/page")
    await one.asked()
    async with Crowd.coming(*ground.origins, count=10) as crowd:
        await first.leave()
        one.open()
        assert all("<p>it</p>" in each for each in await crowd.pages())
    assert (len(one.requests), one.abandoned) == (1, 0)


async def test_a_cookie_is_for_whoever_was_the_first_alone(ground: Ground, tmp_path: Path) -> None:
    """An answer that sets one is nobody else's, whatever it says of itself."""
    given = itertools.count(1)

    def said(_: Seen) -> str:
        number = next(given)
        one.answer.headers = {**FRESH, "set-cookie": f"sid={number}"}
        return f"<p>visitor {number}.</p>"

    one = ground.context.route("/one", said, gated=True)
    await ground.start(tmp_path, primary=True, policy=PATIENT | {"cache": {"mode": "fixed", "fresh": "1h"}})
    async with ground.crowd(early=False) as crowd:
        await one.asked()
        one.open()
        pages = await crowd.pages()
        cookies = [visitor.headers["set-cookie"] for visitor in crowd.visitors]
    for got, cookie in zip(pages, cookies, strict=True):
        number = cookie.removeprefix("sid=").partition(";")[0]
        assert f"<p>visitor {number}.</p>" in got
    assert len(set(cookies)) == CROWD == len(one.requests)
