"""What is fuzzed: four readers of what others write, each with what must hold for any bytes at all.

A target takes bytes and raises where a promise is broken; it never minds that they are refused.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from bff.config.options import Settings
from bff.markup.check import Checker
from bff.markup.shell import compile_shell
from bff.model import Hole, Reason, Slot, Trust
from bff.registry import Registry
from bff.rules.caching import fields
from bff.upstream.connection import FIELDS, Connection, Head, Known
from tests.markup.browser import stands_alone

MOST: Final = 4096  # bytes of a body
HEAD: Final = 2048  # of a head
SLOW: Final = 5.0
"""Seconds of processor time that no input of a few KiB may cost."""

Target = Callable[[bytes], None]
Ended = tuple[Any, ...]


class Transport:
    """As much of a transport as a connection asks of one."""

    def __init__(self) -> None:
        self.aborted = False

    def write(self, data: bytes) -> None: ...

    def abort(self) -> None:
        self.aborted = True

    def is_closing(self) -> bool:
        return self.aborted

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str) -> None:
        return None


class Asker:
    """Who asked, and who keeps the connection: how often each heard what."""

    def __init__(self) -> None:
        self.ends: list[Ended] = []
        self.spoilt_ = False

    def began(self) -> None: ...

    def answered(self, connection: Any, head: Head, body: bytes) -> None:
        assert head.found == fields(head.headers)
        self.ends.append(("answered", connection is not None, head.status, tuple(head.headers), bytes(body)))

    def failed(self, reason: Reason, detail: str) -> None:
        self.ends.append(("failed", reason))

    def lost(self, connection: Any, detail: str, *, seen: bool) -> None:
        self.ends.append(("lost",))

    def spoilt(self, connection: Any) -> None:
        self.spoilt_ = True

    def gone(self, connection: Any) -> None: ...


def exchanged(pieces: list[bytes], *, bodiless: bool = False, known: Known | None = None) -> Asker:
    """One request answered by these reads, and then by the end of the connection."""
    asker = Asker()
    connection = Connection(asker, header_bytes=HEAD, known=Known() if known is None else known)
    transport: Any = Transport()
    connection.connection_made(transport)
    connection.ask(asker, b"GET / HTTP/1.1\r\n\r\n", bodiless, False, MOST)
    for piece in pieces:
        if transport.aborted:
            break
        connection.data_received(piece)
    if not transport.aborted:
        connection.eof_received()
    if not transport.aborted:
        connection.connection_lost(None)
    return asker


def answers(data: bytes) -> None:
    """An upstream's answer: one end and only one, within its caps, the same however it is cut into reads and whatever came before."""
    whole = exchanged([data]) if data else exchanged([])
    single = exchanged([data[at : at + 1] for at in range(len(data))])
    for asker in (whole, single, exchanged([data], bodiless=True)):
        assert len(asker.ends) == 1
        _judge(asker.ends[0])
    if whole.ends[0][0] == single.ends[0][0] == "answered":
        assert whole.ends[0][2:] == single.ends[0][2:]
    assert (whole.ends[0][0] == "answered") == (single.ends[0][0] == "answered") or len(data) > HEAD
    known = Known()
    exchanged([data], known=known)
    for again in (data, data + b"!", data[:-1]):
        for bodiless in (False, True):
            met, unmet = (exchanged([again], bodiless=bodiless, known=each) for each in (known, None))
            assert (met.ends, met.spoilt_) == (unmet.ends, unmet.spoilt_)


def _judge(end: Ended) -> None:
    if end[0] != "answered":
        return
    _, _, status, headers, body = end
    assert 200 <= status <= 599
    assert len(body) <= MOST
    assert len(headers) <= FIELDS
    for name, value in headers:
        assert name == name.lower()
        assert name
        assert not any(byte in b"\r\n\0" for byte in name + value)


def registrations(data: bytes) -> None:
    """A `context.yaml`: loaded or refused with findings that say where, and its neighbour is served in either case."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in (("fuzzed", data), ("sound", b"owner: team-sound\n")):
            (Path(folder) / name).mkdir()
            (Path(folder) / name / "context.yaml").write_bytes(text)
        began = time.process_time()
        world = Registry(Settings(fragments=Path(folder)), {}).load()
        assert time.process_time() - began < SLOW
    assert "sound" in world.contexts
    lines = data.count(b"\n") + data.count(b"\r") + data.count("\u2028".encode()) + data.count("\x85".encode()) + 2
    for finding in world.findings:
        assert finding.message
        assert 1 <= finding.line <= lines + data.count("\u2029".encode())
        assert finding.column >= 1
    if not world.loaded["fuzzed"]:
        assert any(finding.severity == "error" for finding in world.findings)


def shells(data: bytes) -> None:
    """A page's template, expanded: refused, or compiled so that every byte of it is in its place."""
    text = data.decode(errors="replace")
    began = time.process_time()
    made, findings = compile_shell(text, file="page.html", context="shop", owner="team-shop")
    assert time.process_time() - began < SLOW
    assert (made is None) == any(finding.severity == "error" for finding in findings)
    for finding in findings:
        assert 1 <= finding.line <= text.count("\n") + 1
        assert finding.remedy
    if made is None:
        return
    assert [part for part in made.parts if isinstance(part, Slot)] == [*made.slots]
    assert [slot.index for slot in made.slots] == [*range(1, len(made.slots) + 1)]
    assert len({slot.key for slot in made.slots}) == len(made.slots)
    assert compile_shell(text, file="page.html", context="shop", owner="team-shop")[0] == made
    shown = b"".join(
        part if isinstance(part, bytes) else part.default if isinstance(part, Hole) else b"" for part in made.parts
    )
    words = {*re.findall(r"\w+", text)}  # nothing is in it that was not, but for what scripts and styles are given
    inside = b"".join(map(_within, made.slots))
    assert {*re.findall(r"\w+", (shown + b" " + inside).decode())} <= words | {"nonce", "async", "defer"}


def _within(slot: Slot) -> bytes:
    return b"".join(part if isinstance(part, bytes) else part.default for part in slot.placeholder)


def fragments(data: bytes) -> None:
    """A fragment: what is written of it stands alone in any page, at every level of trust, and costs about what it weighs."""
    trusts: tuple[Trust, ...] = ("checked", "sanitized", "sandboxed")
    for trust in trusts:
        checker = Checker()
        began = time.process_time()
        markup = checker.verdict(data, trust=trust) or checker.repair(data, trust=trust)
        assert time.process_time() - began < SLOW
        written = b"".join(part if isinstance(part, bytes) else b"N" for part in markup.parts)
        assert stands_alone(written)
        again = checker.verdict(data, trust=trust)
        assert again is markup or again is None


TARGETS: Final[Mapping[str, Target]] = MappingProxyType(
    {"answers": answers, "registrations": registrations, "shells": shells, "fragments": fragments}
)
