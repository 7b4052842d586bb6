"""What operators change while the gateway runs: for a while, for a reason, and never beyond the ceilings. Pure.

An override is text as it was typed, so that every process reads it by its own table of keys; `wall` is seconds since the epoch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args

from bff import units
from bff.model import Trust
from bff.rules import policy

LONGEST: Final = 30 * 86_400.0
"""Seconds: what is to hold for longer belongs into bff.yaml."""
DEADLINE: Final = (0.1, 60.0)
TRUST: Final = "trust"
"""The one key of contexts and fragments that is no policy."""

Kind = Literal["context", "fragment", "page"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """Some keys of one target, until a time."""

    target: str  # <context>, <context>/<fragment> or <context>/<page>
    kind: Kind
    values: Mapping[str, str]  # dotted policy key, or `trust` → text; of a page: deadline
    until: float  # wall
    reason: str
    by: str
    made: float  # wall

    @property
    def context(self) -> str:
        return self.target.partition("/")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layers:
    """All overrides that hold at one moment, parsed, by target."""

    contexts: Mapping[str, Mapping[str, object]]
    fragments: Mapping[str, Mapping[str, object]]
    deadlines: Mapping[str, float]  # page → seconds
    trust: Mapping[str, Trust] = field(default_factory=dict)  # context or fragment → level


def _anything(_: str) -> bool:
    return True


def parse(
    kind: Kind,
    given: Mapping[str, str],
    ceilings: Mapping[str, object],
    *,
    trusted: Callable[[str], bool] = _anything,
) -> dict[str, object]:
    """The values of an override. `ValueError` says what is wrong with which key, and what would be right.

    `trusted`: whether the operator's `allow` lets the context have a level of trust.
    """
    if not given:
        raise ValueError("nothing is to be changed; write KEY=VALUE, such as timeout.total=800ms")
    level = given.get(TRUST)
    if level is not None and kind != "page" and not trusted(_trust(level)):
        raise ValueError(f"trust: {level} is not what the operator allows here; see `allow` in bff.yaml")
    return {key: _value(kind, key, text, ceilings) for key, text in given.items()}


def _value(kind: Kind, key: str, text: str, ceilings: Mapping[str, object]) -> object:
    if kind == "page":
        return _deadline(key, text)
    if key == TRUST:
        return _trust(text)
    if key not in policy.KEYS:
        raise ValueError(f"there is no key {key}; {policy.suggestion(key, [*policy.KEYS, TRUST])}")
    try:
        value = policy.parse(key, text)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None
    ceiling = ceilings.get(key)
    if isinstance(value, int | float) and isinstance(ceiling, int | float) and value > ceiling:
        raise ValueError(
            f"{key}: {text} is beyond the ceiling, {policy.show(key, ceiling)}; see `ceilings` in bff.yaml"
        )
    return value


def _trust(text: str) -> Trust:
    levels: Sequence[Trust] = get_args(Trust)
    for level in levels:
        if level == text:
            return level
    raise ValueError(f"trust: {text!r} is no level of trust; write one of {', '.join(levels)}")


def _deadline(key: str, text: str) -> float:
    if key != "deadline":
        raise ValueError(f"a page has no key {key}; its deadline can be changed, all else is its fragments'")
    try:
        seconds = units.duration(text)
    except ValueError as error:
        raise ValueError(f"deadline: {error}") from None
    least, most = DEADLINE
    if not least <= seconds <= most:
        raise ValueError(f"deadline: {text} is not between {least:g}s and {most:g}s")
    return seconds


def lasting(text: str) -> float:
    """Seconds that an override is to hold."""
    seconds = units.duration(text)
    if not 0 < seconds <= LONGEST:
        raise ValueError(
            f"{text} is not between 1s and {units.show_duration(LONGEST)}; what is to stay belongs into bff.yaml"
        )
    return seconds


def holding(overrides: Iterable[Override], wall: float) -> list[Override]:
    """Those that hold now."""
    return [each for each in overrides if each.until > wall]


def layers(overrides: Sequence[Override]) -> Layers:
    """What they say together: of one key of one target, the latest. What a process cannot read, it leaves out."""
    contexts: dict[str, dict[str, object]] = {}
    fragments: dict[str, dict[str, object]] = {}
    deadlines: dict[str, float] = {}
    trust: dict[str, Trust] = {}
    for each in sorted(overrides, key=lambda each: each.made):
        for key, text in each.values.items():
            try:
                value = _value(each.kind, key, text, policy.NOTHING)
            except ValueError:  # of another version of this program
                continue
            if key == TRUST:
                trust[each.target] = _trust(text)
            elif isinstance(value, float) and each.kind == "page":
                deadlines[each.target] = value
            else:
                (contexts if each.kind == "context" else fragments).setdefault(each.target, {})[key] = value
    return Layers(contexts=contexts, fragments=fragments, deadlines=deadlines, trust=trust)


def written(overrides: Iterable[Override]) -> bytes:
    """As all processes share them."""
    return json.dumps([shown(each) for each in overrides], separators=(",", ":")).encode()


def shown(override: Override) -> dict[str, Any]:
    return {
        "target": override.target,
        "kind": override.kind,
        "values": dict(override.values),
        "until": override.until,
        "reason": override.reason,
        "by": override.by,
        "made": override.made,
    }


def read(data: bytes | None) -> list[Override]:
    """What was written; what is none is left out."""
    try:
        said = json.loads(data or b"[]")
        return [_read(each) for each in said]
    except (ValueError, TypeError, KeyError):
        return []


def _read(said: Mapping[str, Any]) -> Override:
    if said["kind"] not in {"context", "fragment", "page"}:
        raise ValueError
    return Override(
        target=str(said["target"]),
        kind=said["kind"],
        values={str(key): str(text) for key, text in said["values"].items()},
        until=float(said["until"]),
        reason=str(said["reason"]),
        by=str(said["by"]),
        made=float(said["made"]),
    )
