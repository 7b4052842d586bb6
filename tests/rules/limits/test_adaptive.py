"""A limit that adapts: against any traffic with the pool that enforces it, and against contexts with a knee, in virtual time."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from random import Random
from statistics import median

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bff.rules.limits.adaptive import FEWEST, FLOOR, PATIENCE, SHORTEST, Adaptive
from bff.rules.limits.again import FINE, UNKNOWN, Verdict
from bff.upstream import pool
from bff.upstream.pool import Pool

# --- its rules --------------------------------------------------------------------------------------------------------


def learn(adaptive: Adaptive, name: str, verdict: Verdict, seconds: float, of: int, now: float) -> None:
    """As whoever has an answer does."""
    if adaptive.learn(name, verdict, seconds, of):
        adaptive.judge(now)


class Rounds:
    """Rounds of one fragment's exchanges, each of which begins and ends within its round."""

    def __init__(self, most: int = 64) -> None:
        self.adaptive = Adaptive(most)
        self.most = most
        self.now = 0.0

    def run(
        self, seconds: float, *, at_once: int = 0, rejected: int = 0, verdict: Verdict = FINE, name: str = "shop/card"
    ) -> int:
        """A round with so many under way (all that may be, if none), some of which were rejected; the limit after it."""
        adaptive, at_once = self.adaptive, at_once or self.adaptive.limit
        self.now += SHORTEST
        number, ended = adaptive.round, 0
        while adaptive.round == number:
            assert ended < 1000, "the round must end"
            for _ in range(at_once):
                adaptive.begin(self.most, optional=False)
            for each in range(at_once):
                adaptive.leave()
                ended += 1
                if adaptive.round == number:
                    told = Verdict.REJECTED if ended % 10 < rejected else verdict
                    when = self.now - 1e-6 * (each < at_once - 1)  # all of these belong to the round
                    learn(adaptive, name, told, seconds, number, when)
        return adaptive.limit

    def settle(self) -> None:
        """Learn that 100 ms are usual, and rise to what is registered."""
        self.run(0.1)
        while self.run(0.1) < self.most:
            pass


def test_what_is_registered_holds_until_something_is_learnt() -> None:
    adaptive = Adaptive(64)
    assert adaptive.begin(64, optional=True) == 64
    assert adaptive.limit == 64


def test_the_first_time_it_is_used_it_is_found_out_what_is_usual() -> None:
    rounds = Rounds()
    assert rounds.run(0.1) == FLOOR
    assert rounds.run(0.1) == FLOOR, "not known before that round"
    assert [rounds.run(0.1) for _ in range(11)] == [10, 13, 16, 20, 24, 28, 33, 38, 44, 50, 57]


def test_what_is_usual_is_learnt_in_passing_while_little_is_under_way() -> None:
    rounds = Rounds()
    for _ in range(2):
        rounds.run(0.1, at_once=4)
    assert rounds.run(0.1) == 64
    assert rounds.run(0.25) == 51, "no need to find out first"


def test_where_less_than_half_is_used_nothing_is_changed() -> None:
    rounds = Rounds()
    rounds.settle()
    assert rounds.run(1.0, at_once=31) == 64
    rounds.run(0.4)
    assert rounds.adaptive.limit == 32
    assert rounds.run(0.1, at_once=15) == 32
    assert rounds.run(0.1, at_once=16) == 37


@pytest.mark.parametrize(("seconds", "limit"), [(0.2, 64), (0.21, 57), (0.25, 51), (0.4, 32), (30.0, 32)])
def test_it_falls_by_how_much_too_long_it_took(seconds: float, limit: int) -> None:
    rounds = Rounds()
    rounds.settle()
    assert rounds.run(seconds) == limit


@pytest.mark.parametrize(("rejected", "limit"), [(1, 64), (2, 51), (3, 44), (8, 32)])
def test_it_falls_by_how_many_were_rejected(rejected: int, limit: int) -> None:
    rounds = Rounds()
    rounds.settle()
    assert rounds.run(0.1, rejected=rejected) == limit


def test_a_failure_is_an_answer_but_says_nothing_of_load() -> None:
    rounds = Rounds()
    rounds.settle()
    assert rounds.run(0.0, verdict=Verdict.FAILED) == 64


def test_an_answer_of_unknown_time_is_one_and_says_nothing_of_what_is_usual() -> None:
    rounds = Rounds()
    assert [rounds.run(0.0) for _ in range(3)] == [64] * 3
    assert rounds.run(0.0, rejected=2) == 51


def test_what_never_left_and_what_is_away_say_nothing() -> None:
    adaptive = Adaptive(64)
    for verdict in [UNKNOWN, Verdict.CONNECT] * 100:
        adaptive.begin(64, optional=True)
        adaptive.leave()
        learn(adaptive, "shop/card", verdict, 0.1, 0, 1.0)
    assert (adaptive.round, adaptive.under) == (0, 0)


def test_what_began_before_the_limit_fell_does_not_let_it_fall_again() -> None:
    rounds = Rounds()
    rounds.settle()
    before = rounds.adaptive.round
    assert rounds.run(0.4) == 32
    for _ in range(100):
        learn(rounds.adaptive, "shop/card", FINE, 0.4, before, rounds.now + 1.0)
    assert rounds.adaptive.limit == 32


def test_a_round_is_no_shorter_than_a_tenth_of_a_second_and_ten_answers() -> None:
    adaptive = Adaptive(FLOOR)
    for number in range(FEWEST + 20):
        learn(adaptive, "shop/card", FINE, 0.1, 0, 0.0)
        assert adaptive.round == (number >= FEWEST - 1), "one at once; the next begins now"
    learn(adaptive, "shop/card", FINE, 0.1, 0, SHORTEST)
    assert adaptive.round == 2


def test_one_answer_counts_for_so_much_at_most() -> None:
    rounds = Rounds()
    rounds.settle()
    adaptive = rounds.adaptive
    for each in range(32):
        adaptive.begin(64, optional=False)
        learn(adaptive, "shop/card", FINE, 30.0 if each % 8 == 0 else 0.1, adaptive.round, rounds.now + 1.0)
    assert adaptive.limit == 64


def test_each_fragment_has_its_own_usual() -> None:
    rounds = Rounds()
    for _ in range(2):
        rounds.run(0.01, at_once=4)
        rounds.run(0.5, at_once=4, name="shop/search")
    assert rounds.run(0.01) == rounds.run(0.5, name="shop/search") == 64, "another mix is no load"
    assert rounds.run(0.5) == 32


def test_what_stays_slow_with_the_fewest_under_way_is_usual() -> None:
    rounds = Rounds()
    rounds.settle()
    while rounds.run(1.0) > FLOOR:
        pass
    began = rounds.now
    while rounds.run(1.0) == FLOOR:
        assert rounds.now - began < 2 * PATIENCE
    assert rounds.now - began > PATIENCE, "the load of others passes sooner"
    assert [rounds.run(1.0) for _ in range(12)][-1] == 64, "having less to do makes it no faster"


def test_a_good_round_at_the_floor_is_hope() -> None:
    rounds = Rounds()
    rounds.settle()
    while rounds.run(1.0) > FLOOR:
        pass
    for _ in range(3):
        for _ in range(int(PATIENCE / SHORTEST) - 10):
            assert rounds.run(1.0) == FLOOR
        assert rounds.run(0.1) == 10
        assert rounds.run(1.0) == FLOOR


def test_what_cannot_have_been_usual_is_found_out_anew() -> None:
    rounds = Rounds()
    rounds.settle()
    assert [rounds.run(0.04) for _ in range(6)] == [64, 64, 64, 64, 64, FLOOR]
    rounds.settle()
    for _ in range(2):
        assert [rounds.run(0.04) for _ in range(4)] == [64] * 4
        assert rounds.run(0.1) == 64, "not so often in a row"


def test_an_override_of_what_is_registered_holds_at_once() -> None:
    rounds = Rounds()
    rounds.settle()
    rounds.most = 16
    assert rounds.adaptive.begin(16, optional=False) == 16
    rounds.adaptive.leave()
    assert rounds.run(0.1, at_once=16) == 16
    rounds.most = 128
    assert rounds.run(0.1) == 20
    rounds.most = 4
    rounds.run(0.1, at_once=4)
    assert rounds.adaptive.begin(4, optional=False) == 4, "below the floor, too"
    rounds.adaptive.leave()
    rounds.most = 64
    assert rounds.run(0.1) == 10


def test_a_round_in_which_nothing_begins_keeps_what_is_registered() -> None:
    rounds = Rounds()
    rounds.settle()
    adaptive = rounds.adaptive
    for _ in range(64):
        adaptive.begin(64, optional=False)
    for _ in range(64):
        learn(adaptive, "shop/card", FINE, 0.1, adaptive.round, rounds.now + 1.0)
    for _ in range(64):
        learn(adaptive, "shop/card", FINE, 0.1, adaptive.round, rounds.now + 2.0)
    assert adaptive.limit == 64


def test_others_who_ask_the_same_service_take_none_of_its_places() -> None:
    adaptive = Adaptive(64)
    adaptive.limit = FLOOR
    assert [adaptive.begin(64, optional=True) for _ in range(8)] == [64] * 6 + [8] * 2
    assert adaptive.begin(64, optional=False) == 8
    for _ in range(2):
        adaptive.leave()
    assert adaptive.begin(64, optional=False) == 64


# --- any traffic, with the pool that enforces it ----------------------------------------------------------------------


@dataclass(eq=False)
class Asked:
    round: int
    optional: bool
    works: bool = False


class Traffic(RuleBasedStateMachine):
    """Exchanges of one context and of others, on one service's places."""

    @initialize(most=st.sampled_from([1, 4, FLOOR, 20, 64]))
    def start(self, most: int) -> None:
        self.most = most
        self.adaptive = Adaptive(most)
        self.pool: Pool[int, Asked] = Pool(512)
        self.asked: list[Asked] = []
        self.others: list[Asked] = []
        self.now = 0.0

    @rule(optional=st.booleans(), times=st.integers(1, 20))
    def ask(self, optional: bool, times: int) -> None:
        for _ in range(times):
            adaptive = self.adaptive
            limit = min(adaptive.limit, self.most)
            own = Asked(adaptive.round, optional)
            found = self.pool.admit(own, adaptive.begin(self.most, optional=optional), self.now, 1.0, optional=optional)
            assert min(FLOOR, self.most) <= limit
            if found is pool.REFUSE:
                adaptive.leave()
                busy = self.pool.active + len(self.pool.queue)
                assert busy * 4 >= limit * 3
                continue
            self.asked.append(own)
            own.works = found is pool.OPEN
            if own.works:
                working = self.working - 1
                assert working * 4 < limit * 3 or not optional, "the last quarter is for others"
                assert working < limit

    @rule(times=st.integers(1, 20))
    def ask_for_another_context(self, times: int) -> None:
        for _ in range(times):
            other = Asked(0, optional=True, works=True)
            if self.pool.admit(other, 64, self.now, 1.0, optional=True) is pool.OPEN:
                self.others.append(other)

    @precondition(lambda self: self.others)
    @rule()
    def answer_another_context(self) -> None:
        self.others.pop()
        self.release()

    @precondition(lambda self: any(each.works for each in self.asked))
    @rule(
        data=st.data(),
        verdict=st.sampled_from([*[FINE] * 6, *Verdict]),
        seconds=st.sampled_from([0.0, 0.01, 0.1, 1.0]),
        times=st.integers(1, 40),
        wait=st.sampled_from([0.0, 0.01, 0.2]),
    )
    def answer(self, data: st.DataObject, verdict: Verdict, seconds: float, times: int, wait: float) -> None:
        self.now += wait
        for _ in range(times):
            working = [each for each in self.asked if each.works]
            if not working:
                return
            own = working[data.draw(st.integers(0, len(working) - 1))] if times == 1 else working[0]
            self.asked.remove(own)
            self.adaptive.leave()
            self.release()
            learn(self.adaptive, "shop/card", verdict, seconds, own.round, self.now)

    @precondition(lambda self: self.asked)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        own = self.asked.pop(data.draw(st.integers(0, len(self.asked) - 1)))
        self.adaptive.leave()
        if own.works:
            self.release()
        else:
            assert self.pool.withdraw(own)

    @rule(most=st.sampled_from([1, 4, FLOOR, 20, 64]))
    def override(self, most: int) -> None:
        self.most = most

    @property
    def working(self) -> int:
        return self.pool.active - len(self.others)

    def release(self) -> None:
        started = self.pool.release(None, self.now)
        if started is not None:
            started[0].works = True

    @invariant()
    def it_stays_within_its_bounds(self) -> None:
        if hasattr(self, "adaptive"):
            assert FLOOR <= self.adaptive.limit <= 64
            assert self.adaptive.under == len(self.asked)
            assert self.adaptive._peak >= self.adaptive.under

    def teardown(self) -> None:
        if not hasattr(self, "adaptive"):
            return
        while self.asked:
            own = self.asked.pop()
            self.adaptive.leave()
            if own.works:
                self.release()
            else:
                self.pool.withdraw(own)
        assert self.adaptive.under == 0
        while self.others:
            self.answer_another_context()
        admitted = 0
        while (
            self.pool.admit(
                Asked(0, optional=True), self.adaptive.begin(self.most, optional=True), 0.0, 1.0, optional=True
            )
            is pool.OPEN
        ):
            admitted += 1
        assert admitted >= min(6, -(-self.most * 3 // 4)), "whatever has happened, a page's worth may be asked for"


TestTraffic = Traffic.TestCase
TestTraffic.settings = settings(max_examples=60, stateful_step_count=40)


# --- contexts with a knee, in virtual time ----------------------------------------------------------------------------


@dataclass(eq=False)
class Exchange:
    name: str
    optional: bool
    work: float
    round: int
    sent: float = -1.0
    over: bool = False


@dataclass
class Context:
    """`workers` serve one exchange each, first come, first served; a Poisson stream of asks reaches it through the limit."""

    workers: int
    seconds: float  # that one takes on average
    rate: float  # asks a second
    optional: float = 0.9  # the share of those
    adaptive: Adaptive | None = field(default_factory=lambda: Adaptive(64))
    random: Random = field(default_factory=lambda: Random(1))
    timeout: float = 1.5
    now: float = 0.0
    at_work: list[int] = field(default_factory=list)  # whenever one asked
    limits: list[int] = field(default_factory=list)  # likewise
    took: list[float] = field(default_factory=list)
    served: int = 0
    refused: int = 0

    def __post_init__(self) -> None:
        self._pool: Pool[int, Exchange] = Pool(512)
        self._queue: deque[Exchange] = deque()
        self._busy = 0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._ids = count()
        self._later(0.0, self._ask)

    def run(self, seconds: float) -> None:
        """Let so much time pass; what was noted before is forgotten."""
        for noted in (self.at_work, self.limits, self.took):
            noted.clear()
        self.served = self.refused = 0
        until = self.now + seconds
        while self._heap[0][0] <= until:
            self.now, _, call = heapq.heappop(self._heap)
            call()
        self.now = until

    def _later(self, delay: float, call: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (self.now + delay, next(self._ids), call))

    def _ask(self) -> None:
        self._later(self.random.expovariate(self.rate), self._ask)
        kind = self.random.randrange(3)
        adaptive, optional = self.adaptive, self.random.random() < self.optional
        one = Exchange(f"shop/{kind}", optional, (0.5, 1.0, 1.5)[kind], adaptive.round if adaptive else 0)
        limit = adaptive.begin(64, optional=optional) if adaptive else 64
        found = self._pool.admit(one, limit, self.now, 1.0, optional=optional)
        if found is pool.OPEN:
            self._send(one)
        elif found is pool.WAIT:
            self._later(1.0, lambda: self._give_up(one))
        else:
            self._end(one, UNKNOWN)
        self.at_work.append(self._pool.active)
        self.limits.append(adaptive.limit if adaptive else 64)

    def _give_up(self, one: Exchange) -> None:
        if self._pool.withdraw(one):
            self._end(one, UNKNOWN)

    def _send(self, one: Exchange) -> None:
        one.sent = self.now
        self._queue.append(one)
        self._later(self.timeout, lambda: self._over(one, Verdict.REJECTED))
        self._serve()

    def _serve(self) -> None:
        while self._busy < self.workers and self._queue:
            one = self._queue.popleft()
            self._busy += 1
            self._later(self.random.expovariate(1.0) * self.seconds * one.work, lambda one=one: self._answer(one))  # type: ignore[misc] # bound now

    def _answer(self, one: Exchange) -> None:
        self._busy -= 1
        self._over(one, FINE)
        self._serve()

    def _over(self, one: Exchange, verdict: Verdict) -> None:
        if one.over:
            return
        following = self._pool.release(None, self.now)
        if following is not None:
            self._send(following[0])
        if verdict is FINE:
            self.served += 1
            self.took.append(self.now - one.sent)
        self._end(one, verdict)

    def _end(self, one: Exchange, verdict: Verdict) -> None:
        one.over = True
        self.refused += verdict is UNKNOWN
        if self.adaptive is not None:
            self.adaptive.leave()
            learn(self.adaptive, one.name, verdict, self.now - one.sent, one.round, self.now)


def p95(values: list[int]) -> int:
    return sorted(values)[len(values) * 95 // 100]


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("workers", [10, 12, 16])
@pytest.mark.parametrize("optional", [0.0, 0.9])
def test_a_context_that_is_asked_too_much_is_asked_about_as_much_as_it_can_do(
    workers: int, optional: float, seed: int
) -> None:
    shop = Context(workers, 0.05, rate=1.6 * workers / 0.05, optional=optional, random=Random(seed))
    shop.run(5.0)
    shop.run(10.0)
    assert workers <= median(shop.at_work) <= 3 * workers
    assert p95(shop.at_work) <= 4 * workers
    assert shop.served >= 0.93 * 10.0 * workers / 0.05, "it is kept busy"
    assert sum(shop.took) / len(shop.took) <= 0.15, "twice the usual, and what it takes to learn that"


def test_without_it_all_places_are_taken_and_all_wait() -> None:
    """Of several runs together: one takes another course by the last digit of a logarithm, which is the machine's."""
    took: list[float] = []
    for adaptive in (False, True):
        runs = [
            Context(16, 0.05, 512.0, adaptive=Adaptive(64) if adaptive else None, random=Random(n)) for n in range(4)
        ]
        for each in runs:
            each.run(5.0)
            each.run(10.0)
            assert adaptive or median(each.at_work) >= 40
        took.append(sum(median(each.took) for each in runs))
    without, within = took
    assert without >= 1.25 * within


@pytest.mark.parametrize("seed", range(2))
def test_a_context_with_room_for_all_gets_all(seed: int) -> None:
    shop = Context(64, 0.1, rate=600.0, random=Random(seed))
    shop.run(10.0)
    shop.run(10.0)
    assert max(shop.limits) == 64
    assert median(shop.limits) == 64


def test_a_context_that_is_asked_little_is_left_alone() -> None:
    shop = Context(64, 0.05, rate=200.0)
    shop.run(30.0)
    assert set(shop.limits) == {64}
    assert shop.refused == 0


@pytest.mark.parametrize("seed", range(2))
def test_it_finds_a_knee_that_moves_and_recovers(seed: int) -> None:
    shop = Context(64, 0.05, rate=500.0, random=Random(seed))
    shop.run(5.0)
    shop.workers = 10
    shop.run(5.0)
    shop.run(10.0)
    assert median(shop.at_work) <= 25
    shop.workers = 64
    shop.run(5.0)
    shop.run(5.0)
    assert shop.refused == 0
    assert shop.limits[-1] >= 40


@pytest.mark.parametrize("seed", range(2))
def test_it_recovers_from_a_context_that_hung(seed: int) -> None:
    shop = Context(64, 0.05, rate=500.0, random=Random(seed))
    shop.run(5.0)
    shop.seconds = 10.0
    shop.run(20.0)
    assert shop.limits[-1] == FLOOR
    shop.seconds = 0.05
    shop.run(60.0)  # what it still works at, though nobody waits for that any more
    shop.run(5.0)
    assert shop.refused == 0
