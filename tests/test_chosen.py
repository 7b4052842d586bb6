"""The command line over the environment over the settings file."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bff.chosen import Chosen, Unusable, choose
from bff.errors import UnusableInput
from tests.folders import shop, write


def chosen(listen: str = "127.0.0.1:8000") -> Chosen:
    return choose(None, None, env={"BFF_LISTEN": listen})


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_without_a_file_the_defaults_hold(tmp_path: Path) -> None:
    made = choose(None, None, env={})
    assert (made.config, made.settings.fragments) == (None, tmp_path / "fragments")


def test_the_file_in_the_working_directory_is_taken(tmp_path: Path) -> None:
    write(tmp_path / "bff.yaml", "fragments: here\n")
    made = choose(None, None, env={})
    assert (made.config, made.settings.fragments) == (tmp_path / "bff.yaml", tmp_path / "here")


def test_links_are_followed_anew_at_each_reload(tmp_path: Path) -> None:
    """As a deployment switches releases, and as a mounted file of settings changes."""
    for release, extra in (("1", "2"), ("2", "3")):
        write(tmp_path / release / "bff.yaml", f"policy: {{retry: {{extra: {extra}}}}}\n")
        shop(tmp_path / release / "fragments")
    (tmp_path / "current").symlink_to("1")
    made = choose(Path("current/bff.yaml"), Path("current/fragments"), env={}).registry()
    before = made.world.fragments["shop/lines"].policy.retry.extra
    (tmp_path / "current").unlink()
    (tmp_path / "current").symlink_to("2")
    shutil.rmtree(tmp_path / "1")
    world = made.reload()
    assert (before, world.fragments["shop/lines"].policy.retry.extra) == (2, 3)
    assert (world.findings, world.loaded) == ((), {"shop": True})


def test_a_named_file_must_be_there() -> None:
    with pytest.raises(UnusableInput):
        choose(Path("none.yaml"), None, env={})


def test_the_command_line_wins_over_the_file(tmp_path: Path) -> None:
    write(tmp_path / "bff.yaml", "fragments: here\n")
    assert choose(None, Path("there"), env={}).settings.fragments == tmp_path / "there"


@pytest.mark.parametrize(
    ("known", "host", "port", "expected"),
    [
        ("127.0.0.1:8000", None, None, "127.0.0.1:8000"),
        ("127.0.0.1:8000", None, 9, "127.0.0.1:9"),
        ("127.0.0.1:8000", "0.0.0.0", None, "0.0.0.0:8000"),
        ("[::1]:8000", None, 9, "[::1]:9"),
        ("127.0.0.1:8000", "::", None, "[::]:8000"),
        ("127.0.0.1:8000", "[::1]", 9, "[::1]:9"),
    ],
)
def test_address_and_port_are_chosen_apart(known: str, host: str | None, port: int | None, expected: str) -> None:
    assert chosen(known).listening(host, port).settings.listen == expected


def test_our_own_requests_may_be_believed() -> None:
    assert "127.0.0.1" in chosen().trusting_us().settings.trusted_proxies
    assert chosen().settings.trusted_proxies == ()


def test_registrations_are_loaded_from_where_the_settings_say(tmp_path: Path) -> None:
    shop(tmp_path / "fragments")
    assert "shop/cart" in choose(None, None, env={}).registry().world.pages


def test_a_missing_folder_is_unusable(tmp_path: Path) -> None:
    with pytest.raises(Unusable, match=r"there is no folder .*/fragments; name it with --fragments"):
        choose(None, None, env={}).registry()
