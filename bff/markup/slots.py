"""The attributes of one `<bff-fragment>` as people write them, read into a `Slot` (contract §2, "Shells").

Says everything that is wrong at once. Does not know where the element stands, nor whether its fragment exists.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from bff import units
from bff.markup.tokens import Attribute
from bff.model import Pattern, Ref, Slot

NAME: Final = r"[a-z0-9][a-z0-9_-]*/[a-z0-9][a-z0-9_-]*"
_PARAM = re.compile(r"[a-z][a-z0-9_]*")
_BRACES = re.compile(r"\{([^{}]*)\}")
_REFERENCE = re.compile(r"(path|query)\.([a-z][a-z0-9_]*)|(principal|locale)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing wrong with an element: `offset` is the attribute's place in the attributes' text."""

    offset: int
    code: str
    message: str
    remedy: str


@dataclass(slots=True)
class _Draft:
    """A slot while its attributes are read, one after the other."""

    fields: dict[str, Any] = field(default_factory=dict)
    wrapper: str = ""
    policy: dict[str, str] = field(default_factory=dict)
    params: dict[str, Pattern] = field(default_factory=dict)
    named: set[str] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)

    def slot(self) -> Slot:
        given = {"fragment": "", "key": "", **self.fields}
        return Slot(index=0, attributes=self.wrapper, policy=self.policy, params=tuple(self.params.items()), **given)


def pattern(text: str) -> Pattern:
    """Text and references alternately: `{path.x}` is ("", Ref("path", "x"), ""). `ValueError` names an unknown reference."""
    pieces: list[str | Ref] = []
    for index, piece in enumerate(_BRACES.split(text)):
        pieces.append(_reference(piece) if index % 2 else piece)
    return tuple(pieces)


def _reference(text: str) -> Ref:
    match = _REFERENCE.fullmatch(text)
    if match is None:
        raise ValueError(
            f"{{{text}}} is no reference; write {{path.NAME}}, {{query.NAME}}, {{principal}} or {{locale}}"
        )
    if match[3] == "principal":
        return Ref("principal")
    if match[3] == "locale":
        return Ref("locale")
    return Ref("path" if match[1] == "path" else "query", match[2])


def _matches(expression: str, remedy: str) -> Callable[[str], str]:
    compiled = re.compile(expression)

    def parse(text: str) -> str:
        if compiled.fullmatch(text) is None:
            raise ValueError(f"write {remedy}")
        return text

    return parse


def _one_of(**allowed: object) -> Callable[[str], object]:
    """By attribute value, `_` standing for `-`."""
    table = {name.replace("_", "-"): value for name, value in allowed.items()}

    def parse(text: str) -> object:
        if text not in table:
            raise ValueError(f"write {' or '.join(table)}")
        return table[text]

    return parse


def _flag(name: str, value: object) -> Callable[[str], object]:
    def parse(text: str) -> object:
        if text.lower() not in {"", name}:
            raise ValueError(f"write {name} alone, without a value")
        return value

    return parse


def _refresh(text: str) -> str:
    if units.duration(text) == 0:
        raise ValueError("write a duration above 0s, such as 30s")
    return text


_KNOWN: Final[Mapping[str, tuple[str, Callable[[str], object]]]] = MappingProxyType(
    {
        "name": ("fragment", _matches(NAME, "<context>/<fragment> in lower case, such as discovery/course-card")),
        "as": ("key", _matches(r"[A-Za-z0-9][A-Za-z0-9_-]*", "letters, digits, _ and -")),
        "primary": ("kind", _flag("primary", "primary")),
        "core": ("kind", _flag("core", "core")),
        "live": ("live", _flag("live", value=True)),
        "load": ("load", _one_of(**{v: v for v in ("stream", "visible", "client", "click", "none")})),
        "more": ("more", _one_of(click="click", visible="visible")),
        "when": ("when", _one_of(authenticated="authenticated", anonymous="anonymous")),
        "stale": ("then_fresh", _one_of(then_fresh=True)),
        "wrap": ("wrap", _one_of(none=False)),
        "refresh": ("refresh", _refresh),
        "reserve": ("reserve", units.css_length),
    }
)
_OURS: Final = frozenset({"data-slot"})  # written on the wrapper by the gateway


def read(attributes: Sequence[Attribute]) -> tuple[Slot, list[Problem]]:
    """A slot without its number, default key and place, and everything that is wrong with its attributes."""
    draft = _Draft()
    for attribute in attributes:
        if attribute.name in draft.named:
            _wrong(draft, attribute, "duplicate-attribute", "is written twice", "keep one of them")
        else:
            draft.named.add(attribute.name)
            _take(draft, attribute)
    if "name" not in draft.named:
        remedy = 'write name="<context>/<fragment>"'
        draft.problems.append(
            Problem(offset=0, code="missing-name", message="<bff-fragment> has no name", remedy=remedy)
        )
    slot = draft.slot()
    draft.problems += _contradictions(slot, draft.named)
    return slot, draft.problems


def _take(draft: _Draft, attribute: Attribute) -> None:
    name = attribute.name
    try:
        if name in _KNOWN:
            target, parse = _KNOWN[name]
            draft.fields[target] = parse(attribute.value)
        elif name in _OURS:
            _wrong(draft, attribute, "reserved-attribute", "is written by the gateway itself", "choose another name")
        elif name in {"id", "class"} or name.startswith("data-"):
            draft.wrapper += f' {name}="{html.escape(attribute.value)}"'
        elif "." in name:
            draft.policy[name] = attribute.value
        else:
            _param(draft, attribute)
    except ValueError as error:
        code = "bad-reference" if "is no reference" in str(error) else "bad-attribute"
        _wrong(draft, attribute, code, f'="{attribute.value}" is not understood', str(error))


def _param(draft: _Draft, attribute: Attribute) -> None:
    name = attribute.name.removeprefix("param:")
    if _PARAM.fullmatch(name) is None:
        remedy = "parameters are named [a-z][a-z0-9_]*; of other attributes only id, class and data-* go to the wrapper"
        _wrong(draft, attribute, "unknown-attribute", "is not an attribute of <bff-fragment>", remedy)
    elif name in draft.params:
        _wrong(draft, attribute, "duplicate-attribute", "gives a parameter twice", "keep one of them")
    else:
        draft.params[name] = pattern(attribute.value)


def _wrong(draft: _Draft, attribute: Attribute, code: str, what: str, remedy: str) -> None:
    space = "" if what.startswith("=") else " "
    draft.problems.append(
        Problem(offset=attribute.offset, code=code, message=f"{attribute.name}{space}{what}", remedy=remedy)
    )


def _contradictions(slot: Slot, named: set[str]) -> list[Problem]:
    waited = slot.kind != "optional"
    moving = sorted({"refresh", "live", "more"} & named)
    checks = (
        ({"primary", "core"} <= named, "primary and core exclude each other", "keep one of them"),
        (waited and slot.load != "stream", f"the page waits for a {slot.kind} slot, so it cannot be loaded later", "drop load"),
        (not slot.wrap and slot.load not in {"stream", "none"}, f'wrap="none" cannot be loaded by {slot.load}', "drop one of them"),
        (not slot.wrap and bool(moving), f'wrap="none" has no element for {" and ".join(moving)}', "drop one of them"),
        (not slot.wrap and bool(slot.attributes), 'wrap="none" has no element for id, class or data-*', "drop one of them"),
    )  # fmt: skip
    return [Problem(offset=0, code="contradiction", message=m, remedy=r) for wrong, m, r in checks if wrong]


def literal(slot: Slot) -> bool:
    """Whether no parameter depends on the request: all that an embedded fragment may have."""
    return all(len(pieces) == 1 for _, pieces in slot.params)


def default_key(fragment: str, taken: set[str]) -> str:
    """The fragment's name without its context; `-2`, `-3`… where that is taken."""
    base = fragment.partition("/")[2]
    key, count = base, 1
    while key in taken:
        count += 1
        key = f"{base}-{count}"
    return key
