"""What can still be judged of a tree that does not fit its model: the tree without its mistakes, so that the rest is told too.

A mistake is taken out, or something that nothing is said about stands in for it; whoever judges what is left says nothing
where a mistake was told already.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from bff.config.fields import Section
from bff.config.yaml import Loc, Tree
from bff.errors import Finding

S = TypeVar("S", bound=Section)

_ROUNDS: Final = 4  # what is taken out may have been required, and is missing then
_MISSING: Final[Mapping[str, Tree]] = {"owner": "-", "template": "", "type": "-", "tags": []}
_BROKEN: Final[Mapping[str, Tree]] = {"upstream": "http://localhost", "source": "json"}  # whose absence would be told
_FRAGMENT: Final[Tree] = {"path": "/-"}
_OPTIONAL: Final[Tree] = {"default": ""}  # a parameter whose declaration is broken: declared, and never missed


def remains(model: type[S], tree: Tree) -> S | None:
    """`tree` as a `model` without its mistakes; None where nothing sensible is left."""
    left = copy.deepcopy(tree)
    for _ in range(_ROUNDS):
        try:
            return model.model_validate(left)
        except ValidationError as error:
            for details in sorted(error.errors(include_url=False), key=lambda each: len(each["loc"])):
                _mend(left, details["loc"], missing=details["type"] == "missing")
    return None


def untold(more: Iterable[Finding], found: Iterable[Finding]) -> list[Finding]:
    """Those at places of which nothing has been said: one mistake is often another's cause. Two keys may be missing at one."""
    known = {(f.file, f.line, f.column) for f in found}
    return [f for f in more if (f.file, f.line, f.column) not in known or f.code == "missing-key"]


def _mend(tree: Tree, loc: Loc, *, missing: bool) -> None:
    if loc[-1:] == ("[key]",):
        _drop(tree, loc[:-1])
    elif len(loc) > 3 and loc[2] in {"params", "query"}:  # as in fragments.NAME.params.NAME.type
        _put(tree, loc[:4], _OPTIONAL)
    elif len(loc) == 2 and loc[0] == "fragments":  # may be embedded
        _put(tree, loc, _FRAGMENT)
    elif missing or (
        loc[:1] == ("fragments",) and loc[2:] == ("path",)
    ):  # whose absence would be told where it is needed
        _put(tree, loc, _stand_in(loc))
    elif loc[-1:] and loc[-1] in _BROKEN:
        _put(tree, loc, _BROKEN[str(loc[-1])])
    else:
        _drop(tree, loc)


def _stand_in(loc: Loc) -> Tree:
    """What nobody else has: two pages whose paths are missing are not on one route."""
    return f"/-/{'/'.join(map(str, loc[:-1]))}" if loc[-1] in {"path", "to"} else _MISSING.get(str(loc[-1]))


def _put(tree: Tree, loc: Loc, value: Tree) -> None:
    around = _at(tree, loc[:-1])
    if value is None:
        _drop(tree, loc[:-1])
    elif isinstance(around, dict):
        around[loc[-1]] = copy.deepcopy(value)


def _drop(tree: Tree, loc: Loc) -> None:
    """Take out a key; a list with a bad item as a whole, or the others would be told of at wrong places."""
    while loc and isinstance(loc[-1], int):
        loc = loc[:-1]
    around = _at(tree, loc[:-1]) if loc else None
    if isinstance(around, dict):
        around.pop(loc[-1], None)


def _at(tree: Tree, loc: Loc) -> Any:
    for step in loc:
        inside = isinstance(step, int) and isinstance(tree, list) and step < len(tree)
        if not inside and not (isinstance(tree, dict) and step in tree):
            return None
        tree = tree[step]
    return tree
