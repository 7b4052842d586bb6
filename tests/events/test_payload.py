"""Payloads as the real libraries wrote them, cut, continued and invented."""

import contextlib
import importlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bff.events import payload
from bff.events.event import Poison
from tests.events.telling import CATALOG, attributes


def test_what_openedx_events_wrote_is_read() -> None:
    told, body = attributes(1)
    assert payload.read(told["type"], body) == {
        "catalog_info": {
            "course_key": "course-v1:HarborX+NAV101+R2",
            "name": "Navegación costera — nivel 2",
            "schedule_data": {
                "start": "2027-06-07T08:00:00+00:00",
                "pacing": "instructor",
                "end": None,
                "enrollment_start": None,
                "enrollment_end": None,
            },
            "hidden": True,
            "invitation_only": False,
        }
    }


def test_every_schema_is_one() -> None:
    for type_ in payload.types():
        payload._schema(type_)
    assert CATALOG in payload.types()
    assert len(payload.types()) > 50


def test_a_later_minor_version_is_read_as_far_as_it_is_known() -> None:
    told, body = attributes(0)
    assert payload.read(told["type"], body + b"\x02\x06new") == payload.read(told["type"], body)


def test_every_cut_is_poison() -> None:
    told, body = attributes(0)
    for length in range(1, len(body)):
        with pytest.raises(Poison):
            payload.read(told["type"], body[:length])


@given(st.binary(max_size=200))
def test_no_bytes_do_harm(body: bytes) -> None:
    for type_ in (CATALOG, "org.openedx.learning.course.enrollment.created.v1", "unknown"):
        with contextlib.suppress(Poison):
            assert isinstance(payload.read(type_, body), dict)


def test_json_is_read_whatever_the_type() -> None:
    told = {"catalog_info": {"course_key": "A+1"}}
    for type_ in (CATALOG, "shop.price.changed", "../../../etc/passwd"):
        assert payload.read(type_, json.dumps(told).encode()) == told


def test_what_begins_like_json_may_be_poison_all_the_same() -> None:
    with pytest.raises(Poison, match="is not what"):
        payload.read(CATALOG, b"{nonsense")


def test_a_payload_has_an_end() -> None:
    with pytest.raises(Poison, match="bytes"):
        payload.read("a", b" " * (payload.LARGEST + 1))


def test_the_schemas_are_those_of_openedx_events() -> None:
    """Where that library is installed: `pip install openedx-events` to compare a newer release."""
    tooling: Any = pytest.importorskip("openedx_events.tooling")  # heavy with Django: compared where somebody has it
    django: Any = importlib.import_module("django.conf")
    django.settings.configure(INSTALLED_APPS=["openedx_events"])
    for part in ("analytics", "content_authoring", "enterprise", "learning"):
        importlib.import_module(f"openedx_events.{part}.signals")
    serializer: Any = importlib.import_module("openedx_events.event_bus.avro.serializer")
    made = {}
    for signal in tooling.OpenEdxPublicSignal.all_events():
        try:
            made[signal.event_type] = serializer.AvroSignalSerializer(signal).schema
        except Exception:  # noqa: BLE001 - the library makes none for some types, and says so so
            continue
    kept = {type_: json.loads((payload._FOLDER / f"{type_}.avsc").read_text()) for type_ in payload.types()}
    assert kept == made
