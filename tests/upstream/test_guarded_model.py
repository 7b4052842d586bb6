"""Whatever asks, answers, cancellations and time do: one end for each ask, nothing left of it, and nothing sent that may not be."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bff.model import Failure, Fragment, Reason, Timing
from bff.rules.limits.breaker import State
from tests.build import Flown, fragment
from tests.upstream.guards import Ended, Guards

LAYER = {
    "retry.extra": "2",
    "retry.budget": "100%",
    "hedge.after": "100ms",
    "hedge.budget": "100%",
    "breaker.min_requests": "6",
    "breaker.consecutive": "3",
    "breaker.open": "1s",
    "adaptive": "on",
}
MANY = fragment("shop/many", layer=LAYER)
ONCE = fragment("shop/plain", layer={"retry.extra": "0", "breaker.open": "1s", "adaptive": "on"})


@dataclass(eq=False)
class Asked:
    """One ask, and what the machine did with it."""

    ended: Ended
    of: Fragment
    at: float
    target: str
    cancelled: bool = False


class Traffic(RuleBasedStateMachine):
    """Any traffic, ended in any order."""

    @initialize(chance=st.sampled_from([0.0, 0.5, 0.99]))
    def begin(self, chance: float) -> None:
        self.guards = Guards(chance=lambda: chance)
        self.asked: list[Asked] = []
        self.seen = 0

    # --- what happens

    @rule(many=st.booleans(), optional=st.booleans())
    def ask(self, many: bool, optional: bool) -> None:
        of = MANY if many else ONCE
        target = f"/{len(self.asked)}"
        state = self.state(of)
        probing = self.probing(of)
        before = len(self.guards.upstreams.flown)
        ended = self.guards.ask(of, optional=optional, target=target)
        self.asked.append(Asked(ended, of, self.guards.loop.now, target))
        sent = len(self.guards.upstreams.flown) - before
        if state is State.OPEN or (state is State.HALF_OPEN and probing):
            assert not sent, "nobody is asked but by the one probe"
        elif state is State.HALF_OPEN:
            assert sent == 1

    @precondition(lambda self: self.guards.open)
    @rule(data=st.data(), status=st.sampled_from([200, 200, 404, 500, 503]))
    def answer(self, data: st.DataObject, status: int) -> None:
        self.some(data).reply(status=status)

    @precondition(lambda self: self.guards.open)
    @rule(
        data=st.data(),
        reason=st.sampled_from([Reason.CONNECT, Reason.TORN, Reason.TIMEOUT, Reason.CONCURRENCY, Reason.TOO_LARGE]),
    )
    def fail(self, data: st.DataObject, reason: Reason) -> None:
        flown = self.some(data)
        flown.ended = True
        flown.done(Failure(reason, "reset", "as the test says", Timing(total=0.01)))

    @precondition(lambda self: self.asked)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        asked = data.draw(st.sampled_from(self.asked))
        asked.cancelled = not asked.ended.answers
        asked.ended.exchange.cancel()

    @rule(seconds=st.sampled_from([0.0, 0.02, 0.12, 0.5, 1.1]))
    def wait(self, seconds: float) -> None:
        self.guards.wait(seconds)

    def some(self, data: st.DataObject) -> Flown:
        number = data.draw(st.integers(0, len(self.guards.open) - 1))
        return self.guards.open[number]

    # --- what always holds

    @invariant()
    def each_ends_once(self) -> None:
        for asked in self.asked:
            assert len(asked.ended.answers) <= 1
            assert not (asked.cancelled and asked.ended.answers)

    @invariant()
    def nothing_is_left_of_what_has_ended(self) -> None:
        over = {asked.target for asked in self.asked if asked.cancelled or asked.ended.answers}
        assert not [flown for flown in self.guards.open if flown.ask.target in over]

    @invariant()
    def what_is_under_way_is_counted(self) -> None:
        for live in self.guards.guarded.states():
            assert live.under == len(self.guards.open)

    @invariant()
    def what_is_sent_may_be(self) -> None:
        flown = self.guards.upstreams.flown
        for each, sent in [*zip(flown, self.guards.sent, strict=True)][self.seen :]:
            (asked,) = [asked for asked in self.asked if asked.target == each.ask.target]
            ends = asked.at + asked.of.policy.timeout.total
            mine = [other for other in flown if other.ask.target == asked.target]
            assert sent + each.ask.bounds.timeout.total <= ends + 1e-9, "no try outlives the deadline"
            assert len(mine) <= 1 + (3 if asked.of is MANY else 0)
            assert sum(not other.ended and not other.cancelled for other in mine) <= 2
        self.seen = len(flown)

    @invariant()
    def what_is_not_closed_has_one_probe(self) -> None:
        for of in (MANY, ONCE):
            if self.state(of) is State.HALF_OPEN:
                assert self.probing(of) <= 1

    # --- in the end

    def teardown(self) -> None:
        if not hasattr(self, "guards"):
            return
        for _ in range(8):
            for flown in self.guards.open:
                if not (flown.ended or flown.cancelled):
                    flown.fail(Reason.TIMEOUT, "timeout")
            self.guards.wait(0.3)
        for asked in self.asked:
            assert asked.cancelled or len(asked.ended.answers) == 1
        assert self.guards.open == []
        self.guards.wait(0.02)
        assert self.guards.loop.idle
        self.guards.wait(10.0)
        for of in {asked.of.name: asked.of for asked in self.asked}.values():
            ended = self.guards.ask(of, optional=False)
            self.guards.open[0].reply()
            assert ended.status == 200, "whatever has happened, it is asked again"
            assert self.state(of) is State.CLOSED

    # --- what the machine knows

    def state(self, of: Fragment) -> State:
        return next((live.state for live in self.guards.guarded.states() if live.name == of.name), State.CLOSED)

    def probing(self, of: Fragment) -> int:
        """Asks under way that are the breaker's probe."""
        return sum(
            getattr(asked.ended.exchange, "probe", False)
            for asked in self.asked
            if asked.of is of and not asked.cancelled and not asked.ended.answers
        )


TestTraffic = Traffic.TestCase
TestTraffic.settings = settings(max_examples=60, stateful_step_count=40)
