"""What the program has is documented, and what is documented the program has: settings, policy keys, commands, metrics, links."""

from __future__ import annotations

import re
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

from bff.gateway.telemetry import Counters

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
RECORD = ["Status", "Context", "Decision", "Consequences", "Rejected alternatives"]


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = spec_from_file_location("generate", DOCS / "generate.py")
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["settings", "commands"])
def test_what_is_generated_is_up_to_date(generate: ModuleType, name: str) -> None:
    written = (DOCS / f"{name}.md").read_text()
    assert written == getattr(generate, name)(), "run `make docs`"
    rows = [line for line in written.splitlines() if line.startswith("| `")]
    assert rows
    for row in rows:
        assert all(cell.strip() for cell in row.split(" | ")[:1])
        assert re.fullmatch(r"\| `[^`]+` \|.*\w.*\|", row), f"nobody says what this is: {row}"


def test_every_metric_is_documented_with_its_type_and_labels() -> None:
    documented = {
        match[1]: (match[2], match[3])
        for match in re.finditer(
            r"^\| `(bff_\w+)` \| (\w+) \|([\w, ]*)\|", (DOCS / "metrics.md").read_text(), re.MULTILINE
        )
    }
    counters = Counters()
    exposed = {}
    for family in counters.collect():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        exposed[name] = (family.type, ", ".join(getattr(family, "_labelnames", ())).strip())
    assert {name: (kind, labels.strip()) for name, (kind, labels) in documented.items()} == exposed


def test_the_guides_speak_of_metrics_that_exist() -> None:
    known = set(re.findall(r"`(bff_\w+)`", (DOCS / "metrics.md").read_text()))
    for page in PAGES:
        for name in re.findall(r"\bbff_\w+", page.read_text()):
            assert name in known or any(metric.startswith(name) for metric in known), f"{page.name}: {name}"


def test_the_guides_speak_of_commands_that_exist(generate: ModuleType) -> None:
    known = re.findall(r"^## bff (.+)$", generate.commands(), re.MULTILINE)
    for page in PAGES:
        for said in re.findall(r"(?:^|`|/)bff ((?:new )?[a-z]+)\b", page.read_text(), re.MULTILINE):
            assert said in known or said == "new", f"{page.name}: bff {said}"
    targets = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for page in PAGES:
        for said in re.findall(r"`make ([a-z-]+)", page.read_text()):
            assert said in targets, f"{page.name}: make {said}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target.partition("#")[0]).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("record", sorted((DOCS / "decisions").glob("0*.md")), ids=lambda record: record.stem)
def test_a_decision_has_its_five_parts_and_is_listed(record: Path) -> None:
    text = record.read_text()
    assert re.match(rf"# {record.stem[:4]} \w", text)
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == RECORD
    assert f"]({record.name})" in (DOCS / "decisions" / "README.md").read_text()


def test_the_changelog_begins_with_what_is_unreleased() -> None:
    assert re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[0] == "Unreleased"
