"""Files and folders that the gateway may not read: told with place, owner and remedy, and nobody else's harm.

Read by a process of its own, without root's right to read everything.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from bff.config.options import Settings
from bff.registry import Registry
from tests.folders import SHELL, context, shop, slot, write

AS_ANYBODY: Final = ("setpriv", "--bounding-set=-all", "--inh-caps=-all") if os.geteuid() == 0 else ()
READER: Final = """
import json, sys
from pathlib import Path
from bff.config.options import Settings
from bff.registry import Registry

root, *closed = map(Path, sys.argv[1:])

def told(made):
    world = made.load()
    findings = [str(each).replace(f"{root}/", "") for each in world.findings]
    print(json.dumps({"loaded": world.loaded, "pages": [*world.pages], "findings": findings}))

for file in closed:
    before = Registry(Settings.model_validate({"fragments": root}), {})
    before.load()
    mode = file.stat().st_mode
    file.chmod(0)
    told(Registry(Settings.model_validate({"fragments": root}), {}))  # at start
    told(before)  # at a reload
    file.chmod(mode)
    told(before)
"""
DENIED: Final = "cannot be read: Permission denied"
OWN: Final = {
    "shop": f"shop/context.yaml:1:1: error: {DENIED} — check its permissions [shop]",
    "shop/context.yaml": f"shop/context.yaml:1:1: error: {DENIED} — check its permissions [shop]",
    "shop/fallbacks": f"shop/context.yaml:6:16: error: 'fallbacks/lines.html' {DENIED} — check its permissions [shop, team-shop]",
    "shop/fallbacks/lines.html": f"shop/context.yaml:6:16: error: 'fallbacks/lines.html' {DENIED} — check its permissions [shop, team-shop]",
    "shop/templates/lines.html": f"shop/context.yaml:7:15: error: 'templates/lines.html' {DENIED} — check its permissions [shop, team-shop]",
    "shop/templates/row.html": f"shop/templates/row.html:1:1: error: the template cannot be compiled: it {DENIED} — correct it [shop, team-shop]",
    "shop/pages/cart.html": f"shop/context.yaml:12:15: error: 'pages/cart.html' {DENIED} — check its permissions [shop, team-shop]",
}
LAYOUTS: Final = ("site/layouts", "site/layouts/default.html")


def registrations(root: Path) -> None:
    rest = "    fallback: [fallbacks/lines.html]\n    template: templates/lines.html\n    source: json\n"
    shop(root, slot("site/header"), rest)
    write(root / "shop/fallbacks/lines.html", "<p>later</p>")
    write(root / "shop/templates/lines.html", "<p>{{ data }}</p>{% include 'templates/row.html' %}")
    write(root / "shop/templates/row.html", "<p>row</p>")
    write(root / "shop/pages/cart.html", '{% extends "site/layouts/default.html" %}')
    layout = SHELL.format("{% block main %}{% endblock %}")
    pages = "fragments: {header: {path: /h}}\npages: {home: {path: /home, template: pages/home.html}}\n"
    context(root, "site", pages, {"layouts/default.html": layout, "pages/home.html": layout})


def read(root: Path, *closed: str) -> dict[str, list[dict[str, Any]]]:
    """What registries hold and tell at start, at a reload, and when all is open again, for each that is closed."""
    words = [*AS_ANYBODY, sys.executable, "-c", READER, str(root), *(str(root / each) for each in closed)]
    ran = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    assert (ran.returncode, ran.stderr) == (0, "")
    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    return {each: lines[3 * number : 3 * number + 3] for number, each in enumerate(closed)}


def test_what_a_context_has_closed_is_told_and_harms_no_other(tmp_path: Path) -> None:
    registrations(tmp_path)
    for closed, (start, reload, after) in read(tmp_path, *OWN).items():
        assert start == {"loaded": {"shop": False, "site": True}, "pages": ["site/home"], "findings": [OWN[closed]]}
        assert reload == {**start, "pages": ["shop/cart", "site/home"]}, closed
        assert after == {"loaded": {"shop": True, "site": True}, "pages": ["shop/cart", "site/home"], "findings": []}


def test_a_layout_that_may_not_be_read_is_replaced_as_one_that_is_not_there(tmp_path: Path) -> None:
    registrations(tmp_path)
    for start, reload, after in read(tmp_path, *LAYOUTS).values():
        for each in (start, reload):
            assert (each["loaded"], each["pages"]) == ({"shop": True, "site": True}, ["shop/cart", "site/home"])
            [told] = each["findings"]
            assert told.startswith("shop/pages/cart.html:1:1: warning: 'site/layouts/default.html' cannot be used: ")
            assert DENIED in told
        assert after["findings"] == []


def test_a_change_of_permissions_is_a_change(tmp_path: Path) -> None:
    registrations(tmp_path)
    made = Registry(Settings.model_validate({"fragments": tmp_path}), {})
    world = made.load()
    assert made.load() is world
    (tmp_path / "shop/context.yaml").chmod(0o600)
    assert made.load() is not world
