"""Several processes on one port: real ones, started by the command, signalled and killed."""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from bff.errors import Finding, UnusableInput
from bff.gateway.logs import Log
from bff.gateway.workers import Supervisor, reserve


class Site:
    """`bff serve` with two workers; `lines` are what it said so far."""

    def __init__(self, folder: Path, *, listen: str = "127.0.0.1:0") -> None:
        (folder / "fragments").mkdir(exist_ok=True)
        (folder / "bff.yaml").write_text(
            f"listen: {listen}\nstore: sqlite:///bff.sqlite\nworkers: 2\nwatch: false\nadmin: {{token: operators-own}}\n"
        )
        command = [sys.executable, "-m", "bff", "serve", "--config", str(folder / "bff.yaml")]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.url = ""

    def until(self, event: str) -> dict[str, Any]:
        """Read its log up to an event of this name."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            said: dict[str, Any] = json.loads(line)
            if said["event"] == event:
                return said
        raise AssertionError(f"it ended without {event}")

    def workers(self) -> set[int]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return set(map(int, children))


@pytest.fixture
def start() -> Iterator[Callable[..., Site]]:
    sites: list[Site] = []

    def make(*arguments: Any, **named: Any) -> Site:
        sites.append(Site(*arguments, **named))
        return sites[-1]

    yield make
    for site in sites:
        with contextlib.suppress(ProcessLookupError):
            site.process.kill()
        site.process.communicate()


def get(url: str, body: str | None = None) -> str:
    request = Request(url, body.encode() if body else None, {"authorization": "Bearer operators-own"})
    with urlopen(request, timeout=10) as answer:
        return str(answer.read().decode())


def test_two_workers_share_a_port_and_their_numbers(tmp_path: Path, start: Callable[..., Site]) -> None:
    site = start(tmp_path)
    said = site.until("ready")
    assert said["workers"] == 2
    assert len(site.workers()) == 2
    assert get(said["url"] + "/_bff/readyz") == "ready\n"
    lags = [line for line in get(said["url"] + "/_bff/metrics").splitlines() if line.startswith("bff_build_info")]
    assert [line.rpartition(" ")[2] for line in lags] == ["1.0"]
    site.process.send_signal(signal.SIGTERM)
    assert site.process.wait(30) == 0
    site.until("stopped")


def test_each_worker_tells_operators_of_all(tmp_path: Path, start: Callable[..., Site]) -> None:
    """Which one answers is chance: what was done at one is shown by the other, too."""
    site = start(tmp_path)
    admin = site.until("ready")["url"] + "/_bff/admin"
    for _ in range(8):
        get(f"{admin}/purge", '{"all": true}')
    for _ in range(8):
        told = json.loads(get(f"{admin}/status"))
        assert {int(pid) for pid in told["process"]["pids"]} == site.workers()
        assert len(told["actions"]) == 8
        assert told["store"] == {"tier": "sqlite", "reached": True, "entries": 0, "bytes": 0}
    site.process.send_signal(signal.SIGTERM)
    assert site.process.wait(30) == 0


def test_all_that_are_told_to_end_at_once_drain(tmp_path: Path, start: Callable[..., Site]) -> None:
    """As a terminal's Ctrl-C and a service manager do: parent and workers hear it, and the parent passes it on."""
    site = start(tmp_path)
    site.until("ready")
    for pid in (site.process.pid, *site.workers()):
        os.kill(pid, signal.SIGTERM)
    said, _ = site.process.communicate(timeout=30)
    assert site.process.returncode == 0
    assert [json.loads(line)["event"] for line in said.splitlines()] == ["stopped"]


def test_a_worker_that_dies_is_replaced(tmp_path: Path, start: Callable[..., Site]) -> None:
    site = start(tmp_path)
    url = site.until("ready")["url"]
    before = site.workers()
    victim = min(before)
    os.kill(victim, signal.SIGKILL)
    assert site.until("worker-died")["code"] == -signal.SIGKILL
    assert get(url + "/_bff/livez") == "alive\n", "the other one goes on"
    while len(site.workers()) < 2:
        assert site.process.poll() is None
    assert victim not in site.workers()
    site.process.send_signal(signal.SIGINT)
    assert site.process.wait(30) == 0


def test_workers_do_not_outlive_their_parent(tmp_path: Path, start: Callable[..., Site]) -> None:
    site = start(tmp_path)
    site.until("ready")
    descriptors = [os.pidfd_open(pid) for pid in site.workers()]
    site.process.kill()
    for descriptor in descriptors:
        assert select.select([descriptor], [], [], 30)[0], "it has outlived its parent"
        os.close(descriptor)


def test_a_busy_port_is_told_in_one_line(tmp_path: Path, start: Callable[..., Site]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        site = start(tmp_path, listen=f"127.0.0.1:{taken.getsockname()[1]}")
        _, said = site.process.communicate(timeout=30)
    assert site.process.returncode == 2
    assert "the address is in use" in said
    assert len(said.splitlines()) == 1


def test_a_second_gateway_does_not_creep_onto_the_port(tmp_path: Path, start: Callable[..., Site]) -> None:
    first = start(tmp_path)
    url = first.until("ready")["url"]
    second = start(tmp_path, listen=url.removeprefix("http://"))
    _, said = second.process.communicate(timeout=30)
    assert second.process.returncode == 2
    assert "the address is in use" in said


def quiet() -> tuple[Log, list[bytes]]:
    said: list[bytes] = []
    return Log(write=said.append), said


def test_workers_that_cannot_start_end_it() -> None:
    log, said = quiet()

    def work(_index: int, _ready: Callable[[], None]) -> None:
        raise SystemExit(2)

    assert Supervisor(2, work, log=log, ready=lambda: None).run() == 2
    assert b'"event":"worker-failed"' in b"".join(said)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (UnusableInput([Finding(file="keys.json", line=1, column=1, code="bad-keys", message="none")]), "keys.json:1:1: error: none\n"),
        (ValueError("no such thing"), "bff: ValueError: no such thing\n"),
    ],
)  # fmt: skip
def test_a_worker_says_what_kept_it_from_starting(
    error: Exception, line: str, capfd: pytest.CaptureFixture[str]
) -> None:
    def work(_index: int, _ready: Callable[[], None]) -> None:
        raise error

    assert Supervisor(1, work, log=quiet()[0], ready=lambda: None).run() == 2
    assert capfd.readouterr().err == line


def test_a_second_signal_is_the_exit_code() -> None:
    log, _ = quiet()
    heard, told = socket.socketpair()

    def work(_index: int, ready: Callable[[], None]) -> None:
        signal.signal(signal.SIGTERM, lambda *_: told.send(b"t"))
        signal.signal(signal.SIGINT, lambda *_: os._exit(0))
        ready()
        while True:
            signal.pause()

    def begin() -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    def follow() -> None:
        heard.recv(1)  # the worker has had the first one
        os.kill(os.getpid(), signal.SIGINT)

    with heard, told:
        threading.Thread(target=follow, daemon=True).start()
        assert Supervisor(1, work, log=log, ready=begin).run() == 128 + signal.SIGINT


def test_an_address_is_reserved_with_its_port_decided() -> None:
    listen, held = reserve("127.0.0.1:0")
    with held:
        assert listen == f"127.0.0.1:{held.getsockname()[1]}"
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(held.getsockname(), timeout=5)
    listen, held = reserve("[::1]:0")
    with held:
        assert listen.startswith("[::1]:")
