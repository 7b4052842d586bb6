import pytest

from bff.model import Outcome, Reason, Ref
from bff.page.compose import MAX_EMBEDDED, Composition
from bff.page.wire import HtmlWriter
from tests.build import World, document, fragment, page, slot, text_param

pytestmark = pytest.mark.anyio

A, B = fragment("shop/a"), fragment("shop/b")
BOTH = {"shop/a": A, "shop/b": B}


def two(**more: str) -> World:
    return World(page(document(slot(1, "shop/a", policy=more), slot(2, "shop/b"))), fragments=BOTH)


async def test_slots_end_in_the_order_of_their_answers() -> None:
    world = two()
    composition = world.compose()
    composition.begin()
    world.upstreams.to("/b").reply()
    await composition.more()
    assert [running.plan.number for running in composition.take()] == ["s2"]
    world.upstreams.to("/a").reply()
    await composition.more()
    assert [running.plan.number for running in composition.take()] == ["s1"]
    assert composition.pending == 0


async def test_the_deadline_ends_every_slot_once() -> None:
    world = two()
    composition = world.compose()
    composition.begin()
    composition.expire()
    assert [r.result.reason for r in composition.slots if r.result] == [Reason.TIMEOUT, Reason.TIMEOUT]
    assert composition.pending == 0
    assert world.seen.slots == [("shop/a", "pending", "timeout"), ("shop/b", "pending", "timeout")]


async def test_leaving_wakes_whoever_waits_and_cancels_what_is_of_no_use() -> None:
    world = two(**{"cache.mode": "off"})
    composition = world.compose()
    composition.begin()
    composition.leave()
    await composition.more()
    await composition.until(composition.slots[0])
    assert [flown.cancelled for flown in world.upstreams.flown] == [True, False]


async def test_waiting_for_one_slot() -> None:
    world = two()
    composition = world.compose()
    composition.begin()
    world.upstreams.to("/a").reply()
    await composition.until(composition.slots[0])
    assert composition.slots[1].result is None


async def test_what_ends_behind_the_slot_that_the_stream_waits_for_wakes_nobody() -> None:
    world = World(page(document(slot(1, "shop/a", kind="core"), slot(2, "shop/b", kind="core"))), fragments=BOTH)
    composition = world.compose()
    composition.begin()
    writer = HtmlWriter(composition, nonce="n", suffix="x")
    writer.advance()
    world.upstreams.to("/b").reply()
    assert not composition.ready
    world.upstreams.to("/a").reply()
    assert composition.ready
    writer.advance()
    assert writer.complete


async def test_only_what_was_asked_for_is_started() -> None:
    world = two()
    composition = world.compose()
    composition.begin(only=lambda plan: plan.number == "s2")
    assert [flown.ask.target for flown in world.upstreams.flown] == ["/b"]


async def test_a_missing_fragment_and_missing_parameters_are_omitted_without_a_fetch() -> None:
    needs = fragment("shop/n", params={"n": text_param("n")})
    shell = document(slot(1, "other/gone"), slot(2, "shop/n"), slot(3, "shop/n", params=(("n", ("1",)),)))
    world = World(page(shell), fragments={"shop/n": needs})
    composition = world.compose()
    composition.begin()
    reasons = [r.result.reason if r.result else None for r in composition.slots]
    assert reasons == [Reason.DANGLING, Reason.PARAMS, None]
    assert world.seen.slots == [("shop/n", "omitted", "params")]


async def test_a_parameter_that_is_not_declared_or_the_gateways_to_fill_is_dangling() -> None:
    mine = fragment("shop/mine", params={"user": text_param("user", principal=True, required=False, default=("",))})
    given = (("user", ("", Ref("query", "user"), "")),)
    shell = document(slot(1, "shop/a", params=(("gone", ("1",)),)), slot(2, "shop/mine", params=given))
    world = World(page(shell, query={"user": text_param("user")}), fragments={**BOTH, "shop/mine": mine})
    for principal in (None, "ada"):
        composition = world.compose(query="user=eve", principal=principal)
        composition.begin()
        assert [r.result.reason for r in composition.slots if r.result] == [Reason.DANGLING, Reason.DANGLING]
    assert world.upstreams.flown == []


async def test_a_slot_may_make_a_fragments_answers_somebodys_own() -> None:
    shell = document(
        slot(1, "shop/a"),
        slot(2, "shop/a", policy={"cache.scope": "private"}),
        slot(3, "shop/b", policy={"cache.scope": "shared"}),
    )
    theirs = fragment("shop/b", layer={"cache.scope": "private"})
    world = World(page(shell), fragments={"shop/a": BOTH["shop/a"], "shop/b": theirs})
    calls = world.compose(principal="ada").planned.calls
    assert [call and call.fragment.private for call in calls] == [False, True, False]
    assert [call and call.plain for call in calls] == [True, False, True]


async def test_when_and_load_decide_without_a_fetch() -> None:
    shell = document(
        slot(1, "shop/a", when="authenticated"), slot(2, "shop/a", when="anonymous"), slot(3, "shop/a", load="visible")
    )
    world = World(page(shell), fragments=BOTH)
    composition = world.compose()
    composition.begin()
    reasons = [r.result.reason if r.result else None for r in composition.slots]
    assert reasons == [Reason.WHEN, None, Reason.LOAD]
    signed_in = world.compose(principal="ada")
    signed_in.begin(ordered=True)
    reasons = [r.result.reason if r.result else None for r in signed_in.slots]
    assert reasons == [None, Reason.WHEN, None]


async def test_nothing_is_left_to_the_browser_in_order_that_could_be_in_place() -> None:
    shell = document(
        slot(1, "shop/a", load="client"), slot(2, "shop/j", load="client"), slot(3, "shop/a", load="click")
    )
    world = World(page(shell), fragments={**BOTH, "shop/j": fragment("shop/j", source="json")})
    composition = world.compose()
    composition.begin(ordered=True)
    reasons = [r.result.reason if r.result else None for r in composition.slots]
    assert reasons == [None, Reason.LOAD, Reason.LOAD]


@pytest.mark.parametrize(("ordered", "outcome"), [(True, Outcome.OMITTED), (False, Outcome.PENDING)])
async def test_what_is_late_in_order_is_not_left_to_the_browser(ordered: bool, outcome: Outcome) -> None:
    outer = fragment("shop/outer", embeds=("shop/a",))
    shell = document(slot(1, "shop/a"), slot(2, "shop/outer"))
    world = World(page(shell), fragments={"shop/outer": outer, **BOTH})
    composition = world.compose()
    composition.begin(ordered=ordered)
    writer = HtmlWriter(composition, nonce="N", suffix="x", ordered=ordered)
    writer.advance()
    inner = b'<bff-fragment name="shop/a" load="client"></bff-fragment>'
    world.upstreams.to("/outer").reply(b'<p>o</p><bff-fragment name="shop/a"></bff-fragment>' + inner)
    writer.advance()
    composition.expire()
    ended = [r.result.outcome if r.result else None for r in composition.slots]
    assert ended == [outcome, Outcome.FRESH, outcome, outcome]


def nested(world: World) -> tuple[Composition, HtmlWriter]:
    composition = world.compose()
    composition.begin()
    return composition, HtmlWriter(composition, nonce="N", suffix="x")


async def test_an_embedded_fragment_is_a_slot_of_its_own() -> None:
    outer = fragment("shop/outer", embeds=("shop/a",))
    world = World(page(document(slot(1, "shop/outer"))), fragments={"shop/outer": outer, **BOTH})
    composition, writer = nested(world)
    assert b'<?start name="s1.x">' in writer.advance()
    world.upstreams.to("/outer").reply(b'<p>o</p><bff-fragment name="shop/a">wait</bff-fragment>')
    out = writer.advance()
    assert b'<template for="s1.x">' in out
    assert b'<?start name="s2.x">' in out
    assert not writer.complete
    world.upstreams.to("/a").reply(b"<i>inner</i>")
    out = writer.advance()
    assert out.startswith(b'<template for="s2.x"><bff-fragment name="shop/a" data-slot="s2" state="fresh"><i>inner</i>')
    assert writer.complete
    assert [ended.parent for ended in composition.ended()] == ["", "s1"]


async def test_embedding_ends_somewhere() -> None:
    loop = fragment("shop/loop", embeds=("shop/loop",), layer={"cache.fresh": "1m"})
    world = World(page(document(slot(1, "shop/loop"))), fragments={"shop/loop": loop})
    composition, writer = nested(world)
    writer.advance()
    world.upstreams.to("/loop").reply(b'<bff-fragment name="shop/loop"></bff-fragment>' * 3)
    writer.advance()
    assert writer.complete
    assert len(composition.slots) <= MAX_EMBEDDED + 3**4
    keys = [running.plan.slot.key for running in composition.slots]
    assert len(set(keys)) == len(keys)
    deepest = [r for r in composition.slots if r.result is not None and r.result.reason is Reason.REFUSED]
    assert deepest


async def test_what_is_embedded_after_the_deadline_ends_at_once() -> None:
    outer = fragment("shop/outer", embeds=("shop/a",), fallback_html=b'<bff-fragment name="shop/a"></bff-fragment>')
    world = World(page(document(slot(1, "shop/outer"))), fragments={"shop/outer": outer, **BOTH})
    composition, writer = nested(world)
    writer.advance()
    composition.expire()
    writer.advance()
    assert writer.complete
    assert [r.result.outcome for r in composition.slots if r.result] == [Outcome.FALLBACK, Outcome.PENDING]
