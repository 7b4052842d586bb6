"""How much there is to do, measured, and what is shed for it: in the gateway as a whole."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bff.gateway.overload import Overload, memory_limit, memory_share
from bff.model import Outcome, Reason, Result
from tests import build

HERE = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_levels_come_and_go_and_are_told(caplog: pytest.LogCaptureFixture) -> None:
    held = [0.5]
    overload = Overload(lambda: held[0])
    overload.beat(0.0)
    assert (overload.optional(), overload.pages()) == ("", "")
    held[0] = 0.9
    overload.beat(0.0)
    assert (overload.optional(), overload.pages()) == ("memory", "")
    held[0] = 0.99
    overload.beat(0.0)
    overload.beat(0.0)
    assert (overload.optional(), overload.pages()) == ("memory", "memory")
    held[0] = 0.1
    overload.beat(0.0)
    assert (overload.optional(), overload.pages()) == ("", "")
    said = [record.getMessage().partition(" (")[0] for record in caplog.records]
    assert said == [
        "overload memory: optional slots are left out",
        "overload memory: no page is begun",
        "overload over",
    ]


def test_this_process_holds_some_of_its_memory() -> None:
    one, four = memory_share()(), memory_share(4)()
    assert 0 < one < four < 4


def tree(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_the_limit_is_the_machines_or_the_tightest_cgroups(tmp_path: Path) -> None:
    assert memory_limit(tmp_path) == HERE
    tree(tmp_path, proc__self__cgroup="0::/a/b\n", sys__fs__cgroup__memory_dot_max="max\n")
    assert memory_limit(tmp_path) == HERE
    tree(tmp_path, sys__fs__cgroup__a__memory_dot_max="5000\n", sys__fs__cgroup__a__b__memory_dot_max="7000\n")
    assert memory_limit(tmp_path) == 5000


def test_the_older_cgroups_are_read_too(tmp_path: Path) -> None:
    tree(
        tmp_path,
        proc__self__cgroup="4:cpu:/a\n3:memory:/a\n",
        sys__fs__cgroup__memory__memory_dot_limit_in_bytes=str((1 << 63) - 4096),
        sys__fs__cgroup__memory__a__memory_dot_limit_in_bytes="6000",
    )
    assert memory_limit(tmp_path) == 6000


# --- slots ------------------------------------------------------------------------------------------------------------


class Overloaded(build.World):
    """A world whose gateway has reached a limit from the beginning."""

    def __init__(self, limit: str) -> None:
        super().__init__(
            build.page(build.document(build.slot(1), build.slot(2, "shop/main", kind="core"))),
            fragments={each.name: each for each in (build.fragment(), build.fragment("shop/main"))},
        )
        self.resolver._overloaded = lambda: limit


def test_optional_slots_are_left_out_first_and_are_counted() -> None:
    world = Overloaded("lag")
    composition = world.compose()
    composition.begin()
    card, main = composition.slots
    assert card.result is not None
    assert (card.result.outcome, card.result.reason) == (Outcome.OMITTED, Reason.OVERLOAD)
    assert main.result is None
    assert [each.ask.target for each in world.upstreams.open] == ["/main"]
    assert world.seen.sheds == ["lag"]
    assert ("shop/card", "omitted", "overload") in world.seen.slots


def test_what_is_kept_is_shown_though_nobody_is_asked() -> None:
    world = Overloaded("")
    first = world.compose()
    first.begin()
    world.upstreams.to("/card").reply(b"<p>kept</p>", cache_control="max-age=1")
    world.resolver._overloaded = lambda: "memory"
    world.loop.advance(0.5)
    fresh = world.compose()
    fresh.begin()
    assert _shown(fresh.slots[0].result) == (Outcome.FRESH, Reason.HIT)
    world.loop.advance(5)
    stale = world.compose()
    stale.begin()
    assert _shown(stale.slots[0].result) == (Outcome.STALE, Reason.OVERLOAD)


def _shown(result: Result | None) -> tuple[Outcome, Reason] | None:
    return None if result is None else (result.outcome, result.reason)
