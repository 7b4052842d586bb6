from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bff.rules.reuse import ASKED_NOTHING, Asked, Forward, Reuse, Use, age_header, asked, reuse, stands_in
from bff.rules.stored import Stored
from tests.rules.answers import CACHE, NOW, at, head, kept

TAG = 'etag: "a"'
FRESH = "cache-control: max-age=60"
WINDOWS = "cache-control: max-age=60, stale-while-revalidate=10, stale-if-error=20"


def decide(stored: Stored | None, later: float, *request: str, method: str = "GET", others: bool = False) -> Reuse:
    return reuse(stored, method, head(*request), CACHE, NOW + later, others=others)


@pytest.mark.parametrize(
    ("texts", "later", "request_", "use", "why"),
    [
        ([FRESH], 0, [], Use.HIT, ""),
        ([FRESH], 59.9, [], Use.HIT, ""),
        ([FRESH], 60, [], Use.MISS, "stale"),
        ([FRESH, TAG], 60, [], Use.VALIDATE, "stale"),
        ([FRESH, f"last-modified: {at(-9)}"], 60, [], Use.VALIDATE, "stale"),
        ([FRESH, "age: 30"], 30, [], Use.MISS, "stale"),
        ([WINDOWS], 60, [], Use.REFRESH, ""),
        ([WINDOWS], 69.9, [], Use.REFRESH, ""),
        ([WINDOWS], 70, [], Use.RESERVE, "stale"),
        ([WINDOWS], 79.9, [], Use.RESERVE, "stale"),
        ([WINDOWS], 80, [], Use.MISS, "stale"),
        (["cache-control: max-age=60, must-revalidate, stale-while-revalidate=9", TAG], 60, [], Use.VALIDATE, "stale"),
        (["cache-control: no-cache, max-age=60", TAG], 0, [], Use.VALIDATE, "stale"),
        (["cache-control: no-cache, max-age=60"], 0, [], Use.MISS, "stale"),
        (['cache-control: no-cache="x", max-age=60'], 0, [], Use.HIT, ""),
        (["cache-control: max-age=1000000", TAG], 86401, [], Use.VALIDATE, "stale"),
        ([FRESH], 0, ['if-match: "a"'], Use.MISS, "request"),
        ([FRESH], 0, [f"if-unmodified-since: {at(0)}"], Use.MISS, "request"),
        ([FRESH], 0, ["authorization: x", "cookie: a=1"], Use.HIT, ""),
        ([], 0, [], Use.MISS, "stale"),
    ],
)
def test_what_becomes_of_a_request(texts: list[str], later: float, request_: list[str], use: Use, why: Forward) -> None:
    decision = decide(kept(*texts), later, *request_)
    assert (decision.use, decision.why) == (use, why)


@pytest.mark.parametrize(
    ("request_", "use", "why"),
    [
        ("no-cache", Use.RESERVE, "request"),
        ('no-cache="x"', Use.RESERVE, "request"),
        ("NO-CACHE", Use.RESERVE, "request"),
        ("max-age=0", Use.RESERVE, "request"),
        ("max-age=29", Use.RESERVE, "request"),
        ("max-age=30", Use.HIT, ""),
        ("max-age=x", Use.HIT, ""),
        ("min-fresh=31", Use.RESERVE, "request"),
        ("min-fresh=30", Use.HIT, ""),
        ("max-stale=1000", Use.HIT, ""),
        ("no-store", Use.HIT, ""),
        ("x" * 300 + ", no-cache", Use.RESERVE, "request"),
    ],
)
def test_what_a_request_may_ask_for(request_: str, use: Use, why: Forward) -> None:
    decision = decide(kept(FRESH, TAG), 30, f"cache-control: {request_}", "pragma: no-cache", "warning: 110")
    assert (decision.use, decision.why, decision.age, decision.ttl) == (use, why, 30, 30)
    assert decide(kept(FRESH, TAG), 90, f"cache-control: {request_}").use is Use.VALIDATE
    assert decide(kept(WINDOWS), 65, f"cache-control: {request_}").use in (Use.REFRESH, Use.RESERVE)


def test_who_wants_it_newer_waits_for_it() -> None:
    assert decide(kept(WINDOWS), 65, "cache-control: no-cache").use is Use.RESERVE
    assert decide(kept(WINDOWS), 65, "cache-control: max-age=65").use is Use.REFRESH
    assert decide(kept(WINDOWS), 65, "pragma: no-cache").use is Use.REFRESH


@pytest.mark.parametrize(
    ("later", "use"), [(0, Use.HIT), (65, Use.REFRESH), (75, Use.UNAVAILABLE), (99, Use.UNAVAILABLE)]
)
def test_only_if_cached(later: float, use: Use) -> None:
    assert decide(kept(WINDOWS, TAG), later, "cache-control: only-if-cached").use is use
    assert decide(None, later, "cache-control: only-if-cached") == Reuse(Use.UNAVAILABLE, 0, 0, "")


def test_where_nothing_is_kept_the_cause_is_named() -> None:
    assert decide(None, 0).why == "uri-miss"
    assert decide(None, 0, others=True).why == "vary-miss"
    assert reuse(kept(FRESH), "GET", {}, replace(CACHE, mode="off"), NOW) == Reuse(Use.MISS, 0, 0, "bypass")


@pytest.mark.parametrize("method", ["POST", "PUT", "OPTIONS", "BREW", "get"])
def test_other_methods_are_passed_on(method: str) -> None:
    assert decide(kept(FRESH), 0, "cache-control: only-if-cached", method=method) == Reuse(Use.MISS, 0, 0, "method")
    assert decide(kept(FRESH), 0, method="HEAD").use is Use.HIT


@pytest.mark.parametrize(
    ("later", "status", "stands"),
    [(75, None, True), (75, 500, True), (75, 503, True), (75, 429, True), (75, 404, False), (75, 200, False), (99, 503, False)],
)  # fmt: skip
def test_what_a_stale_answer_stands_in_for(later: float, status: int | None, stands: bool) -> None:
    assert stands_in(decide(kept(WINDOWS, TAG), later), status) is stands


def test_the_policy_speaks_where_the_upstream_is_silent() -> None:
    stored, lenient = kept(FRESH), replace(CACHE, stale_if_error=3600.0)
    assert reuse(stored, "GET", {}, lenient, NOW + 600).use is Use.RESERVE
    assert reuse(kept(FRESH, status=404), "GET", {}, lenient, NOW + 600).use is Use.MISS
    assert reuse(kept(), "GET", {}, replace(CACHE, mode="fixed", fresh=30.0), NOW + 29).use is Use.HIT


def test_age_is_in_whole_seconds() -> None:
    assert age_header(kept("age: 30"), NOW + 2.9) == b"32"
    assert age_header(kept(), NOW - 5) == b"0"


def test_the_first_of_duplicates_counts() -> None:
    assert asked(head("cache-control: max-age=5, max-age=9, no-store, min-fresh=1, only-if-cached")) == Asked(
        no_store=True, only_if_cached=True, max_age=5, min_fresh=1
    )
    assert asked({}) is ASKED_NOTHING


TIMES = st.floats(0, 1e5)
DELTAS = st.integers(0, 10**5)
WISHES = st.sampled_from(["", "no-cache", "max-age=5", "min-fresh=5", "max-stale", "only-if-cached", "no-store"])


@given(TIMES, TIMES, DELTAS, DELTAS, DELTAS, WISHES, st.sampled_from(["", ", must-revalidate", ", no-cache"]))
def test_nothing_is_shown_beyond_what_any_rule_allows(
    later: float, further: float, life: int, renewing: int, failing: int, wish: str, limit: str
) -> None:
    said = f"cache-control: max-age={life}, stale-while-revalidate={renewing}, stale-if-error={failing}{limit}"
    stored, request = kept(said, TAG), [f"cache-control: {wish}"] if wish else []
    decision = decide(stored, later, *request)
    assert decision.age == pytest.approx(later)
    assert decision.ttl == pytest.approx(life - later)
    if decision.use is Use.HIT:
        assert decision.ttl > 0
        assert wish != "no-cache"
    if decision.use is Use.REFRESH:
        assert 0 <= -decision.ttl < renewing
    if decision.use in (Use.HIT, Use.REFRESH, Use.RESERVE):
        assert limit != ", no-cache"
        assert decision.ttl > 0 or limit == ""
        assert decision.age <= CACHE.max_stale
    assert decide(stored, later + further, *request).age >= decision.age
