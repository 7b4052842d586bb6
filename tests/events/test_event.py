"""CloudEvents in their forms, and what is none."""

import base64
import json
from typing import Any

import pytest

from bff.events import payload
from bff.events.event import Event, Poison, from_http, from_message
from tests.events.telling import CATALOG, attributes

TOLD: dict[str, Any] = {
    "specversion": "1.0",
    "type": "shop.price.changed",
    "id": "17",
    "source": "/shop",
    "time": "2026-12-01T09:30:01Z",
    "data": {"sku": "A1"},
}
STRUCTURED = {"content-type": "application/cloudevents+json; charset=utf-8"}


def structured(**changes: Any) -> Event:
    told = {name: value for name, value in (TOLD | changes).items() if value is not None}
    return from_http(STRUCTURED, json.dumps(told).encode(), payload.read)


def test_structured_mode() -> None:
    wanted = Event(type="shop.price.changed", id="17", source="/shop", time=1796117401.0, data={"sku": "A1"})
    assert structured() == wanted


def test_binary_mode() -> None:
    headers = {
        "content-type": "application/json",
        "ce-type": "shop.price.changed",
        "ce-id": "17",
        "ce-source": "/shop%20a",
    }
    found = from_http(headers, b'{"sku": "A1"}', payload.read)
    assert found == Event(type="shop.price.changed", id="17", source="/shop a", time=None, data={"sku": "A1"})


def test_a_payload_in_base64_may_be_avro() -> None:
    told, body = attributes(0)
    found = structured(**told, data=None, data_base64=base64.b64encode(body).decode())
    assert found.type == CATALOG
    assert found.data["catalog_info"]["course_key"] == "course-v1:HarborX+NAV101+R1"


def test_no_data_is_no_fields() -> None:
    assert structured(data=None).data == {}
    assert from_message({"type": "a", "id": "1", "source": "b"}, b"", payload.read).data == {}


@pytest.mark.parametrize(
    ("time", "wanted"),
    [
        ("2026-12-01T09:30:01+00:00", 1796117401.0),
        ("2026-12-01T11:30:01+02:00", 1796117401.0),
        ("2026-12-01T09:30:01", 1796117401.0),
        (None, None),
    ],
)
def test_times(time: str | None, wanted: float | None) -> None:
    assert structured(time=time).time == wanted


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"type": None}, "type is missing"),
        ({"id": ""}, "id is missing"),
        ({"source": 7}, "source is missing"),
        ({"id": "x" * 600}, "id is too long"),
        ({"time": "yesterday"}, "the time 'yesterday' is none"),
        ({"data": [1]}, "data is no JSON object"),
        ({"data": None, "data_base64": "§"}, "not Base64"),
        ({"data": None, "data_base64": "W10="}, "no object"),
    ],
)
def test_what_is_no_event(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(Poison, match=why):
        structured(**changes)


@pytest.mark.parametrize("body", [b"", b"[]", b"\xff", b"{", b"[" * 100_000])
def test_what_is_no_json_object(body: bytes) -> None:
    with pytest.raises(Poison):
        from_http(STRUCTURED, body, payload.read)


def test_a_batch_is_not_taken() -> None:
    with pytest.raises(Poison, match="batch"):
        from_http({"content-type": "application/cloudevents-batch+json"}, b"[]", payload.read)


def test_poison_names_the_type_that_it_claims() -> None:
    with pytest.raises(Poison) as poison:
        structured(time="yesterday")
    assert poison.value.type == "shop.price.changed"
