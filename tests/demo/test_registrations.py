"""The demo's folders: who imports what, what the registrations name, and what the pages may hold under their policy."""

from __future__ import annotations

import ast
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from bff.config.manifest import read_context

from .demo import FRAGMENTS, NAMES, load

ALLOWED = {"jinja2", "joserfc", "redis", "starlette", "uvicorn"}
HTML = sorted(FRAGMENTS.rglob("*.html"))
LAYOUT = (FRAGMENTS / "site/layouts/default.html").read_text()
VOID = {"area", "br", "hr", "img", "input", "link", "meta", "wbr", "use", "path", "circle"}


def name(file: Path) -> str:
    return file.relative_to(FRAGMENTS).as_posix()


@pytest.mark.parametrize("context", NAMES)
def test_a_service_imports_neither_the_gateway_nor_another_service(context: str) -> None:
    tree = ast.parse((FRAGMENTS / context / "service.py").read_text())
    imported = {
        module.partition(".")[0]
        for node in ast.walk(tree)
        for module in (
            [alias.name for alias in node.names] if isinstance(node, ast.Import)
            else ["." * node.level + (node.module or "")] if isinstance(node, ast.ImportFrom) else []
        )
    }  # fmt: skip
    assert imported - set(sys.stdlib_module_names) <= ALLOWED


@pytest.mark.parametrize("context", NAMES)
def test_a_registration_is_well_and_names_the_files_that_are_there(context: str) -> None:
    folder = FRAGMENTS / context
    manifest, findings = read_context(folder, env={})
    assert manifest is not None
    assert [str(found) for found in findings] == []
    named = set(
        re.findall(r"(?:templates|fallbacks|pages)/[a-z-]+\.(?:html|json)", (folder / "context.yaml").read_text())
    )
    there = {
        file.relative_to(folder).as_posix()
        for kind in ("templates", "fallbacks", "pages")
        for file in folder.glob(f"{kind}/*")
        if not file.name.startswith("_")
    }
    assert named == there


class Nesting(HTMLParser):
    """Every end tag matches; attributes that a strict policy would not run are noted."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.wrong += [f"{tag} {key}" for key, _ in attrs if key == "style" or key.startswith("on")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An SVG leaf."""

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(f"</{tag}>")


@pytest.mark.parametrize("file", HTML, ids=name)
def test_markup_nests_and_needs_no_inline_style_or_handler(file: Path) -> None:
    parser = Nesting()
    parser.feed(re.sub(r"{#.*?#}|{%.*?%}|{{.*?}}", "", file.read_text(), flags=re.DOTALL))
    parser.close()
    assert (parser.open, parser.wrong) == ([], [])


def test_the_style_is_one_element_within_its_budget() -> None:
    styles = re.findall(r"<style>(.*?)</style>", LAYOUT, re.DOTALL)
    assert len(styles) == 1
    assert len(styles[0].encode()) <= 12 * 1024


def test_no_placeholder_can_be_focused() -> None:
    for file in (*FRAGMENTS.glob("*/pages/*.html"), *FRAGMENTS.glob("*/layouts/*.html")):
        for placeholder in re.findall(r"<bff-fragment\b[^>]*>(.*?)</bff-fragment>", file.read_text(), re.DOTALL):
            assert not re.search(r"<(a|button|input|select|textarea|summary)\b|tabindex", placeholder), name(file)


def test_every_course_can_fly_its_number() -> None:
    flags = set(re.findall(r'<symbol id="f(.)"', LAYOUT))
    courses = load("discovery").create().app.routes[0].endpoint.__self__.catalog.courses
    assert flags >= {sign for key in courses for sign in key.partition("+")[2]}


def test_the_strip_stands_in_for_itself_with_the_same_buttons() -> None:
    site = load("site")
    standing_in = (FRAGMENTS / "site/fallbacks/strip.html").read_text()
    buttons = [f"{context} {word}" for context in site.OTHERS for word in site.WORDS.values()]
    assert re.findall(r'<button[^>]* aria-label="([^"]+)"', standing_in) == buttons
