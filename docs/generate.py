"""Writes docs/settings.md, docs/commands.md and docs/caching.md from what the program itself says: `make docs`.

tests/test_docs.py fails where a file is not what this writes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import typer

from bff import cli
from bff.config.schema import context_schema, settings_schema
from bff.rules import (
    cachestatus,
    control,
    dates,
    early,
    freshness,
    invalidation,
    ranges,
    reuse,
    revalidation,
    storing,
    structured,
    validators,
    vary,
)
from bff.rules.policy import KEYS
from bff.rules.rule import Rule
from bff.units import show_duration, show_size

HERE = Path(__file__).parent
JSON = Mapping[str, Any]


def table(*columns: str, rows: Iterator[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(columns)} |"
    yield "|" + "---|" * len(columns)
    for row in rows:
        cells = (cell.replace("|", r"\|") for cell in row)
        yield f"| {' | '.join(cells)} |"


def code(text: str) -> str:
    return f"`{text}`" if text else ""


# --- commands ---------------------------------------------------------------------------------------------------------


def leaves(group: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every command that does something, with the words that call it."""
    for name, command in group.commands.items():
        words = f"{path} {name}"
        if hasattr(command, "commands"):
            yield from leaves(command, words)
        else:
            yield words, command


def choices(hint: Any) -> Iterator[str]:
    """The words of every Literal in a type."""
    if get_origin(hint) is Literal:
        yield from get_args(hint)
    else:
        for part in get_args(hint):
            yield from choices(part)


def option(parameter: Any, hint: Any) -> tuple[str, str, str]:
    """How it is written, what it says, its default."""
    value = parameter.metavar or "|".join(choices(hint))
    if parameter.param_type_name == "argument":
        return code(value), parameter.help or "", ""
    if parameter.is_flag:
        return code(parameter.opts[0]), parameter.help or "", ""
    default = "" if parameter.default is None else str(parameter.default)
    return code(f"{parameter.opts[0]} {value}"), parameter.help or "", code(default)


def commands() -> str:
    lines = [
        "# Commands",
        "",
        "Written by `make docs` from the commands themselves; `bff COMMAND --help` says the same.",
        "",
        "Exit codes: 0 well, 1 findings, 2 input that cannot be used. What is wrong is told on standard error.",
    ]
    for words, command in leaves(typer.main.get_command(cli.app), "bff"):
        lines += ["", f"## {words}", "", *_help(command.help), ""]
        hints = get_type_hints(command.callback)
        lines += table("option", "what", "default", rows=(option(p, hints[p.name]) for p in command.params))
    return "\n".join(lines) + "\n"


def _help(text: str) -> Iterator[str]:
    """The command's own words; its example as code."""
    said, _, example = text.partition("Example: ")
    yield from (line.strip() for line in said.strip().splitlines())
    if example:
        yield from ("", "```sh", example.strip(), "```")


# --- settings ---------------------------------------------------------------------------------------------------------


def settings() -> str:
    lines = [
        "# Settings and policy keys",
        "",
        "Written by `make docs` from the settings' own tables; `bff schema settings` and `bff schema context` give the",
        "same as JSON Schema, for editors. Durations are written `250ms`, `1.5s`, `5m`, `24h`; sizes `64KiB`, `1MiB`; shares `20%`.",
        "",
        "## bff.yaml",
        "",
        "Optional, as is every key in it. In the environment: `BFF_` and the key in capitals, levels joined by `__`",
        "(`BFF_LIMITS__DRAIN=20s`), which wins over the file. Lists are comma-separated. One name exists only there:",
        "`BFF_UPSTREAM__<CONTEXT>` says where a context's service answers here, with `-` in its name written as `_`.",
        "",
        *table("key", "default", "what", rows=_rows(settings_schema())),
        "",
        "## context.yaml",
        "",
        "In `fragments/<context>/`. `<name>` stands for a name that the team gives, or for each entry of a list.",
        "",
        *table("key", "default", "what", rows=_rows(context_schema())),
        "",
        "## policy",
        "",
        "Under `policy:` in `bff.yaml`, of a context or of a fragment; in `overrides`; and as attributes of a slot",
        '(`timeout.total="800ms"`). The later of these wins, and `ceilings` clamp the result. `bff explain` shows each value and its origin.',
        "",
        *table("key", "default", "what", "why this default", rows=_policy()),
    ]
    return "\n".join(lines) + "\n"


def _policy() -> Iterator[tuple[str, ...]]:
    for key in KEYS.values():
        yield code(key.name), code(key.default), key.help, key.why


def _rows(schema: JSON) -> Iterator[tuple[str, ...]]:
    for key, node in _properties(schema, schema, ""):
        yield code(key), code(_default(node)), " ".join(node.get("description", "").split())


def _properties(schema: JSON, node: JSON, prefix: str) -> Iterator[tuple[str, JSON]]:
    """Every key that holds a value, with its schema; keys of sections and of named entries below them."""
    for name, raw in node.get("properties", {}).items():
        inner, named = _resolved(schema, raw), _resolved(schema, _entry(raw))
        if inner.get("properties"):
            yield from _properties(schema, inner, f"{prefix}{name}.")
        elif named.get("properties"):
            yield from _properties(schema, named, f"{prefix}{name}.<name>.")
        else:
            yield prefix + name, raw


def _entry(node: JSON) -> JSON:
    """The schema of a mapping's values, or of a list's."""
    for candidate in (node, *node.get("anyOf", ())):
        found = candidate.get("additionalProperties") or candidate.get("items")
        if isinstance(found, dict):
            return found
    return {}


def _resolved(schema: JSON, node: JSON) -> JSON:
    """What a `$ref` stands for, alone or as one of several."""
    for candidate in (node, *node.get("anyOf", ()), *node.get("allOf", ())):
        if candidate.get("$ref") == "#/$defs/Policy":
            return {}  # has a table of its own
        if "$ref" in candidate:
            found: JSON = schema["$defs"][candidate["$ref"].rpartition("/")[2]]
            return found
    return node


def _default(node: JSON) -> str:
    """As people write it."""
    value, examples = node.get("default"), str(node.get("examples", ""))
    if isinstance(value, int | float) and not isinstance(value, bool):
        shown = show_duration if "ms" in examples else show_size if "KiB" in examples else str
        return shown(value)  # type: ignore[arg-type] # sizes are whole numbers
    return "" if value is None else json.dumps(value, ensure_ascii=False)


# --- caching ----------------------------------------------------------------------------------------------------------

RULES: Mapping[str, Sequence[Rule]] = {
    "What is stored": (*storing.RULES, *control.RULES, *dates.RULES, *structured.RULES),
    "How long it is fresh": freshness.RULES,
    "When it is used": (*reuse.RULES, *vary.RULES),
    "Asking whether it still holds": revalidation.RULES,
    "Conditions and ranges": (*validators.RULES, *ranges.RULES),
    "What makes it doubtful": invalidation.RULES,
    "What an answer says of it": cachestatus.RULES,
    "Spreading load": early.RULES,
}


def caching() -> str:
    lines = [
        "# Caching rules",
        "",
        "Written by `make docs` from the rules themselves, `bff/rules/`. Proxy routes keep whole HTTP answers by all of them, as a shared",
        "cache does; fragments follow those on storing, freshness and stale windows. Beside each rule stands the test that proves it,",
        "under `tests/rules/`.",
        "",
        "Left out, as RFC 9111 allows: answers to POST and partial answers are not stored, and partial ones not combined.",
    ]
    for title, rules in RULES.items():
        rows = ((rule.section, rule.says, code(rule.proof)) for rule in rules)
        lines += ["", f"## {title}", "", *table("section", "rule", "proof", rows=rows)]
    return "\n".join(lines) + "\n"


def main() -> None:
    for name, text in (("settings.md", settings()), ("commands.md", commands()), ("caching.md", caching())):
        (HERE / name).write_text(text)
        print(f"wrote docs/{name}")


if __name__ == "__main__":
    main()
