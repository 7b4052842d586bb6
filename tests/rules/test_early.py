import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bff.rules.early import BETA, backoff, early

CHANCE = st.floats(0, 1)


def share(left: float, delta: float, beta: float = BETA) -> float:
    """Of evenly spread chances, how many refresh now."""
    return sum(early(-left, 0.0, delta, beta, (at + 0.5) / 1000) for at in range(1000)) / 1000


def test_the_nearer_and_the_dearer_the_likelier() -> None:
    for left, delta in ((1.0, 1.0), (3.0, 1.0), (1.0, 0.2)):
        assert share(left, delta) == pytest.approx(math.exp(-left / delta), abs=0.002)
    assert share(1.0, 1.0, beta=2.0) > share(1.0, 1.0) > share(2.0, 1.0) > share(2.0, 0.5)
    assert share(60.0, 0.1) == 0


@given(st.floats(-1e6, 1e6), st.floats(0, 1e3), CHANCE)
def test_what_has_expired_is_always_refreshed(now: float, delta: float, chance: float) -> None:
    assert early(now, now, delta, BETA, chance)
    assert not early(now, now + 1, 0.0, BETA, chance)


def test_it_waits_longer_each_time() -> None:
    assert backoff(0, 1.0) == 0
    assert [backoff(failures, 1.0) for failures in range(1, 9)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert [backoff(failures, 0.0, first=0.5, cap=3) for failures in (1, 2, 3, 4)] == [0.25, 0.5, 1, 1.5]


@given(st.integers(1, 10**9), CHANCE)
def test_the_wait_is_bounded(failures: int, chance: float) -> None:
    assert 0.5 <= backoff(failures, chance) <= 60
