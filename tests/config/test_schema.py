"""`bff.config.schema`: every key is in it with a help text, and defaults stand as people write them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from bff.config.fields import Section
from bff.config.options import Settings
from bff.config.schema import context_schema, policy_schema, settings_schema
from bff.config.spec import Spec
from bff.rules.policy import KEYS

BOTH = [("context", context_schema(), Spec), ("settings", settings_schema(), Settings)]


def sections(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield schema
    yield from (definition for name, definition in schema["$defs"].items() if name != "Policy")


@pytest.mark.parametrize(("name", "schema", "model"), BOTH, ids=["context", "settings"])
def test_every_key_says_what_it_does(name: str, schema: dict[str, Any], model: type[Section]) -> None:
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["title"].endswith(".yaml")
    assert schema["properties"].keys() == {info.alias or key for key, info in model.model_fields.items()}
    for section in sections(schema):
        assert section["additionalProperties"] is False
        for key, described in section["properties"].items():
            assert described["description"].endswith("."), key


@pytest.mark.parametrize(("name", "schema", "model"), BOTH, ids=["context", "settings"])
def test_every_reference_leads_somewhere(name: str, schema: dict[str, Any], model: type[Section]) -> None:
    text = json.dumps(schema)
    for reference in text.split('"$ref": "#/$defs/')[1:]:
        assert reference.split('"')[0] in schema["$defs"]
    assert '"default": null' not in text
    assert '{"type": "null"}' not in text


def test_defaults_stand_as_people_write_them() -> None:
    schema = settings_schema()
    limits = schema["$defs"]["Limits"]["properties"]
    assert (limits["head"]["default"], limits["header_bytes"]["default"], limits["streams"]["default"]) == (
        "10s",
        "64KiB",
        10000,
    )
    assert schema["properties"]["memory"]["default"] == "256MiB"
    assert schema["properties"]["ceilings"]["default"] == {
        "timeout.total": "10s",
        "concurrency": "1024",
        "max_body": "16MiB",
    }
    assert schema["properties"]["secret"]["default"] == ""
    assert context_schema()["$defs"]["Page"]["properties"]["deadline"]["default"] == "2s"


def test_bounds_and_names_are_json_schema_s_own() -> None:
    schema = context_schema()
    param = schema["$defs"]["Param"]["properties"]
    assert {"ge", "le", "from"} <= param.keys()
    assert (param["max"]["minimum"], param["max"]["maximum"]) == (1, 1000)
    assert "minimum" not in schema["$defs"]["Page"]["properties"]["deadline"]
    assert schema["$defs"]["Page"]["required"] == ["path", "template"]
    assert schema["$defs"]["Fragment"]["properties"]["paginate"]["anyOf"][0] == {"enum": ["drf", "link"]}
    assert schema["$defs"]["Forward"]["properties"]["headers"]["anyOf"][0] == {"const": "*"}


def test_a_policy_is_nested_or_dotted() -> None:
    schema = policy_schema()
    assert KEYS.keys() <= schema["properties"].keys()
    nested = schema["properties"]["timeout"]["properties"]["total"]
    assert nested == schema["properties"]["timeout.total"]
    assert (nested["default"], nested["x-unit"]) == ("1500ms", "duration")
    assert schema["properties"]["state"]["enum"] == ["on", "stored", "off"]
    assert schema["properties"]["concurrency"]["minimum"] == 1
    assert schema["properties"]["on_error"]["default"] == ["stale", "fallback", "client", "omit"]
