"""`BFF_*` variables laid over a settings file: which key each means, and where a value came from.

Nesting is `__`, `-` is written `_`: `BFF_LIMITS__HEAD=5s`, `BFF_OVERRIDES__CONTEXTS__COURSE_API__TIMEOUT__TOTAL=1s`. Lists are
comma-separated, or YAML in brackets; sections and mappings are YAML in braces, as strict as the file.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import NoneType
from typing import Any, Final, get_args, get_origin

from pydantic import BaseModel

from bff.config import yaml
from bff.config.validate import finding
from bff.config.yaml import Document, Loc, Tree
from bff.errors import Finding
from bff.rules.policy import KEYS, SECTIONS, suggestion

PREFIX: Final = "BFF_"
UPSTREAM: Final = "BFF_UPSTREAM__"  # a context's, not the operator's: `manifest` reads it
_KUBERNETES: Final = re.compile(r"BFF_(SERVICE_(HOST|PORT.*)|PORT(_[0-9]+_.*)?)")  # set for any service named bff
_POLICY_PARTS: Final = frozenset(part for name in KEYS for part in name.split("."))


@dataclass(kw_only=True)
class Environment:
    """The merged tree, and the place of every value: a file's line, or a variable."""

    tree: Tree
    document: Document | None
    variables: dict[Loc, str] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def place(self, loc: Loc, *, key: bool = False) -> tuple[str, int, int]:
        spread = tuple(part for step in loc for part in (step.split(".") if isinstance(step, str) else (step,)))
        for length in range(len(spread), 0, -1):  # a dotted key, too, is nested in a variable
            if spread[:length] in self.variables:
                return self.variables[spread[:length]], 1, 1
        for inner, variable in self.variables.items():
            if inner[: len(loc)] == loc and loc:
                return variable, 1, 1
        return self.document.place(loc, key=key) if self.document else ("bff.yaml", 1, 1)


def overlay(model: type[BaseModel], document: Document | None, env: Mapping[str, str]) -> Environment:
    """The file's tree with every `BFF_*` variable in its place; unknown variables are warnings."""
    tree = copy.deepcopy(document.tree) if document else {}
    made = Environment(tree=tree, document=document)
    for variable in sorted(name for name in env if name.startswith(PREFIX)):
        if not variable.startswith(UPSTREAM) and not _KUBERNETES.fullmatch(variable):
            _lay(model, made, variable, env[variable])
    return made


def _lay(model: type[BaseModel], made: Environment, variable: str, text: str) -> None:
    found = _locate(model, variable.removeprefix(PREFIX).split("__"))
    if found is None:
        near = suggestion(variable, [PREFIX + name.upper() for name in model.model_fields])
        message = f"{variable} means no setting; {near}"
        made.variables[(variable,)] = variable
        made.findings.append(finding(made, (variable,), "unknown-variable", message, severity="warning"))
    elif isinstance(made.tree, dict):
        loc, annotation = found
        value = _value(made, variable, text, annotation)
        if value is not None:
            made.variables[loc] = variable
            _put(made.tree, loc, value)


def _value(made: Environment, variable: str, text: str, annotation: Any) -> Tree:
    """What a variable says of a setting of this type; None, with a finding, where it looks like YAML and is none."""
    many = get_origin(annotation) is tuple
    nested = get_origin(annotation) is dict or (isinstance(annotation, type) and issubclass(annotation, BaseModel))
    if (many and text.startswith("[")) or (nested and text.startswith("{")):
        document, findings = yaml.parse(text, file=variable)
        made.findings += findings
        return document.tree if document else None
    return [part.strip() for part in text.split(",") if part.strip()] if many else text


def _put(tree: dict[str, Tree], loc: Loc, value: Tree) -> None:
    for at, step in enumerate(loc[:-1]):
        _undot(tree, ".".join(map(str, loc[at:])))
        inner = tree.get(str(step))
        tree[str(step)] = tree = inner if isinstance(inner, dict) else {}
    if loc[-1] in SECTIONS:
        _undot(tree, str(loc[-1]))
    tree[str(loc[-1])] = value


def _undot(tree: dict[str, Tree], name: str) -> None:
    """Drop what a policy says under a dotted key or section: a variable says it now, nested."""
    for key in [key for key in tree if key == name or key.startswith(f"{name}.")]:
        if key in KEYS:
            del tree[key]


def _locate(model: type[BaseModel], parts: list[str]) -> tuple[Loc, Any] | None:
    """The setting that a variable's parts name, and its type; None where there is none."""
    loc: list[str | int] = []
    found: Any = model
    for part in parts:
        step = _step(found, part.lower())
        if not part or step is None:
            return None
        name, found = step
        loc.append(name)
    return tuple(loc), found


def _step(found: Any, part: str) -> tuple[str, Any] | None:
    if isinstance(found, type) and issubclass(found, BaseModel):
        info = found.model_fields.get(part)
        return None if info is None or info.exclude else (part, _present(info.annotation))
    if get_origin(found) is dict:
        value = _present(get_args(found)[1])
        if value is object:  # a policy, whose keys have underscores of their own
            return (part, found) if part in _POLICY_PARTS else None
        return part.replace("_", "-"), value
    return None


def _present(annotation: Any) -> Any:
    """An annotation without what is said about it, and without `| None`."""
    while hasattr(annotation, "__metadata__"):
        annotation = get_args(annotation)[0]
    kept = [part for part in get_args(annotation) if part is not NoneType]
    return _present(kept[0]) if NoneType in get_args(annotation) else annotation
