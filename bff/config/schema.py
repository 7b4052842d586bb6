"""JSON Schema 2020-12 of `context.yaml` and `bff.yaml` for editors, from the models that read them and the policy's table.

Every key has a `description`; `x-unit` says what text stands for: duration, size, share.
"""

from __future__ import annotations

from typing import Any, Final

from bff import units
from bff.config.fields import DURATION, SIZE, Section
from bff.config.options import Settings
from bff.config.spec import Spec
from bff.rules.policy import KEYS, Key, Kind, show

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_PATTERNS: Final[dict[Kind, str]] = {
    "duration": DURATION,
    "size": SIZE,
    "share": r"^(100|\d{1,2}(\.\d+)?)%$",
    "trigger": rf"^off$|^p[1-9][0-9]?$|{DURATION}",
    "pace": rf"^off$|{DURATION}",
}


def context_schema() -> dict[str, Any]:
    """The schema of `context.yaml`."""
    return _schema(Spec, "context.yaml", "A registration: what one bounded context serves.")


def settings_schema() -> dict[str, Any]:
    """The schema of `bff.yaml`."""
    schema = _schema(Settings, "bff.yaml", "The operator's settings; BFF_* in the environment wins.")
    schema["properties"]["ceilings"]["default"] = {key: show(key, value) for key, value in Settings().ceilings.items()}
    return schema


def policy_schema() -> dict[str, Any]:
    """The schema of a policy: keys nested, or dotted as in `timeout.total`."""
    schema: dict[str, Any] = {"type": "object", "additionalProperties": False, "properties": {}}
    for key in KEYS.values():
        described = _key(key)
        *outer, last = key.name.split(".")
        inside = schema
        for name in outer:
            nested = {"type": "object", "additionalProperties": False, "properties": {}}
            inside = inside["properties"].setdefault(name, nested)
        inside["properties"][last] = described
        schema["properties"][key.name] = described
    return schema


def _key(key: Key) -> dict[str, Any]:
    schema: dict[str, Any] = {"description": f"{key.help} Default: {key.default}.", "default": key.default}
    match key.kind:
        case "count":
            schema |= {"type": "integer", "minimum": int(key.least), "default": key.value}
        case "word":
            schema |= {"enum": list(key.words)}
        case "steps":
            schema |= {"type": "array", "items": {"enum": key.default.split(", ")}, "default": key.default.split(", ")}
        case _:
            schema |= {"type": "string", "pattern": _PATTERNS[key.kind], "x-unit": key.unit}
    return schema


def _schema(model: type[Section], title: str, description: str) -> dict[str, Any]:
    schema = _finished(model.model_json_schema())
    defs = {**schema.pop("$defs"), "Policy": policy_schema()}
    return {"$schema": DIALECT, **schema, "title": title, "description": description, "$defs": defs}


_RENAMED: Final = {
    "ge": "minimum",
    "le": "maximum",
}  # where pydantic leaves a bound of a type that it does not see through


def _finished(node: Any) -> Any:
    """What pydantic generates, with defaults as people write them, and without what says nothing."""
    if isinstance(node, list):
        return [_finished(item) for item in node]
    if not isinstance(node, dict):
        return node
    if "x-unit" in node:
        return _unit(node)
    plain = {k: v for k, v in node.items() if k != "title" or not isinstance(v, str)}
    made = {_RENAMED.get(k, k) if isinstance(v, int | float) else k: _finished(v) for k, v in plain.items()}
    if made.get("default", 0) is None or "$ref" in made:
        made.pop("default", None)  # nothing, or what the section's own keys say
    present = [part for part in made.get("anyOf", []) if part != {"type": "null"}]
    if len(present) == 1:
        return {**present[0], **{k: v for k, v in made.items() if k != "anyOf"}}
    return {**made, "anyOf": present} if present else made


def _unit(node: dict[str, Any]) -> dict[str, Any]:
    """A text with a unit: its bounds and its default are of what it stands for."""
    kept = {key: value for key, value in node.items() if key not in {"title", "minimum", "maximum", "ge", "le"}}
    if node["x-unit"] == "policy":
        default = {key: show(key, value) for key, value in node.get("default", {}).items()}
        described = {"description": node["description"]} if "description" in node else {}
        return {"$ref": "#/$defs/Policy", **described, **({"default": default} if default else {})}
    if "default" in node:
        kept["default"] = (
            units.show_duration(node["default"]) if node["x-unit"] == "duration" else units.show_size(node["default"])
        )
    return kept
