"""Where the files that are not Python lie: what browsers run (`static/`), and the demo's settings and contexts.

A wheel carries them inside the package; a checkout has them beside it. Standard library only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

PACKAGE: Final = Path(__file__).resolve().parent


def static_folder(package: Path = PACKAGE) -> Path:
    """The folder that `/_bff/static/` is served from."""
    return _first(package / "static", package.parent / "static")


def demo_folder(package: Path = PACKAGE) -> Path:
    """The demo's registrations, each with its own `service.py`; its `bff.yaml` lies beside the folder."""
    return _first(package / "_demo" / "fragments", package.parent / "fragments")


def _first(packaged: Path, checkout: Path) -> Path:
    return packaged if packaged.is_dir() else checkout
