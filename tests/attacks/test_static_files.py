"""Files: nothing is read from a disk by a name that a visitor or a context wrote."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bff.config.settings import read_settings
from bff.gateway.packed import Static
from bff.gateway.vite import BadManifest, read
from bff.registry import Registry
from tests.attacks.ground import ground, registration, written
from tests.gateway.proxies import said

pytestmark = pytest.mark.anyio

PATHS = [
    "../../etc/passwd", "..%2f..%2fetc%2fpasswd", "%2e%2e/%2e%2e/etc/passwd", "....//....//etc/passwd", "..;/..;/etc/passwd",
    "..\\..\\etc\\passwd", "..%5c..%5cetc", "%252e%252e%252fetc", "/etc/passwd", "//etc/passwd", "bff.js%00.css", "bff.js/", "bff.js/.",
    "./bff.js", "../static/bff.js", "BFF.JS", "bff%2ejs", ".", "", "%00", "bff.js;x", "bff.js%20", "C:/x", "file:///etc/passwd", "bff.py",
    "../bff/cli.py", "x" * 3000,
]  # fmt: skip


async def test_a_static_file_has_one_name_and_nothing_else_is_one(tmp_path: Path) -> None:
    async with ground(tmp_path) as here:
        assert (await here.ask("/_bff/static/bff.js")).status == 200
        for path in PATHS:
            for folder in ("static", "assets", "assets/shop"):
                answer = await here.ask(f"/_bff/{folder}/{path}")
                assert answer.status in (400, 404), (folder, path)
                assert b"root:" not in answer.body


async def test_a_thousand_ranges_of_a_file_are_the_file(tmp_path: Path) -> None:
    async with ground(tmp_path) as here:
        whole = await here.ask("/_bff/static/bff.js")
        many = "bytes=" + ",".join(f"{at}-{at}" for at in range(0, 4000, 2))
        answer = await here.ask("/_bff/static/bff.js", headers={"Range": many})
        assert (answer.status, answer.body) == (200, whole.body)


def test_only_kinds_of_files_that_browsers_take_are_served(tmp_path: Path) -> None:
    for name in ("a.py", "a.yaml", ".env", "a", "a.css"):
        (tmp_path / name).write_text("x")
    static = Static(tmp_path)
    assert [static.answer(name, []).status for name in ("a.py", "a.yaml", ".env", "a", "a.css")] == [
        404,
        404,
        404,
        404,
        200,
    ]


@pytest.mark.parametrize(
    "name",
    ["../secret.html", "/etc/passwd", "templates/../../secret.html", "templates/link.html", "pages/folder/secret.html"],
)
def test_a_registration_reads_no_file_outside_its_folder(tmp_path: Path, name: str) -> None:
    """Neither by dots nor by a symbolic link."""
    (tmp_path / "fragments" / "shop" / "templates").mkdir(parents=True)
    (tmp_path / "fragments" / "shop" / "pages").mkdir()
    (tmp_path / "fragments" / "secret.html").write_text("<p>secret</p>")
    (tmp_path / "fragments/shop/templates/link.html").symlink_to(tmp_path / "fragments" / "secret.html")
    (tmp_path / "fragments/shop/pages/folder").symlink_to(tmp_path / "fragments")
    fragments = {"card": {"path": "/card", "source": "json", "template": name}}
    file = written(tmp_path, {"shop": {"fragments": fragments}}, "http://127.0.0.1:9", {})
    settings, _ = read_settings(file, env={})
    world = Registry(settings, {}, config=file).load()
    assert any(finding.severity == "error" for finding in world.findings)
    assert "shop/card" not in world.fragments


BUILDS = [
    "../../../etc/passwd",
    "/etc/passwd.js",
    "//evil/x.js",
    "https://evil/x.js",
    "a/../../x.js",
    "a\\x.js",
    "a/%2e%2e/x.js",
    "x.php",
    ".x.js",
    "a/./b.js",
    "x.js?y",
    "x.js#y",
]


@pytest.mark.parametrize("file", BUILDS)
def test_a_build_names_files_of_its_own_folder_only(file: str) -> None:
    for chunk in ({"file": file}, {"file": "a.js", "css": [file]}, {"file": "a.js", "assets": [file]}):
        with pytest.raises(BadManifest):
            read(json.dumps({"src/a.ts": chunk}).encode(), "src/a.ts")


async def test_an_asset_is_what_its_context_had_and_no_document_of_ours(tmp_path: Path) -> None:
    fragments = {"card": {"path": "/card", "assets": {"css": ["/a.css"], "js": ["/a.js"]}}}
    async with ground(tmp_path, registration(fragments=fragments)) as here:
        here.context.answers["/a.css"] = said(b"body{}", content_type="text/html")
        here.context.answers["/a.js"] = said(b"let x", content_type="text/html")
        await here.running.assets.refresh()
        links = here.running.assets.hoisted["shop/card"]
        for link in (*links.css, *links.js):
            answer = await here.ask(link.url)
            assert answer.headers["content-type"] in ("text/css; charset=utf-8", "text/javascript; charset=utf-8")
            assert answer.headers["x-content-type-options"] == "nosniff"
