"""The process: its socket, its signals, the application's lifespan, and how it leaves."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bff.gateway.server import _ONCE, Drain, _why, bind, run
from bff.gateway.server import url as url_of
from bff.gateway.telemetry import Counters
from tests.gateway.wire import OK, Limits, Settings, respond


class App:
    """Answers, after an event where one is given; notes its lifespan."""

    def __init__(self, *, fails: str = "", waits: bool = False) -> None:
        self.life: list[str] = []
        self._fails = fails
        self._waits = waits
        self.asked = threading.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
            return
        self.asked.set()
        if self._waits:
            await asyncio.Event().wait()
        await respond(body=scope["state"]["greeting"])(scope, receive, send)

    async def _live(self, scope: Any, receive: Any, send: Any) -> None:
        for phase in ("startup", "shutdown"):
            self.life.append((await receive())["type"])
            if phase == self._fails:
                await send({"type": f"lifespan.{phase}.failed", "message": "oh"})
                return
            scope["state"]["greeting"] = b"hello"
            await send({"type": f"lifespan.{phase}.complete"})


def ask(url: str, data: bytes = OK) -> bytes:
    """One exchange on a blocking socket, to the end of the connection."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    with socket.create_connection((host.strip("[]"), int(port)), timeout=10) as client:
        client.sendall(data.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        said = b""
        while piece := client.recv(65536):
            said += piece
        return said


def background(call: Any, *arguments: Any) -> threading.Thread:
    """Call in a thread; where it fails, the server must end all the same."""

    def guarded() -> None:
        try:
            call(*arguments)
        except BaseException:
            kill(signal.SIGTERM)
            raise

    thread = threading.Thread(target=guarded, daemon=True)
    thread.start()
    return thread


def kill(number: int) -> None:
    os.kill(os.getpid(), number)


def test_a_server_serves_until_it_is_told_to_leave() -> None:
    app, drain, counters = App(), Drain(), Counters()
    said: list[bytes] = []

    def visit(url: str) -> None:
        said.append(ask(url))
        kill(signal.SIGTERM)

    run(app, settings=Settings(), drain=drain, telemetry=counters, ready=lambda url: background(visit, url))
    assert said[0].startswith(b"HTTP/1.1 200 OK\r\n")
    assert said[0].endswith(b"hello")
    assert app.life == ["lifespan.startup", "lifespan.shutdown"]
    assert drain.draining


def test_sigint_leaves_and_sighup_reloads() -> None:
    reloaded: list[str] = []

    def on_reload() -> None:
        reloaded.append("yes")
        kill(signal.SIGINT)

    run(App(), settings=Settings(), on_reload=on_reload, ready=lambda _: kill(signal.SIGHUP), dev=True)
    assert reloaded == ["yes"]


class Watched(Drain):
    """A drain that tells when it begins: two signals pending together are delivered by number, not in the order sent."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        super().__init__()

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "draining" and value:
            self.begun.set()


def test_a_second_signal_ends_at_once() -> None:
    app, drain = App(waits=True), Watched()

    def visit(url: str) -> None:
        background(ask, url)
        app.asked.wait(10)
        kill(signal.SIGTERM)
        drain.begun.wait(10)
        threading.Event().wait(_ONCE * 1.5)  # it is time that tells an order from the same one by another way
        kill(signal.SIGINT)

    with pytest.raises(SystemExit) as caught:
        run(app, settings=Settings(), drain=drain, ready=lambda url: background(visit, url))
    assert caught.value.code == 128 + signal.SIGINT


class Gated(App):
    """Answers once its gate is opened, from whatever thread."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            gate = asyncio.Event()
            self.open = partial(asyncio.get_running_loop().call_soon_threadsafe, gate.set)
            self.asked.set()
            await gate.wait()
        await super().__call__(scope, receive, send)


def test_the_same_order_by_another_way_is_none_to_hurry() -> None:
    app = Gated()
    answers: list[bytes] = []
    visits: list[threading.Thread] = []

    def visit(url: str) -> None:
        visitor = background(lambda: answers.append(ask(url)))
        app.asked.wait(10)
        for _ in range(3):
            kill(signal.SIGTERM)
        app.open()
        visitor.join(10)

    run(app, settings=Settings(), ready=lambda url: visits.append(background(visit, url)))
    visits[0].join(10)
    assert app.life == ["lifespan.startup", "lifespan.shutdown"]
    assert b"hello" in answers[0]


def test_what_does_not_end_is_ended() -> None:
    app = App(waits=True)
    said: list[bytes] = []

    def visit(url: str) -> None:
        asking = background(lambda: said.append(ask(url)))
        app.asked.wait(10)
        kill(signal.SIGTERM)
        asking.join(10)

    visiting: list[threading.Thread] = []
    limits = Limits(drain=0.05)
    run(app, settings=Settings(limits=limits), ready=lambda url: visiting.append(background(visit, url)))
    visiting[0].join(10)
    assert b" 503 " in said[0]
    assert app.life == ["lifespan.startup", "lifespan.shutdown"]


def test_an_application_that_does_not_start_ends_the_process() -> None:
    with pytest.raises(SystemExit) as caught:
        run(App(fails="startup"), settings=Settings())
    assert caught.value.code == 1


def test_a_busy_port_is_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with bind("127.0.0.1:0") as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(SystemExit) as caught:
            run(App(), settings=Settings(listen=listen))
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert (
        said
        == f"bff: cannot listen on {listen}: the address is in use; stop the other process, or choose another port with --port\n"
    )


@pytest.mark.parametrize("listen", ["8000", ":8000", "127.0.0.1:http", "no.such.host.invalid:80", "192.0.2.1:80"])
def test_an_address_that_cannot_be_had_is_told_in_one_line(listen: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run(App(), settings=Settings(listen=listen))
    assert caught.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_reasons_are_given_in_words() -> None:
    assert "privilege" in _why(PermissionError(13, "Permission denied"))
    assert _why(OSError(99, "Cannot assign requested address")) == "Cannot assign requested address"
    assert _why(ValueError("write it so")) == "write it so"


def test_urls_can_be_copied() -> None:
    with bind("[::1]:0") as listener:
        assert url_of(listener).startswith("http://[::1]:")


def test_a_unix_socket_is_served_and_taken_over_when_its_owner_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "bff.sock"
    said: list[bytes] = []

    def visit(url: str) -> None:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(url.removeprefix("unix:"))
            client.sendall(OK)
            said.append(client.recv(65536))
        with pytest.raises(OSError, match="in use"):
            bind(url)
        kill(signal.SIGTERM)

    settings = Settings(listen=f"unix:{path}")
    for _ in range(2):
        run(App(), settings=settings, ready=lambda url: background(visit, url))
    assert [line.startswith(b"HTTP/1.1 200") for line in said] == [True, True]


PROCESS = """
import asyncio, sys
from bff.gateway.server import run
from tests.gateway.test_server import App
from tests.gateway.wire import Settings
class Slow(App):
    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            return await self._live(scope, receive, send)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        await send({"type": "http.response.body", "body": b"last"})
run(Slow(), settings=Settings(), ready=lambda url: print(url, flush=True))
"""


def test_a_process_finishes_what_is_under_way_and_exits_with_0() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROCESS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        host, _, port = process.stdout.readline().strip().removeprefix("http://").rpartition(":")
        with (
            socket.create_connection((host, int(port)), timeout=10) as busy,
            socket.create_connection((host, int(port)), timeout=10) as idle,
        ):
            busy.sendall(OK)
            assert b"first" in busy.recv(65536)
            process.send_signal(signal.SIGTERM)
            assert idle.recv(1) == b""
            with socket.create_connection((host, int(port)), timeout=10) as late:
                late.sendall(OK)
                assert late.recv(65536).startswith(b"HTTP/1.1 503 ")
            process.stdin.write("\n")
            process.stdin.flush()
            assert busy.recv(65536).endswith(b"last\r\n0\r\n\r\n")
            assert busy.recv(1) == b""
        assert process.wait(10) == 0
