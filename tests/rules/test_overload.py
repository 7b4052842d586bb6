"""When the gateway does less, and of what."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bff.rules.overload import IDLE, LAG, LEAVE, MEMORY, WINDOW, Level, Load, beaten


def after(*beats: tuple[float, float], load: Load = IDLE) -> Load:
    for lag, memory in beats:
        load = beaten(load, lag, memory)
    return load


def lagging(lag: float, times: int = WINDOW, load: Load = IDLE) -> Load:
    return after(*[(lag, 0.1)] * times, load=load)


def test_one_slow_callback_sheds_nothing_however_slow() -> None:
    assert after(*[(0.0, 0.1)] * 3, (30.0, 0.1), (0.0, 0.1)).level is Level.NONE
    assert lagging(30.0, WINDOW - 1).level is Level.NONE


@pytest.mark.parametrize(
    ("lag", "level"),
    [(0.099, Level.NONE), (0.1, Level.OPTIONAL), (0.499, Level.OPTIONAL), (0.5, Level.PAGES), (9.0, Level.PAGES)],
)
def test_standing_lag_sheds_optional_slots_first_then_pages(lag: float, level: Level) -> None:
    load = lagging(lag)
    assert (load.level, load.limit) == (level, "lag" if level else "")


@pytest.mark.parametrize(
    ("memory", "level"),
    [(0.849, Level.NONE), (0.85, Level.OPTIONAL), (0.949, Level.OPTIONAL), (0.95, Level.PAGES), (3.0, Level.PAGES)],
)
def test_memory_counts_at_once(memory: float, level: Level) -> None:
    load = after((0.0, memory))
    assert (load.level, load.limit) == (level, "memory" if level else "")


def test_the_limit_named_is_the_one_that_was_reached() -> None:
    assert after(*[(0.2, 0.96)] * WINDOW).limit == "memory"
    assert after(*[(0.6, 0.86)] * WINDOW).limit == "lag"


def test_a_level_is_left_later_than_it_was_entered() -> None:
    load = lagging(LAG[1])
    assert after((LAG[1] * LEAVE, 0.1), load=load).level is Level.PAGES
    assert after((LAG[1] * LEAVE - 0.01, 0.1), load=load).level is Level.OPTIONAL
    assert after((0.0, 0.1), load=load).level is Level.NONE
    load = after((0.0, MEMORY[0]))
    assert after((0.0, MEMORY[0] * LEAVE), load=load).level is Level.OPTIONAL
    assert after((0.0, MEMORY[0] * LEAVE - 0.01), load=load).level is Level.NONE


@given(st.lists(st.tuples(st.floats(0, 5), st.floats(0, 2)), max_size=40))
def test_whatever_was_it_ends_with_the_quiet(beats: list[tuple[float, float]]) -> None:
    load = after(*beats)
    assert (load.level is Level.NONE) == (load.limit == "")
    assert after((0.0, 0.1), load=load).level is Level.NONE


@given(st.lists(st.tuples(st.floats(0, 5), st.floats(0, 2)), min_size=1, max_size=40))
def test_more_of_either_never_sheds_less(beats: list[tuple[float, float]]) -> None:
    assert after(*[(lag + 0.1, memory + 0.1) for lag, memory in beats]).level >= after(*beats).level
