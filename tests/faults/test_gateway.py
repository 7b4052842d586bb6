"""Faults of the gateway's own surroundings: its clock, its files, its visitors; and where each of the thirty-two is shown."""

from __future__ import annotations

import asyncio
import json
import re
import time
from itertools import count
from pathlib import Path

import pytest

from tests.fakes import PATIENCE, until
from tests.faults.ground import HTML, ground, whole
from tests.gateway.proxies import request, said
from tests.upstream.wire import Peer, answering

pytestmark = pytest.mark.anyio

TESTS = Path(__file__).parents[1]
SHOWN = {
    **dict.fromkeys((2, 3, 4), "faults/test_contexts.py:test_what_never_ends_ends_at_its_deadline"),
    **dict.fromkeys((5, 8, 9, 10, 12, 13), "faults/test_contexts.py:test_what_ends_badly_costs_its_own_slot_alone"),
    **dict.fromkeys((6, 7), "faults/test_contexts.py:test_what_comes_after_an_answer_is_nobodys"),
    **{number: f"faults/test_contexts.py:test_{number}_" for number in (1, 11, 14, 15, 16, 17, 18, 31)},
    19: "attacks/test_gateway_itself.py:test_a_reader_that_never_reads",
    20: "gateway/test_app.py:test_whoever_goes_ends_the_fetch",
    21: "attacks/test_gateway_itself.py:test_idle_connections_do_not_slow_a_live_page",
    22: "attacks/test_gateway_itself.py:test_a_head_of_one_byte_a_second_ends",
    23: "attacks/test_gateway_itself.py:test_sigterm_drains_what_is_under_way",
    24: "e2e/test_outages.py:test_a_gateway_that_was_killed_serves_what_it_had",
    25: "e2e/test_outages.py:test_redis_stops_dies_and_forgets",
    27: "store/test_sqlite.py:test_a_full_disk_is_read_on",
    28: "test_registry.py:test_a_context_that_breaks_keeps_its_last_good_version",
    **{number: f"faults/test_gateway.py:test_{number}_" for number in (26, 29, 30)},
    32: "attacks/test_gateway_itself.py:test_a_blocked_loop_is_detected",
}
"""By number: file and what the test's name begins with."""


def test_each_fault_is_shown_somewhere() -> None:
    assert sorted(SHOWN) == list(range(1, 33))
    for file, _, name in (place.partition(":") for place in SHOWN.values()):
        assert re.search(rf"^(async )?def {name}", (TESTS / file).read_text(), re.MULTILINE), f"{file} has no {name}…"


@pytest.mark.parametrize("hours", [-1, 1])
async def test_26_a_clock_that_jumps_expires_nothing(tmp_path: Path, hours: int) -> None:
    numbers = count()

    async def script(peer: Peer) -> None:
        while await peer.head():
            await peer.send(said(b"<p>answer %d</p>" % next(numbers), cache_control="max-age=60", **HTML))

    async with ground(tmp_path, script) as here:
        assert "answer 0" in (await here.page()).text
        here.running.resolver.landing._wall = lambda: time.time() + hours * 3600
        for _ in range(3):
            page = await here.page()
            whole(page)
            assert "answer 0" in page.text, "what is kept goes by another clock"
        await here.settled()


@pytest.mark.parametrize(
    "text",
    [
        "fragments: {" + ", ".join(f"f{number}: {{path: /{number}}}" for number in range(400_000)) + "}",
        "a: &a [x]\nb: " + "[" * 1000 + "*a" + "]" * 1000,
        "fragments: {slot: {path: '/{x}', params: {x: {type: str, pattern: '((a{1,1000}){1,1000}){1,1000}'}}}}",
        "fragments: {slot: {path: '/{x}', params: {x: {type: str, pattern: '(a(?=b))'}}}}",
    ],
    ids=["ten megabytes", "aliases and depth", "a pattern of a billion states", "a pattern that looks ahead"],
)
async def test_29_a_poisoned_registration_is_refused_whole_and_its_teams_alone(tmp_path: Path, text: str) -> None:
    async with ground(tmp_path, answering(said(b"<p>slot</p>", **HTML))) as here:
        file = tmp_path / "fragments" / "bad" / "context.yaml"
        file.write_text(f"owner: team-bad\nupstream: http://127.0.0.1:9\n{text}\n")
        began = time.process_time()
        world = here.gateway.registry.load()
        assert time.process_time() - began < PATIENCE
        findings = {finding.context for finding in world.findings if finding.severity == "error"}
        assert findings == {"bad"}
        assert {"good/one", "good/two"} <= set(world.fragments)
        whole(await here.page())
        await here.settled()


async def test_30_a_thousand_visitors_at_an_expiry_ask_once(tmp_path: Path) -> None:
    gate, asked = asyncio.Event(), 0

    async def script(peer: Peer) -> None:
        nonlocal asked
        while await peer.head():
            asked += 1
            await gate.wait()
            await peer.send(said(b"<p>slot</p>", cache_control="max-age=60", **HTML))

    policy = {"timeout": {"first_byte": "9s", "total": "9s"}}
    async with ground(tmp_path, script, policy=policy) as here:
        first = await here.server.connect()
        visitors = [await here.server.connect() for _ in range(50)]
        for each in (first, *visitors):
            for _ in range(20):  # one after the other on each connection: a thousand in all
                await each.send(request("/page", headers={"Accept": "application/json"}))
        await until(lambda: asked, "the one question")
        await first.close()
        gate.set()
        async with asyncio.timeout(3 * PATIENCE):
            for each in visitors:
                for _ in range(20):
                    answer = await each.answer()
                    assert json.loads(answer.body)["slots"]["slot"]["outcome"] == "fresh"
        assert asked == 1
        for each in visitors:
            await each.close()
        await here.settled()
