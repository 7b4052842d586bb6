"""The table of rules in the documentation: complete, up to date, and each row proved by a test that exists."""

import ast
import re
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

from bff.rules.rule import Rule

ROOT = Path(__file__).parents[2]
DECLARES = sorted(file for file in (ROOT / "bff/rules").glob("*.py") if "\nRULES: Final" in file.read_text())


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = spec_from_file_location("generate", ROOT / "docs/generate.py")
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def rules(generate: ModuleType) -> list[Rule]:
    return [rule for group in generate.RULES.values() for rule in group]


def test_the_page_is_up_to_date(generate: ModuleType) -> None:
    assert (ROOT / "docs/caching.md").read_text() == generate.caching(), "run `make docs`"


def test_every_rule_is_on_the_page(rules: list[Rule]) -> None:
    declared = sum(len(re.findall(r"^    Rule\(", file.read_text(), re.MULTILINE)) for file in DECLARES)
    assert len(rules) == len({*rules}) == declared


def test_every_rule_names_its_source_and_says_what_is_done(rules: list[Rule]) -> None:
    for rule in rules:
        assert re.fullmatch(r"RFC \d{4} §[\d., §to]+|contract|XFetch \(VLDB 2015\)", rule.section), rule
        assert re.fullmatch(r"[^\n]+\.", rule.says), rule


def test_every_rule_is_proved(rules: list[Rule]) -> None:
    for rule in rules:
        file, _, name = rule.proof.partition("::")
        tree = ast.parse((Path(__file__).parent / file).read_text())
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, rule
