import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bff.model import Purge
from bff.store.purges import Purges, read, scope, written

PURGES = st.builds(
    Purge,
    kind=st.sampled_from(["tag", "fragment", "context", "all"]),
    value=st.text(max_size=5),
    soft=st.booleans(),
    context=st.sampled_from(["", "a"]),
    principal=st.none() | st.just("ada"),
)
ABOUT = ("a/b", ("t",), "ada")


@given(PURGES)
def test_a_purge_is_read_as_it_was_written(purge: Purge) -> None:
    assert read(written(purge)) == purge


@pytest.mark.parametrize(
    "text", ["", "[]", "7", "null", '["tag",7,"",null,0]', '["word","","",null,0]', '["tag","","",7,0]']
)
def test_what_is_no_purge_is_none(text: str) -> None:
    assert read(text) is None


@pytest.mark.parametrize(
    ("purge", "meets"),
    [
        (Purge(kind="tag", value="t"), True),
        (Purge(kind="tag", value="t", context="a"), True),
        (Purge(kind="tag", value="t", context="z"), False),
        (Purge(kind="tag", value="u"), False),
        (Purge(kind="fragment", value="a/b"), True),
        (Purge(kind="fragment", value="a/b", context="a"), True),
        (Purge(kind="fragment", value="a/b", context="z"), False),
        (Purge(kind="fragment", value="a/c"), False),
        (Purge(kind="context", value="a"), True),
        (Purge(kind="context", value="z"), False),
        (Purge(kind="context", value="a", context="z"), False),
        (Purge(kind="all"), True),
        (Purge(kind="all", context="a"), True),
        (Purge(kind="all", context="z"), False),
        (Purge(kind="all", principal="ada"), True),
        (Purge(kind="all", principal="bob"), False),
        (Purge(kind="tag", value="t", principal="ada"), True),
    ],
    ids=str,
)
def test_what_a_purge_meets(purge: Purge, meets: bool) -> None:
    log = Purges()
    log.add(purge, 5.0)
    assert log.since(4.9, *ABOUT) == (-math.inf if meets else math.inf)
    assert log.since(5.0, *ABOUT) == math.inf
    soft = Purges()
    soft.add(
        Purge(kind=purge.kind, value=purge.value, context=purge.context, principal=purge.principal, soft=True), 5.0
    )
    assert soft.since(4.9, *ABOUT) == (5.0 if meets else math.inf)


def test_private_answers_of_nobody_are_met_by_no_principals_purge() -> None:
    log = Purges()
    log.add(Purge(kind="all", principal="ada"), 5.0)
    assert log.since(1.0, "a/b", (), None) == math.inf


def test_hard_outranks_soft_and_the_earliest_soft_counts() -> None:
    log = Purges()
    log.add(Purge(kind="all", soft=True), 3.0)
    log.add(Purge(kind="tag", value="t", soft=True), 4.0)
    assert log.since(2.0, *ABOUT) == 3.0
    assert log.since(3.0, *ABOUT) == 4.0
    log.add(Purge(kind="context", value="a"), 5.0)
    assert log.since(2.0, *ABOUT) == -math.inf


def test_of_what_is_forgotten_everything_counts_as_purged() -> None:
    log = Purges(limit=3)
    for i in range(5):
        log.add(Purge(kind="tag", value=str(i % 4)), float(i))
    assert len(log) == 3
    assert log.floor == 1.0
    assert log.since(0.9, "x/y", (), None) == -math.inf
    assert log.since(1.0, "x/y", (), None) == math.inf
    log.clear()
    assert log.since(0.0, *ABOUT) == math.inf


def test_the_forms_of_a_scope() -> None:
    assert scope(Purge(kind="all", context="a")) == scope(Purge(kind="context", value="a"))
    assert scope(Purge(kind="fragment", value="a/b", context="a")) == scope(Purge(kind="fragment", value="a/b"))
    assert scope(Purge(kind="fragment", value="a/b", context="z")) is None
    assert scope(Purge(kind="tag", value="t")) == "t"
    assert scope(Purge(kind="tag", value="t", context="a")) == ("tag", "t", "a", None)
    assert scope(Purge(kind="tag", value="t", principal="ada")) == ("tag", "t", "", "ada")
