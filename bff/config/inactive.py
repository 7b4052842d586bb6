"""Keys that are accepted and validated, and whose machinery this version does not have: one table.

`bff check` lists what of it is used, so that nothing is ignored silently. A row goes when its machinery comes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final, cast

from bff.config.fields import Section
from bff.config.validate import Places, finding
from bff.config.yaml import Loc
from bff.errors import Finding
from bff.rules.policy import DEFAULTS


@dataclass(frozen=True, slots=True)
class Row:
    """A key, `*` for any name or number; dotted policy keys as they are. `when`: which of its values wait, else any that is set."""

    key: str
    when: Callable[[Any], bool] = lambda _: True


CONTEXT: Final = (Row("proxy/*/policy/hedge.*"),)
OPERATOR: Final[tuple[Row, ...]] = ()


def inactive(section: Section, table: tuple[Row, ...], places: Places) -> list[Finding]:
    """A note for each use of a row."""
    return [
        finding(
            places,
            loc,
            "not-yet-active",
            f"{_shown(loc)} is not yet active; it is checked, and has no effect",
            severity="note",
            key=True,
        )
        for row in table
        for loc, value in _found(section, row.key.split("/"), ())
        if row.when(value) and (loc[-1] not in DEFAULTS or value != DEFAULTS[str(loc[-1])])
    ]


def _shown(loc: Loc) -> str:
    return ".".join(str(step) for step in loc)


def _found(value: Any, pattern: list[str], loc: Loc) -> Iterator[tuple[Loc, Any]]:
    """What is set under a pattern, with its place; a section's key counts where it differs from its default."""
    if not pattern:
        yield loc, value
        return
    step, *further = pattern
    match value:
        case Section():
            if step in value.model_fields_set and getattr(value, step) != _default(type(value), step):
                yield from _found(getattr(value, step), further, (*loc, step))
        case dict():
            for key, inner in value.items():
                if fnmatchcase(key, step):
                    yield from _found(inner, further, (*loc, key))
        case _:
            for number, inner in enumerate(value):
                yield from _found(inner, further, (*loc, number))


def _default(section: type[Section], key: str) -> object:
    field = section.model_fields[key]
    return cast("Callable[[], object]", field.default_factory)() if field.default_factory else field.default
