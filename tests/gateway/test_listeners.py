"""Who hears of which changes: matching, what was missed, signs of life, and that nothing is left of who has gone."""

import asyncio
from collections.abc import Sequence

import pytest

from bff.gateway.listeners import BEAT, LIFE, MARGIN, REMEMBERED, SLICE, Listener, Listeners, Wish
from bff.model import Purge

pytestmark = pytest.mark.anyio


class Room:
    """Listeners under a clock that the test moves."""

    def __init__(self, settle: float = 0.0) -> None:
        self.wall = 1_000_000.0
        self.all = Listeners(settle=settle, wall=lambda: self.wall)

    def join(self, *wishes: Wish) -> Listener:
        return self.all.join(wishes)

    async def told(self, listener: Listener) -> list[str]:
        """What a listener hears of now, once whatever is due has been told."""
        await asyncio.sleep(0.01)
        waiting = asyncio.ensure_future(listener.next())
        await asyncio.sleep(0)
        if not waiting.done():
            waiting.cancel()
            return []
        return [topic.asked for topic in waiting.result() or []]

    @property
    def empty(self) -> bool:
        return not (len(self.all) or self.all._topics or self.all._index or self.all._due)


def wish(asked: str = "shop/card?n=1", tags: Sequence[str] = ("card:1",), principal: str | None = None) -> Wish:
    return Wish(fragment=asked.partition("?")[0], asked=asked, tags=tuple(tags), principal=principal)


@pytest.mark.parametrize(
    ("purge", "meets"),
    [
        (Purge(kind="tag", value="card:1"), True),
        (Purge(kind="tag", value="card:1", soft=True), True),
        (Purge(kind="tag", value="card:1", context="shop"), True),
        (Purge(kind="tag", value="card:1", context="other"), False),
        (Purge(kind="tag", value="card:2"), False),
        (Purge(kind="fragment", value="shop/card"), True),
        (Purge(kind="fragment", value="shop/card", context="other"), False),
        (Purge(kind="fragment", value="shop/list"), False),
        (Purge(kind="context", value="shop"), True),
        (Purge(kind="all"), True),
        (Purge(kind="all", principal="ada"), False),
    ],
)
async def test_a_purge_reaches_who_shows_what_it_meets(purge: Purge, meets: bool) -> None:
    room = Room()
    listener = room.join(wish(), wish("shop/other?n=9", ["o"])) if purge.kind == "tag" else room.join(wish())
    room.all.heard(purge)
    assert await room.told(listener) == (["shop/card?n=1"] if meets else [])


async def test_what_is_somebody_s_own_is_told_to_them_alone() -> None:
    room = Room()
    ada = room.join(wish("shop/mine", ["mine"], "ada"))
    bob = room.join(wish("shop/mine", ["mine"], "bob"))
    room.all.heard(Purge(kind="context", value="shop", principal="ada"))
    assert (await room.told(ada), await room.told(bob)) == (["shop/mine"], [])
    room.all.heard(Purge(kind="tag", value="mine"))
    assert (await room.told(ada), await room.told(bob)) == (["shop/mine"], ["shop/mine"])


async def test_many_changes_are_told_once_and_a_slow_one_holds_no_more() -> None:
    room = Room(settle=0.005)
    one, other = room.join(wish()), room.join(wish(), wish("shop/card?n=2", ["card:2"]))
    for number in (1, 2, 1, 1, 2):
        room.all.heard(Purge(kind="tag", value=f"card:{number}"))
    assert await room.told(one) == ["shop/card?n=1"]
    assert await room.told(other) == ["shop/card?n=1", "shop/card?n=2"]
    assert await room.told(other) == []


async def test_who_waits_is_woken() -> None:
    room = Room()
    listener = room.join(wish())
    waiting = asyncio.ensure_future(listener.next())
    await asyncio.sleep(0)
    room.all.heard(Purge(kind="all"))
    assert [topic.asked for topic in await waiting or []] == ["shop/card?n=1"]


async def test_a_crowd_is_told_in_slices() -> None:
    room = Room()
    crowd = [room.join(wish()) for _ in range(2 * SLICE + 1)]
    asked = [asyncio.ensure_future(listener.next()) for listener in crowd]
    await asyncio.sleep(0)
    room.all._due = dict.fromkeys(room.all._topics.values())
    room.all._tell()
    await asyncio.sleep(0)
    done = sum(each.done() for each in asked)
    assert SLICE <= done < len(crowd)
    assert all(await asyncio.gather(*asked))


async def test_tags_are_learned_as_answers_come() -> None:
    room = Room()
    listener = room.join(wish())
    room.all.learned("shop/card?n=1", None, ["card:1", "price:7"])
    room.all.learned("shop/card?n=2", None, ["card:2"])
    other = room.join(wish())  # knows less than what was learned
    room.all.heard(Purge(kind="tag", value="price:7"))
    assert (await room.told(listener), await room.told(other)) == (["shop/card?n=1"], ["shop/card?n=1"])
    room.all.learned("shop/card?n=1", None, ["card:1"])
    room.all.heard(Purge(kind="tag", value="price:7"))
    assert await room.told(listener) == []
    room.join(wish(tags=["new"]))
    room.all.heard(Purge(kind="tag", value="new"))
    assert await room.told(listener) == ["shop/card?n=1"]


async def test_who_was_away_hears_what_they_missed() -> None:
    room = Room()
    room.wall += 100
    room.all.heard(Purge(kind="tag", value="card:1"))
    changed = room.all.now()
    room.wall += 100
    listener = room.join(wish(), wish("shop/card?n=2", ["card:2"]))

    def missed(since: float) -> list[str]:
        return [topic.asked for topic in room.all.missed(listener, since)]

    assert missed(changed - 1) == ["shop/card?n=1"]
    assert missed(changed + MARGIN - 1) == ["shop/card?n=1"], "rather twice than never"
    assert missed(changed + MARGIN) == []
    assert missed(-100_000) == ["shop/card?n=1"]
    assert missed(-1_000) == []
    assert missed(room.all.now() + 1e9) == [], "nobody hears from the future"
    assert missed(0) == ["shop/card?n=1", "shop/card?n=2"], "before our time: all may have changed"
    room.all.heard(Purge(kind="tag", value="card:2"), when=room.wall - 3)
    assert missed(-2_000) == ["shop/card?n=2"], "what another machine did counts from when it did it"


async def test_who_was_away_for_too_long_is_told_that_all_has_changed() -> None:
    room = Room()
    start = room.wall
    listener = room.join(wish())
    for number in range(REMEMBERED + 2):
        room.wall += 1
        room.all.heard(Purge(kind="tag", value=f"other:{number}"))
    assert [*room.all.missed(listener, (start + 2) * 1000)] != []
    assert [*room.all.missed(listener, (room.wall - 9) * 1000)] == []


async def test_each_gives_a_sign_of_life_in_its_second_and_goes_some_time() -> None:
    room = Room()
    listeners = [room.join(wish()) for _ in range(2 * BEAT)]
    room.all.second()
    assert [listener.beats for listener in listeners].count(1) == 2
    for _ in range(BEAT - 1):
        room.all.second()
    assert [listener.beats for listener in listeners] == [1] * len(listeners)
    assert await listeners[0].next() == []
    for _ in range(LIFE * BEAT):
        room.all.second()
    assert await listeners[0].next() is None


async def test_nothing_is_left_of_who_has_gone() -> None:
    room = Room(settle=5.0)
    one, other = room.join(wish(), wish("shop/mine", ["mine"], "ada")), room.join(wish())
    assert len(room.all) == 2
    room.all.heard(Purge(kind="all"))
    room.all.heard(Purge(kind="fragment", value="shop/card", context="other"))
    room.all.leave(one)
    assert len(room.all._topics) == 1
    room.all.leave(other)
    room.all.close()
    assert room.empty
    assert room.all._timer is None


async def test_all_are_sent_away() -> None:
    room = Room()
    listener = room.join(wish())
    waiting = asyncio.ensure_future(listener.next())
    await asyncio.sleep(0)
    room.all.close()
    assert await waiting is None
    assert await listener.next() is None
