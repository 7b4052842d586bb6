from bff.model import Markup, Outcome, Reason, Result
from bff.rules.caching import Terms
from bff.store.entry import OVERHEAD, Entry
from bff.store.memory import MemoryStore

TERMS = Terms(
    storable=True,
    lifetime=1.0,
    age=0.0,
    stale_while_revalidate=None,
    stale_if_error=None,
    must_revalidate=False,
    etag="",
    last_modified="",
    date=0.0,
)


def entry(key: str, size: int = 1000, principal: str | None = None) -> Entry:
    body = b"x" * size
    markup = Markup(parts=(body,), flat=body)
    return Entry(
        key=key,
        fragment="a/b",
        version="1",
        status=200,
        markup=markup,
        data=None,
        terms=TERMS,
        born=0.0,
        as_of=None,
        principal=principal,
    )


def test_what_was_put_is_there_until_it_is_expired() -> None:
    store = MemoryStore(10_000)
    one = entry("one")
    store.put(one)
    assert store.get("one") is one
    assert store.expire(lambda each: each is one) == 1
    assert store.get("one") is None
    assert (store.entries, store.bytes) == (0, 0)


def used(store: MemoryStore, key: str) -> None:
    """Hit an entry as `page.results.hit` does."""
    found = store.get(key)
    assert found is not None
    found.seen = (0, Result(outcome=Outcome.FRESH, reason=Reason.HIT))


def test_what_was_not_used_leaves_first_and_is_reported() -> None:
    evicted: list[str] = []
    budget = 3 * entry("a").size
    store = MemoryStore(budget, evicted.append)
    for key in "abc":
        store.put(entry(key))
    used(store, "a")
    store.put(entry("d"))
    assert [store.get(key) is not None for key in "abcd"] == [True, False, True, True]
    assert evicted == ["size"]
    assert store.bytes <= budget


def test_what_is_larger_than_the_budget_replaces_nothing_but_its_own_key() -> None:
    evicted: list[str] = []
    store = MemoryStore(5000, evicted.append)
    store.put(entry("a"))
    store.put(entry("b"))
    store.put(entry("a", 50_000))
    assert store.get("a") is None
    assert store.get("b") is not None
    assert evicted == ["too_large"]


def test_entries_are_expired_by_what_they_are() -> None:
    store = MemoryStore(100_000)
    store.put(entry("a", principal="ada"))
    store.put(entry("b", principal="bob"))
    assert store.expire(lambda each: each.principal == "ada") == 1
    assert store.get("a") is None
    assert store.get("b") is not None


def test_size_counts_markup_data_and_key() -> None:
    made = entry("key", 10)
    made.data = b"12345"
    assert made.size == OVERHEAD + 3 + 10 + 5
    made.markup = None
    assert made.size == OVERHEAD + 3 + 5
