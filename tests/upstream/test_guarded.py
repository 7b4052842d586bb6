"""Breakers, retries, hedges and throttles as they are performed: what is asked, when, and how often `done` hears of it."""

from __future__ import annotations

import gc
from itertools import pairwise

import pytest

from bff.model import Ask, Bounds, Failure, Reason, Reply, Timing
from bff.rules.limits.breaker import State
from tests.build import fragment
from tests.upstream.guards import DEADLINE, Guards, Told, card

PLAIN = card(retry__extra="0")


# --- passing ----------------------------------------------------------------------------------------------------------


def test_an_answer_passes_as_it_is() -> None:
    guards = Guards()
    ended = guards.ask(card())
    (flown,) = guards.open
    assert flown.ask.headers == DEADLINE
    flown.reply()
    assert ended.status == 200
    assert guards.loop.idle
    assert guards.told == Told()


def test_an_ask_of_nobodys_is_not_guarded() -> None:
    guards = Guards()
    of, answers = card(), list[Reply | Failure]()
    for _ in range(30):
        ask = Ask(of.upstream, "GET", "/", b"", Bounds.of(of.policy, optional=True))
        guards.guarded.start(ask, answers.append)
        guards.open[0].fail()
    assert len(answers) == 30
    assert list(guards.guarded.states()) == []


def test_cancelling_ends_it_silently() -> None:
    guards = Guards()
    ended = guards.ask(card(hedge__after="100ms"))
    ended.exchange.cancel()
    ended.exchange.cancel()
    assert guards.open == []
    guards.wait(5.0)
    assert ended.answers == []
    assert guards.upstreams.flown[1:] == []


# --- retries ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [502, 503, 504])
def test_what_may_pass_is_tried_again_once(status: int) -> None:
    guards = Guards()
    ended = guards.ask(card())
    guards.open[0].reply(status=status)
    assert ended.answers == []
    guards.wait()
    guards.open[0].reply()
    assert ended.status == 200
    assert guards.told.retries == ["shop"]
    assert guards.told.tries == [str(status)], "the try that was not handed on is counted too"
    guards.wait()
    assert guards.loop.idle


def test_a_second_failure_is_the_end() -> None:
    guards = Guards()
    ended = guards.ask(card())
    guards.open[0].fail()
    guards.wait()
    guards.open[0].reply(status=503)
    assert ended.status == 503


def test_more_tries_where_the_policy_says_so() -> None:
    guards = Guards()
    ended = guards.ask(card(retry__extra="3"))
    for _ in range(3):
        guards.open[0].reply(status=503)
        guards.wait()
    guards.open[0].reply()
    assert ended.status == 200
    assert guards.told.retries == ["shop"] * 3


@pytest.mark.parametrize("status", [200, 404, 401, 429, 500])
def test_what_will_not_pass_is_not_tried_again(status: int) -> None:
    guards = Guards()
    ended = guards.ask(card())
    guards.open[0].reply(status=status)
    assert ended.status == status


def test_a_reset_is_tried_again_only_before_its_first_byte() -> None:
    guards = Guards()
    ended = guards.ask(card())
    guards.open[0].fail(Reason.TORN, "reset")
    guards.wait()
    flown = guards.open[0]
    flown.ended = True
    flown.done(Failure(Reason.TORN, "reset", "", Timing(first_byte=0.1, total=0.2)))
    assert ended.reason is Reason.TORN
    assert guards.told.retries == ["shop"]


def test_a_timeout_is_not_tried_again() -> None:
    guards = Guards()
    ended = guards.ask(card())
    guards.open[0].fail(Reason.TIMEOUT, "timeout")
    assert ended.reason is Reason.TIMEOUT


@pytest.mark.parametrize("how", [{"method": "HEAD"}, {"method": "POST"}, {"once": True}])
def test_only_a_get_that_begins_nothing_is_sent_again(how: dict[str, object]) -> None:
    guards = Guards()
    ended = guards.ask(card(hedge__after="50ms"), **how)  # type: ignore[arg-type] # parameters of one test
    guards.wait(0.1)
    guards.open[0].reply(status=503)
    assert ended.status == 503
    assert len(guards.upstreams.flown) == 1


def test_a_retry_waits_a_random_moment_and_what_the_context_asks_for() -> None:
    guards = Guards(chance=lambda: 0.99)
    guards.ask(card())
    guards.open[0].reply(status=503)
    guards.wait(0.02)
    assert guards.open == []
    guards.wait(0.02)
    guards.open[0].reply()
    guards.ask(card())
    guards.open[0].reply(status=503, retry_after="1")
    guards.wait(1.0)
    assert guards.open == []
    guards.wait(0.05)
    assert len(guards.open) == 1


def test_a_retry_never_goes_past_the_deadline() -> None:
    guards = Guards()
    ended = guards.ask(card())
    guards.wait(0.4)
    guards.open[0].reply(status=503)
    guards.wait()
    second = guards.open[0]
    assert second.ask.bounds.timeout.total == pytest.approx(1.5 - 0.42, abs=0.011)
    assert second.ask.headers == b"bff-deadline: %d\r\n" % round(second.ask.bounds.timeout.total * 1000)
    second.reply()
    timing = ended.answers[0].timing
    assert timing.total == pytest.approx(0.42 + 0.01, abs=0.011), "its times are seen from the ask"
    late = guards.ask(card())
    guards.wait(1.485)
    guards.open[0].reply(status=503)
    assert late.status == 503
    asked_to_wait = guards.ask(card())
    guards.open[0].reply(status=503, retry_after="2")
    assert asked_to_wait.status == 503


def test_a_retry_that_the_loop_is_late_for_is_none() -> None:
    guards = Guards(chance=lambda: 0.9)
    ended = guards.ask(card(timeout__total="60ms"))
    guards.open[0].reply(status=503)
    guards.loop.now += 0.05  # the loop stood still
    guards.wait()
    assert ended.status == 503
    assert guards.told.retries == []


def test_a_retry_is_not_made_once_the_breaker_has_opened() -> None:
    guards = Guards(chance=lambda: 0.9)
    of = card(breaker__consecutive="3")
    first = guards.ask(of)
    guards.open[0].fail()
    for _ in range(2):
        guards.ask(of)
        guards.open[0].fail()
    assert guards.state(of) is State.OPEN
    guards.wait(0.05)
    assert guards.open == []
    assert first.reason is Reason.CONNECT


def test_cancelling_between_two_tries_ends_both() -> None:
    guards = Guards()
    ended = guards.ask(card())
    guards.open[0].reply(status=503)
    ended.exchange.cancel()
    guards.wait(2.0)
    assert ended.answers == []
    assert len(guards.upstreams.flown) == 1


def test_the_budget_is_the_contexts() -> None:
    guards = Guards()
    one, other = fragment("shop/one"), fragment("shop/other")
    foreign = fragment("blog/one")
    for of, times in ((one, 60), (other, 60), (foreign, 1)):
        for _ in range(times):
            for status in (200, 200, 503):  # so that no breaker opens
                guards.ask(of)
                guards.open[-1].reply(status=status)
    guards.wait()
    assert len(guards.told.retries) == 101, "ten a second over ten seconds of one context, and one of the other's"
    assert guards.told.retries.count("blog") == 1


# --- breakers ---------------------------------------------------------------------------------------------------------


def test_an_open_breaker_asks_nobody() -> None:
    guards = Guards()
    guards.fail_with(PLAIN, 500, 20)
    asked = len(guards.upstreams.flown)
    ended = guards.ask(PLAIN)
    assert ended.answers == []
    guards.wait(0.0)
    assert len(guards.upstreams.flown) == asked
    answer = ended.answer
    assert isinstance(answer, Failure)
    assert (answer.reason, answer.status, answer.retry_after) == (Reason.BREAKER, "refused", 5)
    assert answer.detail == "the breaker is open (20 of 20 failed)"
    assert guards.told.states == [("shop/card", State.OPEN, "20 of 20 failed")]


def test_a_refusal_can_be_cancelled() -> None:
    guards = Guards()
    guards.fail_with(PLAIN, 500, 20)
    ended = guards.ask(PLAIN)
    ended.exchange.cancel()
    ended.exchange.cancel()
    guards.wait()
    assert ended.answers == []


def test_one_probe_finds_out() -> None:
    guards = Guards()
    guards.fail_with(PLAIN, 500, 20)
    guards.wait(5.0)
    probe, other = guards.ask(PLAIN), guards.ask(PLAIN)
    guards.wait(0.0)
    assert other.reason is Reason.BREAKER
    assert guards.state(PLAIN) is State.HALF_OPEN
    guards.open[0].reply()
    assert probe.status == 200
    assert guards.state(PLAIN) is State.CLOSED
    assert [state for _, state, _ in guards.told.states] == [State.OPEN, State.HALF_OPEN, State.CLOSED]


def test_a_probe_that_fails_is_not_tried_again_and_opens_it() -> None:
    guards = Guards()
    of = card(hedge__after="50ms")
    guards.fail_with(of, 500, 20)
    guards.wait(5.0)
    probe = guards.ask(of)
    guards.wait(0.5)
    guards.open[0].reply(status=503)
    assert probe.status == 503
    guards.wait(4.9)
    assert guards.state(of) is State.OPEN
    assert guards.told.retries == []


@pytest.mark.parametrize("cancelled", [True, False])
def test_a_probe_that_says_nothing_makes_way_for_another(cancelled: bool) -> None:
    guards = Guards()
    guards.fail_with(PLAIN, 500, 20)
    guards.wait(5.0)
    probe = guards.ask(PLAIN)
    if cancelled:
        probe.exchange.cancel()
    else:
        guards.open[0].fail(Reason.CONCURRENCY, "connect")
    guards.ask(PLAIN)
    guards.open[0].reply()
    assert guards.state(PLAIN) is State.CLOSED


def test_a_404_and_a_cancelled_exchange_are_no_failures_but_a_timeout_is() -> None:
    guards = Guards()
    guards.fail_with(PLAIN, 404, 30)
    for _ in range(30):
        guards.ask(PLAIN).exchange.cancel()
    assert guards.state(PLAIN) is State.CLOSED
    for _ in range(30):
        guards.ask(PLAIN)
        guards.open[0].fail(Reason.TIMEOUT, "timeout")
    assert guards.state(PLAIN) is State.OPEN


def test_breakers_are_the_fragments_own() -> None:
    guards = Guards()
    other = fragment("shop/other", layer={"retry.extra": "0"})
    guards.fail_with(PLAIN, 500, 20)
    ended = guards.ask(other)
    guards.open[0].reply()
    assert ended.status == 200


def test_a_changed_registration_keeps_the_breaker_but_counts_another_window_anew() -> None:
    guards = Guards()
    guards.fail_with(PLAIN, 500, 10)
    again = card(retry__extra="0", breaker__open="9s")
    guards.fail_with(again, 500, 10)
    assert guards.state(PLAIN) is State.OPEN
    (live,) = guards.guarded.states()
    assert live.left == 9.0
    guards.wait(9.0)
    guards.ask(again)
    guards.open[0].reply()
    guards.fail_with(again, 500, 10)
    guards.fail_with(card(retry__extra="0", breaker__window="20s"), 500, 19)
    assert guards.state(PLAIN) is State.CLOSED


def test_a_breaker_that_is_open_is_open_for_as_long_as_its_registration_says_now() -> None:
    guards = Guards()
    guards.fail_with(card(retry__extra="0", breaker__open="5m"), 500, 20)
    guards.wait(3.0)
    ended = guards.ask(card(retry__extra="0", breaker__open="2s"))
    guards.open[0].reply()
    assert ended.status == 200, "it is the probe"
    assert guards.state(PLAIN) is State.CLOSED


# --- hedges -----------------------------------------------------------------------------------------------------------


def hedged(guards: Guards, after: str = "100ms", **more: str) -> None:
    """So many asks that one hedge is within its budget."""
    for _ in range(20):
        guards.ask(card(hedge__after=after, **more))
        guards.open[0].reply()


def test_a_second_try_goes_beside_a_slow_one_and_the_first_answer_counts() -> None:
    guards = Guards()
    hedged(guards)
    ended = guards.ask(card(hedge__after="100ms"), optional=False)
    first = guards.open[0]
    guards.wait(0.12)
    _, second = guards.open
    assert second.ask.bounds.optional, "it takes no place that others may need"
    assert second.ask.headers == b"bff-deadline: %d\r\n" % round(second.ask.bounds.timeout.total * 1000)
    second.reply()
    assert ended.status == 200
    assert first.cancelled
    assert guards.told.hedges == [True]
    assert guards.told.tries == ["cancelled"]
    assert ended.answer.timing.total == pytest.approx(0.12, abs=0.011)


def test_the_first_may_still_win() -> None:
    guards = Guards()
    hedged(guards)
    ended = guards.ask(card(hedge__after="100ms"))
    guards.wait(0.12)
    first, second = guards.open
    first.reply()
    assert ended.status == 200
    assert second.cancelled
    assert guards.told.hedges == [False]
    assert guards.told.tries == ["cancelled"]


def test_one_that_fails_leaves_it_to_the_other() -> None:
    guards = Guards()
    hedged(guards)
    ended = guards.ask(card(hedge__after="100ms"))
    guards.wait(0.12)
    first, second = guards.open
    first.reply(status=503)
    assert ended.answers == []
    second.reply()
    assert ended.status == 200
    assert guards.told.tries == ["503"]
    assert guards.told.retries == []


def test_where_both_fail_the_later_end_counts_if_it_says_anything() -> None:
    guards = Guards()
    hedged(guards)
    hedged(guards)
    one = guards.ask(card(hedge__after="100ms"))
    guards.wait(0.12)
    first, second = guards.open
    second.fail()
    first.reply(status=500)
    assert one.status == 500
    other = guards.ask(card(hedge__after="100ms"))
    guards.wait(0.12)
    first, second = guards.open
    first.reply(status=500)
    second.fail(Reason.CONCURRENCY, "connect")
    assert other.status == 500
    assert guards.told.hedges == [False, False]


def test_hedges_stay_within_their_budget() -> None:
    guards = Guards()
    hedged(guards)
    for _ in range(5):
        guards.ask(card(hedge__after="100ms"))
    guards.wait(0.12)
    assert len(guards.open) == 6, "a twentieth of 25"


def test_cancelling_a_hedged_one_cancels_both() -> None:
    guards = Guards()
    hedged(guards)
    ended = guards.ask(card(hedge__after="100ms"))
    guards.wait(0.12)
    assert len(guards.open) == 2
    ended.exchange.cancel()
    assert guards.open == []
    assert guards.told.hedges == [False]


def test_a_percentile_is_that_of_the_fragments_answers() -> None:
    guards = Guards()
    of = card(hedge__after="p90", hedge__budget="100%")
    for milliseconds in range(10, 210, 10):
        guards.ask(of)
        guards.wait(milliseconds / 1000)
        assert len(guards.open) == 1, "too few answers to say what is slow"
        guards.open[0].reply()
    guards.ask(of)
    guards.wait(0.175)
    assert len(guards.open) == 1
    guards.wait(0.03)
    assert len(guards.open) == 2
    guards.open[1].reply()


def test_a_retry_is_not_hedged() -> None:
    guards = Guards()
    hedged(guards)
    guards.ask(card(hedge__after="100ms"))
    guards.open[0].reply(status=503)
    guards.wait(0.2)
    assert len(guards.open) == 1


def test_nothing_is_hedged_when_it_is_too_late() -> None:
    guards = Guards()
    hedged(guards)
    guards.ask(card(hedge__after="1490ms"))
    guards.wait(1.51)
    assert len(guards.open) == 1


# --- throttles --------------------------------------------------------------------------------------------------------


def test_optional_slots_of_a_struggling_context_are_left_out_now_and_then() -> None:
    drawn = [0.99]
    guards = Guards(chance=lambda: drawn[0])
    many = [fragment(f"shop/{number}", layer={"retry.extra": "0"}) for number in range(20)]
    for of in many:
        guards.fail_with(of, 503, 1)
    gates = guards.ask(many[0], optional=False)
    guards.open[0].reply()
    assert gates.status == 200
    drawn[0] = 0.8
    left_out = guards.ask(many[1])
    guards.wait(0.0)
    assert left_out.reason is Reason.BREAKER
    assert guards.told.sheds == ["throttle"]
    drawn[0] = 0.9
    guards.ask(many[2])
    assert len(guards.open) == 1
    assert {live.spared for live in guards.guarded.states()} == {
        (23 - 2 * 2) / 24
    }  # what is under way counts as accepted


def test_an_error_of_its_own_is_no_sign_of_struggling() -> None:
    guards = Guards()
    for number in range(20):
        guards.fail_with(fragment(f"shop/{number}"), 500, 1)
    assert next(guards.guarded.states()).spared == 0.0


# --- load, and what is left over --------------------------------------------------------------------------------------


@pytest.mark.parametrize("failing", [0.1, 0.4, 0.6, 1.0])
@pytest.mark.parametrize("a_second", [60, 300])
def test_a_failing_upstream_gets_a_fifth_more_at_most(failing: float, a_second: int) -> None:
    """Twenty seconds of a storm of 503s: in no ten of them more than 1.2 times what was asked for."""
    guards = Guards(chance=lambda: 0.5)
    of = fragment()
    asked, sent, answered = list[float](), list[float](), 0
    for number in range(20 * a_second):
        guards.ask(of)
        asked.append(guards.loop.now)
        guards.wait(1 / a_second)
        for flown in guards.open:
            sent.append(guards.loop.now)
            bad = int((answered + 1) * failing) > int(answered * failing)
            flown.reply(status=503 if bad else 200)
            answered += 1
        del number
    for begin in range(11):
        wanted = sum(begin <= when < begin + 10 for when in asked)
        load = sum(begin <= when < begin + 10 for when in sent)
        assert load <= 1.2 * wanted + 1, f"{load} for {wanted} in {begin}s to {begin + 10}s"
    if failing == 1.0:
        assert len(sent) < len(asked) / 10, "the breaker spares it"


def test_a_dead_upstream_gets_probes_only() -> None:
    guards = Guards()
    of = card()
    sent = list[float]()
    for _ in range(3000):
        guards.ask(of)
        for flown in guards.open:
            sent.append(guards.loop.now)
            flown.fail()
        guards.wait(0.01)
    after = [when for when in sent if when > 1.0]
    assert len(after) <= 6
    assert all(later - earlier >= 5.0 for earlier, later in pairwise(after))


def test_nothing_is_left_for_the_collector() -> None:
    guards = Guards()
    of = card(hedge__after="50ms", hedge__budget="100%")
    guards.ask(of)
    guards.open[0].reply()
    guards.upstreams.flown.clear()
    gc.collect()
    gc.disable()
    try:
        for how in (200, 503, 0):
            ended = guards.ask(of)
            guards.wait(0.07)
            first, second = guards.open
            if how:
                second.reply(status=how)
                if how != 200:
                    first.reply()
            else:
                ended.exchange.cancel()
            del ended, first, second
            guards.upstreams.flown.clear()
        ended = guards.ask(of)
        guards.open[0].reply(status=503)
        guards.wait()
        guards.open[0].reply()
        del ended
        guards.upstreams.flown.clear()
        guards.wait(1.0)
        assert gc.collect() == 0
    finally:
        gc.enable()
