"""The layers and the seams: imports point down only, and each library enters through one place. See docs/decisions/0010."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "bff").rglob("*.py"))
SERVICES = sorted((ROOT / "fragments").rglob("*.py"))

LAYERS = {
    "": 0, "model": 0, "errors": 0, "units": 0, "timer": 0, "paths": 0,
    "rules": 1, "markup": 1,
    "config": 2, "upstream": 2, "store": 2, "events": 2,
    "registry": 3,
    "page": 4,
    "gateway": 5,
    "cli": 6,
}  # fmt: skip
FAMILIES = {  # modules that would be a folder with the one they are named with, if there were more of them
    "allow": "registry", "build": "registry", "builder": "registry", "explain": "registry", "link": "registry",
    "__main__": "cli", "arguments": "cli", "chosen": "cli", "demo": "cli", "findings": "cli", "fitness": "cli", "leaping": "cli", "operate": "cli", "operations": "cli", "scaffold": "cli", "simulate": "cli", "verify": "cli", "waterfall": "cli",
}  # fmt: skip

SEAMS = {  # library → the only places that may import it
    "anyio": ("bff/*",),
    "backports": ("bff/gateway/compress.py",),
    "brotli": ("bff/gateway/compress.py",),
    "cachetools": ("bff/store/memory.py",),
    "compression": ("bff/gateway/compress.py",),  # part of the standard library since Python 3.14
    "fastavro": ("bff/events/payload.py",),
    "httptools": ("bff/upstream/*.py", "bff/gateway/protocol.py", "bff/gateway/server.py"),
    "httpx2": ("bff/upstream/remote.py",),
    "jinja2": ("bff/config/templates.py", "bff/config/render.py", "bff/config/sandbox.py"),
    "joserfc": ("bff/gateway/tokens.py",),
    "nh3": ("bff/markup/repair.py",),
    "prometheus_client": ("bff/gateway/telemetry.py", "bff/gateway/peers.py"),
    "pydantic": ("bff/config/*.py",),
    "pydantic_core": ("bff/config/*.py",),
    "re2": ("bff/config/*.py",),
    "redis": ("bff/events/redis.py", "bff/store/*.py"),
    "rich": ("bff/cli.py", "bff/waterfall.py"),
    "selectolax": ("bff/markup/repair.py",),
    "starlette": ("bff/gateway/*.py",),
    "typer": ("bff/cli.py", "bff/arguments.py", "bff/operations.py"),
    "uvicorn": ("bff/gateway/server.py", "bff/gateway/protocol.py"),
    "uvloop": ("bff/gateway/server.py",),
    "watchfiles": ("bff/registry.py",),
    "yaml": ("bff/config/yaml.py",),
}

LONG_FUNCTIONS: dict[str, str] = {}  # "bff/x.py:name" → why it is one piece
LONG_MODULES = {"bff/model.py": "the words of every module: one place to read them, nothing to run"}


def name(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def nodes(node: ast.AST, *, running: bool) -> Iterator[ast.AST]:
    """Every node below; `running`: without what stands under `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(node):
        if not (running and isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            yield child
            yield from nodes(child, running=running)


def imports(file: Path, *, running: bool = False) -> Iterator[str]:
    """Absolute dotted names of everything a file imports, inside functions too; `running`: not what only types need."""
    package = file.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in nodes(ast.parse(file.read_text()), running=running):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = [*package[: len(package) - node.level + 1]] if node.level else []
            dotted = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{dotted}.{alias.name}" for alias in node.names)


def room(dotted: str) -> str:
    """The part of `bff` that a dotted name lies in: `bff.page.plan` → `page`; `bff.link` → `registry`; `bff` → ``."""
    first = f"{dotted}.".split(".")[1]
    return FAMILIES.get(first, first if first in LAYERS else "")


def module(dotted: str) -> str:
    """The module that a dotted name is or lies in."""
    known = {".".join(file.relative_to(ROOT).with_suffix("").parts) for file in MODULES}
    return dotted if dotted in known else dotted.rpartition(".")[0]


@pytest.mark.parametrize("file", MODULES, ids=name)
def test_imports_point_down(file: Path) -> None:
    parts = file.relative_to(ROOT / "bff").with_suffix("").parts
    assert parts[0] in {*LAYERS, *FAMILIES, "__init__"}, f"{name(file)} stands in no layer; give {parts[0]} a number"
    own = room(".".join(("bff", *parts)))
    for dotted in imports(file):
        if dotted.split(".")[0] == "bff":
            other = room(dotted)
            assert other == own or LAYERS[other] < LAYERS[own], f"{name(file)} ({own}) imports {dotted} ({other})"


def test_no_two_modules_need_each_other() -> None:
    edges = {
        ".".join(file.relative_to(ROOT).with_suffix("").parts): {
            module(dotted) for dotted in imports(file, running=True)
        }
        for file in MODULES
    }
    while leaves := {dotted for dotted, needs in edges.items() if not needs & set(edges)}:
        edges = {dotted: needs for dotted, needs in edges.items() if dotted not in leaves}
    assert not edges, f"import cycles among {sorted(edges)}"


@pytest.mark.parametrize("file", MODULES, ids=name)
def test_each_library_enters_through_its_seam(file: Path) -> None:
    for dotted in imports(file):
        library = dotted.split(".")[0]
        if library != "bff" and library not in sys.stdlib_module_names:
            places = SEAMS.get(library)
            assert places, f"{name(file)} imports {library}, which has no seam"
            assert any(fnmatch(name(file), p) for p in places), f"{name(file)} imports {library}; its seam is {places}"


def test_no_seam_is_left_over() -> None:
    used = {dotted.split(".")[0] for file in MODULES for dotted in imports(file)}
    assert used >= set(SEAMS), f"no module imports {sorted(set(SEAMS) - used)}"


@pytest.mark.parametrize("file", MODULES, ids=name)
def test_nothing_is_too_long_to_read(file: Path) -> None:
    text = file.read_text()
    assert len(text.splitlines()) <= 400 or name(file) in LONG_MODULES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= 60 or f"{name(file)}:{node.name}" in LONG_FUNCTIONS, f"{node.name}: {length} lines"


@pytest.mark.parametrize("file", SERVICES, ids=name)
def test_a_demo_context_knows_neither_the_gateway_nor_another(file: Path) -> None:
    contexts = {service.relative_to(ROOT / "fragments").parts[0] for service in SERVICES}
    own = file.relative_to(ROOT / "fragments").parts[0]
    for dotted in imports(file):
        parts = dotted.split(".")
        assert parts[0] != "bff", f"{name(file)} imports {dotted}"
        assert not {*parts} & (contexts - {own}), f"{name(file)} imports {dotted}"
