"""What an event means: tags by its fields, confined to the context that registered it."""

from typing import Any

import pytest

from bff.events.orders import Order, missed, orders
from bff.model import Purge, Ref
from tests.events.telling import event, subscription


@pytest.mark.parametrize(
    ("action", "soft", "refresh"), [("refresh", True, True), ("expire", True, False), ("purge", False, False)]
)
def test_actions(action: Any, soft: bool, refresh: bool) -> None:
    purge = Purge(kind="tag", value="course:A+1", soft=soft, context="discovery")
    assert orders(event(), [subscription(action=action)]) == [Order(purge=purge, refresh=refresh)]


def test_each_context_has_its_own_and_each_thing_is_done_once() -> None:
    made = orders(event(), [subscription(), subscription(), subscription(context="site")])
    assert [order.purge.context for order in made] == ["discovery", "site"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("x", "x"),
        (7, "7"),
        (1.5, "1.5"),
        (True, "true"),
        (False, "false"),
        ("", None),
        (None, None),
        ([1], None),
        ({}, None),
    ],
)
def test_values_of_fields(value: object, text: str | None) -> None:
    pattern = ("a:", Ref("field", "deep.er"), ":z")
    made = orders(event(data={"deep": {"er": value}}), [subscription(tags=(pattern,))])
    assert [order.purge.value for order in made] == ([] if text is None else [f"a:{text}:z"])


@pytest.mark.parametrize("data", [{}, {"catalog_info": None}, {"catalog_info": "x"}, {"catalog_info": {"other": 1}}])
def test_a_field_that_is_not_there_makes_no_tag(data: dict[str, Any]) -> None:
    assert orders(event(data=data), [subscription()]) == []


def test_a_tag_without_fields_and_one_that_is_too_long() -> None:
    assert [order.purge.value for order in orders(event(), [subscription(tags=(("all",),))])] == ["all"]
    huge = event(data={"catalog_info": {"course_key": "x" * 2000}})
    assert orders(huge, [subscription()]) == []


def test_what_was_missed_makes_everything_of_its_contexts_stale() -> None:
    subscriptions = [subscription(), subscription(context="site", topic="other"), subscription(context="shop")]
    made = missed(["course-catalog-info-changed"], subscriptions)
    assert made == [Order(purge=Purge(kind="context", value=name, soft=True)) for name in ("discovery", "shop")]
