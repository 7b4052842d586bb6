"""Overrides in time, and between processes that share a second tier."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from bff.gateway.logs import Log
from bff.gateway.overriding import Overrides
from bff.rules.overrides import Layers
from tests.build import Shelf, fragment
from tests.fakes import until
from tests.worlds import built, world

pytestmark = pytest.mark.anyio

WORLD = world(built("shop", fragment("shop/card")))


class Process:
    """One gateway's overrides; `now` is what the wall's clock says everywhere."""

    def __init__(self, shelf: Shelf | None = None) -> None:
        self.now = 1000.0
        self.held: list[Layers] = []
        self.said: list[bytes] = []
        self.log = Log(write=self.said.append)
        self.overrides = Overrides(
            shelf, world=lambda: WORLD, ceilings=dict, apply=self._apply, log=self.log, wall=lambda: self.now
        )

    async def _apply(self, layers: Layers) -> None:
        self.held.append(layers)

    async def add(self, target: str = "shop/card", **values: str) -> None:
        given = {name.replace("__", "."): text for name, text in values.items()}
        await self.overrides.add(target, given, lasting="1h", reason="a test", by="operator")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.overrides.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_an_override_ends_by_itself() -> None:
    process = Process()
    await process.add(timeout__total="1s")
    async with process.running():
        process.now += 3599
        await asyncio.sleep(0)
        assert process.held[-1].fragments == {"shop/card": {"timeout.total": 1.0}}
        process.now += 2
        await until(lambda: len(process.held) == 2, "it is over")
    assert process.held[-1].fragments == {}
    process.log.flush()
    assert b'"event":"override-over"' in b"".join(process.said)


async def test_what_one_process_overrides_holds_in_all() -> None:
    shelf = Shelf()
    one, two = Process(shelf), Process(shelf)
    await one.add(state="stored")
    async with two.running():
        await until(lambda: two.held, "the other one has heard of it")
        assert two.held[-1].fragments == {"shop/card": {"state": "stored"}}
        await two.add("shop", timeout__total="2s")
        assert await one.overrides.clear("shop/card") == 1
        await until(lambda: not two.held[-1].fragments, "and of its end")
    assert two.held[-1].contexts == {"shop": {"timeout.total": 2.0}}


async def test_what_is_changed_while_the_tier_is_away_holds_here_and_everywhere_once_it_is_back() -> None:
    shelf = Shelf()
    one, two = Process(shelf), Process(shelf)
    await one.add("shop", timeout__total="2s")
    async with one.running(), two.running():
        await until(lambda: two.held, "the other one has heard of it")
        assert one.overrides.everywhere
        shelf.away, shelf.reached = True, False
        await one.add(state="stored")
        assert await one.overrides.clear("shop") == 1
        assert not one.overrides.everywhere
        assert (one.held[-1].fragments, one.held[-1].contexts) == ({"shop/card": {"state": "stored"}}, {})
        shelf.away, shelf.reached = False, True
        await until(lambda: two.held[-1].fragments and not two.held[-1].contexts, "the other one has heard of both")
    assert one.held[-1].fragments == {"shop/card": {"state": "stored"}}, "and it did not end where it was made"
    assert not one.held[-1].contexts


async def test_a_change_that_another_one_has_written_over_is_made_again() -> None:
    shelf = Shelf()
    one, two = Process(shelf), Process(shelf)
    writes = shelf.set_value

    async def lost(name: str, data: bytes, *, keep: float | None = None) -> None:
        shelf.set_value = writes  # type: ignore[method-assign] # the next one comes through

    shelf.set_value = lost  # type: ignore[method-assign] # as if another process had written at the same moment
    async with one.running(), two.running():
        await one.add(state="stored")
        assert not one.overrides.everywhere
        await until(lambda: two.held, "the other one has heard of it")
        assert one.overrides.everywhere
    assert two.held[-1].fragments == {"shop/card": {"state": "stored"}}


async def test_the_latest_of_one_key_wins() -> None:
    process = Process()
    await process.add(timeout__total="1s", state="stored")
    process.now += 1
    await process.add(timeout__total="2s")
    assert process.held[-1].fragments == {"shop/card": {"timeout.total": 2.0, "state": "stored"}}


async def test_without_its_tier_a_process_keeps_what_it_knows() -> None:
    shelf = Shelf()
    process = Process(shelf)
    await process.add(timeout__total="1s")
    shelf.away = True
    async with process.running():
        await asyncio.sleep(0)
    assert process.held[-1].fragments == {"shop/card": {"timeout.total": 1.0}}


@pytest.mark.parametrize("junk", [b"{", b"7", b'[{"target": "x"}]', b'[{"kind": "all"}]', b"[7]"])
async def test_junk_in_the_tier_is_no_override(junk: bytes) -> None:
    shelf = Shelf()
    shelf.values["overrides"] = junk
    process = Process(shelf)
    async with process.running():
        await asyncio.sleep(0)
    assert process.overrides.listed() == []


async def test_a_key_that_this_process_does_not_know_is_left_out() -> None:
    shelf = Shelf()
    process: Any = Process(shelf)
    await process.add(timeout__total="1s")
    shelf.values["overrides"] = shelf.values["overrides"].replace(b"timeout.total", b"timeout.of-tomorrow")
    other = Process(shelf)
    async with other.running():
        await until(lambda: other.held, "it was read")
    assert other.held[-1].fragments == {}
