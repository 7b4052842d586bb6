import math
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bff.model import Cache, Reason, Trust
from bff.rules import serve
from bff.rules.caching import Terms
from bff.rules.serve import Answer, Use
from tests.build import policy

TERMS = Terms(
    storable=True,
    lifetime=10.0,
    age=0.0,
    stale_while_revalidate=None,
    stale_if_error=None,
    must_revalidate=False,
    etag="",
    last_modified="",
    spoke=0.0,
)
CACHE = policy(cache__stale_while_revalidate="5s", cache__stale_if_error="20s", cache__max_stale="60s").cache


@dataclass
class Copy:
    terms: Terms = field(default_factory=lambda: TERMS)
    status: int = 200
    version: str = "1"
    born: float = 0.0
    stale_at: float = math.inf


@pytest.mark.parametrize(
    ("now", "use"),
    [
        (0, Use.FRESH),
        (9.9, Use.FRESH),
        (10, Use.REVALIDATE),
        (14.9, Use.REVALIDATE),
        (15, Use.RESERVE),
        (29.9, Use.RESERVE),
        (30, Use.NOTHING),
    ],
)
def test_the_windows_follow_one_another(now: float, use: Use) -> None:
    assert serve.use(Copy(), "1", CACHE, now) is use


def test_nothing_kept_is_of_no_use() -> None:
    assert serve.use(None, "1", CACHE, 0) is Use.NOTHING


def test_the_recency_promise_outranks_every_window() -> None:
    assert serve.use(Copy(replace(TERMS, lifetime=1000.0)), "1", CACHE, 61) is Use.NOTHING


def test_what_the_upstream_states_replaces_the_policys_windows() -> None:
    stated = Copy(replace(TERMS, stale_while_revalidate=0.0, stale_if_error=100.0))
    assert serve.use(stated, "1", CACHE, 11) is Use.RESERVE
    assert serve.use(stated, "1", CACHE, 59) is Use.RESERVE


def test_a_copy_of_another_version_is_a_miss_with_a_stale_copy() -> None:
    assert serve.use(Copy(version="0"), "1", CACHE, 1) is Use.RESERVE


@pytest.mark.parametrize(
    ("before", "after"), [("checked", "sanitized"), ("sandboxed", "checked"), ("sanitized", "sandboxed")]
)
def test_what_was_read_under_another_trust_is_never_shown(before: Trust, after: Trust) -> None:
    kept, now = Copy(version=serve.trusted("1", before)), serve.trusted("1", after)
    assert serve.use(kept, now, CACHE, 1) is Use.NOTHING
    assert serve.use(kept, kept.version, CACHE, 1) is Use.FRESH
    assert serve.use(kept, serve.trusted("2", before), CACHE, 15) is Use.RESERVE


@pytest.mark.parametrize("copy", [Copy(replace(TERMS, must_revalidate=True)), Copy(status=404)])
def test_what_may_not_be_shown_stale(copy: Copy) -> None:
    assert serve.use(copy, "1", CACHE, 11) is Use.NOTHING


def test_a_cache_that_is_off_keeps_nothing() -> None:
    off = replace(CACHE, mode="off")
    assert serve.use(Copy(), "1", off, 1) is Use.NOTHING
    assert not serve.keepable(TERMS, 200, off, shareable=True)


@given(
    st.floats(0, 200),
    st.floats(0, 200),
    st.booleans(),
    st.sampled_from([200, 404, 410]),
    st.floats(0, 100),
    st.floats(0, 100),
    st.floats(0, 100),
)
def test_no_copy_is_shown_beyond_what_any_rule_allows(
    now: float, lifetime: float, must: bool, status: int, swr: float, sie: float, most: float
) -> None:
    cache = replace(CACHE, stale_while_revalidate=swr, stale_if_error=sie, max_stale=most)
    copy = Copy(replace(TERMS, lifetime=lifetime, must_revalidate=must), status)
    use = serve.use(copy, "1", cache, now)
    if use is not Use.NOTHING:
        assert now <= most
    if use in (Use.REVALIDATE, Use.RESERVE):
        assert not must
        assert status == 200
        assert now - lifetime < max(swr, sie)
    if use is Use.FRESH:
        assert now < lifetime


def test_lifetimes_where_the_upstream_is_silent() -> None:
    silent = replace(TERMS, lifetime=None)
    cache = replace(CACHE, fresh=30.0, negative=5.0)
    assert serve.lifetime(silent, 200, cache) == 30
    assert serve.lifetime(silent, 404, cache) == 5
    assert serve.left(Copy(silent), cache, 10) == 20


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (200, Answer.CONTENT),
        (204, Answer.EMPTY),
        (301, Answer.REDIRECT),
        (303, Answer.REDIRECT),
        (404, Answer.NOT_FOUND),
        (410, Answer.NOT_FOUND),
        (401, Answer.AUTH),
        (403, Answer.AUTH),
        (429, Answer.ERROR),
        (422, Answer.CLIENT_ERROR),
        (500, Answer.ERROR),
        (503, Answer.ERROR),
        (206, Answer.ERROR),
        (202, Answer.ACCEPTED),
        (304, Answer.ERROR),
    ],
)
def test_statuses(status: int, answer: Answer) -> None:
    assert serve.classify(status) is answer


def test_not_modified_only_answers_a_condition() -> None:
    assert serve.classify(304, conditional=True) is Answer.NOT_MODIFIED


@pytest.mark.parametrize(
    ("terms", "status", "cache", "kept"),
    [
        (TERMS, 200, CACHE, True),
        (replace(TERMS, storable=False), 200, CACHE, False),
        (replace(TERMS, lifetime=0.0), 200, CACHE, True),
        (replace(TERMS, lifetime=0.0), 404, CACHE, False),
        (replace(TERMS, lifetime=0.0, must_revalidate=True), 200, CACHE, False),
        (replace(TERMS, lifetime=0.0, must_revalidate=True, etag='"a"'), 200, CACHE, True),
        (replace(TERMS, lifetime=0.0), 200, replace(CACHE, stale_while_revalidate=0.0, stale_if_error=0.0), False),
        (
            replace(TERMS, lifetime=0.0, last_modified="x"),
            200,
            replace(CACHE, stale_while_revalidate=0.0, stale_if_error=0.0),
            True,
        ),
    ],
)
def test_only_what_could_be_of_use_is_kept(terms: Terms, status: int, cache: Cache, kept: bool) -> None:
    assert serve.keepable(terms, status, cache, shareable=True) is kept
    assert not serve.keepable(terms, status, cache, shareable=False)


def chain(reason: Reason, **have: bool) -> str:
    given = {"stale": False, "fallback": False, "client": False, "primary": False} | have
    return serve.step(policy(), reason, **given)


def test_the_chain_takes_the_first_step_that_can_be_taken() -> None:
    assert chain(Reason.TIMEOUT, stale=True, fallback=True, client=True) == "stale"
    assert chain(Reason.TIMEOUT, fallback=True, client=True) == "fallback"
    assert chain(Reason.TIMEOUT, client=True) == "client"
    assert chain(Reason.CONNECT, client=True) == "omit"
    assert chain(Reason.TIMEOUT, client=True, primary=True) == "omit"
    assert chain(Reason.NOT_FOUND, stale=True) == "omit"
    assert chain(Reason.AUTH, stale=True, fallback=True) == "fallback"


def test_the_order_of_the_policy_counts() -> None:
    given = {"stale": True, "fallback": True, "client": True, "primary": False}
    assert serve.step(policy(on_error="omit"), Reason.TIMEOUT, **given) == "omit"
    assert serve.step(policy(on_error="fallback, stale"), Reason.TIMEOUT, **given) == "fallback"
    assert (
        serve.step(policy(on_error="stale"), Reason.TIMEOUT, stale=False, fallback=True, client=True, primary=False)
        == "omit"
    )


@pytest.mark.parametrize(
    ("now", "use"),
    [
        (3, Use.FRESH),
        (4, Use.REVALIDATE),
        (8.9, Use.REVALIDATE),
        (9, Use.RESERVE),
        (23.9, Use.RESERVE),
        (24, Use.NOTHING),
    ],
)
def test_the_windows_of_what_a_purge_marked_stale_begin_with_the_purge(now: float, use: Use) -> None:
    assert serve.use(Copy(stale_at=4.0), "1", CACHE, now) is use


def test_a_purge_never_lengthens_a_window() -> None:
    assert serve.use(Copy(stale_at=20.0), "1", CACHE, 29.9) is Use.RESERVE
    assert serve.use(Copy(stale_at=20.0), "1", CACHE, 30) is Use.NOTHING


def test_what_a_purge_has_removed_is_of_no_use_to_whoever_still_holds_it() -> None:
    assert serve.use(Copy(stale_at=-math.inf), "1", CACHE, 1) is Use.NOTHING


def test_a_purge_ends_the_freshness_that_is_told() -> None:
    assert serve.left(Copy(), CACHE, 4) == 6
    assert serve.left(Copy(stale_at=3.0), CACHE, 4) == -1


def test_a_kept_answer_is_of_use_through_its_windows_and_longer_where_it_can_be_confirmed() -> None:
    assert serve.keep_for(TERMS, 200, CACHE) == 30
    assert serve.keep_for(replace(TERMS, must_revalidate=True), 200, CACHE) == 10
    assert serve.keep_for(TERMS, 404, CACHE) == 10
    assert serve.keep_for(replace(TERMS, etag='"a"'), 200, CACHE) == CACHE.max_stale
    assert serve.keep_for(replace(TERMS, stale_if_error=0.0, stale_while_revalidate=3.0), 200, CACHE) == 13
