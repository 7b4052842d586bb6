"""The demo's processes: the contexts' services and the gateway, started together and ended together.

Owns every process it starts: each gets a process group of its own, and whatever ends the demo (Ctrl-C, SIGTERM, a terminal
that closes, a child that dies) ends all of them before `run` returns. Says what happens through `tell`; of a registration
it knows the name and where the service answers.
"""

from __future__ import annotations

import errno
import os
import secrets
import signal
import socket
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT
from typing import Final

import anyio
from anyio.abc import Process

from bff.config.options import Events
from bff.model import Context

PATIENCE: Final = 20.0  # seconds until a child must answer; a cold start imports a web framework on a busy machine
GRACE: Final = 5.0  # seconds between SIGTERM and SIGKILL; the gateway drains in this time
PAUSE: Final = 0.05  # seconds between two tries to reach a starting child
KEPT: Final = 8  # last lines of a dead child's output that are shown

CONTROL: Final = 100  # a demo service takes orders at /_fault on its own port plus this, whatever it suffers from
VICTIM: Final = "discovery"
FAULTS: Final[Mapping[str, str]] = {
    "slow&delay=3": "answers 3 s late",
    "error": "answers 500",
    "silent": "accepts and says nothing",
    "down": "refuses connections",
    "ok": "is well again",
}

RENAMED: Final = "/api/v1/courses/HarborX+NAV101/"
SHOWN: Final = "/courses/HarborX+NAV101"

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """A process to run: `ready` is the path that it answers (any status but 5xx) once it has started."""

    name: str
    command: tuple[str, ...]
    port: int
    also: tuple[int, ...] = ()  # further ports it will listen on
    ready: str = "/"
    folder: Path | None = None
    env: Mapping[str, str] = field(default_factory=dict)  # besides this process's own
    loud: bool = False  # its output goes to the terminal instead of being kept for its obituary


class Ended(Exception):
    """A child ended, or never answered: one line that says so, then the last lines it wrote."""

    def __init__(self, line: str, last: Iterable[str] = ()) -> None:
        super().__init__("\n".join([line, *(f"  {said}" for said in last)]))


@dataclass(slots=True, kw_only=True)
class Running:
    child: Child
    process: Process
    last: deque[str]


def family(contexts: Iterable[Context], folder: Path, *, port: int, config: Path | None, events: Events) -> list[Child]:
    """The services that lie in `folder`, each on the port of its context's upstream, and the gateway on `port`.

    A context that registers events has a service that tells them: to the gateway's webhook, and to the bus that `events` names.
    """
    secret = events.webhook_secret or secrets.token_hex(16)
    told = {"EVENTS_WEBHOOK": f"http://127.0.0.1:{port}/_bff/events", "EVENTS_SECRET": secret}
    told |= {"EVENTS_BUS": events.bus, "EVENTS_PREFIX": events.prefix} if events.bus else {}
    children = [
        Child(
            name=f"the service of {context.name}",
            command=(sys.executable, str(folder / context.name / "service.py"), "--port", str(context.upstream.port)),
            port=context.upstream.port,
            also=(context.upstream.port + CONTROL,),
            env=told if context.events else {},
        )
        for context in contexts
        if context.upstream is not None and (folder / context.name / "service.py").is_file()
    ]
    options = ("--fragments", str(folder), "--host", "127.0.0.1", "--port", str(port))
    settings = ("--config", str(config)) if config is not None else ()
    command = (sys.executable, "-m", "bff", "dev", *settings, *options)
    env = {"BFF_EVENTS__WEBHOOK_SECRET": secret}
    gateway = Child(name="the gateway", command=command, port=port, ready="/_bff/readyz", env=env, loud=True)
    return [*children, gateway]


def welcome(contexts: Collection[Context], port: int) -> Iterator[str]:
    """Where the demo is, what it is made of, and how to break it."""
    rows = [(each.name, each.owner, each.upstream.port) for each in contexts if each.upstream is not None]
    yield f"\n  http://127.0.0.1:{port}/\n"
    for name, owner, at in rows:
        yield f"  {name:<18}{owner:<24}http://127.0.0.1:{at}"
    victim = next((at for name, _, at in rows if name == VICTIM), rows[0][2] if rows else 0)
    yield "\nBreak one and reload the page; the others do not wait for it:\n"
    for mode, what in FAULTS.items():
        yield f"  curl -X POST 'http://127.0.0.1:{victim + CONTROL}/_fault?mode={mode}'".ljust(66) + f"# {what}"
    if any(each.name == VICTIM and each.events for each in contexts):
        yield "\nChange a title at its source; the event is here before the page is loaded again:\n"
        yield f"  curl -X PATCH 'http://127.0.0.1:{victim}{RENAMED}' -d '{{\"title\": \"Another title\"}}'"
        yield f"  http://127.0.0.1:{port}{SHOWN}"
    yield "\nCtrl-C ends everything.\n"


def advice(child: Child, port: int) -> str:
    """One line on a port that is taken."""
    other = f"choose another: `bff demo --port {port + 80}`, `make demo PORT={port + 80}`"
    mine = other if child.loud else f"end what listens there; `ss -ltnp 'sport = :{port}'` names it"
    return f"port {port}, which {child.name} needs, is in use; {mine}"


def busy(children: Iterable[Child], host: str = "127.0.0.1") -> list[tuple[Child, int]]:
    """The ports that somebody listens on already or that an earlier child needs, too, with the child that needs each."""
    found, needed = [], set[int]()
    for child in children:
        for port in (child.port, *child.also):
            if port in needed or _taken(host, port):
                found.append((child, port))
            needed.add(port)
    return found


def _taken(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do: TIME_WAIT is no neighbour
        try:
            probe.bind((host, port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False


async def run(
    children: Sequence[Child],
    *,
    started: Callable[[], None],
    tell: Tell,
    patience: float = PATIENCE,
    grace: float = GRACE,
) -> int:
    """Start `children` in order, call `started` once all answer, and stay until a signal or a death.

    `patience`: seconds that each child has to answer; `grace`: seconds that all have to end once asked to. Returns 0
    after SIGINT, SIGTERM or SIGHUP and 1 after a death; every child has ended by then.
    """
    family: list[Running] = []
    status = 0
    ending = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as under nohup, which means to outlive its terminal
        ending.append(signal.SIGHUP)
    with anyio.open_signal_receiver(*ending) as signals:
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(_until, signals, group.cancel_scope)
                for child in children:
                    family.append(await _start(child))
                    group.start_soon(_watch, family[-1])
                for running in family:
                    await _answering(running, patience)
                started()
        except* Ended as ended:
            status = 1
            tell(str(ended.exceptions[0]))
        finally:
            with anyio.CancelScope(shield=True):
                await _end(family, grace)
    return status


async def _until(signals: AsyncIterator[signal.Signals], scope: anyio.CancelScope) -> None:
    await anext(signals)
    scope.cancel()


async def _start(child: Child) -> Running:
    try:
        process = await anyio.open_process(
            child.command,
            stdin=DEVNULL,
            stdout=None if child.loud else PIPE,
            stderr=None if child.loud else STDOUT,
            cwd=child.folder,
            env={**os.environ, **child.env},
            start_new_session=True,
        )
    except OSError as error:
        raise Ended(f"{child.name} could not be started: {error}") from None
    return Running(child=child, process=process, last=deque(maxlen=KEPT))


async def _watch(running: Running) -> None:
    """Keep the last lines, and raise `Ended` when the process does."""
    if running.process.stdout is not None:
        rest = ""
        async for chunk in running.process.stdout:
            *lines, rest = (rest + chunk.decode(errors="replace")).split("\n")
            running.last.extend(lines)
        running.last.extend([rest] if rest else [])
    code = await running.process.wait()
    raise Ended(f"{running.child.name} {_how(code)}", running.last)


def _how(code: int) -> str:
    if code < 0:
        with suppress(ValueError):
            return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


async def _answering(running: Running, patience: float) -> None:
    child = running.child
    with anyio.move_on_after(patience):
        while not await _answers(child):  # noqa: ASYNC110 - another process's start has no event to wait for
            await anyio.sleep(PAUSE)
        return
    raise Ended(f"{child.name} did not answer on port {child.port} within {patience:g} s", running.last)


async def _answers(child: Child) -> bool:
    request = f"GET {child.ready} HTTP/1.1\r\nHost: 127.0.0.1:{child.port}\r\nConnection: close\r\n\r\n"
    try:
        async with await anyio.connect_tcp("127.0.0.1", child.port) as stream:
            await stream.send(request.encode())
            head = await stream.receive(64)
    except (OSError, anyio.EndOfStream, anyio.BrokenResourceError):
        return False
    return head.startswith(b"HTTP/1.") and head[9:10] in (b"2", b"3", b"4")


async def _end(family: Sequence[Running], grace: float) -> None:
    """SIGTERM to every group, SIGKILL to what is left of it after the grace."""
    for running in family:
        _signal(running.process, signal.SIGTERM)
    with anyio.move_on_after(grace):
        for running in family:
            await running.process.wait()
    for running in family:
        _signal(running.process, signal.SIGKILL)
        await running.process.wait()
        await running.process.aclose()


def _signal(process: Process, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # the group's last member is gone
        os.killpg(process.pid, number)
