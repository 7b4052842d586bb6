"""The current registrations: loaded, changed as a whole, the last good version of each context kept."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from bff import registry as module
from bff.config.options import Settings
from bff.config.settings import read_settings
from bff.errors import Finding
from bff.registry import NONE, Registry, World, _files
from bff.rules.overrides import Layers
from tests.folders import SHELL, context, shop, slot, write

pytestmark = pytest.mark.anyio


def registry(root: Path, **settings: Any) -> Registry:
    return Registry(Settings.model_validate({"fragments": root, **settings}), {})


def codes(world: World) -> list[str]:
    return [finding.code for finding in world.findings if finding.severity != "note"]


def site(root: Path, rest: str = "", **files: str) -> Path:
    return context(root, "site", f"fragments:\n  header:\n    path: /header\n{rest}", files)


# --- loading ----------------------------------------------------------------------------------------------------------


async def test_contexts_load_into_one_world(tmp_path: Path) -> None:
    shop(tmp_path, slot("site/header") + slot("shop/lines"))
    site(tmp_path)
    made = registry(tmp_path)
    assert made.world.generation == 0
    world = made.load()
    assert made.world is world
    assert ([*world.contexts], world.loaded) == (["shop", "site"], {"shop": True, "site": True})
    assert ([*world.fragments], [*world.pages]) == (["shop/lines", "site/header"], ["shop/cart"])
    assert (codes(world), world.generation) == ([], 1)


async def test_a_broken_context_is_left_out_and_harms_no_other(tmp_path: Path) -> None:
    shop(tmp_path, slot("site/header"))
    context(tmp_path, "site", "nonsense: 1\n")
    world = registry(tmp_path).load()
    assert world.loaded == {"shop": True, "site": False}
    assert [*world.contexts] == ["shop"]
    assert "shop/cart" in world.pages
    assert codes(world) == ["unknown-key", "dangling"]


async def test_a_mistake_on_an_own_page_breaks_the_context(tmp_path: Path) -> None:
    shop(tmp_path, slot("shop/gone"))
    world = registry(tmp_path).load()
    assert (world.loaded, codes(world)) == ({"shop": False}, ["unknown-fragment"])


async def test_folders_without_a_registration_are_noted_and_hidden_ones_ignored(tmp_path: Path) -> None:
    shop(tmp_path)
    for name in ("drafts", ".git", "__pycache__", "_old", "node_modules"):
        (tmp_path / name).mkdir()
    (tmp_path / "README.md").write_text("…")
    world = registry(tmp_path).load()
    notes = [finding for finding in world.findings if finding.severity == "note"]
    assert [(Path(note.file).name, note.code) for note in notes] == [("drafts", "no-context")]


@pytest.mark.parametrize("name", [b"caf\xe9", b"a\nb"])
async def test_a_folder_whose_name_is_no_text_is_told_and_harms_no_other(tmp_path: Path, name: bytes) -> None:
    shop(tmp_path)
    folder = Path(os.fsdecode(bytes(tmp_path) + b"/" + name))
    write(folder / "context.yaml", "owner: x\n")
    world = registry(tmp_path).load()
    assert (world.loaded, codes(world)) == ({"shop": True}, ["bad-name"])
    "".join(map(str, world.findings)).encode()  # which logs, and metrics, do


async def test_a_link_to_nowhere_is_nothing(tmp_path: Path) -> None:
    (shop(tmp_path) / "draft.html").symlink_to(tmp_path / "gone")
    assert codes(registry(tmp_path).load()) == []


async def test_a_missing_folder_is_a_finding(tmp_path: Path) -> None:
    world = registry(tmp_path / "none").load()
    assert codes(world) == ["no-fragments"]


async def test_a_folder_that_is_away_takes_nothing_down(tmp_path: Path) -> None:
    shop(tmp_path / "fragments")
    made = registry(tmp_path / "fragments")
    made.load()
    (tmp_path / "fragments").rename(tmp_path / "aside")
    world = made.reload()
    assert ([*world.pages], world.loaded) == (["shop/cart"], {"shop": False})
    assert codes(world) == ["no-fragments", "unreadable"]
    (tmp_path / "aside").rename(tmp_path / "fragments")
    world = made.reload()
    assert ([*world.pages], world.loaded, codes(world)) == (["shop/cart"], {"shop": True}, [])


async def test_a_folder_that_cannot_be_looked_into_is_one_contexts_finding(tmp_path: Path) -> None:
    shop(tmp_path)
    long = tmp_path / "locked"  # as with a folder of somebody else's: asking whether there is a file fails
    long.mkdir()
    (long / "context.yaml").symlink_to("x" * 256)
    world = registry(tmp_path).load()
    assert (world.loaded, codes(world)) == ({"locked": False, "shop": True}, ["unreadable"])


async def test_at_start_the_first_context_holds_a_route(tmp_path: Path) -> None:
    for name in ("b", "a"):
        pages = "pages:\n  home:\n    path: /\n    template: pages/home.html\n"
        context(tmp_path, name, pages, {"pages/home.html": SHELL.format("")})
    made = registry(tmp_path)
    world = made.load()
    assert [*world.pages] == ["a/home"]
    assert (world.loaded, codes(world)) == ({"a": True, "b": True}, ["route-taken"])


async def test_who_holds_a_route_keeps_it(tmp_path: Path) -> None:
    pages = "pages:\n  home:\n    path: /\n    template: pages/home.html\n"
    context(tmp_path, "b", pages, {"pages/home.html": SHELL.format("")})
    made = registry(tmp_path)
    made.load()
    context(tmp_path, "a", pages, {"pages/home.html": SHELL.format("")})
    assert [*made.reload().pages] == ["b/home"]
    shutil.rmtree(tmp_path / "b")
    assert [*made.reload().pages] == ["a/home"]


async def test_a_defect_of_ours_is_one_contexts_finding(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shop(tmp_path)
    folder = site(tmp_path, "    fallback: [fallbacks/header.html]\n", **{"fallbacks/header.html": "x"})
    made = Registry(Settings(fragments=tmp_path), _Env({folder.name}))
    world = made.load()
    assert world.loaded == {"shop": True, "site": False}
    (finding,) = [each for each in world.findings if each.severity == "error"]
    assert (finding.code, finding.context) == ("internal", "site")
    assert "RuntimeError: no luck" in finding.message
    assert "could not be compiled" in caplog.text


class _Env(dict[str, str]):
    """An environment that cannot be read for some contexts."""

    def __init__(self, unlucky: set[str]) -> None:
        self._unlucky = {f"BFF_UPSTREAM__{name.upper()}" for name in unlucky}

    def get(self, key: str, default: Any = None) -> Any:
        if key in self._unlucky:
            raise RuntimeError("no luck")
        return default


async def test_the_environment_says_where_a_context_is(tmp_path: Path) -> None:
    shop(tmp_path)
    made = Registry(Settings(fragments=tmp_path), {"BFF_UPSTREAM__SHOP": "http://10.0.0.1:81/base"})
    upstream = made.load().contexts["shop"].upstream
    assert upstream is not None
    assert (upstream.host, upstream.port, upstream.base) == ("10.0.0.1", 81, "/base")


# --- reloading --------------------------------------------------------------------------------------------------------


async def test_nothing_changed_is_the_same_world(tmp_path: Path) -> None:
    folder = shop(tmp_path)
    made = registry(tmp_path)
    world = made.load()
    write(folder / "service.py", "no registration uses this")
    assert made.reload() is world
    assert made.load() is world


async def test_only_what_changed_is_compiled_again(tmp_path: Path) -> None:
    shop(tmp_path)
    site(tmp_path)
    made = registry(tmp_path)
    before = made.load()
    site(tmp_path, "  footer:\n    path: /footer\n")
    after = made.reload()
    assert after.generation == 2
    assert "site/footer" in after.fragments
    assert "site/footer" not in before.fragments
    assert after.contexts["shop"] is before.contexts["shop"]


async def test_a_context_that_breaks_keeps_its_last_good_version(tmp_path: Path) -> None:
    folder = shop(tmp_path)
    made = registry(tmp_path)
    good = made.load()
    write(folder / "pages/cart.html", SHELL.format(slot("shop/gone")))
    broken = made.reload()
    assert broken.contexts["shop"] is good.contexts["shop"]
    assert (broken.loaded, codes(broken)) == ({"shop": False}, ["unknown-fragment"])
    write(folder / "context.yaml", "owner: [")
    assert made.reload().contexts["shop"] is good.contexts["shop"]
    shop(tmp_path)
    mended = made.reload()
    assert (mended.loaded, codes(mended)) == ({"shop": True}, [])


async def test_a_context_that_is_removed_is_gone(tmp_path: Path) -> None:
    shop(tmp_path)
    site(tmp_path)
    made = registry(tmp_path)
    made.load()
    shutil.rmtree(tmp_path / "shop")
    assert [*made.reload().contexts] == ["site"]


LAYOUT = SHELL.format("<main>{% block main %}{% endblock %}</main>")


async def test_overrides_win_over_everything_and_compile_nothing_else_again(tmp_path: Path) -> None:
    shop(tmp_path, slot("shop/lines"))
    site(tmp_path)
    settings = {"overrides": {"fragments": {"shop/lines": {"state": "stored", "retry.extra": 0}}}}
    made = registry(tmp_path, **settings)
    before = made.load()
    layers = Layers(
        contexts={"shop": {"timeout.total": 0.8}},
        fragments={"shop/lines": {"state": "off"}},
        deadlines={"shop/cart": 0.9},
    )
    world = made.override(layers)
    lines = world.fragments["shop/lines"]
    assert (lines.policy.state, lines.policy.timeout.total, lines.policy.retry.extra) == ("off", 0.8, 0)
    assert lines.origins["state"] == "override"
    assert world.pages["shop/cart"].deadline == 0.9
    assert world.contexts["site"] is before.contexts["site"]
    assert made.override(NONE).fragments["shop/lines"].policy.state == "stored"
    assert made.reload().pages["shop/cart"].deadline == 2.0


async def test_trust_is_overridden_by_context_and_by_fragment(tmp_path: Path) -> None:
    shop(tmp_path, slot("shop/lines"))
    site(tmp_path)
    made = registry(tmp_path, overrides={"trust": {"shop": "sanitized"}})
    lines = made.load().fragments["shop/lines"]
    assert (lines.trust, lines.origins["trust"]) == ("sanitized", "override")
    world = made.override(Layers(contexts={}, fragments={}, deadlines={}, trust={"shop/lines": "sandboxed"}))
    assert world.fragments["shop/lines"].trust == "sandboxed"
    assert world.fragments["shop/lines"].version != lines.version
    after = made.override(Layers(contexts={}, fragments={}, deadlines={}, trust={"shop": "checked"}))
    assert after.fragments["shop/lines"].trust == "checked"
    assert "trust" not in after.fragments["shop/lines"].origins


def extending(root: Path) -> Registry:
    site(root, **{"layouts/default.html": LAYOUT})
    folder = shop(root)
    body = '{% extends "site/layouts/default.html" %}{% block main %}' + slot("shop/lines") + "{% endblock %}"
    write(folder / "pages/cart.html", body)
    made = registry(root)
    assert codes(made.load()) == []
    return made


async def test_a_changed_layout_recompiles_the_pages_that_may_extend_it(tmp_path: Path) -> None:
    made = extending(tmp_path)
    before = made.world.pages["shop/cart"].shell
    write(tmp_path / "site/layouts/default.html", LAYOUT.replace("<main>", "<main class=wide>"))
    after = made.reload().pages["shop/cart"].shell
    assert after != before
    assert b"wide" in repr(after.parts).encode()


async def test_a_layout_that_goes_leaves_the_last_good_shell(tmp_path: Path) -> None:
    made = extending(tmp_path)
    before = made.world.pages["shop/cart"].shell
    (tmp_path / "site/layouts/default.html").unlink()
    world = made.reload()
    assert world.pages["shop/cart"].shell is before
    assert (world.loaded["shop"], codes(world)) == (True, ["dangling"])


async def test_a_layout_that_breaks_the_page_is_not_the_pages_fault(tmp_path: Path) -> None:
    made = extending(tmp_path)
    before = made.world.contexts["shop"]
    write(tmp_path / "site/layouts/default.html", LAYOUT.replace("<main>", "<main>" + slot("not a name")))
    world = made.reload()
    assert world.contexts["shop"] is before
    assert (world.loaded["shop"], set(codes(world))) == (True, {"dangling"})
    assert all(each.severity == "warning" for each in world.findings)
    assert made.reload() is world


# --- bff.yaml ---------------------------------------------------------------------------------------------------------


def configured(root: Path, text: str = "") -> Registry:
    file = root / "bff.yaml"
    write(file, text)
    shop(root / "fragments")
    settings, _ = read_settings(file, env={})
    made = Registry(settings, {}, config=file)
    made.load()
    return made


async def test_policy_and_overrides_hold_at_once(tmp_path: Path) -> None:
    made = configured(tmp_path)
    write(tmp_path / "bff.yaml", "policy: {retry: {extra: 3}}\noverrides: {fragments: {shop/lines: {state: off}}}\n")
    lines = made.reload().fragments["shop/lines"]
    assert (lines.policy.retry.extra, lines.policy.state) == (3, "off")
    assert made.settings.overrides.fragments == {"shop/lines": {"state": "off"}}


async def test_other_settings_wait_for_a_restart_and_say_so(tmp_path: Path) -> None:
    made = configured(tmp_path)
    write(tmp_path / "bff.yaml", "listen: 127.0.0.1:9999\nmemory: 1MiB\npolicy: {late: drop}\n")
    world = made.reload()
    (finding,) = [each for each in world.findings if each.code == "needs-restart"]
    assert (finding.severity, finding.message) == ("note", "listen, memory changed")
    assert made.settings.listen == "127.0.0.1:8000"
    assert world.fragments["shop/lines"].policy.late == "drop"


async def test_an_unusable_file_changes_nothing_but_is_told(tmp_path: Path) -> None:
    made = configured(tmp_path, "policy: {late: drop}\n")
    write(tmp_path / "bff.yaml", "policy: {late: maybe}\n")
    world = made.reload()
    assert codes(world) == ["bad-value"]
    assert world.fragments["shop/lines"].policy.late == "drop"
    write(tmp_path / "bff.yaml", "policy: {late: drop}\n")
    assert codes(made.reload()) == []


async def test_a_command_lines_choice_outlives_a_reload(tmp_path: Path) -> None:
    file = tmp_path / "bff.yaml"
    write(file, "")
    shop(tmp_path / "elsewhere")
    settings, _ = read_settings(file, env={})
    made = Registry(settings.model_copy(update={"fragments": tmp_path / "elsewhere"}), {}, config=file)
    made.load()
    write(file, "policy: {late: drop}\n")
    assert made.reload().fragments["shop/lines"].policy.late == "drop"


# --- watching ---------------------------------------------------------------------------------------------------------


class Heard:
    """What `on_change` was told, to be waited for."""

    def __init__(self) -> None:
        self.worlds: list[World] = []
        self.findings: list[Finding] = []
        self._changed = anyio.Event()

    def __call__(self, world: World, findings: list[Finding]) -> None:
        self.worlds.append(world)
        self.findings = findings
        self._changed.set()

    async def until(self, holds: Callable[[World], bool]) -> World:
        with anyio.fail_after(30):
            while not (self.worlds and holds(self.worlds[-1])):
                self._changed = anyio.Event()
                await self._changed.wait()
        return self.worlds[-1]


@asynccontextmanager
async def watching(made: Registry, heard: Callable[[World, list[Finding]], None]) -> AsyncIterator[None]:
    async with anyio.create_task_group() as group:
        group.start_soon(made.watch, heard)
        yield
        group.cancel_scope.cancel()


async def test_a_saved_file_shows_without_asking(tmp_path: Path) -> None:
    shop(tmp_path)
    made, heard = registry(tmp_path), Heard()
    made.load()
    async with watching(made, heard):
        site(tmp_path)
        world = await heard.until(lambda world: "site/header" in world.fragments)
        assert made.world is world
        assert heard.findings == [*world.findings]


async def test_settings_are_watched_too(tmp_path: Path) -> None:
    made, heard = configured(tmp_path), Heard()
    async with watching(made, heard):
        write(tmp_path / "bff.yaml", "policy: {late: drop}\n")
        await heard.until(lambda world: world.fragments["shop/lines"].policy.late == "drop")


async def test_a_listener_that_fails_is_logged_and_the_watch_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shop(tmp_path)
    made, heard = registry(tmp_path), Heard()
    made.load()

    def listener(world: World, findings: list[Finding]) -> None:
        heard(world, findings)
        if len(heard.worlds) == 1:
            raise RuntimeError("cannot plan")

    async with watching(made, listener):
        site(tmp_path)
        await heard.until(lambda world: "site/header" in world.fragments)
        shop(tmp_path / "later")
        context(tmp_path, "later")
        await heard.until(lambda world: "later" in world.contexts)
    assert "cannot plan" in caplog.text


async def test_a_folder_that_comes_later_is_watched_once_it_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "PAUSE", 0.01)
    made, heard = registry(tmp_path / "fragments"), Heard()
    made.load()
    async with watching(made, heard):
        await _warned(caplog)
        shop(tmp_path / "fragments")
        await heard.until(lambda world: "shop/cart" in world.pages)
    assert caplog.text.count("cannot watch") == 1


async def _warned(caplog: pytest.LogCaptureFixture) -> None:
    with anyio.fail_after(10):
        while "cannot watch" not in caplog.text:
            await anyio.lowlevel.checkpoint()


def test_a_folder_that_holds_itself_is_read_once_and_harms_no_other(tmp_path: Path) -> None:
    shop(tmp_path)
    context(tmp_path, "blog")
    for name in ("one", "two"):
        (tmp_path / "shop" / name).symlink_to(tmp_path)
    (tmp_path / "shop" / "nowhere.html").symlink_to(tmp_path / "gone")
    (tmp_path / "shop" / "loop").symlink_to(tmp_path / "shop" / "loop")
    found = [path for path, *_ in _files(tmp_path / "shop")]
    assert len(found) == len({*found}) < 10
    assert str(tmp_path / "shop" / "context.yaml") in found
