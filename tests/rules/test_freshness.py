import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bff.rules import freshness
from tests.rules.answers import CACHE, NOW, answer, at, kept

DAY = 86400.0


@pytest.mark.parametrize(
    ("texts", "seconds"),
    [
        ([], None),
        (["cache-control: max-age=60"], 60),
        (["cache-control: max-age=60, s-maxage=10"], 10),
        (["cache-control: max-age=60", "cache-control: s-maxage=10"], 10),
        (["cache-control: s-maxage=x, max-age=60"], 0),
        (["cache-control: max-age=60", f"expires: {at(-5)}", f"date: {at(0)}"], 60),
        (["cache-control: max-age=0", f"expires: {at(300)}"], 0),
        ([f"expires: {at(300)}", f"date: {at(0)}"], 300),
        ([f"expires: {at(300)}", f"date: {at(400)}"], 0),
        ([f"expires: {at(300)}"], 300),
        ([f"expires: {at(300)}", "date: foo"], 300),
        (["expires: 0"], 0),
        ([f"expires: {at(300)}", f"expires: {at(300)}"], 0),
        ([f"expires: {at(0)}", f"last-modified: {at(-1000)}"], 0),
        ([f"last-modified: {at(-1000)}", f"date: {at(0)}"], 100),
        ([f"last-modified: {at(-1000)}"], 100),
        ([f"last-modified: {at(-90 * DAY)}"], DAY),
        ([f"last-modified: {at(1000)}"], 0),
        (["last-modified: once"], None),
        (["cdn-cache-control: max-age=5", "cache-control: max-age=60", f"expires: {at(300)}"], 5),
        (["cdn-cache-control: must-revalidate", "cache-control: max-age=60", f"expires: {at(300)}"], None),
        (["cdn-cache-control: foo, &", "cache-control: max-age=60"], 60),
        (["surrogate-control: max-age=5", "pragma: no-cache", "cache-control: max-age=60"], 60),
    ],
)
def test_lifetimes(texts: list[str], seconds: float | None) -> None:
    stored = kept(*texts)
    assert stored.lifetime == seconds
    assert stored.heuristic is (
        seconds is not None and "last-modified" in " ".join(texts) and "expires" not in texts[0]
    )


@pytest.mark.parametrize(
    ("status", "control", "guessed"),
    [
        (200, "", True),
        (404, "", True),
        (410, "", True),
        (501, "", True),
        (302, "public", True),
        (599, "public", True),
        (302, "max-age=5", False),
    ],
)
def test_only_some_statuses_let_a_cache_guess(status: int, control: str, guessed: bool) -> None:
    texts = [f"last-modified: {at(-1000)}", *([f"cache-control: {control}"] if control else [])]
    assert kept(*texts, status=status).heuristic is guessed


@pytest.mark.parametrize(
    ("texts", "took", "age"),
    [
        ([], 0, 0),
        ([], 3, 3),
        ([f"date: {at(-20)}"], 0, 20),
        ([f"date: {at(20)}"], 0, 0),
        (["date: foo"], 0, 0),
        ([f"date: {at(-20)}", "age: 50"], 0, 50),
        ([f"date: {at(-20)}", "age: 10"], 5, 20),
        ([f"date: {at(0)}", "age: 10"], 5, 15),
        (["age: 7200", "age: 0"], 0, 7200),
        (["age: 0, 7200"], 0, 0),
        (["age: -7200"], 0, 0),
        (["age: abc"], 0, 0),
    ],
)
def test_age_on_arrival(texts: list[str], took: float, age: float) -> None:
    assert NOW - kept(*texts, took=took).born == age


@pytest.mark.parametrize("control", ["no-cache", "must-revalidate", "proxy-revalidate", "s-maxage=10"])
def test_what_forbids_a_stale_answer(control: str) -> None:
    stored = kept(f"cache-control: {control}, stale-while-revalidate=9, stale-if-error=9")
    assert stored.must_revalidate
    assert freshness.windows(stored, replace(CACHE, stale_if_error=3600)) == (0, 0)


def test_the_windows_are_apart() -> None:
    generous = replace(CACHE, stale_while_revalidate=5.0, stale_if_error=7.0)
    assert freshness.windows(kept(), generous) == (5, 7)
    assert freshness.windows(kept("cache-control: stale-while-revalidate=1"), generous) == (1, 7)
    assert freshness.windows(kept("cache-control: stale-if-error=0"), generous) == (5, 0)
    assert freshness.windows(kept(status=404), generous) == (0, 0)
    assert freshness.windows(kept("cache-control: stale-if-error=3", status=404), generous) == (0, 3)


def test_where_nothing_is_said_the_policy_speaks_for_negative_answers() -> None:
    assert freshness.lifetime(kept(), CACHE) == 0
    assert freshness.lifetime(kept(status=404), CACHE) == 5
    assert freshness.lifetime(kept("cache-control: max-age=60", status=404), CACHE) == 60


def test_fixed_mode_takes_the_policy_for_the_answer() -> None:
    fixed = replace(CACHE, mode="fixed", fresh=30.0)
    stored = kept("cache-control: max-age=1, must-revalidate, stale-if-error=9", "age: 50", fixed=True)
    assert (stored.born, stored.must_revalidate, stored.stale_if_error) == (NOW, False, None)
    assert freshness.lifetime(stored, fixed) == 30
    assert freshness.lifetime(kept(status=410, fixed=True), fixed) == 5
    assert freshness.lifetime(kept("cache-control: max-age=1"), fixed) == 30


def test_how_long_it_is_kept() -> None:
    assert freshness.keep_for(kept("cache-control: max-age=60, stale-if-error=40"), CACHE) == 100
    assert freshness.keep_for(kept("cache-control: max-age=600000"), CACHE) == CACHE.max_stale
    assert freshness.keep_for(kept("cache-control: max-age=60", 'etag: "a"'), CACHE) == CACHE.max_stale


@pytest.mark.parametrize(
    ("texts", "of_use"),
    [
        ([], False),
        (["cache-control: max-age=1"], True),
        (["cache-control: max-age=0"], False),
        (["cache-control: max-age=0, stale-if-error=5"], True),
        (["cache-control: no-cache, max-age=5"], False),
        (["cache-control: no-cache", 'etag: "a"'], True),
        (["cache-control: max-age=0", f"last-modified: {at(-5)}"], True),
    ],
)
def test_what_is_worth_keeping(texts: list[str], of_use: bool) -> None:
    stored = kept(*texts)
    assert freshness.worth(stored, CACHE) is of_use
    assert not freshness.worth(stored, replace(CACHE, mode="off"))


@given(
    st.floats(0, 1e6), st.one_of(st.none(), st.integers(-(10**6), 10**6)), st.one_of(st.none(), st.integers(0, 10**12))
)
def test_an_answer_never_arrives_younger_than_it_took(took: float, date: int | None, age: int | None) -> None:
    texts = [*([f"date: {at(date)}"] if date is not None else []), *([f"age: {age}"] if age is not None else [])]
    stored = kept(*texts, took=took)
    assert NOW - stored.born >= took - 1e-6
    assert math.isfinite(stored.born)


@given(st.text(st.characters(codec="latin-1", exclude_characters="\r\n\0"), max_size=30))
def test_a_lifetime_is_never_negative(value: str) -> None:
    for name in ("expires", "last-modified", "age", "date"):
        found = answer(f"{name}: {value}")
        assert getattr(found, "lifetime", None) is None or getattr(found, "lifetime", 0) >= 0
