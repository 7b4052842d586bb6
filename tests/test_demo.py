"""The demo's processes: started together, ended together, whatever ends them; each failure is one clear line."""

from __future__ import annotations

import os
import signal
import socket
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from bff.config.options import Events
from bff.demo import Child, advice, busy, family, run, welcome
from bff.model import Subscription, Upstream
from tests.worlds import built

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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
async def test_all_answer_before_it_counts_as_started_and_a_signal_ends_all(number: signal.Signals) -> None:
    children = [service("discovery"), service("ecommerce")]
    seen: list[bool] = []

    def started() -> None:
        seen.extend(map(listens, children))
        os.kill(os.getpid(), number)

    said: list[str] = []
    assert await run(children, started=started, tell=said.append) == 0
    assert seen == [True, True]
    assert not any(map(listens, children))
    assert said == []


async def test_what_shall_outlive_its_terminal_does() -> None:
    child = service()

    def started() -> None:
        os.kill(os.getpid(), signal.SIGHUP)
        with socket.create_connection(("127.0.0.1", child.port)) as stream:
            stream.sendall(b"GET /die HTTP/1.0\r\n\r\n")

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    said: list[str] = []
    try:
        assert await run([child], started=started, tell=said.append) == 1
    finally:
        signal.signal(signal.SIGHUP, before)
    assert said == ["discovery ended with exit code 3\n  cannot go on"]


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


def test_a_port_that_two_of_the_demo_s_own_need_is_found() -> None:
    first, second = service("discovery"), service("ecommerce")
    third = Child(name="the gateway", command=(), port=second.port)
    assert busy([first, second, third]) == [(third, second.port)]


# --- what is started, and what is said --------------------------------------------------------------------------------


def upstream(port: int) -> Upstream:
    return Upstream(scheme="http", host="127.0.0.1", port=port, authority=f"127.0.0.1:{port}")


CONTEXTS = [
    built("discovery", upstream=upstream(9102)).context,
    built("ecommerce", upstream=upstream(9101)).context,
    built("site").context,
]


def test_each_context_with_a_service_is_a_child_and_the_gateway_comes_last(tmp_path: Path) -> None:
    for name in ("discovery", "site"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "service.py").touch()
    service, gateway = family(CONTEXTS, tmp_path, port=8000, config=tmp_path / "bff.yaml", events=Events())
    assert service.name == "the service of discovery"
    assert service.command[1:] == (str(tmp_path / "discovery/service.py"), "--port", "9102")
    assert (service.port, service.also, service.loud) == (9102, (9202,), False)
    assert gateway.command[1:4] == ("-m", "bff", "dev")
    assert gateway.command[4:] == (
        *("--config", str(tmp_path / "bff.yaml")),
        *("--fragments", str(tmp_path)),
        *("--host", "127.0.0.1", "--port", "8000"),
    )
    assert (gateway.port, gateway.ready, gateway.loud) == (8000, "/_bff/readyz", True)


def test_without_a_settings_file_the_gateway_is_given_none(tmp_path: Path) -> None:
    (gateway,) = family([], tmp_path, port=8000, config=None, events=Events())
    assert "--config" not in gateway.command


def test_a_service_whose_context_registers_events_is_told_where_to_tell_them(tmp_path: Path) -> None:
    event = Subscription(context="discovery", type="a", topic="b", tags=(), action="refresh")
    telling = [replace(CONTEXTS[0], events=(event,)), CONTEXTS[1]]
    for context in telling:
        (tmp_path / context.name).mkdir()
        (tmp_path / context.name / "service.py").touch()
    service, other, gateway = family(telling, tmp_path, port=8001, config=None, events=Events())
    secret = service.env["EVENTS_SECRET"]
    assert len(secret) == 32
    assert service.env == {"EVENTS_WEBHOOK": "http://127.0.0.1:8001/_bff/events", "EVENTS_SECRET": secret}
    assert gateway.env == {"BFF_EVENTS__WEBHOOK_SECRET": secret}
    assert other.env == {}
    own = Events(bus="redis://127.0.0.1:6379/0", prefix="dev", webhook_secret="hush")
    service, *_ = family(telling, tmp_path, port=8001, config=None, events=own)
    assert (service.env["EVENTS_SECRET"], service.env["EVENTS_BUS"], service.env["EVENTS_PREFIX"]) == (
        "hush",
        own.bus,
        "dev",
    )
    assert "curl -X PATCH 'http://127.0.0.1:9102/" in "\n".join(welcome(telling, 8001))
    assert "PATCH" not in "\n".join(welcome(CONTEXTS, 8001))


async def test_a_child_has_an_environment_of_its_own_besides_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OURS", "x")
    said: list[str] = []
    child = replace(script("import os, sys; sys.exit(os.environ['OURS'] + os.environ['ITS'])"), env={"ITS": "y"})
    assert await run([child], started=lambda: None, tell=said.append) == 1
    assert "xy" in said[0]


def test_the_welcome_says_where_what_and_how_to_break_it() -> None:
    told = "\n".join(welcome(CONTEXTS, 8001))
    assert "http://127.0.0.1:8001/" in told
    assert "ecommerce         team-ecommerce          http://127.0.0.1:9101" in told
    assert "site" not in told
    assert "curl -X POST 'http://127.0.0.1:9202/_fault?mode=down'" in told


def test_without_discovery_the_first_context_is_the_one_to_break() -> None:
    assert "http://127.0.0.1:9201/_fault" in "\n".join(welcome(CONTEXTS[1:], 8000))
    assert "ctrl" in "\n".join(welcome([], 8000)).lower()


def test_a_taken_port_is_one_line_with_what_to_do() -> None:
    child = service()
    assert advice(child, 9102) == (
        "port 9102, which discovery needs, is in use; end what listens there; `ss -ltnp 'sport = :9102'` names it"
    )
    gateway = Child(name="the gateway", command=(), port=8000, loud=True)
    assert advice(gateway, 8000) == (
        "port 8000, which the gateway needs, is in use; choose another: `bff demo --port 8080`, `make demo PORT=8080`"
    )
