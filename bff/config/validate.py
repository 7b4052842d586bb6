"""From a strict document to a typed section: every error of the schema as a finding, in plain words, where it stands.

Knows how errors are told; not what any key means.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import NoneType
from typing import Any, Final, Literal, Protocol, TypeVar, get_args

from pydantic import BaseModel, ValidationError, WithJsonSchema

from bff.config.fields import Section, Wrong
from bff.config.yaml import Loc, Tree
from bff.errors import Finding
from bff.rules.policy import KEYS, SECTIONS, suggestion
from bff.units import show_duration, show_size

S = TypeVar("S", bound=Section)


class Places(Protocol):
    """Where values come from: a document, or one with an environment over it."""

    def place(self, loc: Loc, *, key: bool = False) -> tuple[str, int, int]:
        """File (or variable), line and column of the value at `loc`, or of its key."""


_WANTED: Final = {
    "string_type": "must be text",
    "path_type": "must be text",
    "bool_type": "must be true or false",
    "int_type": "must be one value",
    "float_type": "must be one value",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
}
_REMEDIES: Final = {
    "must be a list": "write [a, b] or a line with - for each",
    "must be a mapping": "write its keys indented below it, or {key: value}",
}

_LIMITS: Final = {
    "greater_than_equal": ("at least", "ge"),
    "less_than_equal": ("at most", "le"),
    "string_too_short": ("text of a length of at least", "min_length"),
}


def validate(model: type[S], tree: Tree, places: Places) -> tuple[S | None, list[Finding]]:
    """`tree` as a `model`, or everything that is wrong with it, sorted by place."""
    try:
        return model.model_validate(tree), []
    except ValidationError as error:
        found = {finding for details in error.errors(include_url=False) for finding in _finding(model, details, places)}
        return None, sorted(found)


def finding(
    places: Places,
    loc: Loc,
    code: str,
    message: str,
    *,
    key: bool = False,
    severity: Literal["error", "warning", "note"] = "error",
) -> Finding:
    """A finding at `loc`; its remedy as `parted` has it."""
    file, line, column = places.place(loc, key=key)
    text, remedy = parted(message)
    return Finding(file=file, line=line, column=column, code=code, message=text, remedy=remedy, severity=severity)


def parted(message: str) -> tuple[str, str]:
    """What is wrong, and the remedy: what follows the last `; `, as what is quoted before may hold one."""
    text, told, remedy = message.rpartition("; ")
    return (text, remedy) if told else (message, "")


def _finding(model: type[BaseModel], details: Mapping[str, Any], places: Places) -> Iterator[Finding]:
    kind: str = details["type"]
    loc: Loc = details["loc"]
    in_key = bool(loc) and loc[-1] == "[key]"
    loc = loc[:-1] if in_key else loc
    label = f"{loc[-1]}: " if loc and isinstance(loc[-1], str) and not in_key else ""
    match kind:
        case "extra_forbidden":
            yield finding(places, loc, "unknown-key", f"unknown key {loc[-1]!r}; {_nearest(model, loc)}", key=True)
        case "unknown-key" | "duplicate-key":
            yield finding(places, loc, kind, details["msg"], key=True)
        case "wrong-type":  # of a policy, whose words name the key in full
            yield finding(places, loc, kind, details["msg"])
        case "missing":
            yield finding(places, loc[:-1], "missing-key", f"{loc[-1]} is missing; add {loc[-1]}: …")
        case "value_error":
            error = details["ctx"]["error"]
            code = error.code if isinstance(error, Wrong) else "bad-value"
            yield finding(places, loc, code, f"{label}{error}", key=in_key)
        case "literal_error":
            wanted = details["ctx"]["expected"].replace("'", "").replace(" or ", ", ").removeprefix(", ")
            near = suggestion(str(details["input"]), wanted.split(", "))
            yield finding(places, loc, "bad-value", f"{label}{details['input']!r} is not one of {wanted}; {near}")
        case _ if kind in _LIMITS:
            words, limit = _LIMITS[kind]
            bound = _shown(model, loc, details["ctx"][limit])
            yield finding(places, loc, "bad-value", f"{label}must be {words} {bound}; change it")
        case _ if kind in _WANTED:
            remedy = _misplaced(model, loc, details["input"]) or _remedy(kind, details["input"])
            yield finding(places, loc, "wrong-type", f"{label}{_WANTED[kind]}; {remedy}")
        case _:
            yield finding(places, loc, kind.replace("_", "-"), f"{label}{details['msg']}")


def _shown(model: type[BaseModel], loc: Loc, bound: float) -> str:
    """A bound of the value at `loc` as people write it, with its unit."""
    section, name = _section(model, loc[:-1]), loc[-1]
    fields = section.model_fields.items() if section is not None else ()
    told = [each for key, info in fields if (info.alias or key) == name for each in info.metadata]
    schemas = [each.json_schema for each in told if isinstance(each, WithJsonSchema)]
    match next((schema["x-unit"] for schema in schemas if schema is not None and "x-unit" in schema), ""):
        case "size":
            return show_size(int(bound))
        case "duration":
            return show_duration(bound)
    return f"{bound:g}"


def _remedy(kind: str, given: object) -> str:
    wanted = _WANTED[kind]
    if isinstance(given, dict) and wanted == "must be text":
        return 'put quotes around text that begins with "{"'
    return _REMEDIES.get(
        wanted, f"write a single value instead of a {'mapping' if isinstance(given, dict) else 'list'}"
    )


def _nearest(model: type[BaseModel], loc: Loc) -> str:
    name, known = str(loc[-1]), _keys(_section(model, loc[:-1]))
    if "policy" in known and (name in SECTIONS or name in KEYS):
        return f"{name} is a key of policy: write it below that"
    return _deeper(model, loc) or suggestion(name, known)


def _misplaced(model: type[BaseModel], loc: Loc, given: object) -> str:
    """Where a single value belongs that stands where a section should; empty where it is not a level off."""
    if not loc or not isinstance(given, str):
        return ""
    if loc[-1] in _keys(_section(model, loc)):
        above = "the one above" if len(loc) > 1 else "a section"
        return f"{loc[-1]} is a key of {above}: indent it more"
    return _deeper(model, loc)


def _deeper(model: type[BaseModel], loc: Loc) -> str:
    """What a key too deep belongs to; empty where no section around it has such a key."""
    for depth in range(len(loc) - 2, -1, -1):
        if loc[-1] in _keys(_section(model, loc[:depth])):
            return f"{loc[-1]} is a key of {loc[depth - 1] if depth else 'the file itself'}: indent it less"
    return ""


def _keys(section: type[BaseModel] | None) -> list[str]:
    return [info.alias or name for name, info in section.model_fields.items()] if section is not None else []


def _section(model: type[BaseModel], loc: Loc) -> type[BaseModel] | None:
    """The section that lies at `loc`, found by its annotations; None where there is none."""
    found: Any = model
    for step in loc:
        if isinstance(found, type) and issubclass(found, BaseModel):
            fields = {info.alias or name: info.annotation for name, info in found.model_fields.items()}
            found = _present(fields[str(step)])
        else:  # the values of a mapping, the items of a list
            found = _present([part for part in get_args(found) if part is not ...][-1])
    return found if isinstance(found, type) and issubclass(found, BaseModel) else None


def _present(annotation: Any) -> Any:
    """An annotation without `| None`."""
    return (
        next(part for part in get_args(annotation) if part is not NoneType)
        if NoneType in get_args(annotation)
        else annotation
    )
