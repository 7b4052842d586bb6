from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bff.rules.control import MAX_DELTA, Control, age, control, never_stale, seconds, targeted


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0), ("60", 60), ("0060", 60), ("2147483648", MAX_DELTA), ("9" * 400, MAX_DELTA)]
    + [(text, None) for text in ("", "-1", "+1", "1.0", "1.5", "a1", "1a", " 1", "'1'", "\xb2", "1_0")],
)
def test_delta_seconds(text: str, value: float | None) -> None:
    assert seconds(text) == value
    assert seconds(None) is None


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("", {}),
        (" , ,", {}),
        ("foo, bar=1, b@z", {}),
        ("max-age=60", {"max_age": 60}),
        ("MaX-aGe=60, NO-store", {"max_age": 60, "no_store": True}),
        ('max-age="60"', {"max_age": 60}),
        ("max-age='60'", {"max_age": 0}),
        ("max-age", {"max_age": 0}),
        ("max-age=", {"max_age": 0}),
        ("max-age=60.0", {"max_age": 0}),
        ("max-age=-60", {"max_age": 0}),
        ("max-age =60", {"max_age": 0}),
        ("max-age= 60", {"max_age": 0}),
        ('max-age= "60"', {"max_age": 0}),
        ("max-age=60, max-age=1", {"max_age": 60}),
        ("max-age=1, max-age=60", {"max_age": 1}),
        ("max-age=x, max-age=60", {"max_age": 0}),
        ('ext="max-age=3600", max-age=1', {"max_age": 1}),
        ('max-age=1, ext="max-age=3600"', {"max_age": 1}),
        ('ext="a \\", no-store", max-age=1', {"max_age": 1}),
        ('ext="never closed, no-store', {"no_store": True}),
        ('", no-store, "', {"no_store": True}),
        ("s-maxage=5,max-age=6", {"s_maxage": 5, "max_age": 6}),
        ("stale-while-revalidate=5, stale-if-error=x", {"stale_while_revalidate": 5}),
        ("no-store=anything", {"no_store": True}),
        ("no-store =x", {"no_store": True}),
        ("private", {"private": True}),
        ('private="X-User, set-cookie"', {"private_fields": {b"x-user", b"set-cookie"}}),
        ('private="x", private', {"private": True, "private_fields": {b"x"}}),
        ('private=""', {"private": True}),
        ('private=" , "', {"private": True}),
        ("private=x-user", {"private": True}),
        ('private ="x"', {"private": True}),
        ('no-cache="a", no-cache="b"', {"no_cache_fields": {b"a", b"b"}}),
        ("no-cache", {"no_cache": True}),
        (
            "public, must-revalidate, proxy-revalidate, must-understand",
            {"public": True, "must_revalidate": True, "proxy_revalidate": True, "must_understand": True},
        ),
    ],
)
def test_what_a_cache_control_value_says(value: str, says: dict[str, Any]) -> None:
    assert control(value.encode()) == Control(**says)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("max-age=60", {"max_age": 60}),
        ("max-age=99999999999", {"max_age": MAX_DELTA}),
        ("max-age=-1", {"max_age": 0}),
        ("foo, max-age=60;x=1", {"max_age": 60}),
        ("no-store, private, no-cache, public=?1", {"no_store": True, "private": True, "no_cache": True, "public": True}),
        ("no-store=?0, private=?0, max-age=5", {"max_age": 5}),
        ('private="a, b", no-cache="c"', {"private_fields": {b"a", b"b"}, "no_cache_fields": {b"c"}}),
        ("max-age=1, max-age=60", {"max_age": 60}),  # of a dictionary's keys the last counts
        ("s-maxage=5, stale-if-error=7", {"s_maxage": 5, "stale_if_error": 7}),
    ],
)  # fmt: skip
def test_what_a_targeted_value_says(value: str, says: dict[str, Any]) -> None:
    assert targeted(value.encode()) == Control(**says)


@pytest.mark.parametrize(
    "value",
    ["", " ", "max-age=60, &&&", 'max-age="60"', "max-age", "max-age=?1", "max-age=1.5", "MaX-Age=60", "max-age =60",
     "no-store=1", "private=tok", "private=1", "no-cache=(a)", "x" * 600 + "=&"],
)  # fmt: skip
def test_what_is_no_targeted_field_is_ignored(value: str) -> None:
    assert targeted(value.encode()) is None


@pytest.mark.parametrize(
    ("value", "private", "never"),
    [
        ("max-age=5", False, False),
        ("must-revalidate", False, True),
        ("must-revalidate", True, True),
        ("no-cache", True, True),
        ("proxy-revalidate", False, True),
        ("proxy-revalidate", True, False),
        ("s-maxage=1", False, True),
        ("s-maxage=1", True, False),
    ],
)
def test_what_forbids_a_stale_answer(value: str, private: bool, never: bool) -> None:
    assert never_stale(control(value.encode()), private=private) is never


@pytest.mark.parametrize(
    ("value", "age_"),
    [("30", 30), ("7200, 0", 7200), ("0,7200", 0), (" 5 ", 5), ("-7200", 0), ("abc", 0), ("7200.0", 0), ("", 0), (",5", 0)],
)  # fmt: skip
def test_of_several_ages_the_first_counts(value: str, age_: float) -> None:
    assert age(value.encode()) == age_


def test_long_values_are_read_too() -> None:
    assert control(b"x" * 600 + b", no-store").no_store
    assert targeted(b"x" * 600 + b", no-store") == Control(no_store=True)


LISTED = st.lists(
    st.sampled_from(
        ["max-age=60", "max-age=x", "no-store", "private", 'private="a"', 'ext="', '"', "public", "s-maxage=5", ""]
    ),
    max_size=6,
)


@given(LISTED)
def test_nothing_said_beside_it_hides_a_prohibition(parts: list[str]) -> None:
    said = control(",".join(parts).encode())
    if 'ext="' not in parts:
        assert said.no_store is ("no-store" in parts)
        assert said.private is ("private" in parts)


@given(st.binary(max_size=60))
def test_no_bytes_break_it(value: bytes) -> None:
    for found in (control(value), targeted(value)):
        assert found is None or (found.max_age is None or 0 <= found.max_age <= MAX_DELTA)
    assert age(value) >= 0
