"""New contexts, fragments and pages: accepted as written, and nothing of what people wrote is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from bff import scaffold
from bff.config.manifest import Manifest, read_context
from bff.scaffold import Refused, insert, new_context, new_fragment, new_page

URL = "http://127.0.0.1:9201"


def shop(root: Path, text: str = "") -> Path:
    """A context `shop`; `text` follows owner and upstream."""
    file = root / "shop" / "context.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(f"owner: team-shop   # ours\nupstream: {URL}\n{text}")
    return file


def read(folder: Path) -> Manifest:
    manifest, findings = read_context(folder, env={})
    assert findings == []
    assert manifest is not None
    return manifest


# --- contexts ---------------------------------------------------------------------------------------------------------


def test_a_new_context_is_accepted(tmp_path: Path) -> None:
    files = new_context(tmp_path / "fragments", "shop", upstream=URL, owner="team-shop", env={})
    assert files == [tmp_path / "fragments/shop/context.yaml"]
    manifest = read(files[0].parent)
    assert (manifest.owner, manifest.spec.upstream) == ("team-shop", URL)


def test_a_context_that_is_there_is_left_alone(tmp_path: Path) -> None:
    before = shop(tmp_path).read_bytes()
    with pytest.raises(Refused, match="exists already; add to it with `bff new fragment shop/NAME`"):
        new_context(tmp_path, "shop", upstream=URL, owner="x", env={})
    assert (tmp_path / "shop/context.yaml").read_bytes() == before


@pytest.mark.parametrize("name", ["Shop", "-shop", "shop-", "a--b", "a/b", "", "shöp", "9"])
def test_names_are_checked(tmp_path: Path, name: str) -> None:
    with pytest.raises(Refused, match="is no name for a context"):
        new_context(tmp_path, name, upstream=URL, owner="x", env={})
    assert list(tmp_path.iterdir()) == []


def test_what_is_written_is_quoted_where_yaml_would_misread_it(tmp_path: Path) -> None:
    new_context(tmp_path, "shop", upstream=URL, owner="team: shop # ours", env={})
    assert read(tmp_path / "shop").owner == "team: shop # ours"


@pytest.mark.parametrize("upstream", ["localhost:9201", "ftp://x", "http://x\nowner: y"])
def test_a_bad_upstream_leaves_nothing_behind(tmp_path: Path, upstream: str) -> None:
    with pytest.raises(Refused, match="nothing was written"):
        new_context(tmp_path, "shop", upstream=upstream, owner="team-shop", env={})
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "fragments").write_text("a file")
    with pytest.raises(Refused, match="fragments"):
        new_context(tmp_path / "fragments", "shop", upstream=URL, owner="x", env={})


# --- fragments --------------------------------------------------------------------------------------------------------


def test_a_new_fragment_has_a_path_and_a_fallback_that_shows(tmp_path: Path) -> None:
    file = shop(tmp_path)
    files = new_fragment(tmp_path, "shop/course-card", env={})
    assert files == [tmp_path / "shop/fallbacks/course-card.html", file]
    fragment = read(file.parent).spec.fragments["course-card"]
    assert (fragment.path, fragment.fallback) == ("/course-card", ("fallbacks/course-card.html",))
    assert "Course card is not available" in files[0].read_text()


def test_comments_order_and_everything_else_stay(tmp_path: Path) -> None:
    text = "fragments:   # what we serve\n    a:   # first\n        path: /a\n\n    # the end of them\n\n# pages are below\npages: {}\n"
    file = shop(tmp_path, text)
    before = file.read_text().splitlines()
    new_fragment(tmp_path, "shop/b", env={})
    after = file.read_text().splitlines()
    assert [line for line in after if line in before] == before
    assert [*read(file.parent).spec.fragments] == ["a", "b"]
    assert "    b:" in after
    assert "        path: /b" in after


def test_a_fragment_that_is_there_is_left_alone(tmp_path: Path) -> None:
    shop(tmp_path, "fragments:\n  a:\n    path: /a\n")
    with pytest.raises(Refused, match="shop/a is registered already"):
        new_fragment(tmp_path, "shop/a", env={})


def test_a_file_that_is_there_is_not_overwritten(tmp_path: Path) -> None:
    file = shop(tmp_path)
    fallback = tmp_path / "shop/fallbacks/a.html"
    fallback.parent.mkdir()
    fallback.write_text("mine")
    before = file.read_bytes()
    with pytest.raises(Refused, match="exists already and is not overwritten"):
        new_fragment(tmp_path, "shop/a", env={})
    assert (fallback.read_text(), file.read_bytes()) == ("mine", before)


def test_flow_style_is_refused_with_what_to_write(tmp_path: Path) -> None:
    file = shop(tmp_path, "fragments: {a: {path: /a}}\n")
    before = file.read_bytes()
    with pytest.raises(Refused, match="not written as an indented block") as refused:
        new_fragment(tmp_path, "shop/b", env={})
    assert "path: /b" in str(refused.value)
    assert file.read_bytes() == before
    assert not (tmp_path / "shop/fallbacks/b.html").exists()


def test_an_unusual_layout_that_cannot_be_added_to_is_restored(tmp_path: Path) -> None:
    file = shop(tmp_path, '"fragments":\n  a:\n    path: /a\n')
    before = file.read_bytes()
    with pytest.raises(Refused, match="nothing was written"):
        new_fragment(tmp_path, "shop/b", env={})
    assert file.read_bytes() == before
    assert not (tmp_path / "shop/fallbacks/b.html").exists()


def test_an_entry_that_ends_up_elsewhere_is_taken_back(tmp_path: Path) -> None:
    file = shop(tmp_path)
    before = file.read_bytes()
    manifest = read(file.parent)
    change = scaffold.Change(edit=(file, before.decode(), before.decode() + "contact: x\n"))
    with pytest.raises(Refused, match="laid out in a way"):
        change.write(
            lambda: scaffold._complaint(file.parent, {}, lambda after: scaffold._grown(manifest, after, fragment="b"))
        )
    assert file.read_bytes() == before


def test_a_broken_registration_is_not_added_to(tmp_path: Path) -> None:
    shop(tmp_path, "nonsense: true\n")
    with pytest.raises(Refused, match=r"(?s)repair them first.*nonsense"):
        new_fragment(tmp_path, "shop/a", env={})


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("course-card", "names no context; write CONTEXT/NAME"),
        ("shop/Card", "is no name for a fragment"),
        ("none/card", "there is no context 'none'"),
    ],
)
def test_fragments_need_a_context_and_a_name(tmp_path: Path, name: str, message: str) -> None:
    shop(tmp_path)
    with pytest.raises(Refused, match=message):
        new_fragment(tmp_path, name, env={})


# --- pages ------------------------------------------------------------------------------------------------------------


def test_a_new_page_shows_what_needs_no_parameters(tmp_path: Path) -> None:
    file = shop(
        tmp_path,
        "fragments:\n"
        "  plain:\n    path: /a\n"
        "  asks:\n    path: '/b/{id}'\n    params: {id: {type: str}}\n"
        "  data:\n    path: /c\n    source: json\n",
    )
    files = new_page(tmp_path, "shop/home", path="/", env={})
    assert files == [tmp_path / "shop/pages/home.html", file]
    page = read(file.parent).spec.pages["home"]
    assert (page.path, page.template) == ("/", "pages/home.html")
    shell = files[0].read_text()
    assert shell.startswith("<!doctype html>")
    assert shell.count("<bff-fragment") == 1
    assert 'name="shop/plain"' in shell


def test_a_page_of_a_context_without_fragments_says_what_to_do(tmp_path: Path) -> None:
    shop(tmp_path)
    files = new_page(tmp_path, "shop/home", path="/", env={})
    assert "<bff-fragment" not in files[0].read_text()
    assert "bff-fragment" in files[0].read_text()


def test_a_page_extends_the_sites_layout_where_there_is_one(tmp_path: Path) -> None:
    shop(tmp_path)
    layout = tmp_path / scaffold.LAYOUT
    layout.parent.mkdir(parents=True)
    layout.write_text("…")
    files = new_page(tmp_path, "shop/home", path="/", env={})
    assert files[0].read_text().startswith('{% extends "site/layouts/default.html" %}\n{% block title %}Home{% end')


@pytest.mark.parametrize("path", ["no-slash", "/a b", "/{Id}", "/x # y", '/"'])
def test_a_bad_route_leaves_nothing_behind(tmp_path: Path, path: str) -> None:
    file = shop(tmp_path)
    before = file.read_bytes()
    with pytest.raises(Refused):
        new_page(tmp_path, "shop/home", path=path, env={})
    assert file.read_bytes() == before
    assert not (tmp_path / "shop/pages/home.html").exists()


def test_a_page_that_is_there_is_left_alone(tmp_path: Path) -> None:
    shop(tmp_path)
    new_page(tmp_path, "shop/home", path="/", env={})
    with pytest.raises(Refused, match="shop/home is registered already"):
        new_page(tmp_path, "shop/home", path="/x", env={})


def test_everything_one_after_the_other(tmp_path: Path) -> None:
    new_context(tmp_path, "shop", upstream=URL, owner="team-shop", env={})
    new_fragment(tmp_path, "shop/a", env={})
    new_page(tmp_path, "shop/one", path="/one/{id}", env={})
    new_fragment(tmp_path, "shop/b", env={})
    new_page(tmp_path, "shop/two", path="/two", env={})
    spec = read(tmp_path / "shop").spec
    assert ([*spec.fragments], [*spec.pages]) == (["a", "b"], ["one", "two"])


# --- text -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("owner: x\n", "owner: x\npages:\n  a:\n    b: c\n"),
        ("owner: x", "owner: x\npages:\n  a:\n    b: c\n"),
        ("pages:\nowner: x\n", "pages:\n  a:\n    b: c\nowner: x\n"),
        ("pages: {}\n", "pages:\n  a:\n    b: c\n"),
        ("pages: { }  # none\n", "pages:  # none\n  a:\n    b: c\n"),
        ("pages:\n    z:\n        y: x\n", "pages:\n    z:\n        y: x\n    a:\n        b: c\n"),
        ("pages:\n  # all\n  z: {}\n# end\n", "pages:\n  # all\n  z: {}\n  a:\n    b: c\n# end\n"),
        ("pages:\n  z: {}\n\n\nproxy: []\n", "pages:\n  z: {}\n  a:\n    b: c\n\n\nproxy: []\n"),
        ("pages:\r\n  z: {}\r\n", "pages:\r\n  z: {}\r\n  a:\r\n    b: c\r\n"),
    ],
)
def test_an_entry_goes_to_the_end_of_its_section(text: str, expected: str) -> None:
    assert insert(text, "pages", ["a:", "  b: c"]) == expected


def test_what_cannot_be_written_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    file = shop(tmp_path)
    (file.parent / ".context.yaml.new").mkdir()  # where the draft would be
    before = file.read_bytes()
    with pytest.raises(Refused, match=r"\.context\.yaml\.new: Is a directory"):
        new_fragment(tmp_path, "shop/lines", env={})
    assert file.read_bytes() == before
    assert not (file.parent / "fallbacks").exists()
