"""The numbers, as Prometheus reads them."""

import asyncio
import json
from typing import Any, cast

import pytest
from prometheus_client.parser import text_string_to_metric_families

from bff.gateway.logs import Log
from bff.gateway.telemetry import CONTENT_TYPE, Counters, Gauges, _version
from bff.model import Outcome, Reason, Result
from bff.rules.limits.breaker import State
from tests.build import VirtualLoop, fragment
from tests.gateway.test_logs import report

CARD = fragment("site/card")


def samples(counters: Counters) -> dict[str, float]:
    """Every sample by its name and labels."""
    found = {}
    for family in text_string_to_metric_families(counters.exposition().decode()):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}"] = sample.value
    return found


def slot(outcome: Outcome, reason: Reason, **changes: Any) -> Result:
    return Result(outcome=outcome, reason=reason, seconds=0.02, **changes)


def test_pages_are_counted_by_status_and_logged() -> None:
    written: list[bytes] = []
    log = Log(write=written.append)
    counters = Counters(log)
    counters.page(report(seconds=0.03, first_byte=0.001))
    counters.page(report(seconds=3.0, first_byte=0.001))
    counters.page(report(status=502))
    found = samples(counters)
    assert found["bff_page_duration_seconds_count{page=site/home,status=200}"] == 2
    assert found["bff_page_duration_seconds_sum{page=site/home,status=200}"] == pytest.approx(3.03)
    assert found["bff_page_duration_seconds_bucket{le=2.0,page=site/home,status=200}"] == 1
    assert found["bff_page_duration_seconds_count{page=site/home,status=502}"] == 1
    assert found["bff_page_first_byte_seconds_bucket{le=0.005,page=site/home}"] == 3
    log.flush()
    assert [json.loads(line)["status"] for line in written[0].splitlines()] == [200, 200, 502]


def test_pages_made_ahead_of_a_visit_are_counted_apart() -> None:
    counters = Counters()
    counters.page(report(prefetch=True))
    found = samples(counters)
    assert found["bff_page_prefetches_total{page=site/home}"] == 1
    assert "bff_page_duration_seconds_count{page=site/home,status=200}" not in found
    assert found["bff_page_first_byte_seconds_count{page=site/home}"] == 0


def test_slots_are_counted_by_outcome_and_reason() -> None:
    counters = Counters()
    counters.slot("site/card", slot(Outcome.FRESH, Reason.OK))
    counters.slot("site/card", slot(Outcome.FRESH, Reason.OK))
    counters.slot("site/card", slot(Outcome.STALE, Reason.TIMEOUT, age=100.0))
    counters.slot("site/card", slot(Outcome.FRESH, Reason.HIT, age=5.0))
    found = samples(counters)
    assert found["bff_fragment_outcomes_total{fragment=site/card,outcome=fresh,reason=ok}"] == 2
    assert found["bff_fragment_outcomes_total{fragment=site/card,outcome=stale,reason=timeout}"] == 1
    assert found["bff_fragment_duration_seconds_count{fragment=site/card}"] == 4
    assert found["bff_stale_age_seconds_count{fragment=site/card}"] == 1
    assert found["bff_stale_age_seconds_bucket{fragment=site/card,le=300.0}"] == 1


def test_second_tries_and_breakers_are_counted_and_logged() -> None:
    written: list[bytes] = []
    log = Log(write=written.append)
    counters = Counters(log, Gauges(breakers=lambda: [("site/card", 2), ("site/proxy", 0)]))
    counters.retried("site")
    counters.retried("site")
    counters.hedged("site", won=True)
    counters.breaker("site/card", State.OPEN, "12 of 20 failed")
    counters.breaker("site/card", State.CLOSED, "12 of 20 failed")
    found = samples(counters)
    assert found["bff_retries_total{context=site}"] == 2
    assert found["bff_hedges_total{context=site,won=true}"] == 1
    assert found["bff_hedges_total{context=site,won=false}"] == 0
    assert found["bff_breaker_state{fragment=site/card}"] == 2
    assert found["bff_breaker_state{fragment=site/proxy}"] == 0
    log.flush()
    lines = [json.loads(line) for line in written[0].splitlines()]
    assert [(line["level"], line["state"], line["name"]) for line in lines] == [
        ("warning", "open", "site/card"),
        ("info", "closed", "site/card"),
    ]
    assert lines[0]["why"] == "12 of 20 failed"
    Counters().breaker("site/card", State.HALF_OPEN, "")


def test_exchanges_and_the_store_are_counted() -> None:
    counters = Counters()
    counters.inflight["site"] += 1
    counters.inflight["site"] += 1
    counters.inflight["site"] -= 1
    counters.upstream(CARD, "200", 0.2)
    counters.upstream(CARD, "timeout", 1.0)
    counters.cache("site/card", "hit")
    counters.coalesced("site/card")
    counters.evicted("size")
    counters.shed("streams")
    found = samples(counters)
    assert found["bff_upstream_inflight{context=site}"] == 1
    assert found["bff_upstream_requests_total{context=site,status=200}"] == 1
    assert found["bff_upstream_requests_total{context=site,status=timeout}"] == 1
    assert found["bff_upstream_duration_seconds_count{fragment=site/card}"] == 2
    assert found["bff_cache_requests_total{fragment=site/card,result=hit}"] == 1
    assert found["bff_coalesced_total{fragment=site/card}"] == 1
    assert found["bff_cache_evictions_total{reason=size}"] == 1
    assert found["bff_shed_total{limit=streams}"] == 1


def test_a_context_cannot_make_labels_without_end() -> None:
    counters = Counters()
    for status in range(100, 600):
        counters.upstream(CARD, str(status), 0.1)
    found = samples(counters)
    assert found["bff_upstream_requests_total{context=site,status=other}"] == 436
    assert sum(name.startswith("bff_upstream_requests_total") for name in found) == 65


def test_gauges_are_read_when_asked_for() -> None:
    counters = Counters(
        gauges=Gauges(
            streams=lambda: 3,
            entries=lambda: 4,
            bytes=lambda: 5,
            limits=lambda: [("site", 12)],
            contexts=lambda: [("site", "team-site", False)],
        )
    )
    found = samples(counters)
    assert found["bff_streams{}"] == 3
    assert found["bff_cache_entries{}"] == 4
    assert found["bff_cache_bytes{}"] == 5
    assert found["bff_config_last_reload_successful{context=site}"] == 0
    assert found["bff_upstream_limit{context=site}"] == 12
    assert found["bff_context_info{context=site,owner=team-site}"] == 1
    assert samples(Counters())["bff_streams{}"] == 0


def test_the_process_describes_itself() -> None:
    found = samples(Counters())
    assert any(name.startswith("bff_build_info{python=3.") for name in found)
    assert "process_resident_memory_bytes{}" in found
    assert "process_cpu_seconds_total{}" in found
    assert _version("no-such-distribution-of-ours") == "unknown"
    assert CONTENT_TYPE.startswith(b"text/plain; version=0.0.4")


def test_dropped_log_lines_are_shed() -> None:
    log = Log(write=lambda _: None)
    counters = Counters(log)
    for _ in range(10_001):
        log.event("x")
    assert samples(counters)["bff_shed_total{limit=logs}"] == 1


def test_the_loops_lag_is_measured_and_a_long_block_is_logged() -> None:
    written: list[bytes] = []
    log = Log(write=written.append)
    counters, loop = Counters(log), cast(Any, VirtualLoop())
    counters.start(loop)
    loop.advance(1.0)
    counters._measure(loop, loop.time() - 1.5)
    counters.close()
    found = samples(counters)
    assert found["bff_loop_lag_seconds_count{}"] == 5
    assert found["bff_loop_lag_seconds_bucket{le=0.001}"] == 4
    log.flush()
    line = json.loads(written[0])
    assert (line["event"], line["level"], line["seconds"]) == ("loop-blocked", "warning", 1.5)
    Counters().close()


def test_a_long_block_without_a_log_is_only_counted() -> None:
    counters = Counters()
    loop = asyncio.new_event_loop()
    counters._measure(loop, loop.time() - 1.5)
    counters.close()
    loop.close()
    assert samples(counters)["bff_loop_lag_seconds_bucket{le=1.0}"] == 0
