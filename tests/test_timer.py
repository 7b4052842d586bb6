import asyncio
from functools import partial
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bff.timer import TICK, Deadline, Timer
from tests.build import VirtualLoop


def made() -> tuple[VirtualLoop, Timer]:
    loop = VirtualLoop()
    return loop, Timer(cast(asyncio.AbstractEventLoop, loop))


@given(st.lists(st.floats(0, 3), min_size=1, max_size=20))
def test_never_early_and_at_most_a_tick_late(delays: list[float]) -> None:
    loop, timer = made()
    fired: dict[int, float] = {}

    def note(at: int) -> None:
        fired[at] = loop.time()

    for at, delay in enumerate(delays):
        timer.at(delay, partial(note, at))
    loop.advance(4)
    assert all(delay <= fired[at] + 1e-9 for at, delay in enumerate(delays))
    assert all(fired[at] <= delay + 2 * TICK + 1e-9 for at, delay in enumerate(delays))


def test_a_cancelled_deadline_does_not_fire() -> None:
    loop, timer = made()
    fired: list[str] = []
    kept = timer.at(0.1, lambda: fired.append("kept"))
    gone = timer.at(0.1, lambda: fired.append("gone"))
    gone.cancel()
    gone.cancel()
    loop.advance(1)
    kept.cancel()
    assert fired == ["kept"]


def test_a_callback_may_disarm_its_neighbour() -> None:
    loop, timer = made()
    fired: list[str] = []
    deadlines: list[Deadline] = []

    def fire() -> None:
        fired.append("x")
        for each in deadlines:
            each.cancel()

    deadlines += [timer.at(0.1, fire), timer.at(0.1, fire)]
    loop.advance(1)
    assert fired == ["x"]


def test_the_loop_sleeps_while_nothing_is_armed() -> None:
    loop, timer = made()
    timer.at(0.05, lambda: None)
    loop.advance(0.2)
    assert loop.idle
    timer.at(loop.time() + 0.05, lambda: None)
    assert not loop.idle
    timer.close()
    assert loop.idle


def test_a_passed_time_fires_in_the_next_tick() -> None:
    loop, timer = made()
    loop.advance(5)
    fired: list[float] = []
    timer.at(1, lambda: fired.append(loop.time()))
    loop.advance(0.1)
    assert fired
    assert fired[0] - 5 <= 2 * TICK


def test_closing_an_idle_timer_is_nothing() -> None:
    _, timer = made()
    timer.close()


def test_a_callback_that_fails_takes_no_other_with_it(caplog: pytest.LogCaptureFixture) -> None:
    loop, timer = made()
    fired: list[str] = []

    def fail() -> None:
        raise ValueError("no")

    for _ in range(3):
        timer.at(0.1, fail)
        timer.at(0.1, lambda: fired.append("x"))
    loop.advance(1)
    assert fired == ["x"] * 3
    assert caplog.text.count("a deadline's callback failed") == 3
