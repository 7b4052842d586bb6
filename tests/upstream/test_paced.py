"""A context whose limit adapts: what it is asked with, what is counted as under way, and that every end gives it back."""

from __future__ import annotations

import gc
from collections.abc import Callable

from bff.model import Ask, Exchange, Failure, Fragment, Reason, Reply, Timing
from bff.rules.limits.adaptive import FLOOR
from bff.upstream.guarded import Live
from tests.build import Flown, fragment
from tests.upstream.guards import Guards, card

ON = card(adaptive="on", retry__extra="0")


class Paced(Guards):
    """Guards that remember the limits that were asked with."""

    def __init__(self) -> None:
        super().__init__()
        self.limits: list[int] = []

    def _fetch(self, ask: Ask, done: Callable[[Reply | Failure], None]) -> Exchange:
        self.limits.append(ask.bounds.limit)
        return super()._fetch(ask, done)

    def live(self, of: Fragment = ON) -> Live:
        return next(live for live in self.guarded.states() if live.name == of.name)

    def round(self, seconds: float, at_once: int, *, before: float = 0.0, of: Fragment = ON) -> int | None:
        """So many at once, each of which waits for its place `before` it is sent; the limit after that."""
        self.loop.advance(1.0)
        for _ in range(at_once):
            self.ask(of, optional=False)
        for flown in self.open:
            answer(flown, Timing(before, before, before + seconds, before + seconds))
        return self.live(of).limit

    def settle(self) -> None:
        """Learn that 50 ms are usual."""
        for _ in range(4):
            self.round(0.05, 8)


def answer(flown: Flown, timing: Timing) -> None:
    flown.ended = True
    flown.done(Reply(200, [], b"", timing))


def test_where_it_is_off_nothing_is_learnt() -> None:
    guards, of = Paced(), card()
    for _ in range(20):
        guards.round(0.05, 5, of=of)
    guards.round(1.0, 64, of=of)
    assert guards.limits == [64] * 164
    assert (guards.live(of).limit, guards.live(of).under) == (None, 0)


def test_a_context_that_gets_slower_is_asked_with_less() -> None:
    guards = Paced()
    guards.settle()
    assert guards.round(0.05, 32) == 64
    assert guards.round(0.2, 64) == 32
    guards.limits.clear()
    for _ in range(40):
        guards.ask(ON, optional=False)
    assert guards.limits == [64] * 32 + [32] * 8, "its own limit, but where more are under way than may be"
    assert (guards.live().limit, guards.live().under) == (32, 40)
    guards.limits.clear()
    guards.ask(ON)
    assert guards.limits == [32]


def test_waiting_for_a_place_and_connecting_are_not_the_contexts_time() -> None:
    guards = Paced()
    guards.settle()
    assert guards.round(0.05, 64, before=0.9) == 64


def test_timeouts_let_it_fall() -> None:
    guards = Paced()
    guards.settle()
    guards.loop.advance(1.0)
    for _ in range(64):
        guards.ask(ON)
    for flown in guards.open:
        flown.fail(Reason.TIMEOUT, "timeout")
    assert guards.live().limit == 32


def test_a_contexts_fragments_share_it_and_others_do_not() -> None:
    guards, other = Paced(), fragment("shop/other", layer={"adaptive": "on"})
    guards.settle()
    guards.round(0.2, 64)
    guards.ask(other)
    guards.ask(elsewhere := fragment("site/card", layer={"adaptive": "on", "concurrency": "20"}))
    assert (guards.live(other).limit, guards.live(other).under) == (32, 1)
    assert (guards.live(elsewhere).limit, guards.live(elsewhere).under) == (20, 1)


def test_a_registered_limit_below_the_floor_is_the_limit() -> None:
    guards, of = Paced(), card(adaptive="on", concurrency="3")
    guards.ask(of)
    assert guards.live(of).limit == 3 < FLOOR


def test_an_override_turns_it_on_and_off() -> None:
    guards, off = Paced(), card(retry__extra="0")
    guards.settle()
    guards.round(0.2, 64)
    guards.limits.clear()
    guards.round(0.2, 64, of=off)
    assert guards.limits == [64] * 64
    assert guards.live(off).limit is None
    guards.ask(ON)
    assert guards.live().limit == 32


def test_every_try_is_one_and_every_end_gives_it_back() -> None:
    guards, of = Paced(), card(adaptive="on", hedge__after="50ms", hedge__budget="100%")
    guards.ask(of)
    guards.wait(0.07)
    assert guards.live(of).under == len(guards.open) == 2
    guards.open[0].reply()
    assert guards.live(of).under == len(guards.open) == 0
    ended = guards.ask(of)
    guards.wait(0.07)
    ended.exchange.cancel()
    ended.exchange.cancel()
    assert guards.live(of).under == 0
    ended = guards.ask(of)
    guards.open[0].reply(status=503)
    assert guards.live(of).under == 0
    guards.wait()
    assert guards.live(of).under == 1
    guards.open[0].reply()
    assert ended.status == 200


def test_an_exchange_that_has_ended_is_not_cancelled() -> None:
    guards = Paced()
    guards.ask(ON)
    pace = guards.guarded._paces["shop"]
    told = list[Reply | Failure]()
    exchange = pace.fetch(guards.open[0].ask, told.append)
    guards.open[1].reply()
    exchange.cancel()
    assert len(told) == 1
    assert not guards.upstreams.flown[1].cancelled
    assert guards.live().under == 1


def test_nothing_is_left_for_the_collector() -> None:
    guards = Paced()
    guards.ask(ON)
    guards.open[0].reply()
    guards.upstreams.flown.clear()
    gc.collect()
    gc.disable()
    try:
        guards.ask(ON)
        guards.open[0].reply()
        ended = guards.ask(ON)
        ended.exchange.cancel()
        del ended
        guards.upstreams.flown.clear()
        assert gc.collect() == 0
    finally:
        gc.enable()


# --- proxy routes -----------------------------------------------------------------------------------------------------

ROUTE = fragment("shop/proxy", layer={"adaptive": "on"})


def test_what_is_streamed_is_under_way_until_its_head_is_there() -> None:
    guards = Paced()
    permit = guards.guarded.permit("shop/proxy:/api", ROUTE)
    assert permit.begin(64) == 64
    assert guards.guarded._paces["shop"].adaptive.under == 1
    permit.answered(Reply(200, [], b"", Timing(0.0, 0.0, 0.05, 0.05)))
    assert guards.guarded._paces["shop"].adaptive.under == 0, "its body may last for as long as its client likes"
    permit.ended(None)
    permit.leave()
    assert guards.guarded._paces["shop"].adaptive.under == 0


def test_what_is_given_up_before_its_head_is_given_back_once() -> None:
    guards = Paced()
    for _ in range(3):
        permit = guards.guarded.permit("shop/proxy:/api", ROUTE)
        permit.begin(64)
        permit.leave()
        permit.leave()
    assert guards.guarded._paces["shop"].adaptive.under == 0
    refused = guards.guarded.permit("shop/proxy:/api", ROUTE)
    refused.leave()
    assert guards.guarded._paces["shop"].adaptive.under == 0, "it was never sent"


def test_a_second_try_is_one_too() -> None:
    guards = Paced()
    permit = guards.guarded.permit("shop/proxy:/api", ROUTE)
    for status in (503, 200):
        permit.begin(64)
        assert guards.guarded._paces["shop"].adaptive.under == 1
        permit.answered(Reply(status, [], b"", Timing(0.0, 0.0, 0.05, 0.05)))
    permit.leave()
    assert guards.guarded._paces["shop"].adaptive.under == 0


def test_what_is_streamed_counts_towards_its_contexts_limit() -> None:
    guards = Paced()
    adaptive = None
    for at_once, seconds in [(8, 0.05)] * 4 + [(64, 0.2)]:
        guards.loop.advance(1.0)
        permits = [guards.guarded.permit("shop/proxy:/api", ROUTE) for _ in range(at_once)]
        for permit in permits:
            permit.begin(64)
        for permit in permits:
            permit.answered(Reply(200, [], b"", Timing(0.3, 0.3, 0.3 + seconds, 0.3 + seconds)))
            permit.leave()
        adaptive = guards.guarded._paces["shop"].adaptive
    assert adaptive is not None
    assert adaptive.limit == 32
    permits = [guards.guarded.permit("shop/proxy:/api", ROUTE) for _ in range(33)]
    assert [permit.begin(64) for permit in permits] == [64] * 32 + [32]


def test_where_it_is_off_what_is_streamed_is_asked_with_what_is_registered() -> None:
    guards = Paced()
    permit = guards.guarded.permit("shop/proxy:/api", fragment("shop/proxy"))
    assert permit.begin(64) == 64
    permit.answered(Reply(200, [], b"", Timing()))
    permit.leave()
    assert guards.guarded._paces == {}
