"""Log lines: one JSON object a line for machines, one plain sentence a line for people, never in the way of the loop.

A line is made where it happens and written by a thread; when standard output is slower than the gateway, lines are
dropped and counted. No credential, query string or body is ever in one. Standard library only; `logging` is only
listened to, for what libraries have to say.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from json.encoder import encode_basestring_ascii as quoted
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from bff.errors import Finding
    from bff.model import Ended, Report

_HELD: Final = 10_000  # lines waiting for a slow reader: a second of a busy worker
_PAUSE: Final = 0.1  # seconds between writes


class Log:
    """The process's log. `write` is safe from any thread and never blocks; `close` writes what is left."""

    def __init__(
        self,
        *,
        form: Literal["json", "console"] = "json",
        access: bool = True,
        write: Callable[[bytes], object] = lambda data: _write_all(1, data),
        clock: Callable[[], float] = time.time,
        dropped: Callable[[], None] = lambda: None,
    ) -> None:
        self.dropped = dropped
        self._json = form == "json"
        self._access = access
        self._out = write
        self._clock = clock
        self._second = (0, "")
        self._lines: deque[str] = deque()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._handler: logging.Handler | None = None

    def start(self) -> None:
        """Begin to write, and to listen to the libraries' loggers: their warnings and errors."""
        self._thread = threading.Thread(target=self._loop, name="bff-log", daemon=True)
        self._thread.start()
        self._handler = _Bridge(self)
        root = logging.getLogger()
        root.addHandler(self._handler)

    def close(self, within: float = 1.0) -> None:
        """Write what is left, as far as somebody reads it."""
        if self._handler is not None:
            logging.getLogger().removeHandler(self._handler)
        self._stop.set()
        if self._thread is not None:
            self._thread.join(within)

    # --- what is said -------------------------------------------------------------------------------------------------

    def page(self, report: Report) -> None:
        """One line a page, with how each of its slots ended."""
        if self._access:
            self._say(self._page_json(report) if self._json else _page_text(report))

    def finding(self, finding: Finding) -> None:
        """Something in a registration, as `bff check` would tell it."""
        if not self._json:
            self._say(f"{finding}")
            return
        self.event(
            "finding",
            level="error" if finding.severity == "error" else "warning" if finding.severity == "warning" else "info",
            file=finding.file,
            line=finding.line,
            column=finding.column,
            code=finding.code,
            message=finding.message,
            remedy=finding.remedy,
            context=finding.context,
            owner=finding.owner,
        )

    def event(self, event: str, *, level: str = "info", **fields: Any) -> None:
        """Anything else, by name: a start, a reload, a drain."""
        self._say(_event_json(event, level, fields) if self._json else _event_text(event, level, fields))

    def _say(self, rest: str) -> None:
        if len(self._lines) >= _HELD:
            self.dropped()
        elif self._json:
            self._lines.append(f'{{"time":"{self._time()}",{rest}}}\n')
        else:
            self._lines.append(f"{self._time()[11:19]} {_clean(rest)}\n")

    def _time(self) -> str:
        """RFC 3339 in UTC with milliseconds; the seconds are formatted once a second."""
        now = self._clock()
        whole = int(now)
        second, text = self._second
        if second != whole:
            text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))
            self._second = (whole, text)
        return f"{text}.{int((now - whole) * 1000):03d}Z"

    def _page_json(self, report: Report) -> str:
        slots = ",".join(map(_slot_json, report.slots))
        gone = (',"prefetch":true' if report.prefetch else "") + (',"disconnected":true' if report.disconnected else "")
        return (
            f'"level":"info","event":"page","page":{quoted(report.page)},"method":{quoted(report.method)}'
            f',"path":{quoted(report.path)},"status":{report.status},"ms":{report.seconds * 1000:.2f}'
            f',"first_byte_ms":{report.first_byte * 1000:.2f},"request_id":{quoted(report.request_id)}'
            f',"principal":{"true" if report.principal else "false"}{gone},"slots":[{slots}]'
        )

    # --- writing ------------------------------------------------------------------------------------------------------

    def _loop(self) -> None:
        while not self._stop.wait(_PAUSE):
            self.flush()
        self.flush()

    def flush(self) -> None:
        """Write what is held, from the calling thread. A reader that is gone is not written to again."""
        taken = []
        while self._lines:
            taken.append(self._lines.popleft())
        if taken:
            try:
                self._out("".join(taken).encode())
            except OSError:
                self._out = lambda _data: None


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _slot_json(ended: Ended) -> str:
    result = ended.result
    age = f',"age":{result.age:.3f}' if result.age is not None else ""
    status = f',"status":{result.status}' if result.status is not None else ""
    detail = f',"detail":{quoted(result.detail)}' if result.detail else ""
    return (
        f'{{"slot":"{ended.slot}","fragment":{quoted(ended.fragment)},"outcome":"{result.outcome.value}"'
        f',"reason":"{result.reason.value}","ms":{result.seconds * 1000:.2f}{age}{status}{detail}}}'
    )


def _page_text(report: Report) -> str:
    gone = " disconnected" if report.disconnected else ""
    slots = "".join(
        f" | {ended.slot} {ended.fragment} {ended.result.outcome.value}/{ended.result.reason.value}"
        f" {ended.result.seconds * 1000:.1f}ms"
        for ended in report.slots
    )
    return (
        f"{report.method} {report.path} {report.status} {report.seconds * 1000:.1f}ms"
        f" (first byte {report.first_byte * 1000:.1f}ms){gone} {report.page}{slots}"
    )


def _event_json(event: str, level: str, fields: Mapping[str, Any]) -> str:
    return json.dumps({"level": level, "event": event, **fields}, default=str, separators=(",", ":"))[1:-1]


def _event_text(event: str, level: str, fields: Mapping[str, Any]) -> str:
    said = " ".join(f"{name}={value}" for name, value in fields.items() if value not in ("", None, []))
    return f"{'' if level == 'info' else level + ': '}{event} {said}".rstrip()


def _clean(text: str) -> str:
    """One line without control characters: nothing that a terminal obeys, nothing that looks like another line."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class _Bridge(logging.Handler):
    """What libraries log, as lines of ours: their warnings and errors."""

    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        fields: dict[str, Any] = {"logger": record.name, "message": record.getMessage()}
        if record.exc_info:
            fields["exception"] = logging.Formatter().formatException(record.exc_info)
        self._log.event("log", level=record.levelname.lower(), **fields)
