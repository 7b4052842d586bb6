"""Who holds up the event loop, seen from another thread."""

from __future__ import annotations

import sys
import time

from bff.gateway.watchdog import Block, Watchdog, seen
from bff.page.call import Call
from bff.page.flight import Flight, Kept
from bff.rules import keys, serve
from tests import build
from tests.fakes import PATIENCE


def held_up(blocks: list[Block], more: int, call: object) -> None:
    """Code that never yields, on behalf of a fragment, until so many blocks have been told."""
    ends = time.monotonic() + PATIENCE
    while len(blocks) < more and time.monotonic() < ends:
        pass
    del call


def planned() -> Call:
    world = build.World(fragments={"shop/slow": build.fragment("shop/slow")})
    made = world.planner.call(build.fragment("shop/slow"), build.policy(), {})
    assert made is not None
    return made


def test_who_blocks_the_loop_is_named_while_it_does_with_its_fragment_once() -> None:
    blocks: list[Block] = []
    dog = Watchdog(blocks.append, after=0.05, look=0.01)
    dog.start()
    held_up(blocks, 1, planned())
    dog.close()
    (block,) = blocks
    assert "tests/gateway/test_watchdog.py" in block.where[0]
    assert block.where[0].endswith(" held_up")
    assert block.fragments == ("shop/slow",)


def test_a_loop_that_turns_is_left_alone_and_the_next_block_is_told_again() -> None:
    blocks: list[Block] = []
    dog = Watchdog(blocks.append, after=0.05, look=0.01)
    dog.start()
    held_up(blocks, 1, None)
    dog.beat()
    held_up(blocks, 2, None)
    dog.close()
    assert len(blocks) == 2
    dog.close()


def test_what_is_told_of_a_stack() -> None:
    call = planned()
    flight = Flight(call, "key", keys.NO_VARIANT, Kept(None, serve.Use.NOTHING), 0.0)
    fragment = build.fragment("shop/other")
    block = seen(sys._getframe())
    assert block.fragments == ("shop/slow", "shop/other")
    assert block.where[0].endswith(" test_what_is_told_of_a_stack")
    assert all("site-packages" not in each for each in block.where)
    assert len(block.where) <= 8
    assert (flight.call, fragment.name) == (call, "shop/other")
