"""A Redis that stops, pauses, is slow, full, flushed or restarted: at most a moment is lost, and never an error shown."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bff.model import Purge
from bff.store.purges import LIMIT
from bff.store.redis import RedisTier
from tests.fakes import until
from tests.store.tiers import Place, RedisServer, back, now, record

pytestmark = pytest.mark.anyio

BRIEF = 0.02
"""The patience of production."""
SOON = 2.0
"""Seconds in which, even on a machine under load, what waits for 20 ms is over; an outage lasts until the test ends it."""


@pytest.fixture
async def own(tmp_path: Path) -> AsyncIterator[RedisServer]:
    """A server that a test may stop."""
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def at(own: RedisServer) -> AsyncIterator[Place[RedisTier]]:
    place = Place(lambda **given: RedisTier(own.url, **given))
    yield place
    await place.close()


async def everything(tier: RedisTier) -> None:
    """Every call, as if there were nobody: each gives what it gives then."""
    began = time.monotonic()
    assert await tier.get("k") is None
    await tier.put(record(), keep=60, began=now())
    await tier.touch("k", [], 1.0, keep=60, began=now())
    assert await tier.lease("k", 1)
    await tier.release("k")
    assert await tier.value("k") is None
    await tier.set_value("k", b"1")
    assert await tier.add_value("k", b"mine") == b"mine"
    assert not await tier.purge(Purge(kind="tag", value="nothing"))
    assert time.monotonic() - began < SOON


async def test_a_server_that_is_not_there_is_done_without_until_it_comes(
    own: RedisServer, at: Place[RedisTier]
) -> None:
    own.stop()
    tier = await at.open()
    assert not tier.reached
    await everything(tier)
    assert at.told.failures.count("away") == 8
    assert at.told.events == ["store_away"]
    own.start()
    await back(tier)
    await tier.put(record(), keep=60, began=now())
    assert await tier.get(record().key) is not None
    assert at.told.events == ["store_away", "store_back"]


async def test_a_server_that_stops_answering_costs_one_wait(own: RedisServer, at: Place[RedisTier]) -> None:
    tier = await at.open()
    await tier.put(record(), keep=60, began=now())
    tier._reads._patience = tier._writes._patience = BRIEF
    own.pause()
    began = time.monotonic()
    assert await tier.get(record().key) is None
    assert time.monotonic() - began < SOON
    await until(lambda: not tier.reached, "the server is given up")
    await everything(tier)
    tier._reads._patience = tier._writes._patience = 5.0
    own.resume()
    await back(tier)
    assert await tier.get(record().key) is not None
    assert at.told.events.count("store_away") == 1


async def test_a_moment_without_an_answer_is_no_outage(own: RedisServer, at: Place[RedisTier]) -> None:
    tier = await at.open()
    await tier.put(record(), keep=60, began=now())
    own.pause()
    tier._reads._patience = 0.01
    assert await tier.get(record().key) is None
    assert tier._silent > 0, "whoever looks now waits no second time"
    tier._reads._patience = 5.0
    own.resume()
    assert tier.reached
    tier._silent = now() + 60
    assert (await tier.get(record().key), await tier.lease("k", 1)) == (None, True)
    tier._silent = 0.0
    assert await tier.get(record().key) is not None
    assert at.told.events == ["store_failed"]


async def test_a_server_that_is_slow_is_not_asked(own: RedisServer, at: Place[RedisTier]) -> None:
    tier = await at.open()
    tier._reads._patience = tier._writes._patience = BRIEF
    own.said(b"CLIENT", b"PAUSE", b"60000", b"ALL")
    await tier.get("k")
    await until(lambda: not tier.reached, "the server is given up")
    await everything(tier)


async def test_a_server_that_is_killed_and_comes_back_empty_takes_up_what_was_purged(
    own: RedisServer, at: Place[RedisTier]
) -> None:
    tier, other = await at.open(), await at.open()
    heard: list[Purge] = []
    other.subscribe(lambda purge, _: heard.append(purge))
    await tier.put(record(), keep=60, began=now())
    own.stop()
    assert await tier.get(record().key) is None
    await until(lambda: not tier.reached and not other.reached, "both see that it is gone")
    await everything(tier)
    assert not await tier.purge(Purge(kind="tag", value="course:1"))
    own.start()
    await back(tier)
    await back(other)
    await until(lambda: Purge(kind="tag", value="course:1") in heard, "the purge is heard")
    assert await tier.get(record().key) is None
    await tier.put(record(), keep=60, began=now())
    assert await other.get(record().key) is not None


async def test_what_was_purged_while_it_was_away_does_not_come_back_with_it(
    own: RedisServer, at: Place[RedisTier]
) -> None:
    tier = await at.open()
    await tier.put(record(), keep=60, began=now())
    own.pause()
    tier._reads._patience = tier._writes._patience = BRIEF
    assert not await tier.purge(Purge(kind="tag", value="course:1"))
    own.resume()
    tier._reads._patience = tier._writes._patience = 5.0
    await back(tier)
    assert await tier.get(record().key) is None
    await until(lambda: not tier._ledger.owed, "the purge is written")
    assert await (await at.open()).get(record().key) is None


async def test_flushed_mid_run_it_goes_on_empty(own: RedisServer, at: Place[RedisTier]) -> None:
    one, other = await at.open(), await at.open()
    await one.put(record(), keep=60, began=now())
    before = one._ledger.floor
    own.said(b"FLUSHALL")
    assert await one.get(record().key) is None
    await until(lambda: one._ledger.floor > before and other._ledger.floor > before, "a new log is begun")
    await one.put(record(), keep=60, began=now())
    assert await other.get(record().key) is not None
    await other.purge(Purge(kind="all"))
    assert await one.get(record().key) is None
    assert one.reached
    assert at.told.events == []


async def test_records_do_not_outlive_the_log_that_would_void_them(own: RedisServer, at: Place[RedisTier]) -> None:
    tier = await at.open()
    await tier.put(record(), keep=60, began=now())
    await tier.purge(Purge(kind="all"))
    before = tier._ledger.floor
    own.said(b"DEL", b"bff:purges")
    late = await at.open()
    assert await late.get(record().key) is None
    await until(lambda: tier._ledger.floor > before, "the new log is seen")
    assert await tier.get(record().key) is None


async def test_beyond_the_limit_old_purges_are_forgotten_with_all_that_is_older(
    own: RedisServer, at: Place[RedisTier]
) -> None:
    tier = await at.open()
    await tier.put(record("old"), keep=60, began=now())
    fill = f"for i = 1, {LIMIT - 1} do redis.call('ZADD', 'bff:purges', redis.call('ZSCORE', 'bff:purges', '') + i, 'x' .. i) end"
    assert b"ERR" not in own.said(b"EVAL", fill.encode(), b"0")
    await tier.purge(Purge(kind="tag", value="one"), Purge(kind="tag", value="two"))
    assert own.said(b"ZSCORE", b"bff:purges", b"x2").startswith(b"$-1")
    assert b"$-1" not in own.said(b"ZSCORE", b"bff:purges", b"x3")
    assert own.said(b"ZCARD", b"bff:purges") == f":{LIMIT}\r\n".encode()
    assert await tier.get("old") is None
    assert await (await at.open()).get("old") is None
    await tier.put(record("new"), keep=60, began=now())
    assert await tier.get("new") is not None


async def test_a_full_server_keeps_what_it_has(own: RedisServer, at: Place[RedisTier]) -> None:
    tier = await at.open()
    await tier.put(record(), keep=60, began=now())
    own.said(b"CONFIG", b"SET", b"maxmemory", b"1")
    await tier.put(record("more"), keep=60, began=now())
    await tier.put(record("more"), keep=60, began=now())
    assert await tier.get(record().key) is not None
    assert await tier.get("more") is None
    assert tier.settled
    assert not await tier.purge(Purge(kind="all"))
    assert not tier.settled
    own.said(b"CONFIG", b"SET", b"maxmemory", b"0")
    await until(lambda: tier.settled, "what was purged is written")
    assert at.told.failures[:2] == ["full", "full"]
    assert at.told.events == ["store_failed"]


async def test_garbage_is_a_miss(own: RedisServer, at: Place[RedisTier]) -> None:
    tier = await at.open()
    await tier.put(record("k"), keep=60, began=now())
    await tier.put(record("other"), keep=60, began=now())
    own.said(b"HSET", b"bff:record:k", b"b", b"another body")
    assert await tier.get("k") is None
    own.said(b"HSET", b"bff:record:k", b"h", b"\xff\x00")
    assert await tier.get("k") is None
    await tier.touch("k", [], 1.0, keep=60, began=now())
    own.said(b"HSET", b"bff:record:other", b"m", b"mark")
    assert await tier.get("other") is None
    own.said(b"RENAME", b"bff:record:other", b"bff:record:third")
    assert await tier.get("third") is None
    own.said(b"SET", b"bff:record:text", b"no record")
    assert await tier.get("text") is None
    await tier.put(record("text"), keep=60, began=now())
    assert at.told.failures == ["corrupt", "corrupt"]
    assert tier.reached


async def test_records_and_leases_expire_in_the_server_itself(own: RedisServer, at: Place[RedisTier]) -> None:
    tier = await at.open()
    await tier.put(record("k"), keep=60, began=now())
    await tier.touch("k", [], 1.0, keep=600, began=now())
    await tier.lease("k", 5)
    left = int(own.said(b"PTTL", b"bff:record:k")[1:])
    assert 60_000 < left <= 600_000
    assert 0 < int(own.said(b"PTTL", b"bff:lease:k")[1:]) <= 5000


async def test_what_waits_too_long_in_line_is_told_so(own: RedisServer, at: Place[RedisTier]) -> None:
    tier = await at.open()
    found = await asyncio.gather(*(tier.get(f"k{i}") for i in range(3000)))
    assert set(found) == {None}
    assert set(at.told.failures) == {"busy"}
    assert tier.reached
    assert at.told.events == ["store_failed"]


async def test_closing_tells_whoever_waits(own: RedisServer, at: Place[RedisTier]) -> None:
    tier = await at.open()
    own.pause()
    waiting = asyncio.ensure_future(tier.get("k"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await tier._reads.aclose()
    assert await waiting is None
    own.resume()
