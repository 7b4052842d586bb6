"""What an entry costs in memory, body, keys and tags aside: kept by a resolver, and hit."""

import gc
import tracemalloc
from typing import Final

from bff.model import Ref, Result
from bff.store.memory import MemoryStore
from tests.build import World, fragment, int_param

KIB: Final = 1024
BODY: Final = 2048
ENTRIES: Final = 10_000
CARD = fragment(
    "shop/card",
    params={"n": int_param("n")},
    layer={"cache.mode": "fixed", "cache.fresh": "1h"},
    tags=(("course:", Ref("param", "n")),),
)


def asked(world: World, number: int) -> object:
    call = world.planner.call(CARD, CARD.policy, {"n": [str(number)]})
    assert call is not None
    return world.resolver.start(call, world.visit(), lambda _: None)


def kept(world: World, number: int) -> None:
    asked(world, number)
    body = b"<p>%07d%b</p>" % (number, b"x" * (BODY - 14))
    world.upstreams.flown.pop().reply(body, date="Mon, 24 Nov 2025 10:00:00 GMT", etag=f'"{number}"')


def test_an_entry_that_was_hit_costs_a_kibibyte_beside_its_body() -> None:
    world = World(fragments={"shop/card": CARD})
    world.resolver._store = world.resolver.landing._store = store = MemoryStore(1 << 30)
    for number in range(100):
        kept(world, number)
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(100, ENTRIES + 100):
            kept(world, number)
            assert isinstance(asked(world, number), Result)
            for remembered in (world.seen.slots, world.seen.cached, world.seen.upstreams):
                remembered.clear()
        gc.collect()
        each = (tracemalloc.get_traced_memory()[0] - before) / ENTRIES
    finally:
        tracemalloc.stop()
    assert store.entries == ENTRIES + 100
    assert each < BODY + KIB
