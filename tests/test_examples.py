"""What the guides say to write is accepted as it stands there: registrations, settings, shells, commands, code."""

from __future__ import annotations

import ast
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import typer

from bff.cli import app
from bff.config import yaml
from bff.config.options import Settings
from bff.config.settings import read_settings
from bff.config.spec import Spec
from bff.markup.shell import compile_shell
from bff.registry import Registry

ROOT = Path(__file__).parents[1]
PAGES = sorted(page for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")] if page.name != "CHANGELOG.md")
CONTEXT = {"owner": "owner: team\n", "upstream": "upstream: http://127.0.0.1:9102\n"}
SHELL = '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>T</title></head><body>{}</body></html>'


def examples(found: Iterator[tuple[str, str]]) -> pytest.MarkDecorator:
    """The test is given the text of each, and named by where it stands."""
    where, texts = zip(*found, strict=True)
    return pytest.mark.parametrize("text", texts, ids=where)


def blocks(language: str, having: str = "") -> Iterator[tuple[str, str]]:
    """Where each block of this language stands in the guides, and the block."""
    for page in PAGES:
        text = page.read_text()
        for match in re.finditer(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            if having in match[1]:
                yield f"{page.relative_to(ROOT)}:{text[: match.start()].count(chr(10)) + 1}", match[1]


def commands() -> Iterator[tuple[str, str]]:
    """Each command that somebody could type, in blocks and in running text; placeholders in brackets are not typed."""
    for page in PAGES:
        text = page.read_text().replace(" \\\n", " ")
        typed = re.findall(r"^(?:\.venv/bin/)?(bff .*)$|`(?:\.venv/bin/)?(bff [a-z]+ [^`]+)`", text, re.MULTILINE)
        for line in sorted({block or said for block, said in typed}):
            if not re.search(r"[<|…]|^bff [a-z]+ [A-Z]+$|^bff new [a-z]+$", line.replace("--token …", "")):
                yield f"{page.relative_to(ROOT)}: {line}", line


@examples(blocks("yaml"))
def test_yaml_is_accepted(text: str, tmp_path: Path) -> None:
    document, found = yaml.parse(text, file="example")
    assert document is not None, found
    keys = set(document.tree)
    if keys <= set(Settings.model_fields) and not isinstance(document.tree.get("fragments"), dict):
        (tmp_path / "bff.yaml").write_text(text.replace(" …", " something-secret"))
        assert read_settings(tmp_path / "bff.yaml", env={})[1] == []
        return
    assert keys <= set(Spec.model_fields)
    folder = tmp_path / "discovery"
    for name in re.findall(r"(?:templates|fallbacks|pages)/[a-z-]+\.(?:html|json)", text):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        page = SHELL.format("") if name.startswith("pages/") else "<p></p>"
        (folder / name).write_text("{}" if name.endswith(".json") else page)
    folder.mkdir(exist_ok=True)
    (folder / "context.yaml").write_text("".join(line for key, line in CONTEXT.items() if key not in keys) + text)
    assert [*map(str, Registry(Settings(fragments=tmp_path), {}).load().findings)] == []


@examples(blocks("html", having="<bff-fragment"))
def test_slots_are_understood(text: str) -> None:
    body = re.sub(r"\{%.*?%\}", "", text)
    shell, found = compile_shell(SHELL.format(body), file="example", context="discovery", owner="team")
    assert shell is not None
    assert [*map(str, found)] == []


@examples(commands())
def test_commands_can_be_typed(text: str) -> None:
    command: Any = typer.main.get_command(app)
    words = shlex.split(text.removeprefix("bff "), comments=True)
    words = words[: next((n for n, word in enumerate(words) if word in {">", "|", "&&"}), len(words))]
    context = click.Context(command)
    while hasattr(command, "commands"):
        name, command, words = command.resolve_command(context, words)
        context = click.Context(command, info_name=name)
    command.make_context(context.info_name, words)


@examples(blocks("python"))
def test_python_is_python(text: str) -> None:
    ast.parse(text)


@examples(blocks("toml"))
def test_toml_is_toml(text: str) -> None:
    assert tomllib.loads(text)
