"""Second tries stay within their share of the window's requests, or the floor."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bff.rules.limits.budget import FLOOR, Budget
from bff.rules.limits.tally import Tally


def test_a_share_of_what_was_asked_may_be_spent() -> None:
    budget = Budget()
    for _ in range(100):
        budget.asked(0.0)
    assert [budget.spend(0.2, 0.0) for _ in range(21)] == [True] * 20 + [False]


def test_ten_a_second_are_always_allowed() -> None:
    budget = Budget(FLOOR)
    assert sum(budget.spend(0.2, 0.0) for _ in range(200)) == 100
    assert sum(budget.spend(0.2, 9.0) for _ in range(200)) == 0
    assert sum(budget.spend(0.2, 10.0) for _ in range(200)) == 100


def test_a_share_of_nothing_is_nothing() -> None:
    budget = Budget()
    budget.asked(0.0)
    assert not budget.spend(0.0, 0.0)


@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 60), st.integers(0, 60)), max_size=60),
    st.sampled_from([0.0, 0.05, 0.2, 1.0]),
    st.sampled_from([0.0, 1.0, FLOOR]),
)
def test_in_no_window_is_more_spent_than_share_and_floor_allow(
    steps: list[tuple[int, int, int]], share: float, floor: float
) -> None:
    """Slices are seconds: at each second so many are asked for, and so many second tries wanted."""
    budget = Budget(floor)
    now, asked, spent = 0, list[int](), list[int]()
    for pause, requests, wanted in steps:
        now += pause
        for _ in range(requests):
            budget.asked(float(now))
            asked.append(now)
        for _ in range(wanted):
            granted = budget.spend(share, float(now))
            inside = sum(each > now - 10 for each in spent)
            allowed = max(share * sum(each > now - 10 for each in asked), floor * 10)
            assert granted == (inside + 1 <= allowed)
            if granted:
                spent.append(now)
    assert budget.tally.sums(float(now)) == (
        sum(each > now - 10 for each in asked),
        sum(each > now - 10 for each in spent),
    )


def test_a_tally_forgets_when_told() -> None:
    tally = Tally(1.0)
    tally.count(0.0)
    tally.count(0.55, some=True)
    tally.clear()
    assert tally.sums(0.6) == (0, 0)
