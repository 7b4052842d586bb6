from dataclasses import dataclass

import pytest

from bff.model import Purge
from bff.store.ledger import EVERYTHING, MARKS, Ledger, mark_at, wall_of
from bff.store.purges import LIMIT, written
from tests.store.tiers import record

TAG = Purge(kind="tag", value="course:1")
SOFT = Purge(kind="tag", value="course:1", soft=True)
T0 = 1_700_000_000.0
M0 = mark_at(T0)


@dataclass
class Clock:
    now: float = 100.0

    @property
    def wall(self) -> float:
        return T0 + self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(clock: Clock) -> Ledger:
    made = Ledger(lambda: clock.now, lambda: clock.wall)
    made.catch_up([], M0)
    return made


def heard(ledger: Ledger) -> list[tuple[Purge, float]]:
    told: list[tuple[Purge, float]] = []
    ledger.subscribe(lambda purge, when: told.append((purge, when)))
    return told


def test_marks_are_times() -> None:
    assert wall_of(mark_at(T0 + 0.25)) == T0 + 0.25
    assert mark_at(T0) < 2**53


def test_what_others_purge_is_told_once_with_its_time(ledger: Ledger) -> None:
    told = heard(ledger)
    ledger.catch_up([(written(TAG), M0 + 1024)], M0)
    ledger.catch_up([], M0)
    assert told == [(TAG, T0 + 0.001)]
    assert ledger.mark == M0 + 1024


def test_what_two_looks_have_read_at_once_is_told_once(ledger: Ledger) -> None:
    told = heard(ledger)
    for rows in ([(written(TAG), M0 + 1), (written(SOFT), M0 + 2)], [(written(TAG), M0 + 1)]):
        ledger.overhear(rows, M0 - 5)
    assert [purge for purge, _ in told] == [TAG, SOFT]
    assert (ledger.mark, ledger.floor) == (M0 + 2, M0)


def test_rows_that_are_no_purges_are_passed_over(ledger: Ledger) -> None:
    told = heard(ledger)
    ledger.catch_up([("what is this?", M0 + 1)], M0)
    assert told == []
    assert ledger.mark == M0 + 1


def test_records_are_judged_by_what_came_after_their_mark(ledger: Ledger) -> None:
    ledger.catch_up([(written(SOFT), M0 + 1024), (written(TAG), M0 + 2048)], M0)
    assert ledger.judged(record(), M0 - 1) is None
    assert ledger.judged(record(), M0 + 2047) is None
    assert ledger.judged(record(), M0 + 2048) == (kept := record(born=1.0)) or kept
    assert ledger.judged(record(tags=()), M0 - 1) is None  # older than the log
    assert ledger.judged(record(tags=()), M0) is not None


def test_what_was_known_when(ledger: Ledger, clock: Clock) -> None:
    clock.now = 101.0
    ledger.catch_up([(written(TAG), M0 + 5)], M0)
    assert [ledger.known(at) for at in (99.9, 100.0, 100.9, 101.0, 500.0)] == [None, M0, M0, M0 + 5, M0 + 5]
    for i in range(3 * MARKS):
        clock.now += 1
        ledger.catch_up([(written(TAG), M0 + 10 + i)], M0)
    assert ledger.known(101.0) is None
    assert ledger.known(clock.now) == ledger.mark
    assert len(ledger._marks) <= 2 * MARKS


def test_ones_own_purges_are_not_told_whenever_they_are_read(ledger: Ledger) -> None:
    told = heard(ledger)
    before = ledger.owe(TAG)
    ledger.begin()
    ledger.catch_up([(written(SOFT), M0 + 1), (before, M0 + 2)], M0)
    assert told == []
    ledger.end([before], M0 + 2)
    assert [purge for purge, _ in told] == [SOFT]
    after = ledger.owe(TAG)
    ledger.begin()
    ledger.end([after], M0 + 3)
    ledger.catch_up([(after, M0 + 3)], M0)
    assert [purge for purge, _ in told] == [SOFT]
    ledger.catch_up([(after, M0 + 4)], M0)  # the same one, by another
    assert [purge for purge, _ in told] == [SOFT, TAG]
    assert not ledger._own


def test_of_many_that_were_written_at_once_each_has_a_mark_of_its_own(ledger: Ledger) -> None:
    told = heard(ledger)
    other = Purge(kind="tag", value="course:2")
    texts = [ledger.owe(TAG), ledger.owe(other)]
    ledger.begin()
    ledger.catch_up([(written(SOFT), M0 + 1), (texts[0], M0 + 2)], M0)
    ledger.end(texts, M0 + 3)
    ledger.catch_up([(texts[1], M0 + 3), (texts[0], M0 + 4)], M0)
    assert [purge for purge, _ in told] == [SOFT, TAG]
    assert ledger.owed == {}
    assert ledger.judged(record(tags=("course:2",)), M0 + 2) is None
    assert ledger.judged(record(tags=("course:2",)), M0 + 3) is not None


def test_a_purge_whose_end_nobody_knows_is_owed_and_told(ledger: Ledger) -> None:
    told = heard(ledger)
    text = ledger.owe(TAG)
    ledger.begin()
    ledger.catch_up([(text, M0 + 1)], M0)
    ledger.end([text], None)
    assert [purge for purge, _ in told] == [TAG]
    assert ledger.owed == {text: TAG}


def test_what_is_owed_counts_already(ledger: Ledger, clock: Clock) -> None:
    hard, soft = ledger.owe(TAG), ledger.owe(Purge(kind="fragment", value="z/y", soft=True))
    assert ledger.judged(record(), M0 + 10**9) is None
    marked = ledger.judged(record(fragment="z/y", tags=()), M0)
    assert marked is not None
    assert marked.stale_at == pytest.approx(clock.wall, abs=0.002)
    assert ledger.judged(record(fragment="z/x", tags=()), M0) is not None
    for text, mark in ((hard, M0 + 1), (soft, M0 + 2)):
        ledger.begin()
        ledger.end([text], mark)
    assert ledger.owed == {}
    assert ledger.judged(record(), M0) is None
    assert ledger.judged(record(), M0 + 1) is not None


def test_who_owes_too_much_owes_everything(ledger: Ledger) -> None:
    for i in range(LIMIT + 1):
        ledger.owe(Purge(kind="tag", value=str(i)))
    assert [*ledger.owed.values()] == [Purge(kind="all")]
    assert ledger.judged(record(tags=()), M0) is None


@pytest.mark.parametrize(
    ("away", "floor", "told"),
    [
        (5.0, M0 + 10_000, True),  # forgotten, or lost, while it was away
        (5.0, M0 - 10_000, True),  # another log, whose clock is behind
        (5.0, M0, False),
        (0.5, M0 + 10_000, False),  # lost, but nothing was missed
    ],
)
def test_who_may_have_missed_purges_marks_everything_stale(
    ledger: Ledger, clock: Clock, away: float, floor: int, told: bool
) -> None:
    said = heard(ledger)
    clock.now += away
    ledger.catch_up([], floor)
    assert [purge for purge, _ in said] == [EVERYTHING] * told
    assert ledger.judged(record(), floor - 1) is None
    assert ledger.judged(record(), floor) is not None
    ledger.catch_up([(written(TAG), floor + 1)], floor)
    assert ledger.judged(record(), floor) is None
