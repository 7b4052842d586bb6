"""Rules of good order over all registrations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from bff.errors import Finding, TemplateFailed
from bff.fitness import rules
from bff.model import Meta
from bff.registry import World
from tests.worlds import DEFAULTS, UPSTREAM, built, fragment, page, param, slot, world


def found(made: World) -> list[Finding]:
    return list(rules(made, {}))


@pytest.mark.parametrize(("kind", "codes"), [("primary", ["budget"]), ("core", ["budget"]), ("optional", [])])
def test_what_gates_a_page_must_end_before_it(kind: str, codes: list[str]) -> None:
    lines = slot("shop/lines", kind=kind)
    made = world(built("shop", fragment("shop/lines"), page("shop/cart", lines, deadline=1.0)))
    assert [each.code for each in found(made)] == codes


def test_the_budget_is_told_where_the_slot_stands_with_what_would_do() -> None:
    made = world(
        built("shop", fragment("shop/lines"), page("shop/cart", slot("shop/lines", kind="core"), deadline=1.0))
    )
    (finding,) = found(made)
    assert (finding.file, finding.line, finding.severity) == ("shells/shop/cart", 7, "warning")
    assert finding.message == "the core slot shop/lines may take 1.5s, longer than the page's deadline of 1s"
    assert finding.remedy == 'write timeout.total="500ms" on the slot'


def test_a_slot_with_a_budget_of_its_own_is_right() -> None:
    lines = slot("shop/lines", kind="core", policy={"timeout.total": "800ms"})
    assert found(world(built("shop", fragment("shop/lines"), page("shop/cart", lines, deadline=1.0)))) == []


def test_a_slot_over_a_ceiling_is_told() -> None:
    asked = {"timeout.total": "30s", "max_body": "1KiB", "state": "on"}
    operators = fragment("shop/held", layers=(("override", {"timeout.total": 1.0}),))
    made = built("shop", fragment("shop/lines"), operators, page("shop/cart", slot("shop/lines", policy=asked), slot("shop/held", 2, policy=asked)))  # fmt: skip
    (finding,) = rules(world(made), {"timeout.total": 10.0, "max_body": 1024 * 1024})
    assert (finding.code, finding.severity, finding.file) == ("over-ceiling", "warning", "shells/shop/cart")
    assert finding.message == "timeout.total of the slot of shop/lines is 30s"
    assert finding.remedy == "the operator allows at most 10s, which holds instead"


@pytest.mark.parametrize(("in_form", "form"), [(True, True), (True, False), (False, True)])
def test_no_form_stands_in_a_form(in_form: bool, form: bool) -> None:
    made = world(
        built("shop", fragment("shop/offers", form=form), page("shop/cart", slot("shop/offers", in_form=in_form)))
    )
    assert [(each.code, each.severity) for each in found(made)] == [("form-in-form", "warning")] * (in_form and form)


def shown(data: Any, params: Mapping[str, Any], meta: Meta, within: float) -> str:
    if "title" not in data:
        raise TemplateFailed("card.html:1: data has no 'title'")
    return f"<p>{data['title']}, {params}</p>"


@pytest.mark.parametrize(
    ("given", "codes"),
    [
        ({"fallback_json": b"{}"}, ["fallback-fails"]),
        (
            {"fallback_json": b"{}", "params": {"n": param("n", example="1"), "who": param("who", principal=True)}},
            ["fallback-fails"],
        ),
        ({"fallback_json": b'{"title": "t"}'}, []),
        ({"fallback_json": b"{}", "params": {"n": param("n")}}, []),
        ({"fallback_json": b"{}", "fallback_html": b"<p>"}, []),
        ({"fallback_json": b"{}", "template": None}, []),
        ({}, []),
    ],
)
def test_a_template_can_show_its_own_fallback(given: dict[str, Any], codes: list[str]) -> None:
    made = fragment("shop/card", **({"source": "json", "template": shown} | given))
    findings = found(world(built("shop", made)))
    assert [each.code for each in findings] == codes
    for each in findings:
        assert (
            each.message == "the template of shop/card cannot show its own fallback: card.html:1: data has no 'title'"
        )
        assert (each.file, each.owner, each.context, each.severity) == (
            "embedss/shop/card",
            "team-shop",
            "shop",
            "warning",
        )


def test_dangling_slots_are_somebody_elses_finding() -> None:
    assert found(world(built("shop", page("shop/cart", slot("site/header", kind="core"))))) == []


def test_a_long_deadline_is_noted() -> None:
    (finding,) = found(world(built("shop", page("shop/cart", deadline=3.0))))
    assert (finding.code, finding.severity, finding.file) == ("long-deadline", "note", "pages/shop/cart")


def test_a_service_is_one_contexts() -> None:
    made = world(built("shop", upstream=UPSTREAM), built("site", upstream=UPSTREAM), built("static"))
    (finding,) = found(made)
    assert (finding.code, finding.context, finding.owner, finding.file) == (
        "shared-upstream",
        "site",
        "team-site",
        "site.yaml",
    )
    assert finding.message == "site points at the upstream of shop (team-shop)"


@pytest.mark.parametrize(
    ("slot_", "codes"),
    [
        ({"load": "click", "placeholder": (b"Export",)}, []),
        ({"load": "none"}, []),
        ({}, ["starts-task"]),
        ({"load": "client"}, ["starts-task"]),
        ({"kind": "primary"}, ["starts-task"]),
    ],
)
def test_what_begins_work_waits_for_a_click(slot_: dict[str, Any], codes: list[str]) -> None:
    made = world(
        built("shop", fragment("shop/export", starts_task=True), page("shop/cart", slot("shop/export", **slot_)))
    )
    warnings = [each for each in found(made) if each.severity == "warning"]
    assert [each.code for each in warnings] == codes


def test_defaults_are_fit() -> None:
    lines = slot("shop/lines", kind="primary")
    made = world(built("shop", fragment("shop/lines", policy=DEFAULTS), page("shop/cart", lines)))
    assert found(made) == []


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"policy": {"retry.extra": "0", "breaker.open": "1s"}, "refresh": "30s"}, []),
        ({"policy": {"breaker.window": "5s", "timeout.total": "1s"}}, ["breaker.window"]),
    ],
)
def test_what_a_slot_says_in_vain_is_told(more: dict[str, Any], said: list[str]) -> None:
    lines = slot("shop/lines", **more)
    notes = found(world(built("shop", fragment("shop/lines"), page("shop/cart", lines))))
    assert [(each.code, each.severity) for each in notes] == [("no-effect", "note")] * len(said)
    assert [each.message.partition(" on a slot")[0] for each in notes] == said


@pytest.mark.parametrize(
    ("load", "placeholder", "codes"),
    [
        ("click", b"<p>Load the offers</p>", []),
        ("click", b"<p> <img src=x> </p>", ["click-target"]),
        ("click", b"", ["click-target"]),
        ("click", b'<p><a href="/offers">Offers</a></p>', []),
        ("click", b"<BUTTON>Load</BUTTON>", []),
        ("visible", b"<p>Loading</p>", []),
    ],
)
def test_what_is_clicked_says_what_it_gives(load: str, placeholder: bytes, codes: list[str]) -> None:
    lines = slot("shop/lines", load=load, placeholder=(placeholder,) if placeholder else ())
    found_ = found(world(built("shop", fragment("shop/lines"), page("shop/cart", lines))))
    assert [(each.code, each.severity) for each in found_] == [(code, "warning") for code in codes]
