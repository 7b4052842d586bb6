"""A struggling context is spared the more the less it takes, never altogether, and only while it is offered a lot."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bff.rules.limits.tally import Tally
from bff.rules.limits.throttle import LEAST, WINDOW, Throttle


def after(accepted: int, rejected: int) -> Throttle:
    asked = Tally(WINDOW)
    throttle = Throttle(asked)
    for _ in range(accepted + rejected):
        asked.count(0.0)
    for _ in range(rejected):
        throttle.rejected(0.0)
    return throttle


@pytest.mark.parametrize(
    ("accepted", "rejected", "share"),
    [(20, 0, 0.0), (10, 10, 0.0), (5, 15, 10 / 21), (0, 20, 20 / 21), (0, LEAST - 1, 0.0), (0, 0, 0.0)],
)
def test_the_formula(accepted: int, rejected: int, share: float) -> None:
    assert after(accepted, rejected).share(0.0) == pytest.approx(share)


def test_what_is_left_out_was_offered() -> None:
    throttle = after(0, 20)
    assert throttle.spares(0.0, 0.95)
    assert throttle.share(0.0) == pytest.approx(21 / 22)
    assert not throttle.spares(0.0, 0.96)


def test_ten_seconds_without_a_rejection_end_it() -> None:
    throttle = after(0, 100)
    assert throttle.share(9.9) > 0.9
    assert throttle.share(10.0) == 0.0


def test_a_probe_that_was_well_ends_it() -> None:
    throttle = after(0, 100)
    throttle.forget()
    assert throttle.share(0.0) == 0.0
    assert not throttle.spares(0.0, 0.0)


@given(st.integers(0, 500), st.integers(0, 500))
def test_some_always_pass_and_none_are_spared_while_half_are_taken(accepted: int, rejected: int) -> None:
    share = after(accepted, rejected).share(0.0)
    assert 0.0 <= share < 1.0
    if accepted >= rejected:
        assert share == 0.0
