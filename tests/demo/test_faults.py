"""Breaking the demo's services: in process by the ASGI interface, and one of them over real sockets."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import PIPE, STDOUT
from typing import Any

import anyio
import httpx2
import pytest
from anyio.abc import Process
from anyio.streams.text import TextReceiveStream

from .demo import ANSWERED, FRAGMENTS, NAMES, client, create

pytestmark = pytest.mark.anyio


async def ask(app: Any, path: str) -> list[MutableMapping[str, Any]]:
    """What the app sends to a client that waits for an answer, then goes."""
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [],
    }
    await app(scope, receive, send)
    return sent


def test_the_same_lines_break_every_service() -> None:
    texts = [(FRAGMENTS / name / "service.py").read_text() for name in NAMES]
    blocks = {re.search(r"^# --- faults.*^# --- end of faults$", text, re.MULTILINE | re.DOTALL) for text in texts}
    assert len({block[0] for block in blocks if block}) == 1
    assert None not in blocks


@pytest.mark.parametrize("name", NAMES)
async def test_failing_answers_500_until_it_is_well_again(name: str) -> None:
    app = create(name)
    async with client(app) as http:
        well = (await http.get(ANSWERED[name])).status_code
        told = await http.post("/_fault?mode=error")
        assert told.json() == {"mode": "error", "delay": 3.0, "modes": ["ok", "slow", "error", "silent", "down"]}
        assert (await http.get(ANSWERED[name])).status_code == 500
        await http.post("/_fault", json={"mode": "ok"})
        assert (await http.get(ANSWERED[name])).status_code == well != 500


@pytest.mark.parametrize("mode", ["silent", "down"])
async def test_silent_says_nothing_until_the_client_goes(mode: str) -> None:
    app = create("discovery")
    await app.set(mode, 3.0)
    assert await ask(app, "/api/v1/subjects/") == []


async def test_slow_answers_late() -> None:
    app = create("discovery")
    await app.set("slow", 3600.0)
    with anyio.move_on_after(0.02) as scope:
        await ask(app, "/api/v1/subjects/")
    assert scope.cancelled_caught
    await app.set("slow", 0.0)
    assert (await ask(app, "/api/v1/subjects/"))[0]["status"] == 200


async def test_an_unknown_mode_changes_nothing() -> None:
    app = create("enterprise")
    async with client(app) as http:
        assert (await http.post("/_fault?mode=angry")).status_code == 400
        assert (await http.get("/_fault?mode=error")).json()["mode"] == "ok"  # a question by GET is only a question
        assert app.mode == "ok"


async def test_it_heals_by_itself_when_told_so() -> None:
    app = create("site")
    healed = anyio.Event()

    async def listen(wanted: bool) -> None:
        if wanted:
            healed.set()

    app.listen = listen
    async with client(app) as http:
        await http.post("/_fault?mode=down&heal=0.01")
        assert app.mode == "down"
        with anyio.fail_after(5):
            await healed.wait()
    assert app.mode == "ok"


async def test_the_switchboard_is_spared_so_that_the_site_can_be_mended_from_a_page() -> None:
    app = create("site", controls={})
    async with client(app) as http:
        await http.post("/_fault?mode=error")
        assert (await http.get("/account")).status_code == 500
        assert (await http.get("/switchboard")).status_code == 200


# --- one service over real sockets


def pair() -> int:
    """A port that is free, and so is the one 100 above it."""
    while True:
        with socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", 0))
            port = int(one.getsockname()[1])
            try:
                other.bind(("127.0.0.1", port + 100))
            except (OSError, OverflowError):
                continue
            return port


async def line(process: Process) -> str:
    assert process.stdout is not None
    return await TextReceiveStream(process.stdout).receive()


@asynccontextmanager
async def running(port: int) -> AsyncIterator[Process]:
    command = [sys.executable, str(Path(FRAGMENTS) / "enterprise" / "service.py")]
    async with await anyio.open_process(
        command, stdout=PIPE, stderr=STDOUT, env=os.environ | {"PORT": str(port)}
    ) as process:
        yield process


async def test_down_refuses_connections_and_cuts_those_it_had() -> None:
    port = pair()
    with anyio.fail_after(30):
        async with running(port) as process, httpx2.AsyncClient(timeout=20) as control:
            assert f":{port + 100}/_fault" in await line(process)
            kept = await anyio.connect_tcp("127.0.0.1", port)
            await kept.send(b"GET /api/v2/enterprise/offers/ HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await kept.receive()).startswith(b"HTTP/1.1 200")
            await control.post(f"http://127.0.0.1:{port + 100}/_fault?mode=down")
            rest = [chunk async for chunk in kept]
            assert b"HTTP/1.1" not in b"".join(rest)
            with pytest.raises(OSError, match=r".*"):
                await anyio.connect_tcp("127.0.0.1", port)
            await control.post(f"http://127.0.0.1:{port + 100}/_fault?mode=ok")
            assert (await control.get(f"http://127.0.0.1:{port}/api/v2/enterprise/offers/")).status_code == 200
            await kept.aclose()
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0


async def test_a_busy_port_is_told_in_one_line() -> None:
    port = pair()
    with socket.create_server(("127.0.0.1", port + 100)), anyio.fail_after(30):
        async with running(port) as process:
            said = await line(process)
            assert await process.wait() == 1
    assert len(said.splitlines()) == 1
    assert f"cannot listen on port {port} and {port + 100}" in said
