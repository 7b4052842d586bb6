"""The demo's processes: started together, ended together, whatever ends them; each failure is one clear line."""

from __future__ import annotations

import os
import signal
import socket
import sys
from contextlib import closing
from pathlib import Path

import pytest

from bff.demo import Child, busy, run

pytestmark = pytest.mark.anyio

SERVICE = """
import os, signal, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/die":
            print("cannot go on", file=sys.stderr, flush=True)
            os._exit(3)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"here")

    def log_message(self, *_):
        pass

if "--stubborn" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def service(name: str = "discovery", *, flags: tuple[str, ...] = ()) -> Child:
    port = free_port()
    return Child(name=name, command=(sys.executable, "-c", SERVICE, str(port), *flags), port=port)


def script(code: str, name: str = "discovery") -> Child:
    return Child(name=name, command=(sys.executable, "-c", code), port=free_port())


def listens(child: Child) -> bool:
    return bool(busy([child]))


async def test_all_answer_before_it_counts_as_started_and_a_signal_ends_all() -> None:
    children = [service("discovery"), service("ecommerce")]
    seen: list[bool] = []

    def started() -> None:
        seen.extend(map(listens, children))
        os.kill(os.getpid(), signal.SIGTERM)

    said: list[str] = []
    assert await run(children, started=started, tell=said.append) == 0
    assert seen == [True, True]
    assert not any(map(listens, children))
    assert said == []


async def test_a_child_that_dies_later_ends_the_others_and_its_last_words_are_told() -> None:
    mortal, other = service("discovery"), service("ecommerce")

    def started() -> None:
        with socket.create_connection(("127.0.0.1", mortal.port)) as stream:
            stream.sendall(b"GET /die HTTP/1.0\r\n\r\n")

    said: list[str] = []
    assert await run([other, mortal], started=started, tell=said.append) == 1
    assert said == ["discovery ended with exit code 3\n  cannot go on"]
    assert not listens(other)


async def test_a_child_that_cannot_start_at_all_is_told() -> None:
    said: list[str] = []
    child = Child(name="discovery", command=("/nonexistent/program",), port=free_port())
    assert await run([child], started=pytest.fail, tell=said.append) == 1
    assert said[0].startswith("discovery could not be started: ")


async def test_only_the_last_lines_of_a_long_complaint_are_kept() -> None:
    said: list[str] = []
    noisy = script("import sys\nfor n in range(100): print('line', n)\nsys.stdout.write('no newline'); sys.exit(7)")
    assert await run([noisy], started=pytest.fail, tell=said.append) == 1
    lines = said[0].splitlines()
    assert lines[0] == "discovery ended with exit code 7"
    assert lines[-2:] == ["  line 99", "  no newline"]
    assert len(lines) == 9


@pytest.mark.parametrize(
    ("number", "words"), [(signal.SIGKILL, "was ended by SIGKILL"), (signal.SIGRTMIN + 1, "ended with exit code -35")]
)
async def test_a_child_ended_by_a_signal_is_told(number: int, words: str) -> None:
    said: list[str] = []
    suicidal = script(f"import os; os.kill(os.getpid(), {int(number)})")
    assert await run([suicidal], started=pytest.fail, tell=said.append) == 1
    assert said == [f"discovery {words}"]


async def test_a_child_that_never_answers_is_given_up() -> None:
    said: list[str] = []
    silent = script("import threading; threading.Event().wait()")
    assert await run([silent], started=pytest.fail, tell=said.append, patience=0.1) == 1
    assert said == [f"discovery did not answer on port {silent.port} within 0.1 s"]


async def test_a_server_error_is_not_an_answer() -> None:
    said: list[str] = []
    failing = service()
    command = tuple(part.replace("send_response(200)", "send_response(503)") for part in failing.command)
    child = Child(name="gateway", command=command, port=failing.port)
    assert await run([child], started=pytest.fail, tell=said.append, patience=0.5) == 1
    assert said[0].startswith("gateway did not answer")


async def test_a_child_that_ignores_sigterm_is_killed() -> None:
    stubborn = service(flags=("--stubborn",))
    ended = await run([stubborn], started=lambda: os.kill(os.getpid(), signal.SIGINT), tell=pytest.fail, grace=0.05)
    assert ended == 0
    assert not listens(stubborn)


async def test_a_loud_child_writes_to_the_terminal(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    said: list[str] = []
    code = "import os; print(os.getcwd())"
    loud = Child(name="gateway", command=(sys.executable, "-c", code), port=1, folder=tmp_path, loud=True)
    assert await run([loud], started=pytest.fail, tell=said.append) == 1
    assert said == ["gateway ended with exit code 0"]
    assert capfd.readouterr().out.strip() == str(tmp_path)


def test_busy_ports_are_found_before_anything_starts() -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        first = Child(name="discovery", command=(), port=free_port(), also=(port,))
        second = Child(name="ecommerce", command=(), port=free_port())
        assert busy([first, second]) == [(first, port)]
