"""Where values come from, a line each."""

from __future__ import annotations

from bff import explain
from bff.model import Page, Ref
from bff.registry import World
from bff.rules import policy
from tests.worlds import built, fragment, page, param, slot, world

LAYERS = (
    ("bff.yaml", {"retry.extra": 0}),
    ("context", {"timeout.total": 0.8}),
    ("fragment", {"cache.fresh": 30.0}),
    ("override", {"state": "stored"}),
)


def shop(*pages: Page, ceilings: dict[str, object] | None = None) -> World:
    held, origins = policy.merge(LAYERS, ceilings=ceilings or {})
    lines = fragment("shop/lines", policy=held, origins=origins, layers=LAYERS, params={"id": param("id")})
    return world(built("shop", lines, *pages))


def told(made: World, name: str, ceilings: dict[str, object] | None = None) -> list[str]:
    return list(explain.of(made, name, ceilings or {}))


def values(lines: list[str]) -> dict[str, str]:
    """Key → the rest of its line, single-spaced."""
    return {line.split()[0]: " ".join(line.split()[1:]) for line in lines}


def test_a_fragment_names_the_origin_of_each_value() -> None:
    lines = told(shop(), "shop/lines")
    assert lines[0] == "fragment shop/lines  owner team-shop  source html  shared"
    got = values(lines)
    assert got["timeout.connect"] == "250ms built-in"
    assert got["retry.extra"] == "0 bff.yaml"
    assert got["timeout.total"] == "800ms context (shop)"
    assert got["cache.fresh"] == "30s fragment (shop/lines)"
    assert got["state"] == "stored override (bff.yaml or bff override)"
    assert set(policy.KEYS) <= set(got)
    assert lines[-1] == "shown by  no page"


def test_columns_are_aligned() -> None:
    lines = told(shop(), "shop/lines")[1:-1]
    assert len({line.index("built-in") for line in lines if "built-in" in line}) == 1


def test_a_ceiling_that_holds_is_told() -> None:
    made = shop(ceilings={"timeout.total": 0.5})
    assert values(told(made, "shop/lines", {"timeout.total": 0.5}))["timeout.total"] == (
        "500ms context (shop), at most 500ms by bff.yaml: ceilings"
    )


def test_a_fragment_lists_where_it_is_shown_and_what_holds_otherwise_there() -> None:
    own = slot("shop/lines", index=2, policy={"timeout.total": "700ms"})
    made = shop(page("shop/cart", slot("shop/lines", kind="primary"), own))
    lines = told(made, "shop/lines")
    assert "in shop/cart s2  timeout.total  700ms  slot (shop/cart s2)" in lines
    assert "in shop/cart s1  cache.stale_if_error  0ms  built-in for a primary" in [
        line.replace("0s", "0ms") for line in lines
    ]
    assert lines[-1] == "shown by  shop/cart s1, shop/cart s2"


def test_a_key_without_a_ceiling_and_without_a_value_has_no_limit() -> None:
    assert values(told(shop(), "shop/lines", {"timeout.total": 9.0}))["hedge.after"] == "off built-in"


def test_a_fragment_lists_who_embeds_it() -> None:
    held, origins = policy.merge([])
    plain = fragment("shop/lines", policy=held, origins=origins)
    made = world(built("shop", plain), built("site", fragment("site/all", embeds=("shop/lines",))))
    assert told(made, "shop/lines")[-1] == "shown by  no page  embedded by  site/all"


def test_a_page_lists_its_slots_and_what_is_not_built_in() -> None:
    header = slot("site/header", index=2, load="client")
    own = slot("shop/lines", params=(("id", ("x-", Ref("path", "id"), "")), ("user", ("", Ref("principal"), ""))))
    made = shop(page("shop/cart", own, header, route="/cart/{id}"))
    lines = told(made, "shop/cart")
    assert lines[0] == "page shop/cart  owner team-shop  route /cart/{id}"
    assert lines[1] == "deadline  2s  built-in"
    assert lines[2].split() == ["s1", "shop/lines", "optional", "team-shop", "id=x-{path.id}", "user={principal}"]
    assert lines[3].split() == ["s2", "site/header", "optional", "dangling", "load=client"]
    got = [" ".join(line.split()) for line in lines[4:]]
    assert got[0].startswith("s1 waits at most 800ms")
    assert "s1 timeout.total 800ms context (shop)" in got
    assert not any("built-in" in line for line in got)


def test_a_slot_waits_no_longer_than_the_page() -> None:
    made = shop(page("shop/cart", slot("shop/lines"), deadline=0.6))
    lines = told(made, "shop/cart")
    assert lines[1] == "deadline  600ms  page (shop/cart), or override"
    assert any("waits at most  550ms" in line for line in lines)


def test_a_page_without_slots() -> None:
    assert told(shop(page("shop/cart")), "shop/cart")[-1] == "no slots"


def test_a_page_and_a_fragment_of_one_name_are_both_told() -> None:
    lines = told(shop(page("shop/lines")), "shop/lines")
    assert [line.split()[0] for line in lines if line.startswith(("page ", "fragment "))] == ["fragment", "page"]


def test_unknown_names_get_the_nearest_ones() -> None:
    made = shop(page("shop/cart"))
    assert told(made, "shop/kart") == []
    assert explain.names(made, "shop/kart")[0] == "shop/cart"
    assert explain.names(made, "lines") == ["shop/lines"]
    assert explain.names(made, "zzzzzzzz") == []
