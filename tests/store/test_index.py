"""Over random histories: the index knows each entry that is kept, no other, and no name that nothing has."""

import math
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from bff.model import Purge
from bff.store import memory
from bff.store.entry import Entry
from bff.store.index import Index
from bff.store.memory import MemoryStore
from bff.store.purges import scope, scopes
from tests.store.entries import SEEN, entry

FRAGMENTS = ("a/x", "a/y", "b/x")
TAGS = ("t", "u", "v")
PRINCIPALS = (None, "ada", "bob")
KEYS = tuple(f"k{i}{variant}" for i in range(6) for variant in ("", "#h:1", "#h:2"))
PURGES = st.builds(
    Purge,
    kind=st.sampled_from(["tag", "fragment", "context", "all"]),
    value=st.sampled_from([*TAGS, *FRAGMENTS, "a", "b"]),
    soft=st.booleans(),
    context=st.sampled_from(["", "", "a", "b"]),
    principal=st.sampled_from([None, None, "ada", "bob"]),
)


def meets(purge: Purge, kept: Entry) -> bool:
    """The long way round."""
    return scope(purge) in {*scopes(kept.fragment, kept.tags, kept.principal)}


class Histories(RuleBasedStateMachine):
    """A store beside what it must hold: a dictionary of what was put and not taken away, but for evictions."""

    begun = Bundle("begun")
    held = Bundle("held")

    @initialize(budget=st.integers(2000, 60_000))
    def start(self, budget: int) -> None:
        self.evicted: list[str] = []
        self.store = MemoryStore(budget, self.evicted.append)
        self.model: dict[str, Entry] = {}
        self.purged: list[tuple[float, Purge]] = []
        self.now = 1.0

    @rule(target=begun)
    def begin(self) -> float:
        self.now += 1.0
        return self.now

    @rule(
        key=st.sampled_from(KEYS),
        fragment=st.sampled_from(FRAGMENTS),
        tags=st.lists(st.sampled_from(TAGS), max_size=3),
        principal=st.sampled_from(PRINCIPALS),
        size=st.integers(0, 4000),
        took=st.sampled_from([0.0, 0.1, 5.0]),
        began=begun,
    )
    def put(
        self, key: str, fragment: str, tags: list[str], principal: str | None, size: int, took: float, began: float
    ) -> None:
        made = entry(key, size, fragment=fragment, tags=tuple(tags), principal=principal, took=took)
        kept = self.store.put(made, began)
        since = [purge for when, purge in self.purged if when >= began and meets(purge, made)]
        if any(not purge.soft for purge in since):
            assert not kept
            return
        assert (made.stale_at < math.inf) == bool(since)
        if kept:
            self.model[key] = made
        else:
            assert self.evicted[-1] == "too_large"
            self.model.pop(key, None)

    @rule(key=st.sampled_from(KEYS))
    def hit(self, key: str) -> None:
        found = self.store.get(key)
        if found is not None:
            self.store.used(found, SEEN, self.now)

    @rule(key=st.sampled_from(KEYS))
    def put_again(self, key: str) -> None:
        found = self.store.get(key)
        if found is not None:
            assert self.store.put(found, self.now + 0.5)

    @rule(target=held, key=st.sampled_from(KEYS))
    def hold(self, key: str) -> Entry | None:
        return self.store.get(key)

    @rule(made=held)
    def put_what_was_held(self, made: Entry | None) -> None:
        """As whoever renews an entry does: what is gone stays gone, even if it was asked for afterwards."""
        if made is None:
            return
        gone = made.stale_at == -math.inf
        if self.store.put(made, self.now + 0.5):
            assert not gone
            self.model[made.key] = made

    @rule(purge=PURGES)
    def purge(self, purge: Purge) -> None:
        self.now += 1.0
        self.purged.append((self.now, purge))
        met = [kept for kept in self.model.values() if self.store.get(kept.key) is kept and meets(purge, kept)]
        assert {id(each) for each in self.store.matching(purge)} == {id(each) for each in met}
        assert self.store.purge(purge, self.now) == len(met)
        for each in met:
            assert each.stale_at <= self.now
            if not purge.soft:
                assert self.store.get(each.key) is None
                del self.model[each.key]

    @rule(limit=st.integers(0, 5))
    def sweep(self, limit: int) -> None:
        self.store.sweep(limit)

    @rule(principal=st.sampled_from(PRINCIPALS))
    def expire(self, principal: str | None) -> None:
        self.store.expire(lambda each: each.principal == principal)
        self.model = {key: kept for key, kept in self.model.items() if kept.principal != principal}

    @invariant()
    def nothing_is_there_that_should_not_be(self) -> None:
        self.model = {key: kept for key, kept in self.model.items() if self.store.get(key) is not None}
        assert all(self.store.get(key) in {None, self.model.get(key)} for key in KEYS)
        assert self.store.entries == len(self.model)
        assert self.store.bytes <= self.store._cache.maxsize
        gone = [kept for kept in self.store._cache.live.values() if kept.stale_at == -math.inf]
        assert self.store._cache.dead == len(gone)
        assert {*map(id, gone)} <= {*map(id, self.store._cache.gone)}

    @invariant()
    def the_index_is_what_it_would_be_if_it_were_made_now(self) -> None:
        cache, made = self.store._cache, Index()
        for key in cache:
            made.add(cache[key])
        for mine, other in (
            (cache.index._tags, made._tags),
            (cache.index._principals, made._principals),
        ):
            assert {name: {*mine.get(name)} for name in mine.names} == {
                name: {*other.get(name)} for name in other.names
            }
        assert cache.index.names == made.names
        assert cache.currsize == sum(cache[key].size for key in cache)
        groups = {memory._group(cache[key]) for key in cache} - {None}
        assert {*cache.variants} == groups
        assert sorted(key for keys in cache.variants.values() for key in keys) == sorted(k for k in cache if "#" in k)

    def teardown(self) -> None:
        self.store.purge(Purge(kind="all"), self.now + 1)
        while self.store.sweep(3):
            pass
        cache = self.store._cache
        assert (self.store.entries, self.store.bytes, cache.index.names, len(cache.variants)) == (0, 0, 0, 0)


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_each_kind_of_purge_finds_what_it_meets_of_one_principal_too() -> None:
    store = MemoryStore(10**6)
    for key, fragment, whose in (("1", "a/x", "ada"), ("2", "a/y", "ada"), ("3", "b/x", "ada"), ("4", "a/x", "bob")):
        store.put(entry(key, fragment=fragment, tags=("t",), principal=whose))

    def met(**of: Any) -> str:
        return "".join(sorted(each.key for each in store.matching(Purge(**of))))

    assert met(kind="all", principal="ada") == "123"
    assert met(kind="context", value="a", principal="ada") == "12"
    assert met(kind="fragment", value="a/x", principal="ada") == "1"
    assert met(kind="fragment", value="a/x") == "14"
    assert met(kind="tag", value="t", context="b", principal="ada") == "3"
    assert met(kind="tag", value="t", context="a") == "124"
    assert met(kind="fragment", value="a/x", context="b") == ""
