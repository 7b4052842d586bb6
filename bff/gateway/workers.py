"""Several processes that share one port: started, watched, replaced and ended by a parent that serves nothing itself.

The parent stays single-threaded and opens no event loop, so that forking is safe at any time. A worker whose parent is
gone drains and ends. Knows nothing of what a worker does.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bff.errors import UnusableInput
from bff.gateway.server import bind

if TYPE_CHECKING:
    from bff.gateway.logs import Log

Work = Callable[[int, Callable[[], None]], None]
"""What worker number `index` does: serves until a signal ends it, having called `ready()`; leaves by `SystemExit`."""

_PAUSE: Final = 0.5  # seconds before a worker that died is replaced, doubling while none stays up
_LONGEST: Final = 30.0
_ENDING: Final = (signal.SIGTERM, signal.SIGINT)
_MINDED: Final = (*_ENDING, signal.SIGHUP, signal.SIGCHLD)


def reserve(listen: str) -> tuple[str, socket.socket]:
    """Hold an address for all workers: `listen` with its port decided, and the socket that holds it.

    The port is only bound here: each worker listens on a socket of its own (SO_REUSEPORT), so that the kernel spreads
    connections evenly. Raises `OSError` where another process has it.
    """
    held = bind(listen)
    host, port = held.getsockname()[:2]
    held.close()  # it has shown that nobody listens, which a socket that shares its port cannot
    chosen = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return chosen, bind(chosen, shared=True, listening=False)


@dataclass(slots=True)
class _Worker:
    index: int
    started: float  # monotonic
    ready: bool = False
    news: int = -1  # read end: a byte once it is ready
    lifeline: int = -1  # write end: closes with the parent


class Supervisor:
    """Keeps `count` workers running; `run` returns the exit code once all have ended."""

    def __init__(self, count: int, work: Work, *, log: Log, ready: Callable[[], None]) -> None:
        self._count = count
        self._work = work
        self._log = log
        self._all_ready: Callable[[], None] | None = ready
        self._workers: dict[int, _Worker] = {}
        self._due: dict[int, float] = {}  # index → when it is started again
        self._pause = _PAUSE
        self._leaving = 0  # the signal
        self._code = 0

    def run(self) -> int:
        """Start the workers and mind them; the first signal drains them, a second ends them at once."""
        heard, told = socket.socketpair()
        told.setblocking(False)
        before = {number: signal.signal(number, _nothing) for number in _MINDED}
        signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)
        try:
            for index in range(self._count):
                self._start(index)
            while self._workers or self._due:
                self._turn(heard)
        finally:
            signal.set_wakeup_fd(-1)
            for number, handler in before.items():
                signal.signal(number, handler)
            heard.close()
            told.close()
        return self._code

    def _turn(self, heard: socket.socket) -> None:
        news = [worker.news for worker in self._workers.values() if worker.news >= 0]
        wait = min(self._due.values()) - time.monotonic() if self._due else None
        readable, _, _ = select.select([heard.fileno(), *news], [], [], None if wait is None else max(wait, 0.0))
        for each in readable:
            if each == heard.fileno():
                for number in heard.recv(4096):
                    self._signal(number)
            else:
                self._news(each)
        for index in [index for index, due in self._due.items() if due <= time.monotonic()]:
            del self._due[index]
            self._start(index)
        self._log.flush()

    # --- signals ------------------------------------------------------------------------------------------------------

    def _signal(self, number: int) -> None:
        if number == signal.SIGCHLD:
            self._reap()
            return
        if number in _ENDING:
            if self._leaving:
                self._code = 128 + number
            self._leaving = number
            self._due.clear()
        for pid in self._workers:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            worker = self._workers.pop(pid, None)
            if worker is not None:
                self._ended(worker, os.waitstatus_to_exitcode(status))

    def _ended(self, worker: _Worker, code: int) -> None:
        self._hang_up(worker)
        if self._leaving:
            return
        if not worker.ready and self._all_ready is not None:  # the first start fails: so would every other
            self._log.event("worker-failed", level="error", worker=worker.index, code=code)
            self._code = code if code > 0 else 1
            self._signal(signal.SIGTERM)
            return
        lived = time.monotonic() - worker.started
        self._pause = _PAUSE if lived > _LONGEST else min(self._pause * 2, _LONGEST)
        self._due[worker.index] = time.monotonic() + self._pause
        self._log.event("worker-died", level="error", worker=worker.index, code=code, again_in=self._pause)

    def _news(self, descriptor: int) -> None:
        """A worker is ready, or has closed its end; or it was reaped a moment ago, and so is nobody's any more."""
        for worker in self._workers.values():
            if worker.news == descriptor:
                worker.ready = bool(os.read(descriptor, 1))
                os.close(descriptor)
                worker.news = -1
        if self._all_ready is not None and all(worker.ready for worker in self._workers.values()):
            self._all_ready()
            self._all_ready = None

    @staticmethod
    def _hang_up(worker: _Worker) -> None:
        for descriptor in (worker.news, worker.lifeline):
            if descriptor >= 0:
                os.close(descriptor)

    # --- starting -----------------------------------------------------------------------------------------------------

    def _start(self, index: int) -> None:
        news, tell = os.pipe()
        lifeline, line = os.pipe()
        self._log.flush()
        signal.pthread_sigmask(signal.SIG_BLOCK, _MINDED)  # until the child has let go of what wakes its parent
        pid = os.fork()
        if pid == 0:
            self._become(index, tell, lifeline, (news, line))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _MINDED)
        os.close(tell)
        os.close(lifeline)
        self._workers[pid] = _Worker(index, time.monotonic(), news=news, lifeline=line)

    def _become(
        self, index: int, tell: int, lifeline: int, others: tuple[int, ...]
    ) -> None:  # pragma: no cover - forked
        """In the child: do its work, and end with its exit code."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in _MINDED:
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _MINDED)
            for worker in self._workers.values():
                self._hang_up(worker)
            for descriptor in others:
                os.close(descriptor)
            threading.Thread(target=_follow, args=(lifeline,), daemon=True).start()
            self._work(index, lambda: _told(tell))
            code = 0
        except SystemExit as leaving:
            code = leaving.code if isinstance(leaving.code, int) else 1
        except UnusableInput as unusable:
            code = _said("\n".join(map(str, unusable.findings)), 2)
        except Exception as error:  # noqa: BLE001 - the last chance to say what ended it
            code = _said(f"bff: {type(error).__name__}: {error}", 2)
        finally:
            os._exit(code)


def _told(descriptor: int) -> None:  # pragma: no cover - runs in forked children
    os.write(descriptor, b"r")
    os.close(descriptor)


def _said(line: str, code: int) -> int:  # pragma: no cover - as above
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
    return code


def _follow(lifeline: int) -> None:  # pragma: no cover - as above
    """End with the parent, however it ends: its end of the pipe closes."""
    os.read(lifeline, 1)
    os.kill(os.getpid(), signal.SIGTERM)


def _nothing(_number: int, _frame: object) -> None:
    """The wake-up descriptor has the news."""
