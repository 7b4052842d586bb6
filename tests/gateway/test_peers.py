"""Numbers of several workers as one exposition."""

import asyncio
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from bff.gateway.peers import Peers, summed
from bff.gateway.telemetry import Counters, Gauges
from bff.model import Outcome, Reason, Result

pytestmark = pytest.mark.anyio


def exposition(*, shed: int, streams: int, good: bool) -> bytes:
    counters = Counters()
    counters.gauges = Gauges(streams=lambda: streams, contexts=lambda: [("site", "team-site", good)])
    for _ in range(shed):
        counters.shed("streams")
        counters.slot("site/header", Result(outcome=Outcome.FRESH, reason=Reason.OK, seconds=0.02))
    return counters.exposition()


def values(text: bytes) -> dict[str, float]:
    return {
        f"{sample.name}{{{','.join(f'{k}={v}' for k, v in sample.labels.items())}}}": sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_counters_histograms_and_gauges_add_up() -> None:
    found = values(summed([exposition(shed=2, streams=3, good=True), exposition(shed=5, streams=4, good=True)]))
    assert found["bff_shed_total{limit=streams}"] == 7
    assert found["bff_streams{}"] == 7
    assert found["bff_fragment_duration_seconds_count{fragment=site/header}"] == 7
    assert found["bff_fragment_duration_seconds_bucket{fragment=site/header,le=0.025}"] == 7
    assert found["bff_fragment_outcomes_total{fragment=site/header,outcome=fresh,reason=ok}"] == 7


def test_states_are_taken_at_their_worst() -> None:
    found = values(summed([exposition(shed=1, streams=0, good=True), exposition(shed=1, streams=0, good=False)]))
    assert found["bff_config_last_reload_successful{context=site}"] == 0
    assert found["bff_context_info{context=site,owner=team-site}"] == 1
    assert [value for name, value in found.items() if name.startswith("bff_build_info")] == [1]


def test_what_only_one_has_seen_is_there_too() -> None:
    found = values(summed([exposition(shed=0, streams=0, good=True), exposition(shed=1, streams=0, good=True)]))
    assert found["bff_shed_total{limit=streams}"] == 1


async def test_each_worker_reads_the_others(tmp_path: Path) -> None:
    own = exposition(shed=1, streams=1, good=True)
    peers = [Peers(tmp_path, index, 3) for index in range(3)]
    for each in peers[:2]:
        await each.start({"metrics": lambda: own, "pid": lambda: b"7"})
    assert values(await peers[0].summed(own))["bff_streams{}"] == 2, "the third one is not there, and not waited for"
    assert await peers[0].others("pid") == [b"7"]
    assert await peers[0].others("nothing") == []
    await peers[1].aclose()
    assert values(await peers[0].summed(own))["bff_streams{}"] == 1
    await peers[0].aclose()
    assert [each.first for each in peers] == [True, False, False]


async def test_a_worker_that_does_not_answer_is_left_out(tmp_path: Path) -> None:
    own = exposition(shed=1, streams=1, good=True)
    held = asyncio.Event()

    async def silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await held.wait()
        writer.close()

    server = await asyncio.start_unix_server(silent, tmp_path / "1.sock")
    assert values(await Peers(tmp_path, 0, 2).summed(own))["bff_streams{}"] == 1
    held.set()
    server.close()
