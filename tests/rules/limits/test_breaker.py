"""Breakers open on enough failures, let one probe through at a time, and close when it is well. Against a model that forgets nothing."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, precondition, rule

from bff.model import Breaker
from bff.rules.limits.breaker import FEWEST, Circuit, State

RULES = Breaker(window=10.0, min_requests=4, failures=0.5, open=5.0, consecutive=3)
OFTEN = Breaker(window=10.0, min_requests=100, failures=0.5, open=5.0, consecutive=3)


def opened(rules: Breaker = RULES) -> Circuit:
    circuit = Circuit(rules.window)
    for _ in range(rules.consecutive):
        circuit.failed(rules, 0.0, connect=True)
    assert circuit.state is State.OPEN
    return circuit


def test_it_opens_at_the_share_of_failures_once_there_are_enough_requests() -> None:
    circuit = Circuit(10.0)
    assert not any(circuit.failed(RULES, 0.0, connect=False) for _ in range(3))
    assert circuit.failed(RULES, 0.5, connect=False)
    assert (circuit.state, circuit.why, circuit.left(0.5)) == (State.OPEN, "4 of 4 failed", 5.0)


def test_it_stays_closed_below_the_share() -> None:
    circuit = Circuit(10.0)
    for _ in range(30):
        circuit.fine(1.0)
        circuit.fine(1.0)
        assert not circuit.failed(RULES, 1.0, connect=False)


def crowds(circuit: Circuit, fails: str, *, others: int, rules: Breaker = OFTEN) -> str:
    """Exchanges a second apart that each so many others had waited for; how many `fails` said until it opened."""
    for second, fail in enumerate(fails, 1):
        if fail == "x":
            assert not circuit.failed(rules, second, connect=False), "one more or less is no sign of it"
        else:
            circuit.fine(second)
        if circuit.waited(others, rules, second, failed=fail == "x"):
            return fails[:second]
    return ""


def test_whoever_waits_for_an_exchange_is_a_request() -> None:
    circuit = Circuit(10.0)
    assert crowds(circuit, "xxxxx", others=40) == "xxx", "of the first two nobody can say what they were"
    assert circuit.why == "3 of 3 failed, for which 120 more had waited"
    assert crowds(Circuit(10.0), "xxxxxxxxxx", others=19) == "xxxxx", "a hundred requests"
    assert not crowds(Circuit(10.0), "xxxxxxxxxx", others=1), "somebody and somebody else"
    assert not crowds(Circuit(10.0), "xxxxxxxxxxxxxxxxxxxxxxxxxxxx", others=0), "one who tries again and again"


def test_few_may_be_enough_where_so_few_are_asked_for() -> None:
    rules = Breaker(window=10.0, min_requests=2, failures=0.5, open=5.0, consecutive=3)
    circuit = Circuit(10.0)
    assert not circuit.failed(rules, 0.0, connect=False)
    assert circuit.failed(rules, 0.0, connect=False)


def test_a_slow_exchange_fails_once_however_many_wait_for_it() -> None:
    circuit = Circuit(10.0)
    for second in range(100):
        for _ in range(4):
            circuit.fine(second)
            assert not circuit.waited(2, OFTEN, second, failed=False)
        assert not circuit.failed(OFTEN, second, connect=False)
        assert not circuit.waited(1000, OFTEN, second, failed=True), "a fifth of what is asked fails"


def test_nobody_is_counted_for_longer_than_the_window() -> None:
    circuit = Circuit(10.0)
    circuit.fine(0.0)
    circuit.waited(1000, OFTEN, 0.0, failed=False)
    assert not crowds(circuit, " " * 12 + "xxxxx", others=0)
    assert circuit.tally.sums(20.0)[1] == 5
    circuit.waited(1000, OFTEN, 20.0, failed=False)
    circuit.retune(20.0)
    assert not crowds(circuit, "xxxxx", others=0), "of another window nothing is known"


def test_while_it_is_not_closed_nobody_counts() -> None:
    circuit = opened(OFTEN)
    assert not circuit.waited(1000, OFTEN, 1.0, failed=True)
    assert circuit.probe(5.0)
    circuit.probed(True, OFTEN, 5.1)
    assert not crowds(circuit, "     xxxxx", others=0)


def test_a_probe_that_was_well_makes_it_forget_who_waited() -> None:
    circuit = Circuit(10.0)
    assert crowds(circuit, "xxx", others=40)
    assert circuit.probe(8.0)
    circuit.probed(True, OFTEN, 8.0)
    assert not crowds(circuit, " " * 8 + "xxxx", others=0)


def test_failures_that_have_left_the_window_do_not_count() -> None:
    circuit = Circuit(10.0)
    for now in (0.0, 4.0, 8.0, 12.0, 16.0, 20.0):
        assert not circuit.failed(RULES, now, connect=False)
    assert circuit.tally.sums(20.0) == (3, 3)


def test_connect_failures_in_a_row_open_it_whatever_the_window_says() -> None:
    circuit = Circuit(10.0)
    for _ in range(2):
        assert not circuit.failed(OFTEN, 0.0, connect=True)
    circuit.fine(0.0)
    for _ in range(2):
        assert not circuit.failed(OFTEN, 0.0, connect=True)
    assert not circuit.failed(OFTEN, 0.0, connect=False), "a failure of another kind: it was connected to"
    for _ in range(2):
        assert not circuit.failed(OFTEN, 0.0, connect=True)
    assert circuit.failed(OFTEN, 0.0, connect=True)
    assert circuit.why == "no connection 3 times in a row"


def test_it_lets_one_probe_through_at_a_time() -> None:
    circuit = opened()
    assert not circuit.probe(4.9)
    assert circuit.at(4.9) is State.OPEN
    assert circuit.at(5.0) is State.HALF_OPEN
    assert circuit.probe(5.0)
    assert not circuit.probe(5.1)
    circuit.probed(None, RULES, 5.2)
    assert circuit.state is State.HALF_OPEN
    assert circuit.probe(5.3), "nothing was learnt: the next one is the probe"


def test_the_probe_decides() -> None:
    circuit = opened()
    assert circuit.probe(5.0)
    circuit.probed(False, RULES, 6.0)
    assert (circuit.state, circuit.left(6.0), circuit.why) == (State.OPEN, 5.0, "the probe failed")
    assert circuit.probe(11.0)
    circuit.probed(True, RULES, 11.5)
    assert circuit.state is State.CLOSED
    assert circuit.tally.sums(11.5) == (0, 0)
    assert circuit.left(11.5) == 0.0


def test_what_began_before_it_opened_counts_for_nothing() -> None:
    circuit = opened()
    circuit.fine(1.0)
    assert not circuit.failed(RULES, 1.0, connect=True)
    assert circuit.left(1.0) == 4.0


def test_another_window_counts_anew() -> None:
    circuit = Circuit(10.0)
    circuit.failed(RULES, 0.0, connect=False)
    circuit.retune(5.0)
    assert circuit.tally.sums(0.0) == (0, 0)


def test_what_it_was_told_when_it_opened_can_be_changed() -> None:
    circuit = opened()
    circuit.put_off(-3.0)
    assert circuit.left(1.0) == 1.0
    assert not circuit.probe(1.9)
    assert circuit.probe(2.0)


@dataclass(eq=False)
class Under:
    """A request under way."""

    probe: bool


class Model(RuleBasedStateMachine):
    """The breaker beside a list of everything that happened. Times are quarters of seconds, slices are whole ones."""

    under = Bundle("under")

    @initialize()
    def begin(self) -> None:
        self.circuit = Circuit(RULES.window)
        self.now = 0.0
        self.ended: list[tuple[int, bool]] = []  # while closed: in which slice, whether it failed
        self.others: list[tuple[int, int]] = []  # who had waited for those, too
        self.connects = 0
        self.until: float | None = None  # open or half-open since it ended
        self.probing = False

    def counted(self) -> list[bool]:
        return [failed for slice_, failed in self.ended if slice_ > int(self.now) - 10]

    @rule(quarters=st.integers(1, 60))
    def wait(self, quarters: int) -> None:
        self.now += quarters / 4

    @rule(target=under)
    def ask(self) -> Under | None:
        if self.circuit.state is State.CLOSED:
            assert self.until is None
            return Under(probe=False)
        let = self.circuit.probe(self.now)
        assert self.until is not None
        assert let == (not self.probing and self.now >= self.until)
        if not let:
            return None
        self.probing = True
        return Under(probe=True)

    @rule(
        request=consumes(under),
        end=st.sampled_from(["fine", "failed", "connect", "cancelled"]),
        others=st.sampled_from([0, 0, 1, 5]),
    )
    def end(self, request: Under | None, end: str, others: int) -> None:
        if request is None:
            return
        self.counts(request, end)
        if end != "cancelled" and others:
            did = self.circuit.waited(others, RULES, self.now, failed=end != "fine")
            assert did == self.waited(others, failed=end != "fine")

    def counts(self, request: Under, end: str) -> None:
        if request.probe:
            self.circuit.probed({"fine": True, "cancelled": None}.get(end, False), RULES, self.now)
            self.probing = False
            if end == "fine":
                self.forget()
            elif end != "cancelled":
                self.until = self.now + RULES.open
        elif end == "fine":
            self.circuit.fine(self.now)
            if self.until is None:
                self.connects = 0
                self.ended.append((int(self.now), False))
        elif end != "cancelled":
            did = self.circuit.failed(RULES, self.now, connect=end == "connect")
            assert did == self.fails(connect=end == "connect")

    def fails(self, *, connect: bool) -> bool:
        if self.until is not None:
            return False
        self.connects = self.connects + 1 if connect else 0
        self.ended.append((int(self.now), True))
        opens = self.connects >= RULES.consecutive or self.too_many()
        if opens:
            self.until = self.now + RULES.open
        return opens

    def waited(self, others: int, *, failed: bool) -> bool:
        if self.until is not None:
            return False
        self.others.append((int(self.now), others))
        if failed and self.too_many():
            self.until = self.now + RULES.open
            return True
        return False

    def too_many(self) -> bool:
        counted = self.counted()
        others = sum(number for slice_, number in self.others if slice_ > int(self.now) - 10)
        enough = len(counted) >= RULES.min_requests or (
            sum(counted) >= FEWEST and len(counted) + others >= RULES.min_requests
        )
        return enough and sum(counted) >= RULES.failures * len(counted)

    @invariant()
    def agrees(self) -> None:
        if self.until is None:
            assert self.circuit.at(self.now) is State.CLOSED
            counted = self.counted()
            assert self.circuit.tally.sums(self.now) == (len(counted), sum(counted))
        elif self.now < self.until:
            assert self.circuit.at(self.now) is State.OPEN
            assert self.circuit.left(self.now) == self.until - self.now
        else:
            assert self.circuit.at(self.now) is State.HALF_OPEN
            assert self.circuit.left(self.now) == 0.0

    @precondition(lambda self: self.until is not None and not self.probing)
    @rule()
    def recovers(self) -> None:
        """Whatever has happened: after its pause one good answer is all it takes."""
        assert self.until is not None
        self.now = max(self.now, self.until)
        assert self.circuit.probe(self.now)
        self.circuit.probed(True, RULES, self.now)
        self.forget()

    def forget(self) -> None:
        self.until, self.ended, self.others, self.connects = None, [], [], 0


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=60, stateful_step_count=40)
