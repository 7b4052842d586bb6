from bff.gateway.counts import SECONDS, Histogram


def test_a_value_on_a_bound_counts_below_it() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 2.5):
        histogram.observe(value)
    assert histogram.cumulated() == [("1.0", 2), ("2.0", 4), ("+Inf", 5)]
    assert histogram.sum == 7.5


def test_the_default_deadline_of_a_page_is_a_bound() -> None:
    assert 2.0 in SECONDS
    assert list(SECONDS) == sorted(SECONDS)
