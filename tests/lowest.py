"""The unit tests on the oldest dependencies that pyproject.toml admits: every `>=` of a runtime dependency is a claim.

`python tests/lowest.py [pytest arguments]` builds a virtual environment of its own in .venv/lowest, with each runtime
dependency at its lower bound and the tools as pinned, and runs what needs no browser in it.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HOME = ROOT / ".venv" / "lowest"


def bounds() -> list[str]:
    """`name==lower bound` of each runtime dependency."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found = [re.fullmatch(r"([\w.-]+)(?:\[\w+\])?>=([\w.]+)(?:,.*)?", line) for line in project["dependencies"]]
    return [f"{match[1]}=={match[2]}" for match in found if match]


def tools() -> list[str]:
    """The development tools at their pinned versions."""
    names = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["dev"]
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split() if "==" in line)
    by_name = {name.lower().replace("_", "-"): pin for name, pin in pins.items()}
    return [f"{name}=={by_name[name.lower()]}" for name in names]


def main() -> int:
    python = str(HOME / "bin" / "python")
    subprocess.run([sys.executable, "-m", "venv", str(HOME)], check=True)
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *bounds(), *tools(), "-e", str(ROOT)], check=True)
    tests = [python, "-m", "pytest", "-m", "not browser and not slow", *sys.argv[1:]]
    return subprocess.run(tests, check=False, cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(main())
