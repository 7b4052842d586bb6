"""SECURITY.md promises nothing that no test holds, and no attack is tested that it keeps silent about."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "SECURITY.md").read_text()
PROMISES = TEXT.partition("## What this version promises")[2].partition("\n## ")[0]
LINKS = re.findall(r"\[test\]\((tests/[\w/]+\.py)#(\w+)\)", TEXT)


def named(file: Path) -> set[str]:
    nodes = ast.walk(ast.parse(file.read_text()))
    return {
        node.name
        for node in nodes
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }


@pytest.mark.parametrize(
    "line", [line for line in PROMISES.splitlines() if line.startswith("- ")], ids=lambda line: line[2:50]
)
def test_each_promise_names_its_tests(line: str) -> None:
    assert re.search(r"\.( \()(\[test\]\([^)]+\)(, )?)+\)$", line), "a promise ends with a link to each of its tests"


@pytest.mark.parametrize(("file", "name"), LINKS, ids=[name for _, name in LINKS])
def test_each_link_names_a_test_that_is_there(file: str, name: str) -> None:
    assert name in named(ROOT / file)


def test_each_attack_stands_behind_a_promise() -> None:
    attacks = {name for file in (ROOT / "tests" / "attacks").glob("test_*.py") for name in named(file)}
    assert attacks - {name for _, name in LINKS} == set()
