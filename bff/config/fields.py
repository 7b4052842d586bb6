"""The types of settings: what text may stand for each, and how an editor's schema says so.

Every type reads the source text of a YAML scalar and leaves values that are no text alone (defaults, values made in code).
Knows no file and no particular key.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Strict, ValidationError, WithJsonSchema
from pydantic_core import InitErrorDetails, PydanticCustomError

from bff import units
from bff.rules import policy


class Section(BaseModel):
    """A mapping with a closed set of keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Wrong(ValueError):
    """A value that cannot stand, with a stable code of its own. The message ends in `; <remedy>`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def read_by(parse: Callable[[str], object]) -> BeforeValidator:
    """Reads text by `parse`; ValueErrors become findings."""
    return BeforeValidator(lambda value: parse(value) if isinstance(value, str) else value)


def checked(pattern: str, what: str) -> BeforeValidator:
    """Text that matches as a whole; `what` says what would be right."""
    match = re.compile(pattern).fullmatch

    def check(text: str) -> str:
        if not match(text):
            raise ValueError(f"{text!r} is not {what}")
        return text

    return read_by(check)


def _boolean(text: str) -> bool:
    if text not in {"true", "false"}:
        raise ValueError(f"{text!r} is neither true nor false; write true or false")
    return text == "true"


def _integer(text: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,12}", text):
        raise ValueError(f"{text!r} is not a whole number; write digits such as 20")
    return int(text)


DURATION: Final = r"^\d+(\.\d+)?(ms|s|m|h|d)$"  # for editors; `units` decides
SIZE: Final = r"^\d+(\.\d+)?(B|KiB|MiB|GiB)$"

Boolean = Annotated[bool, Strict(), read_by(_boolean)]
Integer = Annotated[int, Strict(), read_by(_integer)]
Duration = Annotated[
    float,
    read_by(units.duration),
    WithJsonSchema({"type": "string", "pattern": DURATION, "x-unit": "duration"}),
]
Size = Annotated[
    int,
    Strict(),
    read_by(units.size),
    WithJsonSchema({"type": "string", "pattern": SIZE, "x-unit": "size"}),
]
Text = Annotated[str, WithJsonSchema({"type": ["string", "number", "boolean"]})]
"""Any scalar, as it is written: an editor may take `1` for a number, here it is text."""

_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - RFC 9110 §5.6.2, not a secret
_NAME: Final = r"[a-z0-9][a-z0-9-]*"

Name = Annotated[str, checked(_NAME, "a name; use a-z, 0-9 and -, beginning with a letter or digit")]
FullName = Annotated[
    str, checked(f"{_NAME}/{_NAME}", "a full name; write <context>/<fragment>, such as discovery/price")
]
Target = Annotated[
    str,
    checked(f"{_NAME}(?:/{_NAME})?", "a context or a fragment; write <context> or <context>/<fragment>"),
]
ParamName = Annotated[
    str, checked(r"[a-z][a-z0-9_]*", "a parameter's name; use a-z, 0-9 and _, beginning with a letter")
]


def header_name(text: str) -> str:
    """A field name (RFC 9110 §5.1), lower-cased."""
    if not re.fullmatch(_TOKEN, text):
        raise ValueError(f"{text!r} is not a header name; write it as in HTTP, such as accept-language")
    return text.lower()


HeaderName = Annotated[str, read_by(header_name)]
MaybeHeaderName = Annotated[str, read_by(lambda text: text and header_name(text))]
CookieName = Annotated[str, checked(_TOKEN, "a cookie name; leave out spaces, = and ;")]
Names = tuple[Text, ...]


Length = Annotated[str, read_by(lambda text: units.css_length(text) if text else text)]


def _star(value: object) -> object:
    return ["*"] if value == "*" else value


def _single(value: object) -> object:
    return [value] if isinstance(value, str) else value


_SCALAR: Final = {"type": ["string", "number", "boolean"]}
_LIST: Final = {"type": "array", "items": {"type": "string"}}
OneOrMany = Annotated[
    Names, BeforeValidator(_single), WithJsonSchema({"anyOf": [_SCALAR, {"type": "array", "items": _SCALAR}]})
]
"""A single text is a list of one."""
StarOrNames = Annotated[Names, BeforeValidator(_star), WithJsonSchema({"anyOf": [{"const": "*"}, _LIST]})]
StarOrHeaders = Annotated[
    tuple[HeaderName, ...], BeforeValidator(_star), WithJsonSchema({"anyOf": [{"const": "*"}, _LIST]})
]


# --- policy -----------------------------------------------------------------------------------------------------------


def _layer(value: object) -> object:
    """Nested or dotted keys as one layer: dotted key → value. All errors at once, each at its key."""
    if not isinstance(value, dict) or any(not isinstance(v, str | dict | list) for v in value.values()):
        return value  # not from a file: made in code, or a wrong type that the schema tells
    layer: dict[str, object] = {}
    wrong: list[InitErrorDetails] = []
    _flatten(value, (), (), layer, wrong)
    if wrong:
        raise ValidationError.from_exception_data("policy", wrong)
    return layer


def _flatten(
    value: dict[str, Any],
    loc: tuple[str, ...],
    path: tuple[str, ...],
    layer: dict[str, object],
    wrong: list[InitErrorDetails],
) -> None:
    for key, inner in value.items():
        here, parts = (*loc, key), (*path, key)
        dotted = ".".join(parts)
        if isinstance(inner, dict) and dotted in policy.SECTIONS:
            _flatten(inner, here, parts, layer, wrong)
            continue
        try:
            if dotted in layer:
                raise Wrong("duplicate-key", f"{dotted} is written twice; keep one of them")
            layer[dotted] = _value(dotted, inner)
        except ValueError as error:
            code = error.code if isinstance(error, Wrong) else "bad-value"
            custom = PydanticCustomError(code, "{text}", {"text": str(error)})
            wrong.append(InitErrorDetails(type=custom, loc=here, input=inner))


def _value(dotted: str, inner: object) -> object:
    if dotted in policy.SECTIONS:
        raise Wrong("wrong-type", f"{dotted} must be a mapping; write its keys indented below it, or {{key: value}}")
    if dotted not in policy.KEYS:
        raise Wrong("unknown-key", f"unknown key {dotted!r}; {_meant(dotted, inner)}")
    if isinstance(inner, list) and policy.KEYS[dotted].kind == "steps" and all(isinstance(i, str) for i in inner):
        return policy.parse(dotted, ", ".join(inner))
    if not isinstance(inner, str):
        raise Wrong("wrong-type", f"{dotted} must be one value; such as {policy.KEYS[dotted].default}")
    return policy.parse(dotted, inner)


def _meant(dotted: str, inner: object) -> str:
    if isinstance(inner, dict):
        return policy.suggestion(dotted, sorted(policy.SECTIONS))
    within = [key for key in policy.KEYS if key.endswith(f".{dotted}")]
    return f"write it as {' or '.join(within)}" if within else policy.suggestion(dotted, policy.KEYS)


PolicyLayer = Annotated[
    dict[str, object],
    BeforeValidator(_layer),
    WithJsonSchema({"type": "object", "x-unit": "policy"}),
]
