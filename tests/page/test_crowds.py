"""Many who wait for one exchange, and the breaker that hears of them: it opens for hundreds, and for nobody alone."""

import asyncio
from collections.abc import Callable

import pytest

from bff.model import Fragment, Outcome, Reason
from bff.page.flight import Wait
from bff.rules.limits.breaker import State
from tests.asker import KEEP, Asker
from tests.build import Shelf, World, fragment, text_param
from tests.fakes import until
from tests.upstream.guards import Told

SHARED = {**KEEP, "retry.extra": "0"}
BROKEN = (Outcome.OMITTED, Reason.BREAKER)


class Ground:
    """Visitors of one guarded fragment; each time it is asked for as many come as `crowd` says, and wait for one exchange."""

    def __init__(self, made: Fragment | None = None, *, tier: Shelf | None = None, world: World | None = None) -> None:
        made = made or fragment(layer=SHARED)
        self.told = Told()
        loop = world.loop if world is not None else None
        self.world = World(fragments={made.name: made}, counts=self.told, tier=tier, loop=loop)
        self.asker = Asker(made, self.world)

    def come(self, crowd: int, **passed: str) -> list[Wait]:
        waits = [self.asker.ask(**passed) for _ in range(crowd)]
        return [wait for wait in waits if wait is not None]

    def silent(self, crowd: int, seconds: float = 1.0, **passed: str) -> None:
        """A crowd comes and is told nothing."""
        self.come(crowd, **passed)
        self.world.loop.advance(seconds)
        for flown in self.world.upstreams.open:
            flown.fail(Reason.TIMEOUT, "timeout")

    def refused(self) -> bool:
        """Whether a visitor is sent away at once."""
        before = len(self.world.upstreams.flown)
        self.come(1)
        self.world.loop.advance(0.0)
        return self.asker.last == BROKEN and len(self.world.upstreams.flown) == before

    @property
    def states(self) -> list[State]:
        return [state for _, state, _ in self.told.states]


def test_hundreds_who_wait_in_vain_open_it_after_three_exchanges() -> None:
    ground = Ground()
    for _ in range(3):
        assert not ground.states
        ground.silent(100)
    assert ground.told.states == [("shop/card", State.OPEN, "3 of 3 failed, for which 198 more had waited")]
    assert ground.refused()
    assert len(ground.world.upstreams.flown) == 3


def test_whoever_tries_again_and_again_alone_does_not() -> None:
    ground = Ground()
    for _ in range(60):
        ground.silent(1)
    assert not ground.states
    assert len(ground.world.upstreams.flown) == 60


def test_those_who_went_have_not_waited_in_vain() -> None:
    ground = Ground()
    for _ in range(8):
        first, *others = ground.come(50)
        for wait in others:
            wait.leave()
        first.leave()
        ground.silent(0)
    assert not ground.states


def test_those_whose_own_time_was_over_have() -> None:
    ground = Ground()
    for _ in range(3):
        for wait in ground.come(50)[1:]:
            wait.expire()
        ground.silent(0)
    assert ground.states == [State.OPEN]


def test_a_crowd_that_is_served_opens_nothing_nor_does_one_exchange_that_is_slow() -> None:
    ground = Ground(fragment(params={"n": text_param("n")}, layer=SHARED))
    for second in range(40):
        if second % 4:
            ground.come(5, n=f"{second}")
            ground.world.upstreams.open[0].reply()
        else:
            ground.silent(500, n=f"{second}")
    assert not ground.states
    assert len(ground.world.upstreams.flown) == 40


def test_while_a_probe_finds_out_nobody_else_waits_for_it() -> None:
    ground = Ground()
    for _ in range(3):
        ground.silent(100)
    ground.world.loop.advance(5.0)
    (probe,) = ground.come(1)
    assert ground.refused(), "by the side of the probe"
    (flown,) = ground.world.upstreams.open
    ground.world.loop.advance(1.0)
    flown.fail(Reason.TIMEOUT, "timeout")
    assert probe.flight is None
    assert ground.refused()
    ground.world.loop.advance(5.0)
    ground.come(1)
    ground.world.upstreams.open[0].reply(b"<p>again</p>", cache_control="no-store")
    assert ground.asker.html == b"<p>again</p>"
    assert ground.states == [State.OPEN, State.HALF_OPEN, State.OPEN, State.HALF_OPEN, State.CLOSED]


def test_what_was_asked_before_it_opened_is_not_waited_for() -> None:
    made = fragment(params={"n": text_param("n")}, layer=SHARED)
    ground = Ground(made)
    early = ground.come(2, n="other")
    flown = ground.world.upstreams.open[0]
    for _ in range(3):
        ground.come(100, n="one")
        ground.world.upstreams.open[-1].fail(Reason.TIMEOUT, "timeout")
    assert ground.states == [State.OPEN]
    ground.come(1, n="other")
    ground.world.loop.advance(0.0)
    assert ground.asker.last == BROKEN
    before = len(ground.asker.results)
    flown.reply(b"<p>late</p>")
    assert len(ground.asker.results) == before + len(early), "who waited for it has it"
    ground.come(1, n="other")
    assert ground.asker.html == b"<p>late</p>", "and so has who comes"


# --- several processes ------------------------------------------------------------------------------------------------


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def looked(shelf: Shelf, times: int) -> Callable[[], bool]:
    return lambda: len(shelf.asked) >= times


async def waited(ground: Ground, shelf: Shelf, crowd: int, **passed: str) -> None:
    """A crowd waits for what another process fetches, and it has been looked for again."""
    ground.come(crowd, **passed)
    await until(looked(shelf, len(shelf.asked) + 2), "a second look")


@pytest.mark.anyio
async def test_those_who_wait_for_another_process_in_vain_open_it_too() -> None:
    shelf = Shelf()
    ground = Ground(tier=shelf)
    shelf.leases.add(ground.asker.call().key)
    for _ in range(3):
        assert not ground.states
        await waited(ground, shelf, 50)
        ground.world.loop.advance(1.6)
        await until(lambda: not ground.world.resolver._flights, "its end")
    assert ground.states == [State.OPEN]
    assert not ground.world.upstreams.flown
    ground.come(1)
    await settled()
    ground.world.loop.advance(0.0)
    assert ground.asker.last == BROKEN, "it waits for nobody"


@pytest.mark.anyio
async def test_what_another_process_brings_is_no_failure() -> None:
    shelf, made = Shelf(), fragment(params={"n": text_param("n")}, layer=SHARED)
    ground = Ground(made, tier=shelf)
    other = Ground(made, tier=shelf, world=ground.world)
    for number in range(9):
        other.come(1, n=f"{number}")
        await until(lambda: other.world.upstreams.open, "the one that fetches")
        await waited(ground, shelf, 50, n=f"{number}")
        if number % 3 == 2:
            ground.world.loop.advance(1.6)
            await until(lambda: not ground.world.resolver._flights, "its end")
        other.world.upstreams.open[0].reply()
        await until(lambda: not ground.world.resolver._flights, "its end")
    assert not ground.states, "a third of them came to nothing"
    assert not ground.world.upstreams.flown
