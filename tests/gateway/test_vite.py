"""Vite's manifest: what an entry needs, and what is never asked for."""

import json
from typing import Any

import pytest

from bff.gateway.vite import MOST, BadManifest, read, root

MANIFEST: dict[str, Any] = {
    "src/card.ts": {
        "file": "assets/card-BRBmoGS9.js",
        "isEntry": True,
        "imports": ["_shared-B7PI925R.js"],
        "dynamicImports": ["src/later.ts"],
        "css": ["assets/card-5UjPuW-k.css"],
        "assets": ["assets/logo-DkY7qsPX.svg"],
        "integrity": "sha384-abc",
    },
    "_shared-B7PI925R.js": {
        "file": "assets/shared-B7PI925R.js",
        "css": ["assets/shared-ChJ_j-JJ.css"],
        "imports": ["_base-Ab12cd34.js"],
    },
    "_base-Ab12cd34.js": {"file": "assets/base-Ab12cd34.js", "imports": ["_shared-B7PI925R.js"]},
    "src/later.ts": {"file": "assets/later-Ee55ff66.js", "isDynamicEntry": True, "css": ["assets/later-Gg77hh88.css"]},
    "src/page.css": {"file": "assets/page-Ii99jj00.css", "isEntry": True},
    "src/other.ts": {"file": "assets/other-Kk11ll22.js"},
}


def test_what_an_entry_needs() -> None:
    entry = read(json.dumps(MANIFEST).encode(), "src/card.ts")
    assert entry.css == ("assets/card-5UjPuW-k.css", "assets/shared-ChJ_j-JJ.css")
    assert entry.js == ("assets/card-BRBmoGS9.js",)
    assert entry.imports == ("assets/shared-B7PI925R.js", "assets/base-Ab12cd34.js")
    assert entry.others == ("assets/logo-DkY7qsPX.svg", "assets/later-Ee55ff66.js", "assets/later-Gg77hh88.css")
    assert entry.integrity == {"assets/card-BRBmoGS9.js": "sha384-abc"}
    assert entry.hashed
    assert len(set(entry.files)) == len(entry.files) == 8


def test_an_entry_that_is_a_style_sheet() -> None:
    entry = read(json.dumps(MANIFEST).encode(), "src/page.css")
    assert (entry.css, entry.js, entry.imports, entry.others) == (("assets/page-Ii99jj00.css",), (), (), ())


def test_names_without_a_hash_are_noticed() -> None:
    assert not read(json.dumps({"a": {"file": "card.js"}}).encode(), "a").hashed


@pytest.mark.parametrize(
    "manifest",
    [
        "no json",
        "[" * 100_000,
        "[]",
        "{}",
        '{"src/card.ts": 1}',
        '{"src/card.ts": {}}',
        '{"src/card.ts": {"file": 1}}',
        '{"src/card.ts": {"file": "a.js", "imports": ["b"]}}',
        '{"src/card.ts": {"file": "a.js", "imports": "b"}}',
        '{"src/card.ts": {"file": "a.js", "css": [1]}}',
        *(
            json.dumps({"src/card.ts": {"file": path}})
            for path in (
                "../a.js",
                "a/../../b.js",
                "/a.js",
                "//evil.example/a.js",
                "http://evil.example/a.js",
                "a.js?x",
                "a b.js",
                "a.php",
                "a",
                ".git/config.js",
                "a\r\nx: y.js",
                "",
                "a//b.js",
                "a/./b.js",
            )
        ),
        json.dumps({"src/card.ts": {"file": "a.js", "css": [f"{n}.css" for n in range(MOST)]}}),
    ],
)
def test_what_is_no_manifest(manifest: str) -> None:
    with pytest.raises(BadManifest):
        read(manifest.encode(), "src/card.ts")


@pytest.mark.parametrize(
    ("path", "folder"),
    [
        ("/.vite/manifest.json", "/"),
        ("/app/.vite/manifest.json", "/app/"),
        ("/manifest.json", "/"),
        ("/a/manifest.json", "/a/"),
    ],
)
def test_the_folder_of_a_manifest(path: str, folder: str) -> None:
    assert root(path) == folder
