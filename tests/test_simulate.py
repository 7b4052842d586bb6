"""What a page would do if: registered policies on imagined answers, in no time."""

from __future__ import annotations

from pathlib import Path

import pytest

from bff.chosen import Unusable, choose
from bff.model import Outcome, Reason
from bff.simulate import Scene, Simulated, asked, simulate
from tests.folders import SHELL, context, slot

REST = """
fragments:
  lines: {path: "/lines/{basket}", params: {basket: {type: int}}}
  price: {path: /price, source: json, template: templates/price.html, policy: {cache: {fresh: 10s}}}
  offers: {path: /offers, fallback: [fallbacks/offers.html], policy: {timeout: {total: 800ms}, cache: {fresh: 10s}}}
  mine: {path: /mine, policy: {state: off}}
  keen: {path: /keen, policy: {cache: {fresh: 10s, stale_while_revalidate: 5m}}}
pages:
  cart:
    path: /cart/{basket}
    query: {sort: {type: enum, values: [name, price], default: name}}
    template: pages/cart.html
    error: pages/error.html
"""
CART = "".join(
    (
        slot("shop/lines", 'basket="{path.basket}" primary'),
        slot("shop/price", "core"),
        slot("shop/offers"),
        slot("shop/mine"),
        slot("shop/keen"),
        slot("site/gone"),
        slot("shop/offers", 'as="later" load="click"'),
        slot("shop/offers", 'as="members" when="authenticated"'),
    )
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    files = {
        "pages/cart.html": SHELL.format(CART),
        "pages/error.html": SHELL.format(slot("shop/keen")),
        "templates/price.html": "<b>{{ data.amount }}</b>",
        "fallbacks/offers.html": "<p>no offers</p>",
    }
    context(tmp_path / "fragments", "shop", REST, files)
    return tmp_path / "fragments"


def run(folder: Path, path: str = "/cart/1", scene: Scene | None = None, principal: str = "") -> Simulated:
    chosen = choose(None, folder, env={})
    registry = chosen.registry()
    assert registry.world.loaded == {"shop": True}, [*registry.world.findings]
    return simulate(chosen, registry, path, scene or Scene(), principal=principal)


def ends(made: Simulated) -> dict[str, tuple[Outcome, Reason]]:
    return {ended.key: (ended.result.outcome, ended.result.reason) for ended in made.report.slots}


def test_where_all_is_well_each_slot_says_why_it_is_what_it_is(folder: Path) -> None:
    made = run(folder)
    assert made.report.status == 200
    assert made.report.seconds == pytest.approx(0.02, abs=0.011)
    assert made.lines == (
        "s1  lines: fresh, it answered in time",
        "s2  price: fresh, it answered in time",
        "s3  offers: fresh, it answered in time",
        "s4  mine: omitted, its policy asks nobody (state)",
        "s5  keen: fresh, it answered in time",
        "s6  gone: omitted, nobody registers this fragment",
        "s7  later: pending, the browser asks for it (load)",
        "s8  members: omitted, it is not for this visitor (when)",
    )
    assert ends(run(folder, principal="ada"))["members"] == (Outcome.FRESH, Reason.OK)


def test_a_slow_context_costs_what_its_policies_allow_and_nobody_waits_for_it(folder: Path) -> None:
    made = run(folder, scene=asked(["shop=3s", "shop/lines=10ms"], [], [], stale=False))
    assert made.report.status == 200
    assert made.report.first_byte == pytest.approx(0.01, abs=0.011)
    assert made.report.seconds == pytest.approx(1.0, abs=0.021), "the core slot's first_byte"
    found = {line.split()[1].rstrip(":"): line for line in made.lines}
    assert "no answer within timeout.total of 800ms; on_error: stale (there is no copy) → fallback" in found["offers"]
    assert found["price"].endswith("stale (there is no copy) → fallback (none is registered) → client")


def test_copies_past_their_time_stand_in_or_are_renewed(folder: Path) -> None:
    made = run(folder, scene=asked([], ["shop/price"], ["shop/offers=500", "shop/keen=500"], stale=True))
    found = ends(made)
    assert found["price"] == (Outcome.STALE, Reason.CONNECT)
    assert found["offers"] == (Outcome.STALE, Reason.STATUS)
    assert found["keen"] == (Outcome.STALE, Reason.HIT)
    assert {ended.result.age for ended in made.report.slots if ended.result.outcome is Outcome.STALE} == {70.0}
    assert "s5  keen: stale, a copy was there and is renewed in the background" in made.lines
    gone = run(folder, scene=asked([], [], ["shop/offers=404"], stale=True))
    assert "s3  offers: fallback, answered 404; on_error: stale (this is an answer) → fallback" in gone.lines


def test_without_its_primary_the_page_is_its_error_page(folder: Path) -> None:
    made = run(folder, scene=asked([], ["shop/lines"], [], stale=False))
    assert made.report.status == 502
    why = "stale (there is no copy) → fallback (none is registered) → client (not for a primary) → omit"
    assert f"s1  lines: omitted, nobody listens; on_error: {why}" in made.lines
    assert made.lines[-2:] == (
        "the error page of shop/cart, with status 502, in its place:",
        "s1  keen: fresh, a copy was there",
    )
    assert run(folder, scene=asked(["shop/lines=1m"], [], [], stale=False)).report.status == 504
    assert run(folder, scene=asked([], [], ["shop/lines=404"], stale=False)).report.status == 404


def test_a_second_run_is_like_the_first(folder: Path) -> None:
    scene = asked(["shop/price=700ms"], ["shop/offers"], [], stale=True)
    first, second = (run(folder, scene=scene) for _ in range(2))
    assert first.lines == second.lines
    assert (first.report.seconds, first.report.first_byte) == (second.report.seconds, second.report.first_byte)


@pytest.mark.parametrize(
    ("path", "slow", "error", "said"),
    [
        ("/nope", [], [], "there is no page at /nope; routes are /cart/{basket}"),
        ("/cart/1?sort=colour", [], [], "'sort' is not a valid enum"),
        ("/cart/1", ["shp=1s"], [], "there is no context or fragment 'shp'; did you mean 'shop'?"),
        ("/cart/1", ["shop=soon"], [], "'shop=soon' says nothing; write discovery=3s"),
        ("/cart/1", ["shop"], [], "'shop' says nothing"),
        ("/cart/1", [], ["shop=99"], "'shop=99' says nothing; write discovery=500"),
    ],
)
def test_what_cannot_be_imagined_is_said(folder: Path, path: str, slow: list[str], error: list[str], said: str) -> None:
    with pytest.raises(Unusable) as caught:
        run(folder, path, asked(slow, [], error, stale=False))
    assert said in str(caught.value)
