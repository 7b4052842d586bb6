import pytest
from hypothesis import given
from hypothesis import strategies as st

from bff import units


@pytest.mark.parametrize(
    ("text", "seconds"), [("250ms", 0.25), ("1.5s", 1.5), ("5m", 300), ("24h", 86400), ("0s", 0), ("2d", 172800)]
)
def test_durations(text: str, seconds: float) -> None:
    assert units.duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "1", "s", "-1s", "1 s", "1S", "1e3s", "1:30", "1w", "١s", "9" * 400 + "h"])
def test_what_is_no_duration_says_what_would_be(text: str) -> None:
    with pytest.raises(ValueError, match="such as 250ms"):
        units.duration(text)


@pytest.mark.parametrize(
    ("text", "count"), [("512B", 512), ("64KiB", 65536), ("1MiB", 1048576), ("1.5GiB", 1610612736)]
)
def test_sizes(text: str, count: int) -> None:
    assert units.size(text) == count


@pytest.mark.parametrize("text", ["1KB", "64", "", "-1B", "٤KiB", "9" * 400 + "GiB"])
def test_what_is_no_size_says_what_would_be(text: str) -> None:
    with pytest.raises(ValueError, match="such as 512B"):
        units.size(text)


@pytest.mark.parametrize(("text", "share"), [("20%", 0.2), ("0%", 0), ("100%", 1), ("2.5%", 0.025)])
def test_shares(text: str, share: float) -> None:
    assert units.share(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["101%", "20", "-1%", "0.2", "٢%"])
def test_what_is_no_share_says_what_would_be(text: str) -> None:
    with pytest.raises(ValueError, match="such as 20%"):
        units.share(text)


@given(st.integers(0, 10**7))
def test_a_shown_duration_reads_back(milliseconds: int) -> None:
    seconds = milliseconds / 1000
    assert units.duration(units.show_duration(seconds)) == pytest.approx(seconds)


@given(st.integers(0, 2**40))
def test_a_shown_size_reads_back(count: int) -> None:
    assert units.size(units.show_size(count)) == count


def test_shown_as_people_write_them() -> None:
    assert [units.show_duration(s) for s in (0.25, 1.5, 90, 3600, 0)] == ["250ms", "1.5s", "90s", "1h", "0s"]
    assert [units.show_size(n) for n in (65536, 1, 3 * 1024**3)] == ["64KiB", "1B", "3GiB"]
