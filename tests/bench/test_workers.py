from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.bench import workers


def told(folder: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in folder.iterdir()}


def test_a_share_is_written_as_cgroups_of_either_version_want_it(tmp_path: Path) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    (first / "cpu").mkdir(parents=True)
    second.mkdir()
    (second / "cgroup.controllers").write_text("cpu memory\n")
    (second / "cgroup.subtree_control").write_text("memory\n")
    for root in (first, second):
        workers.Share("one", 0.25, root).hold(7)
    quota = {"cpu.cfs_period_us": "10000", "cpu.cfs_quota_us": "2500"}
    assert told(first / "cpu" / "one") == {**quota, "cgroup.procs": "7"}
    assert told(second / "one") == {"cpu.max": "2500 10000", "cgroup.procs": "7"}
    assert (second / "cgroup.subtree_control").read_text() == "+cpu"


def test_where_there_are_no_cgroups_nobody_is_held(tmp_path: Path) -> None:
    with ExitStack() as stack:
        assert workers.shares(stack, 2, "none", tmp_path / "none") == []


@pytest.mark.parametrize(("held", "worth"), [(True, 1.5), (False, 1.6)])
def test_what_a_second_worker_is_worth(held: bool, worth: float) -> None:
    """By pages where both have the same share of a core, else by the CPU of a page."""
    one = {"pages_per_second": 100.0, "cpu_ms": 1.0, "bad": 0.0}
    two = {"pages_per_second": 150.0, "cpu_ms": 1.25, "bad": 1.0}
    found = workers.row("sqlite", "stored", {1: [one], 2: [two]}, held=held)
    assert found["worth"] == pytest.approx(worth)
    assert found["bad"] == 1
    assert workers.line(found).split() == f"sqlite, stored 100 1.000 150 1.250 {worth:.2f} 1".split()
    assert ("CPU per page alone" in workers.title(held)) is not held
