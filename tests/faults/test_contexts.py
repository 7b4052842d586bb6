"""What a context may do wrong (the first eighteen faults), and the page that is whole all the same.

Every fault keeps the promise of `whole`: 200, well-formed, the other slots as ever; those that hold their slot up hold up
nothing else, for the others' bytes come first. Afterwards nothing of it is left: places, tasks, descriptors.
"""

from __future__ import annotations

import asyncio
from itertools import count
from pathlib import Path

import pytest

from bff.model import Ask, Bounds, Timeout
from bff.rules.limits.breaker import State
from tests.fakes import free_port, until
from tests.faults.ground import HTML, Ground, Left, gone, ground, whole
from tests.gateway.proxies import said
from tests.upstream.wire import Peer, Script, answering, connecting, serving

pytestmark = pytest.mark.anyio

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
BOMB = b"\x1f\x8b\x08\x00" + b"\0" * 1000


def sending(data: bytes) -> Script:
    """To each request these bytes, then the end of the connection."""

    async def script(peer: Peer) -> None:
        if await peer.head():
            await peer.send(data)

    return script


def trickling(begin: bytes, piece: bytes) -> Script:
    """A beginning, then the same piece again and again, as slowly as no single read would mind."""

    async def script(peer: Peer) -> None:
        while await peer.head():
            await peer.send(begin)
            while True:
                await peer.send(piece)
                await asyncio.sleep(0.02)

    return script


async def silent(peer: Peer) -> None:
    await peer.ended()


async def reset_mid_body(peer: Peer) -> None:
    if await peer.head():
        await peer.send(HEAD + b"Content-Length: 100\r\n\r\n<p>half")
        peer.reset()


async def flood(peer: Peer) -> None:
    """A hundred megabytes, if anybody takes them."""
    if await peer.head():
        await peer.send(CHUNKED)
        for _ in range(1600):
            await peer.send(b"10000\r\n" + b"x" * 65536 + b"\r\n")


HELD = {
    "2 accepts, and is silent": silent,
    "3 a body of a byte now and then": trickling(HEAD + b"Content-Length: 1000\r\n\r\n", b"x"),
    "3 chunks of a byte now and then": trickling(CHUNKED, b"1\r\nx\r\n"),
    "4 a head of a byte now and then": trickling(HEAD, b"x"),
    "4 an endless 103": trickling(b"", b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"),
}


@pytest.mark.parametrize("script", HELD.values(), ids=HELD)
async def test_what_never_ends_ends_at_its_deadline_and_holds_up_nothing_else(tmp_path: Path, script: Script) -> None:
    async with ground(tmp_path, script) as here:
        began = asyncio.get_running_loop().time()
        page = await here.page()
        whole(page)
        assert asyncio.get_running_loop().time() - began >= 0.2
        others = page.text.index("<p>one</p>"), page.text.index("<p>two</p>")
        assert max(others) < page.text.rindex('name="bad/slot"'), "what is ready does not wait"
        assert await here.bad_slot() == ("pending", "timeout"), "the browser may try"
        await here.settled()


ENDED: dict[str, tuple[Script, str]] = {
    "5 reset in the middle of a body": (reset_mid_body, "torn"),
    "6 less than was promised": (sending(HEAD + b"Content-Length: 100\r\n\r\n<p>half"), "torn"),
    "8 a header of ten megabytes": (sending(HEAD + b"X: " + b"y" * 10_000_000 + b"\r\n\r\n"), "too_large"),
    "8 five thousand headers": (sending(HEAD + b"X: y\r\n" * 5000 + b"Content-Length: 0\r\n\r\n"), "too_large"),
    "9 a hundred megabytes announced": (sending(HEAD + b"Content-Length: 104857600\r\n\r\nx"), "too_large"),
    "9 a hundred megabytes in chunks": (flood, "too_large"),
    "10 chunks that are none": (sending(CHUNKED + b"zz\r\nhello\r\n0\r\n\r\n"), "torn"),
    "10 two lengths": (sending(HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx"), "torn"),
    "10 both kinds of framing": (sending(HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), "torn"),
    "10 garbage": (sending(b"\x00\xff\x00 garbage\r\n\r\n"), "torn"),
    "10 nothing": (sending(b""), "torn"),
    "12 a bomb": (sending(HEAD + b"Content-Encoding: gzip\r\nContent-Length: 1004\r\n\r\n" + BOMB), "refused"),
    "12 a bomb in a bomb": (sending(HEAD + b"Content-Encoding: gzip, gzip\r\nContent-Length: 1004\r\n\r\n" + BOMB), "refused"),
    "13 a redirect to itself": (answering(said(b"", "302 Found", location="/slot")), "status"),
    "13 a redirect to where it may not": (answering(said(b"", "302 Found", location="http://169.254.169.254/")), "status"),
    "15 an error": (answering(said(b"", "500 No")), "status"),
    "markup that is not closed": (answering(said(b"<div><table><tr><td>", **HTML)), ""),
    "markup that would end the page": (answering(said(b"</body></html><plaintext>", **HTML)), ""),
    "a comment without an end": (answering(said(b"<!-- ", **HTML)), ""),
}  # fmt: skip


@pytest.mark.parametrize(("script", "reason"), ENDED.values(), ids=ENDED)
async def test_what_ends_badly_costs_its_own_slot_alone(tmp_path: Path, script: Script, reason: str) -> None:
    async with ground(tmp_path, script) as here:
        whole(await here.page())
        outcome, why = await here.bad_slot()
        if reason:
            assert (outcome, why) == ("omitted", reason)
        assert len(here.bad.peers) <= 2, "nothing is followed or asked twice"
        await here.settled()


async def test_1_refused(tmp_path: Path) -> None:
    async with ground(tmp_path, silent, upstream=f"http://127.0.0.1:{free_port()}") as here:
        whole(await here.page())
        assert await here.bad_slot() == ("omitted", "connect")
        for _ in range(4):
            await here.slots()
        assert await here.bad_slot() == ("omitted", "breaker")
        assert here.bad.peers == []
        await here.settled()


@pytest.mark.parametrize("extra", [b"!", said(b"poison", **HTML)], ids=["6 a byte too many", "7 two answers at once"])
async def test_what_comes_after_an_answer_is_nobodys(tmp_path: Path, extra: bytes) -> None:
    numbers = count()

    async def script(peer: Peer) -> None:
        while await peer.head():
            await peer.send(said(b"<p>answer %d</p>" % next(numbers), **HTML) + extra)

    async with ground(tmp_path, script) as here:
        for number in range(5):
            page = await here.page()
            whole(page)
            assert f"answer {number}" in page.text
            assert "poison" not in page.text
        assert len(here.bad.peers) == 5, "such a connection is not used again"
        await here.settled()


async def test_11_bytes_that_are_no_text(tmp_path: Path) -> None:
    async with ground(tmp_path, answering(said(b"<p>replaced \xff\xfe\xc3</p>", **HTML))) as here:
        whole(await here.page())  # which decodes it
        await here.settled()


async def test_14_a_name_that_nobody_knows(tmp_path: Path) -> None:
    async with ground(tmp_path, silent, upstream="http://nobody.invalid") as here:
        whole(await here.page())
        assert await here.bad_slot() == ("omitted", "connect")
        await here.settled()


async def test_15_a_storm_of_errors_is_asked_for_probes_only(tmp_path: Path) -> None:
    asked = 0

    async def script(peer: Peer) -> None:
        nonlocal asked
        while await peer.head():
            asked += 1
            await peer.send(said(b"", "503 No"))

    async with ground(tmp_path, script, policy={"retry": {"extra": 1}, "breaker": {"open": "60s"}}) as here:
        for _ in range(60):
            whole(await here.page())
        assert asked <= 20, "the breaker opens at twenty"
        assert await here.bad_slot() == ("omitted", "breaker")
        await here.settled()


async def test_16_a_context_that_comes_and_goes_is_asked_by_one_probe_each_time(tmp_path: Path) -> None:
    well, probes = True, 0

    async def script(peer: Peer) -> None:
        nonlocal probes
        while await peer.head():
            probes += 1
            await peer.send(said(b"<p>slot</p>", **HTML) if well else said(b"", "500 No"))

    async with ground(tmp_path, script, policy={"breaker": {"min_requests": 3, "open": "100ms"}}) as here:
        for _ in range(3):
            well = False
            whole(await here.page())
            while state(here) is not State.OPEN:
                whole(await here.page())
            probes, well = 0, True
            await until(lambda: state(here) is State.HALF_OPEN, "the time for a probe")
            page = await here.page()
            whole(page)
            assert (page.states["bad/slot"], probes) == ("fresh", 1)
            assert state(here) is State.CLOSED
        await here.settled()


async def test_2_a_crowd_before_a_silent_context_is_spared_the_wait(tmp_path: Path) -> None:
    asked, well = 0, False

    async def script(peer: Peer) -> None:
        nonlocal asked
        while await peer.head():
            asked += 1
            if not well:
                await peer.ended()
            await peer.send(said(b"<p>slot</p>", cache_control="max-age=60", **HTML))

    async with ground(tmp_path, script, policy={"breaker": {"open": "2s"}}) as here:
        while asked == 0 or state(here) is State.CLOSED:
            for page in await asyncio.gather(*(here.page() for _ in range(50))):
                whole(page)
        before = asked
        assert before < 20, "fewer exchanges than the breaker asks for requests: those who waited are requests, too"
        assert await here.bad_slot() == ("omitted", "breaker")
        assert asked == before, "nobody waits, for nobody is asked"
        well = True
        await until(lambda: state(here) is State.HALF_OPEN, "the time for a probe")
        pages = await asyncio.gather(*(here.page() for _ in range(50)))
        for page in pages:
            whole(page)
        assert asked == before + 1, "one probe"
        assert state(here) is State.CLOSED
        assert "fresh" in {page.states["bad/slot"] for page in pages}
        assert await here.bad_slot() == ("fresh", "hit")
        await here.settled()


def state(here: Ground) -> State:
    return next(live.state for live in here.running.guarded.states() if live.name == "bad/slot")


async def test_17_a_slow_half_takes_no_place_for_good(tmp_path: Path) -> None:
    numbers = count()

    async def script(peer: Peer) -> None:
        while await peer.head():
            if next(numbers) % 2:
                await peer.ended()
            await peer.send(said(b"<p>slot</p>", **HTML))

    async with ground(tmp_path, script, policy={"concurrency": 8, "breaker": {"min_requests": 1000}}) as here:
        for _ in range(5):
            for page in await asyncio.gather(*(here.page() for _ in range(12))):
                whole(page)
        outcomes = [(await here.bad_slot())[0] for _ in range(2)]
        assert "fresh" in outcomes
        await here.settled()


@pytest.mark.slow
async def test_18_a_hundred_thousand_cancelled_fetches_leave_nothing_behind() -> None:
    """Some before they have begun, some while connecting, some with an answer on its way."""
    timeout = Timeout(connect=5.0, first_byte=10.0, total=20.0)

    def never(_: object) -> None:
        raise AssertionError("it was cancelled")

    async with serving(answering(said(b"late"))) as fake, connecting(connections=64) as client:
        baseline = Left.now()
        ask = Ask(fake.upstream, "GET", "/", b"", Bounds(timeout, max_body=9, limit=512))
        for turn in range(100_000 // 200):
            flying = [client.start(ask, never) for _ in range(200)]
            if turn % 10 == 0:
                await asyncio.sleep(0)
            for exchange in flying:
                exchange.cancel()
        ended = asyncio.get_running_loop().create_future()
        client.start(ask, ended.set_result)
        assert (await ended).body == b"late"
        assert not any(each.active or each.queued for each in client.stats().values())
        await client.aclose()
        await gone(baseline, peers=lambda: len(fake.running))


async def test_31_a_cold_start_at_peak_asks_no_more_at_once_than_the_bulkhead_allows(tmp_path: Path) -> None:
    most = at_once = 0
    gate = asyncio.Event()

    async def script(peer: Peer) -> None:
        nonlocal most, at_once
        while await peer.head():
            at_once += 1
            most = max(most, at_once)
            await gate.wait()
            at_once -= 1
            await peer.send(said(b"<p>slot</p>", **HTML))

    policy = {"concurrency": 8, "cache": {"mode": "off"}, "timeout": {"first_byte": "5s", "total": "5s"}}
    async with ground(tmp_path, script, policy=policy) as here:
        pages = [asyncio.ensure_future(here.page()) for _ in range(50)]
        await until(lambda: at_once == 6, "three quarters of the places: the slot is optional")
        gate.set()
        states = [page.states["bad/slot"] for page in await asyncio.gather(*pages)]
        assert most == 6
        assert states.count("fresh") >= 6
        await here.settled()
