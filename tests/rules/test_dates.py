import pytest
from hypothesis import given
from hypothesis import strategies as st

from bff.rules.dates import exact, lenient, until, written

NOW = 1_750_000_000.0  # June 2025
BEFORE_UNIX = 784_111_777.0  # Sun, 06 Nov 1994 08:49:37 GMT


@pytest.mark.parametrize(
    ("value", "time"),
    [
        ("Sun, 06 Nov 1994 08:49:37 GMT", BEFORE_UNIX),
        ("Sunday, 06-Nov-94 08:49:37 GMT", BEFORE_UNIX),
        ("Sun Nov  6 08:49:37 1994", BEFORE_UNIX),
        ("SUN, 06 NOV 1994 08:49:37 gmt", BEFORE_UNIX),
        ("Mon, 06 Nov 1994 08:49:37 GMT", BEFORE_UNIX),  # the day's name is not looked up
        ("Sat, 31 Dec 2016 23:59:60 GMT", 1_483_228_800.0),
        ("Thursday, 18-Aug-50 02:01:18 GMT", 2_544_400_878.0),  # 2050
        ("Friday, 18-Aug-76 02:01:18 GMT", 209_181_678.0),  # 2076 is more than 50 years ahead: 1976
        ("Mon, 01 Jan 0001 00:00:00 GMT", -62_135_596_800.0),
    ],
)
def test_the_three_forms_are_read(value: str, time: float) -> None:
    assert exact(value.encode(), NOW) == time


@pytest.mark.parametrize(
    "value",
    [
        "0",
        "",
        "-1",
        "Thu, 18 Aug 2050 02:01:18 UTC",
        "Thu, 18 Aug 2050 02:01:18 +0000",
        "Thu, 18 Aug 2050 02:01:18",
        "Thu, 18 Aug 50 02:01:18 GMT",
        "Thu 18 Aug 2050 02:01:18 GMT",
        "Thu, 18  Aug  2050 02:01:18 GMT",
        "Thu, 18-Aug-2050 02:01:18 GMT",
        "Thu, 18 Aug 2050 02.01.18 GMT",
        "Thu, 18 Aug 2050 2:01:18 GMT",
        "Thu, 8 Aug 2050 02:01:18 GMT",
        "Thu, 31 Feb 2050 02:01:18 GMT",
        "Thu, 18 Foo 2050 02:01:18 GMT",
        "Thu, 18 Aug 2050 24:01:18 GMT",
        "Thu, 18 Aug 2050 02:60:18 GMT",
        "Thu, 18 Aug 2050 02:01:61 GMT",
        "Thu, 18 Aug 0000 02:01:18 GMT",
        "Thu, 18 Aug 2050 02:01:18 GMT, Thu, 18 Aug 2050 02:01:18 GMT",
        "Thursday, 18-Aug-50 02:01:18 GMT" + " " * 64,
    ],
)
def test_what_is_no_date_is_none(value: str) -> None:
    assert exact(value.encode(), NOW) is None
    assert until(value.encode(), NOW, NOW) == 0


def test_freshness_runs_from_date_to_expires() -> None:
    assert until(b"Sun, 15 Jun 2025 15:06:50 GMT", NOW, NOW) == 10
    assert until(b"Sun, 15 Jun 2025 15:06:30 GMT", NOW, NOW) == 0


@pytest.mark.parametrize(
    ("value", "time"),
    [
        ("Sun, 06 Nov 1994 08:49:37 GMT", BEFORE_UNIX),
        ("Sun, 6 Nov 1994 08:49:37 UTC", BEFORE_UNIX),
        ("6 Nov 1994 10:49:37 +0200", BEFORE_UNIX),
        ("Sun, 99 Nov 1994 08:49:37 GMT", None),
        ("yesterday", None),
        ("", None),
        ("Sun, 06 Nov 1994 08:49:37 GMT" + " " * 64, None),
    ],
)
def test_other_dates_are_read_as_they_are_meant(value: str, time: float | None) -> None:
    assert lenient(value.encode()) == time


@given(st.binary(max_size=80))
def test_no_bytes_break_it(value: bytes) -> None:
    assert exact(value, NOW) is None or isinstance(exact(value, NOW), float)
    assert lenient(value) is None or isinstance(lenient(value), float)


@given(st.integers(0, 4_000_000_000))
def test_what_is_written_is_read(wall: int) -> None:
    assert exact(written(wall), NOW) == wall == lenient(written(wall))
