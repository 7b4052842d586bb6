"""The attributes of one `<bff-fragment>` as people write them, read into a `Slot` (contract §2, "Shells").

Says everything that is wrong at once. Does not know where the element stands, nor whether its fragment exists.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from bff import units
from bff.markup.tokens import Attribute
from bff.model import Pattern, Ref, Slot

NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]*/[a-z0-9][a-z0-9_-]*")
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_PARAM = re.compile(r"[a-z][a-z0-9_]*")
_LENGTH = re.compile(r"0|\d+(?:\.\d+)?(?:[a-z]{1,5}|%)")
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

    slot: Slot = field(default_factory=lambda: Slot(index=0, fragment="", key=""))
    named: frozenset[str] = frozenset()
    problems: list[Problem] = field(default_factory=list)


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


def _flag(name: str, text: str) -> None:
    if text.lower() not in {"", name}:
        raise ValueError(f"write {name} alone, without a value")


def _name(slot: Slot, text: str) -> Slot:
    if NAME.fullmatch(text) is None:
        raise ValueError("write <context>/<fragment> in lower case, such as discovery/course-card")
    return replace(slot, fragment=text)


def _key(slot: Slot, text: str) -> Slot:
    if _KEY.fullmatch(text) is None:
        raise ValueError("write letters, digits, _ and -")
    return replace(slot, key=text)


def _primary(slot: Slot, text: str) -> Slot:
    _flag("primary", text)
    return replace(slot, kind="primary")


def _core(slot: Slot, text: str) -> Slot:
    _flag("core", text)
    return slot if slot.kind == "primary" else replace(slot, kind="core")


def _live(slot: Slot, text: str) -> Slot:
    _flag("live", text)
    return replace(slot, live=True)


def _load(slot: Slot, text: str) -> Slot:
    match text:
        case "stream" | "visible" | "client" | "click" | "none":
            return replace(slot, load=text)
    raise ValueError("write one of stream, visible, client, click, none")


def _more(slot: Slot, text: str) -> Slot:
    match text:
        case "click" | "visible":
            return replace(slot, more=text)
    raise ValueError("write click or visible")


def _when(slot: Slot, text: str) -> Slot:
    match text:
        case "authenticated" | "anonymous":
            return replace(slot, when=text)
    raise ValueError("write authenticated or anonymous")


def _stale(slot: Slot, text: str) -> Slot:
    if text != "then-fresh":
        raise ValueError("write then-fresh")
    return replace(slot, then_fresh=True)


def _wrap(slot: Slot, text: str) -> Slot:
    if text != "none":
        raise ValueError("write none, or leave the attribute out")
    return replace(slot, wrap=False)


def _refresh(slot: Slot, text: str) -> Slot:
    if units.duration(text) == 0:
        raise ValueError("write a duration above 0s, such as 30s")
    return replace(slot, refresh=text)


def _reserve(slot: Slot, text: str) -> Slot:
    if _LENGTH.fullmatch(text) is None:
        raise ValueError("write one CSS length, such as 120px or 8rem")
    return replace(slot, reserve=text)


_KNOWN: Final[Mapping[str, Callable[[Slot, str], Slot]]] = MappingProxyType(
    {
        "name": _name,
        "as": _key,
        "primary": _primary,
        "core": _core,
        "live": _live,
        "load": _load,
        "more": _more,
        "when": _when,
        "stale": _stale,
        "wrap": _wrap,
        "refresh": _refresh,
        "reserve": _reserve,
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
            draft.named |= {attribute.name}
            _take(draft, attribute)
    if "name" not in draft.named:
        remedy = 'write name="<context>/<fragment>"'
        draft.problems.append(
            Problem(offset=0, code="missing-name", message="<bff-fragment> has no name", remedy=remedy)
        )
    draft.problems += _contradictions(draft)
    return draft.slot, draft.problems


def _take(draft: _Draft, attribute: Attribute) -> None:
    name, slot = attribute.name, draft.slot
    try:
        if name in _KNOWN:
            draft.slot = _KNOWN[name](slot, attribute.value)
        elif name in _OURS:
            _wrong(draft, attribute, "reserved-attribute", "is written by the gateway itself", "choose another name")
        elif name in {"id", "class"} or name.startswith("data-"):
            written = f' {name}="{html.escape(attribute.value)}"'
            draft.slot = replace(slot, attributes=slot.attributes + written)
        elif "." in name:
            draft.slot = replace(slot, policy={**slot.policy, name: attribute.value})
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
    elif name in dict(draft.slot.params):
        _wrong(draft, attribute, "duplicate-attribute", "gives a parameter twice", "keep one of them")
    else:
        draft.slot = replace(draft.slot, params=(*draft.slot.params, (name, pattern(attribute.value))))


def _wrong(draft: _Draft, attribute: Attribute, code: str, what: str, remedy: str) -> None:
    space = "" if what.startswith("=") else " "
    draft.problems.append(
        Problem(offset=attribute.offset, code=code, message=f"{attribute.name}{space}{what}", remedy=remedy)
    )


def _contradictions(draft: _Draft) -> list[Problem]:
    slot, named = draft.slot, draft.named
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
