"""How many different things were let through, against a list of everything that was asked for."""

from hypothesis import given
from hypothesis import strategies as st

from bff.rules.limits.distinct import Distinct


def test_so_many_different_ones_and_no_more() -> None:
    few = Distinct(2, 10.0)
    assert [few.take(what, 0.0) for what in "aabba"] == [True] * 5
    assert not few.take("c", 9.9)
    assert few.take("a", 9.0)
    assert few.take("c", 10.0), "b is forgotten"
    assert not few.take("b", 10.0), "a was repeated since"


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 4)), max_size=60))
def test_never_more_than_that_in_any_such_time(asked: list[tuple[str, int]]) -> None:
    few, now, through = Distinct(3, 10.0), 0, list[tuple[str, int]]()
    for what, pause in asked:
        now += pause
        lately = {each for each, when in through if when > now - 10}
        took = few.take(what, now)
        assert took == (what in lately or len(lately) < 3)
        if took:
            through.append((what, now))
