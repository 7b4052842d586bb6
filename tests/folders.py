"""Registrations as files, for tests of what reads them."""

from __future__ import annotations

from pathlib import Path

SHELL = "<!doctype html>\n<html lang=en><head><meta charset=utf-8><title>t</title></head>\n<body>{}</body></html>\n"


def slot(name: str, attributes: str = "") -> str:
    return f'<bff-fragment name="{name}" {attributes}></bff-fragment>'


def context(root: Path, name: str, rest: str = "", files: dict[str, str] | None = None) -> Path:
    """A folder with a `context.yaml` of owner, upstream (a port of its own) and `rest`, and further files."""
    port = 9000 + sum(map(ord, name)) % 900
    text = f"owner: team-{name}\nupstream: http://127.0.0.1:{port}\n{rest}"
    for file, content in {"context.yaml": text, **(files or {})}.items():
        write(root / name / file, content)
    return root / name


def write(file: Path, content: str) -> None:
    """As editors do: a new file in the old one's place."""
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f".{file.name}.draft")
    draft.write_text(content)
    draft.replace(file)


def shop(root: Path, body: str = slot("shop/lines"), rest: str = "") -> Path:
    """A context with a fragment and a page that shows `body`."""
    text = f"fragments:\n  lines:\n    path: /lines\n{rest}pages:\n  cart:\n    path: /cart\n    template: pages/cart.html\n"
    return context(root, "shop", text, {"pages/cart.html": SHELL.format(body)})
