"""Writes docs/settings.md and docs/commands.md from what the program itself says: `make docs`.

tests/test_docs.py fails where a file is not what this writes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import typer
from bff.config.schema import settings_schema

from bff import cli
from bff.rules.policy import KEYS
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


def option(parameter: Any) -> tuple[str, str, str]:
    """How it is written, what it says, its default."""
    if parameter.param_type_name == "argument":
        return code(parameter.metavar or parameter.name.upper()), parameter.help or "", ""
    value = parameter.metavar or "|".join(getattr(parameter.type, "choices", ()))
    default = parameter.default
    shown = str(default) if isinstance(default, str | int) and not isinstance(default, bool) and default != "" else ""
    return code(f"{parameter.opts[0]} {value}".strip()), parameter.help or "", code(shown)


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
        lines += table("option", "what", "default", rows=(option(p) for p in command.params if p.name != "help"))
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
        "(`BFF_LIMITS__DRAIN=20s`), which wins over the file. Two more names exist only there: `BFF_UPSTREAM__<CONTEXT>` says where",
        "a context's service answers here, with `-` in its name written as `_`.",
        "",
        *table("key", "default", "what", rows=_settings()),
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


def _settings() -> Iterator[tuple[str, ...]]:
    schema = settings_schema()
    yield from _properties(schema, schema, "")


def _properties(schema: JSON, node: JSON, prefix: str) -> Iterator[tuple[str, ...]]:
    """A row for each key that holds a value; keys of sections and of named entries (`allow.<context>.routes`) below them."""
    for name, raw in node.get("properties", {}).items():
        inner, named = _resolved(schema, raw), _resolved(schema, raw.get("additionalProperties") or {})
        if inner.get("properties"):
            yield from _properties(schema, inner, f"{prefix}{name}.")
        elif named.get("properties"):
            yield from _properties(schema, named, f"{prefix}{name}.<name>.")
        else:
            yield code(prefix + name), code(_default(raw)), " ".join(raw.get("description", "").split())


def _resolved(schema: JSON, node: JSON) -> JSON:
    """What a `$ref` stands for, alone or as one of several."""
    for candidate in (node, *node.get("anyOf", ()), *node.get("allOf", ())):
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


def main() -> None:
    for name, text in (("settings.md", settings()), ("commands.md", commands())):
        (HERE / name).write_text(text)
        print(f"wrote docs/{name}")


if __name__ == "__main__":
    main()
