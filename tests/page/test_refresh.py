"""Entries fetched ahead of whoever would have to wait for them."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from bff.model import Forward, Outcome, Purge, Reason
from bff.page.refresh import AT_ONCE, PASSED, Refresher
from tests.asker import KEEP, Asker
from tests.build import Shelf, World, fragment, int_param, planner
from tests.store.entries import entry


def pulled(pace: str = "30s", **more: Any) -> tuple[Asker, Refresher]:
    asker = Asker(fragment(layer=KEEP | {"cache.pull": pace}, **more))
    world = asker.world
    return asker, Refresher(
        world.resolver, world.store, world.loop.call_later, lambda: world.planner, chance=lambda: 0.5
    )


def fill(asker: Asker, body: bytes = b"<p>one</p>") -> None:
    asker.ask()
    asker.world.upstreams.to("/card").reply(body)


def test_what_is_pulled_is_fetched_at_its_pace_though_nobody_asks() -> None:
    asker, _ = pulled()
    fill(asker)
    asker.world.loop.advance(29.9)
    assert asker.world.upstreams.open == []
    asker.world.loop.advance(0.2)
    asker.world.upstreams.to("/card").reply(b"<p>two</p>")
    asker.ask()
    assert asker.last == (Outcome.FRESH, Reason.HIT)
    assert asker.html == b"<p>two</p>"
    asker.world.loop.advance(30.1)
    assert len(asker.world.upstreams.open) == 1


def test_what_nobody_has_used_for_a_day_is_pulled_no_more() -> None:
    asker, _ = pulled("1h")
    fill(asker)
    for _ in range(24):
        asker.world.loop.advance(3601)
        for flown in asker.world.upstreams.open:
            flown.reply(b"<p>again</p>")
    pulls = len(asker.world.upstreams.flown)
    asker.world.loop.advance(3700)
    assert len(asker.world.upstreams.flown) == pulls


def test_a_pull_that_fails_goes_on_at_its_pace() -> None:
    asker, _ = pulled()
    fill(asker)
    asker.world.loop.advance(30.1)
    asker.world.upstreams.to("/card").fail()
    asker.world.loop.advance(30.1)
    assert len(asker.world.upstreams.open) == 1


def test_what_is_not_pulled_is_left_alone() -> None:
    asker = Asker(fragment(layer=KEEP))
    Refresher(asker.world.resolver, asker.world.store, asker.world.loop.call_later, lambda: asker.world.planner)
    fill(asker)
    asker.world.loop.advance(1000)
    assert len(asker.world.upstreams.flown) == 1


def test_what_cannot_be_fetched_is_passed_over_in_turns() -> None:
    asker, refresher = pulled()
    fill(asker)
    store = asker.world.store
    known = store.matching(Purge(kind="all"))
    for number in range(2 * PASSED + 1):
        store.put(entry(f"gone/by-now?n={number}", 0, used=asker.world.loop.now + 1 + number))
    refresher.soon(store.matching(Purge(kind="all")))
    assert len(refresher._queue) == PASSED + 1 + len(known)
    asker.world.loop.advance(0.001)
    assert not refresher._queue
    assert len(asker.world.upstreams.open) == 1


def test_private_copies_are_not_fetched_for_anybody() -> None:
    asker, refresher = pulled(forward=Forward(principal="x-user"))
    asker.ask("ada")
    asker.world.upstreams.to("/card").reply()
    refresher.soon(asker.world.store.matching(Purge(kind="all")))
    asker.world.loop.advance(100)
    assert len(asker.world.upstreams.flown) == 1


def test_a_soft_purge_refreshes_a_few_at_once_and_those_in_use_first() -> None:
    made = fragment(layer=KEEP, params={"n": int_param("n")})
    asker = Asker(made)
    world = asker.world
    refresher = Refresher(world.resolver, world.store, world.loop.call_later, lambda: world.planner)
    for n in range(10):
        world.loop.advance(0.1)
        asker.ask(n=str(n))
        world.upstreams.open[0].reply()
    purge = Purge(kind="fragment", value=made.name, soft=True)
    world.store.purge(purge, world.loop.time())
    world.loop.advance(0.001)  # what is fetched in the very moment of a purge counts as fetched before it
    refresher.soon(world.store.matching(purge))
    refresher.soon(world.store.matching(purge))
    assert [flown.ask.target for flown in world.upstreams.open] == ["/card/9", "/card/8", "/card/7", "/card/6"]
    asker.ask(n="3")
    assert asker.last == (Outcome.STALE, Reason.HIT), "nobody waits"
    while world.upstreams.open:
        assert len(world.upstreams.open) <= AT_ONCE + 1
        world.upstreams.open[0].reply(b"<p>new</p>")
    assert len(world.upstreams.flown) == 20
    asker.ask(n="0")
    assert asker.html == b"<p>new</p>"
    assert asker.last == (Outcome.FRESH, Reason.HIT)


def test_a_call_does_not_join_a_flight_that_a_purge_has_overtaken() -> None:
    asker = Asker(fragment(layer=KEEP))
    world = asker.world
    asker.ask()
    purge = Purge(kind="tag", value="course:1", context="shop")
    world.loop.advance(0.1)
    world.store.purge(purge, world.loop.time())
    world.resolver.forget(purge)
    world.loop.advance(0.001)
    asker.ask()
    old, new = world.upstreams.open
    old.reply(b"<p>old</p>")
    new.reply(b"<p>new</p>")
    assert asker.html == b"<p>new</p>"
    asker.ask()
    assert asker.html == b"<p>new</p>"


def test_flights_that_a_purge_does_not_concern_go_on() -> None:
    asker = Asker(fragment(layer=KEEP))
    asker.ask()
    for purge in (
        Purge(kind="fragment", value="shop/other"),
        Purge(kind="context", value="other"),
        Purge(kind="tag", value="x", context="other"),
    ):
        asker.world.resolver.forget(purge)
    asker.ask()
    assert len(asker.world.upstreams.open) == 1


def test_a_popular_entry_is_refreshed_before_it_expires() -> None:
    made = fragment(layer=KEEP)
    asker = Asker(made, World(fragments={made.name: made}, chance=lambda: 0.5))
    fill(asker)  # it took 10 ms, so that it is due 7 ms before its end
    asker.world.loop.advance(9.99)
    asker.ask()
    assert asker.world.upstreams.open == []
    asker.world.loop.advance(0.005)
    asker.ask()
    asker.ask()
    assert asker.last == (Outcome.FRESH, Reason.HIT)
    assert len(asker.world.upstreams.open) == 1


def test_refreshing_backs_off_while_it_fails() -> None:
    asker = Asker(fragment(layer=KEEP | {"cache.stale_while_revalidate": "1h"}))
    fill(asker)
    asker.world.loop.advance(11)
    for pause in (1, 2, 4, 8):
        asker.ask()
        asker.world.upstreams.to("/card").fail()
        asker.world.loop.advance(pause - 0.1)
        asker.ask()
        assert asker.world.upstreams.open == []
        asker.world.loop.advance(0.2)
    asker.ask()
    asker.world.upstreams.to("/card").reply(b"<p>back</p>")
    asker.ask()
    assert asker.html == b"<p>back</p>"


def test_once_closed_nothing_begins() -> None:
    asker, refresher = pulled()
    fill(asker)
    refresher.close()
    asker.world.loop.advance(31)
    assert len(asker.world.upstreams.flown) == 1


@pytest.mark.parametrize("primary", [False, True])
def test_it_is_asked_for_as_it_was(primary: bool) -> None:
    made = fragment(layer=KEEP, params={"n": int_param("n")}, forward=Forward(headers=("accept-language",)))
    asker = Asker(made, primary=primary)
    asker.ask(n="7")
    first = asker.world.upstreams.open[0]
    first.reply()
    refresher = Refresher(
        asker.world.resolver, asker.world.store, asker.world.loop.call_later, lambda: asker.world.planner
    )
    refresher.soon(asker.world.store.matching(Purge(kind="all")))
    (again,) = asker.world.upstreams.open
    assert (again.ask.target, again.headers["accept-language"]) == (first.ask.target, first.headers["accept-language"])


def test_what_is_registered_otherwise_by_now_is_left_alone() -> None:
    made = fragment(layer=KEEP, params={"n": int_param("n")})
    asker = Asker(made)
    asker.ask(n="7")
    asker.world.upstreams.open[0].reply()
    for now in ({}, {made.name: fragment(layer=KEEP)}):
        known = planner(fragments=now)
        refresher = Refresher(asker.world.resolver, asker.world.store, asker.world.loop.call_later, lambda: known)  # noqa: B023 - used in this turn
        refresher.soon(asker.world.store.matching(Purge(kind="all")))
    assert asker.world.upstreams.open == []


def test_a_copy_that_was_purged_while_it_was_asked_for_is_not_shown() -> None:
    asker = Asker(fragment(layer=KEEP))
    fill(asker)
    asker.world.loop.advance(20)
    asker.ask()
    asker.world.store.purge(Purge(kind="all"), asker.world.loop.time())
    asker.world.upstreams.to("/card").fail()
    assert asker.last == (Outcome.OMITTED, Reason.CONNECT)


async def _two_processes(shelf: Shelf) -> tuple[Asker, Asker]:
    """Both pull the same, share a tier, and have what the first one has fetched."""
    made = fragment(layer=KEEP | {"cache.fresh": "1h", "cache.pull": "30s"})
    first = World(fragments={made.name: made}, tier=shelf)
    second = World(fragments={made.name: made}, tier=shelf, loop=first.loop)
    askers = Asker(made, first), Asker(made, second)
    for asker in askers:
        _refreshing(asker.world)
        asker.ask()
        await _settled()
        for flown in asker.world.upstreams.open:
            flown.reply(b"<p>one</p>")
        await _settled()
    assert askers[1].last == (Outcome.FRESH, Reason.HIT), "it came from the tier"
    return askers


def _refreshing(world: World) -> None:
    Refresher(world.resolver, world.store, world.loop.call_later, lambda: world.planner, chance=lambda: 0.5)


async def _settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.mark.anyio
async def test_what_came_from_the_second_tier_is_pulled_too() -> None:
    one, two = await _two_processes(Shelf())
    one.world.store.purge(Purge(kind="all"), one.world.loop.time())  # as if the first process had ended
    two.world.loop.advance(31)
    await _settled()
    assert len(two.world.upstreams.open) == 1


@pytest.mark.anyio
async def test_what_another_process_pulls_is_taken_over_and_the_pace_goes_on() -> None:
    one, two = await _two_processes(Shelf())
    shown = []
    for pull in range(1, 5):
        one.world.loop.advance(31)
        await _settled()
        (flown,) = [*one.world.upstreams.open, *two.world.upstreams.open]
        flown.reply(f"<p>{pull}</p>".encode())
        await _settled()
        two.ask()
        shown.append(two.html)
    assert len(one.world.upstreams.flown) + len(two.world.upstreams.flown) == 5, "one pulls for both"
    assert shown[-1] in (b"<p>3</p>", b"<p>4</p>"), "no copy is two paces behind"


@pytest.mark.anyio
async def test_the_tier_s_own_copy_is_no_news_whatever_the_clocks_round() -> None:
    shelf = Shelf()
    one, _ = await _two_processes(shelf)
    ((key, record),) = shelf.records.items()
    shelf.records[key] = replace(record, born=record.born + 1e-6)
    one.world.loop.advance(31)
    await _settled()
    assert len(one.world.upstreams.open) == 1
