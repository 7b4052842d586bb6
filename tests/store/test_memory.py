import gc
import math
import random
import tracemalloc
from collections import OrderedDict
from collections.abc import Iterable

import pytest

from bff.model import Purge
from bff.store.entry import OVERHEAD, OVERHEAD_OF_FORM, OVERHEAD_OF_TAG
from bff.store.memory import HOLDING, VARIANTS, MemoryStore
from bff.store.purges import LIMIT
from tests.store.entries import SEEN, entry


def used(store: MemoryStore, key: str) -> bool:
    """Hit an entry; whether it is there."""
    found = store.get(key)
    if found is not None:
        store.used(found, SEEN, 0.0)
    return found is not None


def there(store: MemoryStore, keys: Iterable[str]) -> list[str]:
    return [key for key in keys if store.get(key) is not None]


def test_what_was_put_is_there_until_it_is_expired() -> None:
    store = MemoryStore(10_000)
    one = entry("one")
    assert store.put(one)
    assert store.get("one") is one
    assert store.expire(lambda each: each is one) == 1
    assert store.get("one") is None
    assert (store.entries, store.bytes) == (0, 0)


def test_what_was_not_used_leaves_first_and_is_reported() -> None:
    evicted: list[str] = []
    budget = 3 * entry("a").size
    store = MemoryStore(budget, evicted.append)
    for key in "abc":
        store.put(entry(key))
    used(store, "a")
    store.put(entry("d"))
    assert there(store, "abcd") == ["a", "c", "d"]
    assert evicted == ["size"]
    assert store.bytes <= budget


def test_what_was_slow_to_fetch_for_its_size_stays_longer_but_not_for_ever() -> None:
    store = MemoryStore(50 * entry("fast00").size)
    store.put(entry("slow", took=1.0))
    store.put(entry("large", 20_000, took=1.0))
    for i in range(60):
        store.put(entry(f"fast{i:02}", took=0.1))
    assert there(store, ["slow", "large"]) == ["slow"]
    for i in range(2000):
        store.put(entry(f"more{i}", took=0.1))
    assert store.get("slow") is None
    assert store.get("more1999") is not None


def test_where_everything_is_used_one_still_leaves() -> None:
    store = MemoryStore(100 * entry("k00").size)
    for i in range(100):
        store.put(entry(f"k{i:02}", took=9.0))
        used(store, f"k{i:02}")
    store.put(entry("new"))
    assert store.get("new") is not None
    assert store.entries == 100


def test_a_mixed_load_costs_far_less_fetching_than_dropping_the_least_recently_used() -> None:
    """Zipf's law over 1,000 answers of three sizes and two prices, an eighth of which fit."""
    chosen = random.Random(1)
    asked = chosen.choices(range(1000), [1 / rank for rank in range(1, 1001)], k=20_000)
    price = [chosen.choice((0.02, 1.0)) for _ in range(1000)]
    size = [chosen.choice((500, 4000, 30_000)) for _ in range(1000)]
    store, cost = MemoryStore(1_500_000), 0.0
    recent, held, others = OrderedDict[int, int](), 0, 0.0
    for each in asked:
        if not used(store, f"k{each}"):
            cost += price[each]
            store.put(entry(f"k{each}", size[each], took=price[each]))
        if each in recent:
            recent.move_to_end(each)
            continue
        others += price[each]
        recent[each] = size[each] + OVERHEAD
        held += recent[each]
        while held > 1_500_000:
            held -= recent.popitem(last=False)[1]
    assert cost < 0.6 * others


def test_what_is_larger_than_the_budget_replaces_nothing_but_its_own_key() -> None:
    evicted: list[str] = []
    store = MemoryStore(5000, evicted.append)
    store.put(entry("a"))
    store.put(entry("b"))
    assert not store.put(entry("a", 50_000))
    assert there(store, "ab") == ["b"]
    assert evicted == ["too_large"]


def test_variants_of_one_answer_are_capped_and_those_of_principals_are_not() -> None:
    evicted: list[str] = []
    store = MemoryStore(10**9, evicted.append)
    for i in range(VARIANTS + 3):
        store.put(entry(f"a/b?x=1#accept:{i}", 10))
        store.put(entry(f"a/b?x=1#principal:{i}", 10, principal=str(i)))
    assert evicted == ["variants"] * 3
    assert store.entries == 2 * VARIANTS + 3
    assert there(store, (f"a/b?x=1#accept:{i}" for i in range(5))) == ["a/b?x=1#accept:3", "a/b?x=1#accept:4"]


def test_size_counts_markup_data_key_and_tags() -> None:
    made = entry("key", 10, tags=("12", "3456"))
    made.data = b"12345"
    assert made.size == OVERHEAD + 3 + 10 + 5 + 6 + 2 * OVERHEAD_OF_TAG
    made.forms = {}
    assert made.size == OVERHEAD + 3 + 10 + 5 + 6 + 2 * OVERHEAD_OF_TAG
    made.markup, made.forms = None, {"html zstd": b"123", "data br": b"1"}
    assert made.size == OVERHEAD + 3 + 5 + 6 + 2 * OVERHEAD_OF_TAG + 4 + 2 * OVERHEAD_OF_FORM


def test_an_encoded_form_is_weighed_with_its_entry() -> None:
    store = MemoryStore(10_000)
    for key in "abc":
        store.put(entry(key, tags=(key,)))
    b = store.get("b")
    assert b is not None
    before = store.bytes
    store.pack(b, "html zstd", b"z" * 400)
    store.pack(b, "html br", b"b" * 300)
    assert b.forms == {"html zstd": b"z" * 400, "html br": b"b" * 300}
    assert (
        store.bytes
        == before + 700 + 2 * OVERHEAD_OF_FORM
        == sum(each.size for each in store.matching(Purge(kind="all")))
    )
    assert store.matching(Purge(kind="tag", value="b")) == [b], "found as before, and once"
    store.pack(b, "html gzip", b"g" * 9000)
    assert "html gzip" not in b.forms, "larger than all there is"
    store.put(entry("b", 20))
    store.pack(b, "html gzip", b"g")
    assert store.bytes == before - 980 - 1 - OVERHEAD_OF_TAG, "of what is replaced nothing is kept"


# --- purges -----------------------------------------------------------------------------------------------------------


def test_a_purge_takes_what_it_meets_out_of_reach_at_once() -> None:
    store = MemoryStore(10**6)
    for key, tags in (("a", ("t",)), ("b", ("t", "u")), ("c", ("u",))):
        store.put(entry(key, tags=tags))
    held = store.get("a")
    assert store.purge(Purge(kind="tag", value="t"), 5.0) == 2
    assert there(store, "abc") == ["c"]
    assert held is not None
    assert held.stale_at == -math.inf
    assert store.purge(Purge(kind="tag", value="t"), 5.0) == 0
    assert store.entries == 1
    assert not store.sweep()
    assert store.bytes == entry("c", tags=("u",)).size


def test_a_soft_purge_marks_what_it_meets_once() -> None:
    store = MemoryStore(10**6)
    store.put(entry("a"))
    assert store.purge(Purge(kind="all", soft=True), 5.0) == 1
    assert store.purge(Purge(kind="all", soft=True), 6.0) == 1
    found = store.get("a")
    assert found is not None
    assert found.stale_at == 5.0


def test_what_was_purged_makes_room_before_anything_is_evicted() -> None:
    evicted: list[str] = []
    store = MemoryStore(3 * entry("a").size, evicted.append)
    for key in "abc":
        store.put(entry(key))
    store.purge(Purge(kind="tag", value="none"), 5.0)
    store._cache.forget([store._cache["b"]])
    store.put(entry("b"))
    store._cache.forget([store._cache["b"]])
    store.put(entry("d"))
    assert there(store, "abcd") == ["a", "c", "d"]
    assert evicted == []


@pytest.mark.parametrize("soft", [True, False])
def test_a_fetch_begun_before_a_purge_brings_nothing_back(soft: bool) -> None:
    store = MemoryStore(10**6)
    store.purge(Purge(kind="tag", value="t", soft=soft), 5.0)
    for began, fresh in ((4.9, False), (5.0, False), (5.1, True)):
        made = entry("a", tags=("t",))
        assert store.put(made, began) is (fresh or soft)
        assert made.stale_at == (math.inf if fresh else 5.0 if soft else math.inf)
    assert store.purged_since(4.9, "a/b", ("other",)) == math.inf


def test_a_304_makes_fresh_what_was_marked_before_it_was_asked() -> None:
    store = MemoryStore(10**6)
    made = entry("a")
    store.put(made)
    store.purge(Purge(kind="all", soft=True), 5.0)
    assert store.put(made, 4.0)
    assert made.stale_at == 5.0
    assert store.put(made, 6.0)
    assert made.stale_at == math.inf


def test_what_is_gone_is_not_put_again_by_whoever_holds_it() -> None:
    store = MemoryStore(10**6)
    made = entry("a")
    store.put(made)
    store.purge(Purge(kind="all"), 5.0)
    assert not store.put(made)
    assert not store.put(made, 6.0)
    assert store.get("a") is None


def test_what_was_purged_costs_hits_nothing_once_it_is_taken_apart() -> None:
    """Until then whoever gets an entry looks whether it is gone; a purge itself takes nothing apart."""
    store = MemoryStore(10**8)
    for i in range(100):
        store.put(entry(f"k{i}", tags=(f"t{i % 10}",)))
    quick = store.get
    assert store.purge(Purge(kind="tag", value="none"), 5.0) == 0
    assert store.purge(Purge(kind="tag", value="t1", soft=True), 5.0) == 10
    assert store.get == quick
    for i in range(10):
        store.purge(Purge(kind="tag", value=f"t{i}"), 5.0)
    assert (store.entries, store._cache.dead, len(store._cache.live)) == (0, 100, 100)
    assert store.get != quick
    assert store.sweep(99)
    assert store.get != quick
    assert not store.sweep(99)
    assert store.get == quick
    assert (store.entries, store.bytes, len(store._cache.live)) == (0, 0, 0)


def test_what_takes_the_place_of_something_purged_is_left_alone_when_that_is_taken_apart() -> None:
    store = MemoryStore(10**6)
    store.put(entry("a", tags=("t",)))
    store.put(entry("b", tags=("t",)))
    store.purge(Purge(kind="all"), 5.0)
    assert store.expire(lambda _: True) == 0
    store._cache["a"] = new = entry("a", 10, tags=("t",))
    assert store.entries == 1
    assert not store.sweep()
    assert (store.entries, store.bytes) == (1, new.size)
    assert store.get("a") is new
    assert store.matching(Purge(kind="tag", value="t")) == [new]


def test_of_more_purges_than_are_remembered_the_oldest_count_for_everything() -> None:
    store = MemoryStore(10**6)
    for i in range(LIMIT + 1):
        store.purge(Purge(kind="tag", value=str(i)), float(i))
    assert not store.put(entry("a"), -1.0)
    assert store.put(entry("a"), 1.0)


# --- what it costs ----------------------------------------------------------------------------------------------------


def test_an_entry_takes_no_more_than_its_body_and_a_kibibyte() -> None:
    count, size = 20_000, 2000
    store = MemoryStore(10**9)
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for i in range(count):
            key = f"discovery/course-card?course_key=course-v1%3AedX%2BDemo{i}%2B2026"
            made = entry(
                key, size, etag=b'"%d"' % i, fragment="discovery/course-card", tags=(f"course:edX+{i}",), took=i / 7
            )
            store.put(made)
        taken = (tracemalloc.get_traced_memory()[0] - before) / count
    finally:
        tracemalloc.stop()
    assert taken <= size + 1024
    assert taken <= entry(key, size, tags=("course:edX+9999",)).size


def test_purging_looks_at_nothing_that_it_does_not_meet() -> None:
    """What a purge of one tag costs does not depend on all the others."""
    store = MemoryStore(10**9)
    for i in range(10_000):
        store.put(entry(f"k{i}", 0, tags=(f"t{i % 1000}",)))
    visited = 0

    class Counting(dict[object, None]):
        def __iter__(self):  # type: ignore[no-untyped-def] # noqa: ANN204
            nonlocal visited
            for each in super().__iter__():
                visited += 1
                yield each

    named = store._cache.index._tags.names
    for tag, known in named.items():
        named[tag] = Counting(known)  # type: ignore[arg-type,assignment] # counts what is looked at
    assert store.purge(Purge(kind="tag", value="t7"), 1.0) == 10
    assert visited == 10
    assert store.purge(Purge(kind="all"), 2.0) == 9990
    assert store.entries == 0
    assert store.sweep(500)
    assert len(store._cache.gone) == 9500


def test_so_many_entries_hold_a_result_and_no_more() -> None:
    """An entry that has left is not held by its having been used."""
    store = MemoryStore(100 * 1024 * 1024)
    for number in range(HOLDING + 10):
        store.put(entry(f"shop/card?n={number}"))
        assert used(store, f"shop/card?n={number}")
        assert used(store, "shop/card?n=0")
    holding = [number for number in range(HOLDING + 10) if holds(store, f"shop/card?n={number}")]
    assert len(holding) <= HOLDING
    assert holding[-1] == HOLDING + 9
    assert store.expire(lambda each: each.key == f"shop/card?n={HOLDING + 9}") == 1
    for number in range(HOLDING + 10):
        used(store, f"shop/card?n={number}")


def holds(store: MemoryStore, key: str) -> bool:
    found = store.get(key)
    return found is not None and found.seen is not None
