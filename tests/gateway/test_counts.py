from bff.gateway.counts import SECONDS, ContextCounts, FragmentCounts, Histogram, PageCounts


def test_a_value_on_a_bound_counts_below_it() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 2.5):
        histogram.observe(value)
    assert histogram.cumulated() == [("1.0", 2), ("2.0", 4), ("+Inf", 5)]
    assert histogram.sum == 7.5


def test_the_default_deadline_of_a_page_is_a_bound() -> None:
    assert 2.0 in SECONDS
    assert list(SECONDS) == sorted(SECONDS)


def test_counts_are_told_as_json() -> None:
    fragment, page, context = FragmentCounts(), PageCounts(), ContextCounts()
    assert page.told() == {"statuses": {}, "seconds": [], "first_byte": page.first_byte.counts}
    fragment.outcomes |= {("fresh", "ok"): 3, ("fresh", "hit"): 2, ("fallback", "timeout"): 1}
    fragment.seconds.observe(0.3)
    for status, seconds in ((200, 0.02), (200, 20.0), (504, 2.0)):
        page.seconds.setdefault(status, Histogram()).observe(seconds)
    context.statuses[200] = 4
    told = fragment.told()
    assert told["ends"] == {"fresh": {"ok": 3, "hit": 2}, "fallback": {"timeout": 1}}
    assert sum(told["seconds"]) == 1
    assert page.told()["statuses"] == {"200": 2, "504": 1}
    assert (sum(page.told()["seconds"]), page.told()["seconds"][-1]) == (3, 1)
    assert context.told() == {"statuses": {"200": 4}, "retries": 0}
