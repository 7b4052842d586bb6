"""The files that are not Python are found in a checkout and in a wheel."""

from pathlib import Path

from bff import paths


def test_a_checkout_keeps_them_beside_the_package() -> None:
    root = Path(paths.__file__).parents[1]
    assert paths.static_folder() == root / "static"
    assert paths.demo_folder() == root / "fragments"


def test_a_wheel_carries_them_inside_the_package(tmp_path: Path) -> None:
    (tmp_path / "static").mkdir()
    (tmp_path / "_demo" / "fragments").mkdir(parents=True)
    assert paths.static_folder(tmp_path) == tmp_path / "static"
    assert paths.demo_folder(tmp_path) == tmp_path / "_demo" / "fragments"
