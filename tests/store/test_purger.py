import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from bff.model import Purge
from bff.store.memory import SLICE, MemoryStore
from bff.store.open import open_tier
from bff.store.purger import Purger
from bff.store.redis import RedisTier
from bff.store.sqlite import SqliteTier
from tests.fakes import until
from tests.store.entries import entry
from tests.store.tiers import Place, now, record

pytestmark = pytest.mark.anyio


async def turn(done: Callable[[], object]) -> None:
    """Let the loop go on until that is so."""
    await until(done, "the store is swept")


async def test_without_a_second_tier_memory_alone_is_purged_and_swept() -> None:
    store = MemoryStore(10**8)
    purger = Purger(store, None, clock=now)
    for i in range(3 * SLICE):
        store.put(entry(f"k{i}", 10))
    assert await purger(Purge(kind="all", soft=True)) == 3 * SLICE
    assert purger._sweeping is None
    assert await purger(Purge(kind="all")) == 3 * SLICE
    assert store.entries == 0
    assert store.bytes > 0
    assert await purger(Purge(kind="all")) == 0
    await turn(lambda: store.bytes == 0)
    assert purger._sweeping is None
    await purger.aclose()


async def test_others_have_their_turn_while_very_much_is_purged() -> None:
    """Ten thousand tags in a row, which nothing else would interrupt."""
    store = MemoryStore(10**9)
    purger = Purger(store, None, clock=now)
    for i in range(20_000):
        store.put(entry(f"k{i}", 10, tags=(f"t{i % 10_000}",)))
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    met = [await purger(Purge(kind="tag", value=f"t{i}", soft=True)) for i in range(10_000)]
    task.cancel()
    assert sum(met) == 20_000
    assert turns > 1
    await asyncio.gather(task, return_exceptions=True)


async def test_many_things_are_purged_at_once_in_both_tiers(place: Place[Any]) -> None:
    store, tier = MemoryStore(10**6), await place.open()
    purger = Purger(store, tier, clock=now)
    for i in range(3):
        store.put(entry(f"k{i}", tags=(f"course:{i}",)))
        await tier.put(record(f"k{i}", tags=(f"course:{i}",)), keep=60, began=now())
    assert await purger(*(Purge(kind="tag", value=f"course:{i}") for i in range(2))) == 2
    assert store.entries == 1
    assert [await tier.get(f"k{i}") is None for i in range(3)] == [True, True, False]
    assert await purger() == 0
    await purger.aclose()


async def test_what_is_still_to_be_purged_comes_before_the_sweeping() -> None:
    store = MemoryStore(10**9)
    purger = Purger(store, None, clock=now)
    for i in range(10_000):
        store.put(entry(f"k{i}", 10, tags=(f"t{i}",)))
    held = store.bytes
    for i in range(10_000):
        await purger(Purge(kind="tag", value=f"t{i}"))
    assert (store.entries, store.bytes) == (0, held)
    await turn(lambda: store.bytes == 0)
    await purger.aclose()


async def test_closing_ends_the_sweeping() -> None:
    store = MemoryStore(10**8)
    purger = Purger(store, None, clock=now)
    for i in range(3 * SLICE):
        store.put(entry(f"k{i}", 10))
    await purger(Purge(kind="all"))
    await purger.aclose()
    assert store.bytes > 0


async def test_all_processes_forget_and_none_twice(place: Place[Any]) -> None:
    stores = [MemoryStore(10**6) for _ in range(3)]
    tiers = [await place.open() for _ in stores]
    purgers = [Purger(store, tier, clock=now) for store, tier in zip(stores, tiers, strict=True)]
    for store in stores:
        store.put(entry("k", tags=("course:1",)))
    assert await purgers[0](Purge(kind="tag", value="course:1")) == 1
    stores[0].put(entry("k", tags=("course:1",)), now())  # fetched anew
    await until(lambda: not stores[1].entries and not stores[2].entries, "the others have heard")
    assert stores[0].get("k") is not None
    assert await purgers[0](Purge(kind="tag", value="course:1", soft=True)) == 1
    for purger in purgers:
        await purger.aclose()


async def test_a_fetch_under_way_in_another_process_brings_nothing_back(place: Place[Any]) -> None:
    mine, other = MemoryStore(10**6), MemoryStore(10**6)
    here, there = await place.open(), await place.open()
    purger, _ = Purger(mine, here, clock=now), Purger(other, there, clock=now)
    began = now()
    await purger(Purge(kind="tag", value="course:1"))
    await until(lambda: other.purged_since(began, "a/b", ("course:1",)) < now(), "the other has heard")
    assert not other.put(entry("k", tags=("course:1",)), began)
    await there.put(record(), keep=60, began=began)
    assert await here.get(record().key) is None
    assert await there.get(record().key) is None


def test_the_url_says_which_tier() -> None:
    def told(*_: Any, **__: Any) -> None: ...

    assert open_tier("memory://", failed=told, tell=told) is None
    sqlite = open_tier("sqlite:////srv/var/bff.sqlite", failed=told, tell=told)
    assert isinstance(sqlite, SqliteTier)
    assert str(sqlite._path) == "/srv/var/bff.sqlite"
    for scheme in ("redis", "rediss"):
        assert isinstance(open_tier(f"{scheme}://127.0.0.1:1/0", failed=told, tell=told), RedisTier)


async def test_what_was_never_begun_can_be_ended() -> None:
    def told(*_: Any, **__: Any) -> None: ...

    for url in ("sqlite:////srv/var/bff.sqlite", "redis://127.0.0.1:1/0"):
        tier = open_tier(url, failed=told, tell=told)
        assert tier is not None
        assert not tier.reached
        await asyncio.wait_for(tier.aclose(), 10)
