"""What one slot asks for, and on whose behalf: the two inputs of `resolve`. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from bff.model import Bounds, Fragment, Headers, Param, Policy
from bff.rules import keys
from bff.rules.cookies import cookies


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """One fragment with parameters under a policy. Made once per URL and page, shared between requests."""

    fragment: Fragment
    policy: Policy
    bounds: Bounds
    values: keys.Values
    params: Mapping[str, Any]  # the values, typed: for templates, JSON forms and logs
    target: str
    key: str
    head: bytes  # request header lines that never change
    src: str  # the fragment endpoint's URL for this call
    plain: bool  # nothing of the browser's request is sent
    primary: bool = False
    client: bool = False  # may be left to the browser
    place: int = 0  # where it goes: see `Slot.place`
    then_fresh: bool = False  # a stale copy may show until the answer is there


@dataclass(kw_only=True)
class Visit:
    """One browser request, as far as fragments may know of it."""

    principal: str | None
    unverified: bool = False  # it sent a credential that nobody verified
    locale: str
    fields: Headers
    trace: bytes  # header lines: traceparent and x-request-id
    until: float  # `loop.time()`: when every slot must have ended

    @cached_property
    def headers(self) -> Mapping[str, str]:
        found: dict[str, str] = {}
        for name, value in self.fields:
            key = name.decode("latin-1")
            found[key] = f"{found[key]}, {value.decode('latin-1')}" if key in found else value.decode("latin-1")
        return found

    @cached_property
    def cookies(self) -> Mapping[str, str]:
        found = cookies(value for name, value in self.fields if name == b"cookie")
        return {name.decode("latin-1"): value.decode("latin-1") for name, value in found.items()}


def typed(params: Mapping[str, Param], values: keys.Values) -> dict[str, Any]:
    """Canonical values as JSON types: numbers and booleans by their declaration, lists where `many`."""
    made: dict[str, Any] = {}
    for name, texts in values.items():
        converted = [_convert(params[name].type, text) for text in texts]
        made[name] = converted if params[name].many else (converted[0] if converted else None)
    return made


def _convert(kind: str, text: str) -> Any:
    match kind:
        case "int":
            return int(text)
        case "float":
            return float(text)
        case "bool":
            return text == "true"
        case _:
            return text
