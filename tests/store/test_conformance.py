"""What every second tier does, whatever it is made of."""

import asyncio
import time
from typing import Any

import pytest

from bff.model import Purge
from bff.store.follower import BATCH
from tests.fakes import until
from tests.store.tiers import Place, now, record

pytestmark = pytest.mark.anyio


async def test_what_was_put_is_there_whole_for_every_process(place: Place[Any]) -> None:
    one, other = await place.open(), await place.open()
    kept = record(body=bytes(range(256)) * 4000, tags=("ü", "b"), principal="ada", headers=((b"x-name", b"\xff\x00"),))
    await one.put(kept, keep=60, began=now())
    assert await one.get(kept.key) == kept
    assert await other.get(kept.key) == kept
    assert await other.get("another") is None
    assert place.told.failures == []


async def test_a_later_one_replaces_it(place: Place[Any]) -> None:
    tier = await place.open()
    await tier.put(record(body=b"old"), keep=60, began=now())
    await tier.put(record(body=b"new"), keep=60, began=now())
    kept = await tier.get(record().key)
    assert kept is not None
    assert kept.body == b"new"


async def test_nothing_outlives_the_time_it_is_kept_for(place: Place[Any]) -> None:
    tier = await place.open()
    await tier.put(record("short"), keep=0.01, began=now())
    await tier.put(record("never"), keep=0.0, began=now())
    await tier.put(record("long"), keep=60, began=now())
    for _ in range(100):
        if await tier.get("short") is None:
            break
        await asyncio.sleep(0.01)
    assert [await tier.get(key) is None for key in ("short", "never", "long")] == [True, True, False]


async def test_a_304_renews_what_is_there_and_makes_nothing(place: Place[Any]) -> None:
    tier = await place.open()
    await tier.put(record(), keep=60, began=now())
    news = [(b"etag", b'"2"'), (b"content-length", b"0"), (b"x-new", b"1")]
    await tier.touch(record().key, news, 1234.5, keep=60, began=now())
    await tier.touch("another", news, 1234.5, keep=60, began=now())
    kept = await tier.get(record().key)
    assert kept is not None
    assert kept.born == 1234.5
    assert kept.headers == ((b"content-type", b"text/html"), (b"etag", b'"2"'), (b"x-new", b"1"))
    assert kept.body == b"body"
    assert await tier.get("another") is None


MEETING = [
    Purge(kind="tag", value="course:1"),
    Purge(kind="tag", value="course:1", context="a"),
    Purge(kind="fragment", value="a/b"),
    Purge(kind="fragment", value="a/b", context="a"),
    Purge(kind="context", value="a"),
    Purge(kind="all"),
    Purge(kind="all", context="a"),
    Purge(kind="all", principal="ada"),
    Purge(kind="context", value="a", principal="ada"),
    Purge(kind="tag", value="course:1", context="a", principal="ada"),
]
MISSING = [
    Purge(kind="tag", value="course:2"),
    Purge(kind="tag", value="course:1", context="z"),
    Purge(kind="fragment", value="a/c"),
    Purge(kind="fragment", value="a/b", context="z"),
    Purge(kind="context", value="z"),
    Purge(kind="context", value="a", context="z"),
    Purge(kind="all", context="z"),
    Purge(kind="all", principal="bob"),
    Purge(kind="tag", value="course:1", principal="bob"),
]


@pytest.mark.parametrize("purge", MEETING, ids=str)
async def test_a_purge_voids_what_it_meets_for_everybody(place: Place[Any], purge: Purge) -> None:
    one, other = await place.open(), await place.open()
    await one.put(record(principal="ada"), keep=60, began=now())
    assert await one.purge(purge)
    assert await one.get(record().key) is None
    assert await other.get(record().key) is None


@pytest.mark.parametrize("purge", MISSING, ids=str)
async def test_a_purge_leaves_everything_else(place: Place[Any], purge: Purge) -> None:
    tier = await place.open()
    await tier.put(record(principal="ada"), keep=60, began=now())
    assert await tier.purge(purge)
    assert await tier.get(record().key) == await tier.get(record().key) != None  # noqa: E711 - one comparison of three


async def test_a_soft_purge_marks_what_it_meets_as_stale_since_then(place: Place[Any]) -> None:
    one, other = await place.open(), await place.open()
    await one.put(record(), keep=60, began=now())
    before = time.time() - 0.01
    await one.purge(Purge(kind="tag", value="course:1", soft=True))
    for tier in (one, other):
        kept = await tier.get(record().key)
        assert kept is not None
        assert kept.stale_at is not None
        assert before <= kept.stale_at <= time.time()


async def test_what_is_fetched_after_a_purge_is_kept_and_fresh(place: Place[Any]) -> None:
    tier = await place.open()
    for soft in (True, False):
        await tier.purge(Purge(kind="all", soft=soft))
        await tier.put(record(), keep=60, began=now())
        kept = await tier.get(record().key)
        assert kept is not None
        assert kept.stale_at is None


async def test_a_304_to_a_question_after_a_soft_purge_makes_it_fresh_again(place: Place[Any]) -> None:
    tier = await place.open()
    await tier.put(record(), keep=60, began=now())
    asked_before = now()
    await tier.purge(Purge(kind="all", soft=True))
    await tier.touch(record().key, [], time.time(), keep=60, began=asked_before)
    kept = await tier.get(record().key)
    assert kept is not None
    assert kept.stale_at is not None
    await tier.touch(record().key, [], time.time(), keep=60, began=now())
    kept = await tier.get(record().key)
    assert kept is not None
    assert kept.stale_at is None


async def test_a_fetch_begun_before_a_purge_brings_nothing_back(place: Place[Any]) -> None:
    one, other = await place.open(), await place.open()
    await one.put(record("touched"), keep=60, began=now())
    began = now()
    await other.purge(Purge(kind="tag", value="course:1"))
    await one.put(record("hard"), keep=60, began=began)
    await one.touch("touched", [], time.time(), keep=60, began=now())
    for tier in (one, other):
        assert await tier.get("hard") is None
        assert await tier.get("touched") is None
    await other.purge(Purge(kind="tag", value="course:1", soft=True))
    await one.put(record("soft"), keep=60, began=began)
    kept = await other.get("soft")
    assert kept is None  # it began before the hard one too


async def test_a_fetch_begun_before_a_soft_purge_is_kept_as_stale(place: Place[Any]) -> None:
    one, other = await place.open(), await place.open()
    began = now()
    await other.purge(Purge(kind="tag", value="course:1", soft=True))
    await one.put(record(), keep=60, began=began)
    kept = await one.get(record().key)
    assert kept is not None
    assert kept.stale_at is not None


async def test_what_was_begun_before_anything_was_known_is_not_kept(place: Place[Any]) -> None:
    tier = await place.open()
    await tier.put(record(), keep=60, began=now() - 3600)
    await tier.touch(record().key, [], 1.0, keep=60, began=now() - 3600)
    assert await tier.get(record().key) is None


async def test_purges_are_heard_by_all_others_and_not_by_whoever_made_them(place: Place[Any]) -> None:
    tiers = [await place.open() for _ in range(3)]
    heard: list[list[Purge]] = [[], [], []]
    for tier, mine in zip(tiers, heard, strict=True):
        tier.subscribe(lambda purge, _, mine=mine: mine.append(purge))
    first, second = Purge(kind="tag", value="one"), Purge(kind="fragment", value="a/b", soft=True, principal="ada")
    await tiers[0].purge(first)
    await tiers[1].purge(second)
    await until(lambda: all(len(mine) >= want for mine, want in zip(heard, (1, 1, 2), strict=True)), "purges heard")
    await tiers[0].purge(first)
    await until(lambda: len(heard[2]) == 3 and len(heard[1]) == 2, "the same one is heard again")
    assert heard == [[second], [first, first], [first, second, first]]


async def test_very_many_purges_at_once_are_heard_each_once(place: Place[Any]) -> None:
    one, other = await place.open(), await place.open()
    told: list[str] = []
    one.subscribe(lambda purge, _: told.append(purge.value))
    heard: list[str] = []
    other.subscribe(lambda purge, _: heard.append(purge.value))
    many = [Purge(kind="tag", value=str(i)) for i in range(2 * BATCH + 1)]
    for key in ("first", "last"):
        await other.put(record(key, tags=(many[0 if key == "first" else -1].value,)), keep=60, began=now())
    assert await one.purge(*many, many[0])
    for key in ("first", "last"):
        assert await one.get(key) is None
        assert await other.get(key) is None
    await until(lambda: len(heard) == len(many), "all of them are heard")
    assert heard == [each.value for each in many]
    assert told == []
    assert not one._ledger.owed


async def test_a_process_that_comes_later_heeds_what_was_purged_before(place: Place[Any]) -> None:
    one = await place.open()
    await one.put(record("old"), keep=60, began=now())
    await one.purge(Purge(kind="tag", value="course:1"))
    late = await place.open()
    heard: list[Any] = []
    late.subscribe(lambda purge, _: heard.append(purge))
    assert await late.get("old") is None
    await one.put(record("new"), keep=60, began=now())
    assert await late.get("new") is not None
    assert heard == []


async def test_one_of_all_has_a_lease_until_it_ends(place: Place[Any]) -> None:
    one, other = await place.open(), await place.open()
    assert await one.lease("k", 30)
    assert not await other.lease("k", 30)
    assert await other.lease("l", 30)
    await other.release("k")  # not its own
    assert not await other.lease("k", 30)
    await one.release("k")
    assert await other.lease("k", 0.02)
    for _ in range(200):
        if await one.lease("k", 30):
            break
        await asyncio.sleep(0.01)
    else:
        pytest.fail("a lease did not end by itself")


async def test_settings_are_shared_and_the_first_to_add_one_wins(place: Place[Any]) -> None:
    one, other = await place.open(), await place.open()
    assert await one.value("x") is None
    await one.set_value("x", b"\x00\xff")
    assert await other.value("x") == b"\x00\xff"
    await other.set_value("x", b"2")
    assert await one.value("x") == b"2"
    made = await asyncio.gather(one.add_value("secret", b"one"), other.add_value("secret", b"other"))
    assert made[0] == made[1]
    await one.set_value("brief", b"1", keep=0.01)
    for _ in range(200):
        if await one.value("brief") is None:
            break
        await asyncio.sleep(0.01)
    assert await one.value("brief") is None
    assert await one.add_value("brief", b"again") == b"again"
    assert place.told.failures == []


async def test_many_at_once_are_all_answered(place: Place[Any]) -> None:
    tier = await place.open()
    await asyncio.gather(*(tier.put(record(f"k{i}", body=b"%d" % i), keep=60, began=now()) for i in range(300)))
    found = await asyncio.gather(*(tier.get(f"k{i}") for i in range(300)))
    assert [each.body if each else None for each in found] == [b"%d" % i for i in range(300)]
    assert place.told.failures == []


async def test_a_purge_races_with_puts_and_wins(place: Place[Any]) -> None:
    one, other = await place.open(), await place.open()
    for round_ in range(10):
        began = now()
        puts = [one.put(record(f"k{i}", tags=(f"t{round_}",)), keep=60, began=began) for i in range(10)]
        await asyncio.gather(*puts[:5], other.purge(Purge(kind="tag", value=f"t{round_}")), *puts[5:])
        assert [await other.get(f"k{i}") for i in range(10)] == [None] * 10
        assert [await one.get(f"k{i}") for i in range(10)] == [None] * 10


async def test_a_closed_tier_writes_what_it_owes(place: Place[Any]) -> None:
    one = await place.open()
    await one.put(record(), keep=60, began=now())
    closing = await place.open()
    purging = asyncio.ensure_future(closing.purge(Purge(kind="all")))
    await asyncio.sleep(0)
    await closing.aclose()
    await purging
    assert await one.get(record().key) is None


async def test_a_listener_that_fails_is_no_end(place: Place[Any]) -> None:
    one, other = await place.open(), await place.open()

    def fail(purge: Purge, _: float) -> None:
        raise ValueError(purge.value)

    other.subscribe(fail)
    await one.purge(Purge(kind="tag", value="one"))
    await until(lambda: "store_back" in place.told.events, "it goes on")
    assert await one.get("k") is None
    assert other.reached
