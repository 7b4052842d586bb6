"""What an end says, what is worth a second try, and when that is made."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bff.model import UNTIMED, Failure, Reason, Reply, Timing
from bff.rules.limits.again import Latencies, Verdict, later, pause, retry_after, since, verdict, worth_retrying

WALL = 784_111_767.0  # 10 seconds before RFC 9110's example of a date
HEARD = Timing(first_byte=0.1, total=0.2)


def reply(status: int, **headers: str) -> Reply:
    return Reply(
        status, [(name.replace("_", "-").encode(), text.encode()) for name, text in headers.items()], b"", HEARD
    )


def failure(reason: Reason, timing: Timing = UNTIMED) -> Failure:
    return Failure(reason, "refused", "", timing)


@pytest.mark.parametrize("status", [200, 204, 302, 304, 400, 401, 403, 404, 410, 422])
def test_an_answer_is_none_of_the_contexts_faults(status: int) -> None:
    assert verdict(reply(status)) is Verdict.FINE
    assert not worth_retrying(reply(status))


@pytest.mark.parametrize(
    ("answer", "says", "again"),
    [
        (reply(500), Verdict.FAILED, False),
        (reply(501), Verdict.FAILED, False),
        (reply(429), Verdict.REJECTED, False),
        (reply(502), Verdict.REJECTED, True),
        (reply(503), Verdict.REJECTED, True),
        (reply(504), Verdict.REJECTED, True),
        (failure(Reason.CONNECT), Verdict.CONNECT, True),
        (failure(Reason.TIMEOUT), Verdict.REJECTED, False),
        (failure(Reason.TORN), Verdict.REJECTED, True),
        (failure(Reason.TORN, HEARD), Verdict.REJECTED, False),
        (failure(Reason.TOO_LARGE, HEARD), Verdict.FAILED, False),
        (failure(Reason.REFUSED, HEARD), Verdict.FAILED, False),
        (failure(Reason.REFUSED), Verdict.UNKNOWN, False),
        (failure(Reason.CONCURRENCY), Verdict.UNKNOWN, False),
    ],
)
def test_what_a_failure_says(answer: Reply | Failure, says: Verdict, again: bool) -> None:
    assert verdict(answer) is says
    assert worth_retrying(answer) is again


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        ("9" * 40, 999_999_999.0),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 10.0),
        ("Sun, 06 Nov 1994 08:49:17 GMT", 0.0),
        ("soon", None),
        ("-1", None),
        ("1.5", None),
    ],
)
def test_retry_after_is_read_in_both_forms(value: str, seconds: float | None) -> None:
    assert retry_after(reply(503, retry_after=value), WALL) == seconds


@given(st.integers(1, 5), st.floats(0, 1, exclude_max=True))
def test_a_pause_is_jittered_and_grows(retry: int, chance: float) -> None:
    assert pause(retry, chance, failure(Reason.CONNECT), WALL) == 0.025 * (2**retry - 1) * chance
    asked = pause(retry, chance, reply(503, retry_after="3"), WALL)
    assert asked >= 3.0
    assert pause(retry, chance, reply(503), WALL) < 1.0


def test_the_deadline_that_is_sent_is_less_later() -> None:
    lines = b"accept: text/html\r\nx-said: bff-deadline: 9\r\nbff-deadline: 900\r\nif-none-match: bff-deadline: 1\r\n"
    assert later(lines, 0.25) == lines.replace(b"900", b"650")
    assert later(lines, 10.0) == lines.replace(b"900", b"0")
    assert later(b"accept: */*\r\n", 1.0) == b"accept: */*\r\n"


def test_times_are_seen_from_the_first_try() -> None:
    assert since(Timing(0.1, 0.2, 0.3, 0.4), 1.0) == pytest.approx((1.1, 1.2, 1.3, 1.4))
    assert since(UNTIMED, 1.0) == Timing(total=1.0)


def test_a_percentile_needs_some_answers_and_holds_for_a_while() -> None:
    latencies = Latencies()
    for number in range(1, 20):
        latencies.add(number / 100)
    assert latencies.percentile("p95", 0.0) is None
    latencies.add(0.2)
    assert latencies.percentile("p95", 0.0) == 0.19
    latencies.add(9.0)
    latencies.add(9.0)
    assert latencies.percentile("p95", 2.9) == 0.19
    assert latencies.percentile("p50", 2.9) == 0.11, "another percentile is another question"
    assert latencies.percentile("p95", 3.0) == 9.0


@given(st.lists(st.floats(0, 10), min_size=20, max_size=256), st.integers(1, 99))
def test_so_many_of_a_hundred_were_no_slower(times: list[float], at: int) -> None:
    latencies = Latencies()
    for each in times:
        latencies.add(each)
    found = latencies.percentile(f"p{at}", 0.0)
    assert found is not None
    assert sum(each <= found for each in times) >= len(times) * at / 100
    assert sum(each < found for each in times) < len(times) * at / 100
