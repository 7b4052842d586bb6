"""The picture of a page: every phase to scale, every word there, at any width and without colour."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from bff.model import Ended, Outcome, Reason, Report, Result, Timing
from bff.waterfall import draw


def ended(slot: str, result: Result, *, started: float = 0.0, key: str = "lines", parent: str = "") -> Ended:
    return Ended(
        slot=slot,
        key=key,
        fragment=f"ecommerce/{key}",
        owner="team-checkout",
        params={},
        result=result,
        started=started,
        parent=parent,
    )


def report(*slots: Ended, seconds: float = 1.0, status: int = 200, disconnected: bool = False) -> Report:
    return Report(
        page="ecommerce/checkout",
        method="GET",
        path="/checkout/1",
        status=status,
        seconds=seconds,
        first_byte=0.004,
        slots=slots,
        request_id="r1",
        principal=False,
        disconnected=disconnected,
    )


def picture(page: Report, *, width: int = 80, colour: bool = False, encoding: str = "utf-8") -> list[str]:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding)
    console = Console(file=file, width=width, force_terminal=colour, color_system="standard" if colour else None)
    draw(page, console)
    file.flush()
    return raw.getvalue().decode(encoding).splitlines()


FRESH = Result(
    outcome=Outcome.FRESH,
    reason=Reason.OK,
    status=200,
    seconds=1.0,
    timing=Timing(queued=0.1, connected=0.2, first_byte=0.6, total=1.0),
)


def test_the_page_s_line_is_one_where_it_is_longer_than_the_terminal_is_wide() -> None:
    assert picture(report(), width=40)[0].endswith("  200 OK  first byte 4.0 ms  total 1000 ms")


def test_the_page_has_a_line_of_its_own() -> None:
    assert picture(report(ended("s1", FRESH)))[0] == (
        "ecommerce/checkout  GET /checkout/1  200 OK  first byte 4.0 ms  total 1000 ms"
    )


def test_a_slot_shows_each_phase_to_scale_and_everything_about_its_end() -> None:
    line = picture(report(ended("s1", FRESH)), width=93)[1]
    assert line.startswith("s1  lines")
    assert line.count("█") == pytest.approx(2 * line.count("╌") * 2, abs=3)
    assert line.count("▒") == pytest.approx(line.count("█"), abs=1)
    assert line.count("·") == pytest.approx(line.count("╌"), abs=1)
    assert line.endswith(" 1000 ms  fresh ok  team-checkout")


def test_a_slot_begins_where_its_time_began() -> None:
    late = Result(outcome=Outcome.FRESH, reason=Reason.OK, seconds=0.5, timing=Timing(0.0, 0.0, 0.25, 0.5))
    bar = picture(report(ended("s1", late, started=0.5)))[1]
    blank = len(bar) - len(bar[9:].lstrip()) - 9
    assert blank == pytest.approx(len([c for c in bar if c in "·╌▒█"]), abs=3)


def test_an_exchange_that_never_connected_is_all_connecting() -> None:
    refused = Result(
        outcome=Outcome.STALE, reason=Reason.CONNECT, seconds=0.25, age=37.2, timing=Timing(0.0001, 0.0, 0.0, 0.25)
    )
    line = picture(report(ended("s1", refused)))[1]
    assert "╌" in line
    assert "█" not in line
    assert "▒" not in line
    assert "stale connect 37s old" in line


@pytest.mark.parametrize(("age", "shown"), [(59.0, "59s"), (180.0, "3m"), (7200.0, "2h"), (172800.0, "2d")])
def test_an_age_is_told_in_its_own_unit(age: float, shown: str) -> None:
    result = Result(outcome=Outcome.STALE, reason=Reason.STATUS, status=503, age=age, seconds=0.2)
    assert f"stale status 503 {shown} old" in picture(report(ended("s1", result)))[1]


def test_what_came_from_the_store_is_a_single_column() -> None:
    hit = Result(outcome=Outcome.FRESH, reason=Reason.HIT, seconds=0.0, age=3.0)
    line = picture(report(ended("s1", hit, started=1.0)))[1]
    assert line.count("│") == 1
    assert len(line) <= 80


def test_details_stand_below_their_slot() -> None:
    result = Result(outcome=Outcome.OMITTED, reason=Reason.TIMEOUT, seconds=0.8, detail="no answer within 0.800 s")
    assert picture(report(ended("s1", result)), width=120)[2].strip() == "no answer within 0.800 s"


def test_a_narrow_terminal_has_owners_below_their_slots() -> None:
    lines = picture(report(ended("s1", FRESH)), width=60)
    below = lines.index("    team-checkout")
    assert lines[below - 1].endswith("fresh ok")


def test_an_embedded_fragment_is_indented() -> None:
    lines = picture(report(ended("s1", FRESH), ended("s2", FRESH, key="price", parent="s1")), width=120)
    assert lines[2].startswith("  s2  price")


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    long = ended("s12", FRESH, key="a-rather-long-name-for-a-fragment-of-a-page")
    stale = Result(outcome=Outcome.FALLBACK, reason=Reason.CONCURRENCY, seconds=0.3, detail="x" * 200)
    for line in picture(report(long, ended("s2", stale)), width=width)[1:]:
        assert len(line) <= width


def test_without_colour_there_are_no_escapes_and_with_it_there_are() -> None:
    assert "\x1b" not in "".join(picture(report(ended("s1", FRESH))))
    assert "\x1b" in "".join(picture(report(ended("s1", FRESH)), colour=True))


def test_a_terminal_without_utf_8_gets_ascii() -> None:
    long = ended("s1", FRESH, key="a-rather-long-name-for-a-fragment-of-a-page")
    text = "\n".join(picture(report(long), encoding="ascii"))
    assert "##" in text
    assert "~~" in text


def test_a_page_without_slots_says_so() -> None:
    assert picture(report(), width=80)[1].strip() == "no slots"


def test_failure_and_disconnection_are_told() -> None:
    line = picture(report(seconds=12.34, status=599, disconnected=True), width=120)[0]
    assert "  599  first byte" in line
    assert line.endswith("total 12.3s  disconnected")
