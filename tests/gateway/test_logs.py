"""Log lines: what is in one, what is never in one, and that a slow reader stops nobody."""

import json
import logging
import os
import threading
from typing import Any

import pytest

from bff.errors import Finding
from bff.gateway.logs import Log
from bff.model import Ended, Outcome, Reason, Report, Result

WALL = 1_700_000_000.25


def report(**changes: Any) -> Report:
    slots = (
        ended("s1", Result(outcome=Outcome.FRESH, reason=Reason.OK, seconds=0.0123, status=200)),
        ended(
            "s2", Result(outcome=Outcome.STALE, reason=Reason.TIMEOUT, seconds=1.0, age=61.5, detail='no "answer"\n')
        ),
    )
    fields: dict[str, Any] = {
        "page": "site/home",
        "method": "GET",
        "path": "/a",
        "status": 200,
        "seconds": 0.1234567,
        "first_byte": 0.002,
        "slots": slots,
        "request_id": "abc",
        "principal": True,
    }
    return Report(**{**fields, **changes})


def ended(slot: str, result: Result) -> Ended:
    return Ended(
        slot=slot,
        key="card",
        fragment="site/card",
        owner="team-site",
        params={"secret": "x"},
        result=result,
        started=0.0,
    )


class Lines:
    """A log that writes into a list."""

    def __init__(self, **options: Any) -> None:
        self.written = b""
        self.log = Log(write=self._write, clock=lambda: WALL, **options)

    def _write(self, data: bytes) -> None:
        self.written += data

    def text(self) -> str:
        self.log.flush()
        return self.written.decode()

    def objects(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text().splitlines()]


def test_a_page_is_one_object_with_its_slots() -> None:
    lines = Lines()
    lines.log.page(report())
    assert lines.objects() == [
        {
            "time": "2023-11-14T22:13:20.250Z",
            "level": "info",
            "event": "page",
            "page": "site/home",
            "method": "GET",
            "path": "/a",
            "status": 200,
            "ms": 123.46,
            "first_byte_ms": 2.0,
            "request_id": "abc",
            "principal": True,
            "slots": [
                {"slot": "s1", "fragment": "site/card", "outcome": "fresh", "reason": "ok", "ms": 12.3, "status": 200},
                {
                    "slot": "s2",
                    "fragment": "site/card",
                    "outcome": "stale",
                    "reason": "timeout",
                    "ms": 1000.0,
                    "age": 61.5,
                    "detail": 'no "answer"\n',
                },
            ],
        }
    ]
    assert "secret" not in lines.text()


def test_an_early_leaver_is_marked() -> None:
    lines = Lines()
    lines.log.page(report(disconnected=True, principal=False, slots=()))
    (line,) = lines.objects()
    assert (line["disconnected"], line["principal"], line["slots"]) == (True, False, [])
    assert "prefetch" not in line
    lines.log.page(report(prefetch=True))
    assert lines.objects()[-1]["prefetch"] is True


@pytest.mark.parametrize("path", ['/"\\', "/a\r\nforged", "/\x1b[31mred", "/\u2028", "/\x00", "/caf\u00e9"])
@pytest.mark.parametrize("form", ["json", "console"])
def test_nothing_in_a_path_can_forge_a_line_or_command_a_terminal(path: str, form: str) -> None:
    lines = Lines(form=form)
    lines.log.page(report(path=path))
    text = lines.text()
    assert text.count("\n") == 1
    assert text[:-1].isprintable()
    if form == "json":
        assert json.loads(text)["path"] == path


def test_people_get_a_sentence() -> None:
    lines = Lines(form="console")
    lines.log.page(report())
    lines.log.page(report(disconnected=True, slots=()))
    lines.log.event("ready", url="http://a", empty="", none=None)
    lines.log.event("loop-blocked", level="warning", seconds=2)
    lines.log.event("stopped")
    assert lines.text().splitlines() == [
        "22:13:20 GET /a 200 123.5ms (first byte 2.0ms) site/home | s1 site/card fresh/ok 12.3ms | s2 site/card stale/timeout 1000.0ms",
        "22:13:20 GET /a 200 123.5ms (first byte 2.0ms) disconnected site/home",
        "22:13:20 ready url=http://a",
        "22:13:20 warning: loop-blocked seconds=2",
        "22:13:20 stopped",
    ]


def test_the_time_moves_on() -> None:
    times = iter((1.0, 1.5, 62.0009))
    written: list[bytes] = []
    log = Log(write=written.append, clock=lambda: next(times))
    for _ in range(3):
        log.event("x")
    log.flush()
    assert [json.loads(line)["time"][11:] for line in written[0].splitlines()] == [
        "00:00:01.000Z",
        "00:00:01.500Z",
        "00:01:02.000Z",
    ]


def test_pages_are_not_logged_where_the_operator_says_so() -> None:
    lines = Lines(access=False)
    lines.log.page(report())
    assert lines.text() == ""


@pytest.mark.parametrize(("severity", "level"), [("error", "error"), ("warning", "warning"), ("note", "info")])
def test_a_finding_is_told_with_its_place_and_owner(severity: Any, level: str) -> None:
    finding = Finding(
        file="fragments/a/context.yaml",
        line=3,
        column=5,
        code="unknown-key",
        message="there is no key `x`",
        remedy="remove it",
        context="a",
        owner="team-a",
        severity=severity,
    )
    lines, people = Lines(), Lines(form="console")
    lines.log.finding(finding)
    people.log.finding(finding)
    (line,) = lines.objects()
    assert line["level"] == level
    assert {name: line[name] for name in ("file", "line", "column", "code", "context", "owner", "remedy")} == {
        "file": "fragments/a/context.yaml",
        "line": 3,
        "column": 5,
        "code": "unknown-key",
        "context": "a",
        "owner": "team-a",
        "remedy": "remove it",
    }
    assert f"fragments/a/context.yaml:3:5: {severity}: there is no key `x`" in people.text()


def test_what_libraries_warn_of_is_a_line() -> None:
    lines = Lines()
    lines.log.start()
    try:
        logging.getLogger("some.library").info("nothing new")
        try:
            dict[str, str]()["oh"]
        except KeyError:
            logging.getLogger("some.library").exception("it failed on %s", "/a\nb")
    finally:
        lines.log.close()
    logging.getLogger("some.library").error("after the end")
    (line,) = lines.objects()
    assert (line["level"], line["logger"], line["message"]) == ("error", "some.library", "it failed on /a\nb")
    assert "KeyError: 'oh'" in line["exception"]


def test_closing_writes_what_is_left() -> None:
    lines = Lines()
    lines.log.start()
    lines.log.event("last")
    lines.log.close()
    assert b'"last"' in lines.written
    Log().close()


def test_a_slow_reader_costs_lines_not_time() -> None:
    reads, writes = threading.Event(), threading.Event()
    dropped: list[int] = []

    def slow(_: bytes) -> None:
        writes.set()
        reads.wait(10)

    log = Log(write=slow, dropped=lambda: dropped.append(1))
    log.start()
    log.event("first")
    writes.wait(10)
    for _ in range(10_005):
        log.event("more")
    assert len(dropped) == 5
    reads.set()
    log.close()


def test_a_reader_that_is_gone_is_not_written_to_again() -> None:
    calls: list[bytes] = []

    def gone(data: bytes) -> None:
        calls.append(data)
        raise BrokenPipeError

    log = Log(write=gone)
    for _ in range(2):
        log.event("x")
        log.flush()
    assert len(calls) == 1


def test_standard_output_gets_everything(capfd: pytest.CaptureFixture[str]) -> None:
    log = Log()
    for number in range(100):
        log.event("x", number=number, path=os.devnull)
    log.flush()
    assert len(capfd.readouterr().out.splitlines()) == 100
