"""The container files without an engine: what they copy exists, what they run runs, and their numbers agree.

The health checks and commands are the files' own, run in this environment with another port.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CONTEXTS = sorted(service.parent.name for service in (ROOT / "fragments").glob("*/service.py"))
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]


def stages() -> dict[str, list[tuple[str, str]]]:
    """The Dockerfile as (INSTRUCTION, rest) by stage, continued lines joined."""
    text = re.sub(r"\\\n\s*", "", (ROOT / "docker" / "Dockerfile").read_text())
    found: dict[str, list[tuple[str, str]]] = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            instruction, _, rest = line.partition(" ")
            if instruction == "FROM":
                stage = found.setdefault(rest.split(" AS ")[1], [])
            stage.append((instruction, rest))
    return found


STAGES = stages()
GATEWAY = dict(STAGES["gateway"])


def command(rest: str) -> list[str]:
    """The exec form in an instruction's rest, whatever options stand before it."""
    return list(map(str, json.loads(rest[rest.index("[") :])))


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def here(words: Sequence[str], ports: dict[str, int]) -> list[str]:
    """A container's command for this machine: our interpreter and scripts, the loopback address, other ports."""
    scripts = Path(sys.executable).parent
    program = {"python": sys.executable, "bff": str(scripts / "bff")}[words[0]]
    moved = [re.sub(r"\b([89]\d0\d)\b", lambda m: str(ports.get(m[1], m[1])), word) for word in words[1:]]
    return [program, *(word.replace("0.0.0.0", "127.0.0.1") for word in moved)]


@contextmanager
def running(words: Sequence[str], port: int, cwd: Path) -> Iterator[None]:
    """The process until it accepts connections; SIGTERM at the end has to be enough."""
    process = subprocess.Popen(words, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None, f"{words} ended with {process.returncode}"
            time.sleep(0.05)  # nothing tells from outside when another process listens
        yield
    finally:
        process.terminate()
        assert process.wait(15) in (0, -15)


def test_every_copied_file_exists_and_reaches_the_build() -> None:
    ignored = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    sent = [line[1:] for line in ignored if line.startswith("!")]
    assert ignored[0] == "*"
    for lines in STAGES.values():
        for instruction, rest in lines:
            words = [word for word in rest.split() if not word.startswith("--")]
            if instruction == "COPY" and "--from=" not in rest:
                for source in words[:-1]:
                    assert (ROOT / source).exists(), f"COPY {source}"
                    assert any(fnmatch(source, pattern) for pattern in sent), f"{source} is left out by .dockerignore"


def test_the_build_is_pinned_and_leaves_its_tools_behind() -> None:
    instructions = [line for lines in STAGES.values() for line in lines]
    installs = [rest for instruction, rest in instructions if instruction == "RUN" and "pip install" in rest]
    assert installs
    assert all("-c constraints.txt" in rest for rest in installs)
    assert not [instruction for instruction, _ in instructions if instruction == "ADD"]
    bases = {rest.split(" AS ")[0] for lines in STAGES.values() for instruction, rest in lines if instruction == "FROM"}
    assert bases - set(STAGES) == {"python:3.11-slim"}  # one interpreter for building and running
    assert ("COPY", "--from=build /opt/bff /opt/bff") in STAGES["gateway"]


def test_nothing_runs_as_root() -> None:
    assert GATEWAY["USER"].isdigit()
    assert GATEWAY["USER"] != "0"
    assert f"--uid {GATEWAY['USER']} " in GATEWAY["RUN"]
    assert "USER" not in dict(STAGES["demo"])
    for name, service in SERVICES.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert not {"privileged", "user"} & set(service), name


def test_ports_agree() -> None:
    port = GATEWAY["EXPOSE"]
    assert command(GATEWAY["CMD"])[-2:] == ["--port", port]
    assert f":{port}/_bff/livez" in GATEWAY["HEALTHCHECK"]
    assert SERVICES["gateway"]["ports"] == [f"127.0.0.1:{port}:{port}"]


def test_compose_runs_every_context_of_the_demo_where_the_gateway_looks_for_it() -> None:
    assert sorted(set(SERVICES) - {"gateway"}) == CONTEXTS
    upstreams = SERVICES["gateway"]["environment"]
    assert [name for name in sorted(upstreams) if "UPSTREAM" in name] == sorted(
        f"BFF_UPSTREAM__{name.upper()}" for name in CONTEXTS
    )
    for name in CONTEXTS:
        registered = yaml.safe_load((ROOT / "fragments" / name / "context.yaml").read_text())["upstream"]
        port = SERVICES[name]["command"][-1]
        assert registered == f"http://127.0.0.1:{port}"
        assert upstreams[f"BFF_UPSTREAM__{name.upper()}"] == f"http://site:{port}"
        assert (SERVICES[name].get("network_mode") == "service:site") is (name != "site")
        assert "ports" not in SERVICES[name]
    assert SERVICES["site"]["networks"] == ["contexts"]
    assert COMPOSE["networks"]["contexts"] == {"internal": True}
    build = SERVICES["gateway"]["build"]
    assert build["target"] in STAGES
    assert (ROOT / "docker" / build["context"] / build["dockerfile"]).is_file()


@pytest.mark.slow
@pytest.mark.parametrize("name", CONTEXTS)
def test_a_contexts_command_and_health_check_work(name: str) -> None:
    service, (port, control) = SERVICES[name], pair()
    own = service["command"][-1]
    ports = {own: port, str(int(own) + 100): control}
    check = here(service["healthcheck"]["test"][1:], ports)
    with running(here(service["command"], ports), control, ROOT):
        assert subprocess.run(check, check=False, timeout=10).returncode == 0
    assert subprocess.run(check, check=False, timeout=10, stderr=subprocess.DEVNULL).returncode != 0


@pytest.mark.slow
def test_the_gateways_command_and_health_check_work() -> None:
    port = free_port()
    check = here(command(GATEWAY["HEALTHCHECK"]), {"8000": port})
    with running(here(command(GATEWAY["CMD"]), {"8000": port}), port, ROOT):
        assert subprocess.run(check, check=False, timeout=10).returncode == 0
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/_bff/readyz", timeout=5) as answer:
            assert answer.status == 200
    assert subprocess.run(check, check=False, timeout=10, stderr=subprocess.DEVNULL).returncode != 0


def pair() -> tuple[int, int]:
    """Two free ports, the second a hundred above the first, as the demo's services want them."""
    for _ in range(50):
        port = free_port()
        with socket.socket() as listener:
            if port < 65_000 and listener.connect_ex(("127.0.0.1", port + 100)) != 0:
                return port, port + 100
    raise RuntimeError(f"no two free ports; {os.getpid()} tried 50 times")
