"""The pool decides; here nothing is performed: connections are numbers, exchanges are names."""

from __future__ import annotations

from collections import OrderedDict

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bff.upstream.pool import OPEN, REFUSE, WAIT, Pool

KEEP = 4.0


def pool(connections: int = 8) -> Pool[int, str]:
    return Pool(connections)


def test_a_first_exchange_opens_a_connection_and_a_second_uses_it() -> None:
    p = pool()
    assert p.admit("a", 4, 0.0, KEEP, optional=False) is OPEN
    assert p.release(1, 1.0) is None
    assert p.admit("b", 4, 2.0, KEEP, optional=False) == 1
    assert (p.active, p.idle) == (1, {})


def test_the_connection_used_last_is_used_first() -> None:
    p = pool()
    p.active = 3
    for connection in (1, 2, 3):
        p.release(connection, float(connection))
    assert p.take(3.0, KEEP) == 3
    assert p.take(3.0, KEEP) == 2


def test_one_idle_for_too_long_is_left_for_the_sweep() -> None:
    p = pool()
    p.active = 1
    p.release(1, 0.0)
    assert p.take(4.1, KEEP) is OPEN
    assert p.idle == {1: 0.0}
    assert p.expire(0.1) == [1]
    assert p.idle == {}


def test_optional_ones_leave_the_last_quarter_to_others() -> None:
    p = pool()
    assert [p.admit(f"o{n}", 4, 0.0, KEEP, optional=True) for n in range(4)] == [OPEN, OPEN, OPEN, REFUSE]
    assert p.admit("core", 4, 0.0, KEEP, optional=False) is OPEN


def test_a_limit_of_one_still_serves_optional_ones() -> None:
    assert pool().admit("o", 1, 0.0, KEEP, optional=True) is OPEN


def test_others_wait_for_the_limit_as_many_again_and_no_more() -> None:
    p = pool()
    verdicts = [p.admit(str(n), 2, 0.0, KEEP, optional=False) for n in range(5)]
    assert verdicts == [OPEN, OPEN, WAIT, WAIT, REFUSE]
    assert p.admit("o", 2, 0.0, KEEP, optional=True) is REFUSE


def test_optional_ones_may_wait_for_a_connection_below_the_limit() -> None:
    p = pool(connections=1)
    assert p.admit("a", 8, 0.0, KEEP, optional=True) is OPEN
    assert p.admit("b", 8, 0.0, KEEP, optional=True) is WAIT
    assert p.release(7, 0.0) == ("b", 7)
    assert (p.active, p.queue, p.idle) == (1, OrderedDict(), {})


def test_whose_own_limit_is_lower_lets_others_pass() -> None:
    p = pool()
    p.active = 3
    assert p.admit("low", 2, 0.0, KEEP, optional=False) is WAIT
    p.active = 4
    assert p.admit("high", 4, 0.0, KEEP, optional=False) is WAIT
    assert p.release(None, 0.0) == ("high", None)
    assert p.release(None, 0.0) is None
    assert p.release(None, 0.0) is None
    assert p.active == 2
    assert p.release(5, 0.0) == ("low", 5)


def test_who_waits_keeps_its_limit_and_goes_on_waiting_in_order() -> None:
    p = pool()
    p.active = 2
    assert p.admit("first", 2, 0.0, KEEP, optional=False) is WAIT
    assert p.admit("second", 2, 0.0, KEEP, optional=False) is WAIT
    assert p.admit("when it has risen", 3, 0.0, KEEP, optional=False) is OPEN
    assert p.release(1, 0.0) is None, "back at the limit of those that wait"
    assert [p.release(1, 0.0) for _ in range(2)] == [("first", 1), ("second", 1)]


def test_an_idle_connection_over_the_cap_is_spared_oldest_first() -> None:
    p = pool(connections=2)
    p.active = 2
    p.release(1, 0.0)
    p.release(2, 1.0)
    assert p.admit("fresh", 4, 3.0, 1.0, optional=False) is OPEN
    assert p.spare() == [1]
    assert p.idle == {2: 1.0}
    assert p.spare() == []


def test_what_waits_no_more_and_what_is_gone_leave_nothing() -> None:
    p = pool(connections=1)
    p.admit("a", 8, 0.0, KEEP, optional=False)
    p.admit("b", 8, 0.0, KEEP, optional=False)
    assert p.withdraw("b")
    assert not p.withdraw("b")
    assert p.release(3, 0.0) is None
    p.forget(3)
    p.forget(3)
    assert (p.active, p.queue, p.idle) == (0, OrderedDict(), {})


class Driven(RuleBasedStateMachine):
    """Any order of asks, ends, cancellations, lost connections and time: the promises of the module hold after each."""

    def __init__(self) -> None:
        super().__init__()
        self.pool: Pool[int, int] = Pool(4)
        self.now = 0.0
        self.names = 0
        self.running: dict[int, tuple[int, int]] = {}  # exchange → its connection and limit
        self.waiting: dict[int, int] = {}  # exchange → limit
        self.open: set[int] = set()
        self.used_last: list[int] = []

    def fresh(self) -> int:
        self.names += 1
        self.open.add(self.names)
        return self.names

    def close(self, connections: list[int]) -> None:
        for connection in connections:
            self.open.remove(connection)
            self.used_last.remove(connection)

    def start(self, exchange: int, limit: int, connection: int | None) -> None:
        if connection is None:
            taken = self.pool.take(self.now, KEEP)
            connection = self.adopt(taken)
        self.running[exchange] = (connection, limit)

    def adopt(self, taken: object) -> int:
        if taken is OPEN:
            self.close(self.pool.spare())
            return self.fresh()
        assert isinstance(taken, int)
        assert self.used_last.pop() == taken
        return taken

    @rule(limit=st.integers(1, 6), optional=st.booleans())
    def ask(self, limit: int, *, optional: bool) -> None:
        self.names += 1
        exchange, under = self.names, len(self.running) + len(self.waiting)
        verdict = self.pool.admit(exchange, limit, self.now, KEEP, optional=optional)
        if verdict is REFUSE:
            assert under >= 0.75 * limit if optional else under >= 2 * limit
        elif verdict is WAIT:
            assert len(self.running) >= min(limit, 4)
            assert not optional or under < 0.75 * limit
            self.waiting[exchange] = limit
        else:
            assert len(self.running) < min(limit, 4)
            self.running[exchange] = (self.adopt(verdict), limit)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), reusable=st.booleans())
    def end(self, data: st.DataObject, *, reusable: bool) -> None:
        exchange = data.draw(st.sampled_from(sorted(self.running)))
        connection, _ = self.running.pop(exchange)
        if not reusable:
            self.open.remove(connection)
        following = self.pool.release(connection if reusable else None, self.now)
        if following is not None:
            first = next(name for name, limit in self.waiting.items() if len(self.running) < min(limit, 4))
            assert following[0] == first
            self.start(first, self.waiting.pop(first), following[1])
        elif reusable:
            self.used_last.append(connection)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        exchange = data.draw(st.sampled_from(sorted(self.waiting)))
        del self.waiting[exchange]
        assert self.pool.withdraw(exchange)

    @precondition(lambda self: self.used_last)
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        connection = data.draw(st.sampled_from(self.used_last))
        self.pool.forget(connection)
        self.close([connection])

    @rule(seconds=st.floats(0.1, 5.0))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.close(self.pool.expire(self.now - KEEP))

    @invariant()
    def counts_are_exact(self) -> None:
        assert self.pool.active == len(self.running) <= 4
        assert list(self.pool.queue) == list(self.waiting)
        assert list(self.pool.idle) == self.used_last
        assert self.open == {c for c, _ in self.running.values()} | set(self.used_last)
        assert len(self.open) <= 4

    @invariant()
    def nobody_waits_who_could_start(self) -> None:
        assert all(len(self.running) >= min(limit, 4) for limit in self.waiting.values())


TestDriven = Driven.TestCase
TestDriven.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
