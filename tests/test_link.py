"""References between registrations: own mistakes are errors, other contexts' gaps are dangling, routes stay where they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from bff.errors import Finding
from bff.link import Built, Linked, link, own
from bff.model import Fragment, Page, Param, Pattern, Ref
from tests.worlds import built, fragment, page, param, shell, slot


def mistakes(*parts: Fragment | Page) -> list[Finding]:
    one = built("shop", *parts)
    return list(own(one.context, one.places))


def linked(*contexts: Built, holders: dict[str, str] | None = None) -> Linked:
    return link(contexts, holders or {})


def codes(findings: Sequence[Finding]) -> list[str]:
    return [finding.code for finding in findings]


# --- own --------------------------------------------------------------------------------------------------------------


def test_a_page_that_is_right_has_no_findings() -> None:
    lines = fragment(
        "shop/lines", params={"id": param("id"), "user": param("user", principal=True), "n": param("n", required=False)}
    )
    right = page("shop/cart", slot("shop/lines", params=(("id", ("", Ref("path", "id"), "")),)), route="/cart/{id}")
    assert mistakes(lines, right) == []


def test_an_unknown_fragment_of_the_own_context_is_an_error_where_the_slot_stands() -> None:
    (finding,) = mistakes(fragment("shop/lines"), page("shop/cart", slot("shop/line")))
    assert finding == Finding(
        file="shells/shop/cart",
        line=7,
        column=3,
        code="unknown-fragment",
        message="there is no fragment shop/line",
        remedy="did you mean 'shop/lines'?",
        context="shop",
        owner="team-shop",
    )


def test_what_resembles_nothing_gets_a_plain_remedy() -> None:
    (finding,) = mistakes(page("shop/cart", slot("shop/line")))
    assert finding.remedy == "register it, or take the slot out"


def test_the_error_shell_is_checked_too() -> None:
    (finding,) = mistakes(page("shop/cart", error=shell(slot("shop/gone"))))
    assert finding.file == "errors/shop/cart"


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        (("", Ref("path", "nr"), ""), "refers to {path.nr}, which shop/cart does not have"),
        (("", Ref("query", "nr"), ""), "refers to {query.nr}, which shop/cart does not have"),
    ],
)
def test_references_must_exist_on_the_page(pattern: Pattern, message: str) -> None:
    right = page(
        "shop/cart", slot("site/header", params=(("id", pattern),)), route="/cart/{id}", query={"q": param("q")}
    )
    (finding,) = mistakes(right)
    assert message in finding.message
    assert finding.code == "unknown-reference"
    assert finding.remedy in {"it has {path.id}", "it has {query.q}"}


def test_a_page_without_parameters_says_so() -> None:
    (finding,) = mistakes(page("shop/cart", slot("site/header", params=(("id", ("", Ref("query", "x"), "")),))))
    assert finding.remedy == "it has no query parameters"


def test_principal_and_locale_are_always_there() -> None:
    params = (("a", ("", Ref("principal"), "")), ("b", ("", Ref("locale"), "")))
    assert mistakes(page("shop/cart", slot("site/header", params=params))) == []


def test_what_another_contexts_layout_asks_is_not_the_pages_mistake() -> None:
    slots = (slot("shop/gone"), slot("shop/lines", index=2, params=(("id", ("", Ref("path", "id"), "")),)))
    one = built("shop", fragment("shop/lines", params={"id": param("id")}), page("shop/cart", *slots), written="site")
    assert {(each.code, each.severity) for each in own(one.context, one.places)} == {("dangling", "warning")}


@pytest.mark.parametrize(
    ("params", "given", "code", "message"),
    [
        ({}, (("id", ("7",)),), "unknown-param", "shop/lines has no parameter id"),
        ({"id": param("id")}, (), "missing-param", "shop/lines needs the parameter id"),
        ({"id": param("id")}, (("id", ("bad",)),), "bad-param", "shop/lines: 'bad' is no value for id (str)"),
        (
            {"id": param("id", principal=True)},
            (("id", ("ada",)),),
            "unknown-param",
            "shop/lines: id is filled by the gateway",
        ),
    ],
)
def test_parameters_must_match(
    params: dict[str, Param], given: tuple[tuple[str, Pattern], ...], code: str, message: str
) -> None:
    (finding,) = mistakes(fragment("shop/lines", params=params), page("shop/cart", slot("shop/lines", params=given)))
    assert (finding.code, finding.message, finding.severity) == (code, message, "error")


@pytest.mark.parametrize(("name", "written"), [("id", 'param:id="…"'), ("nr", 'nr="…"')])
def test_a_missing_parameter_is_told_as_it_must_be_written(name: str, written: str) -> None:
    lines = fragment("shop/lines", params={name: param(name)})
    (finding,) = mistakes(lines, page("shop/cart", slot("shop/lines")))
    assert finding.remedy == f"add {written} to the slot"


def test_a_bad_value_is_told_by_example() -> None:
    lines = fragment("shop/lines", params={"id": param("id", example="42")})
    (finding,) = mistakes(lines, page("shop/cart", slot("shop/lines", params=(("id", ("bad",)),))))
    assert finding.remedy == "write one such as '42'"


@pytest.mark.parametrize(("load", "found"), [("stream", 1), ("visible", 1), ("click", 1), ("client", 0), ("none", 0)])
def test_json_without_a_template_is_for_scripts(load: Any, found: int) -> None:
    lines = fragment("shop/lines", source="json")
    assert codes(mistakes(lines, page("shop/cart", slot("shop/lines", load=load)))) == ["no-template"] * found


def test_a_task_is_shown_by_itself_and_needs_no_template() -> None:
    export = fragment("shop/export", source="json", starts_task=True)
    assert mistakes(export, page("shop/cart", slot("shop/export", load="click"))) == []


def test_json_with_a_template_is_for_pages() -> None:
    lines = fragment("shop/lines", source="json", template=lambda data, params, meta, within: "")
    assert mistakes(lines, page("shop/cart", slot("shop/lines"))) == []


# --- others -----------------------------------------------------------------------------------------------------------


def test_contexts_together_have_everything_by_full_name() -> None:
    world = linked(
        built("shop", fragment("shop/lines"), page("shop/cart", slot("site/header"))),
        built("site", fragment("site/header")),
    )
    assert [*world.contexts] == ["shop", "site"]
    assert [*world.fragments] == ["shop/lines", "site/header"]
    assert [*world.pages] == ["shop/cart"]
    assert world.places["shell:shop/cart:1"].file == "shells/shop/cart"
    assert world.findings == ()


@pytest.mark.parametrize(
    "theirs",
    [
        (),
        (fragment("site/header", params={"id": param("id")}),),
        (fragment("site/header", source="json"),),
    ],
)
def test_what_another_context_lacks_is_dangling_and_rejects_nothing(theirs: tuple[Fragment, ...]) -> None:
    world = linked(built("shop", page("shop/cart", slot("site/header"))), built("site", *theirs))
    (finding,) = world.findings
    assert (finding.code, finding.severity, finding.context) == ("dangling", "warning", "shop")
    assert "shop/cart" in world.pages


def test_own_mistakes_are_not_told_twice() -> None:
    assert linked(built("shop", page("shop/cart", slot("shop/gone")))).findings == ()


def test_embedding_another_contexts_missing_fragment_is_dangling() -> None:
    world = linked(built("shop", fragment("shop/lines", embeds=("site/badge", "shop/own"))))
    assert codes(world.findings) == ["dangling"]


# --- routes -----------------------------------------------------------------------------------------------------------


def test_the_first_context_holds_a_route_that_two_want() -> None:
    first, second = page("shop/cart", route="/c/{id}"), page("site/cart", route="/c/{nr}")
    world = linked(built("shop", first), built("site", second, page("site/home")))
    assert [*world.pages] == ["shop/cart", "site/home"]
    assert [*world.contexts["site"].pages] == ["site/home"]
    (finding,) = world.findings
    assert (finding.code, finding.severity, finding.context) == ("route-taken", "error", "site")
    assert finding.message == "the route /c/{nr} is held by shop/cart (team-shop); site/cart is left out"
    assert finding.file == "pages/site/cart"


def test_who_holds_a_route_keeps_it() -> None:
    contexts = [built("shop", page("shop/cart", route="/c")), built("site", page("site/cart", route="/c"))]
    assert [*linked(*contexts, holders={"/c": "site/cart"}).pages] == ["site/cart"]


def test_a_holder_that_is_gone_holds_nothing() -> None:
    contexts = [built("shop", page("shop/cart", route="/c")), built("site", page("site/cart", route="/c"))]
    assert [*linked(*contexts, holders={"/c": "gone/cart"}).pages] == ["shop/cart"]


def test_two_pages_of_one_context_on_one_route() -> None:
    world = linked(built("shop", page("shop/a", route="/c"), page("shop/b", route="/c")))
    assert [*world.pages] == ["shop/a"]
    assert codes(world.findings) == ["route-taken"]
