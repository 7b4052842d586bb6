"""Content codings of answers: which one a client prefers, and encoders whose every chunk can be decoded at once.

Owns the codings, their levels (docs/decisions/0014) and what is worth encoding; knows nothing of pages. The only importer of
brotli and of zstd.
"""

from __future__ import annotations

import re
import sys
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final, Literal, Protocol, assert_never

import anyio.to_thread
import brotli

from bff.gateway.problems import Answer, Fields

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Coding = Literal["zstd", "br", "gzip"]
CODINGS: Final[tuple[Coding, ...]] = ("zstd", "br", "gzip")
"""In the order that is chosen among equal qualities: the cheapest to make first."""
TINY: Final = 1024
"""Bytes of a whole answer under which a coding saves no packet, and costs as much as a larger one."""
LARGE: Final = 128 * 1024
"""Bytes of one chunk above which encoding it (about a millisecond) leaves the event loop."""
_PATIENT: Final = 256 * 1024  # bytes that the slowest levels encode within a second
_SPARE: Final = 16  # idle compressors kept, of 180 KiB each
_LONGEST: Final = 1024  # bytes of an Accept-Encoding worth reading, and remembering

_ZSTD: Final[dict[int, int]] = {
    zstd.CompressionParameter.compression_level: 3,
    zstd.CompressionParameter.window_log: 17,  # RFC 9659 bounds it at 23; tables for more than a page take 0.8 MiB a response
    zstd.CompressionParameter.hash_log: 13,
    zstd.CompressionParameter.chain_log: 14,
}
_TEXT: Final = re.compile(
    rb"text/|application/(?:(?:[^;]*\+)?(?:json|xml)|x-ndjson|javascript|manifest)|image/svg\+xml", re.IGNORECASE
)
_OWN: Final = (b"same-origin", b"none")
_QUALITY: Final = re.compile(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?")


# --- what the client prefers ------------------------------------------------------------------------------------------


def asked(found: Mapping[bytes, bytes]) -> Coding | None:
    """The coding that a request's headers prefer; None for none."""
    accept = found.get(b"accept-encoding")
    return chosen(accept) if accept is not None and len(accept) <= _LONGEST else None


@lru_cache(maxsize=256)
def chosen(accept: bytes) -> Coding | None:
    """RFC 9110 §12.5.3. None where no coding of ours is accepted, or none at all is preferred to every one.

    A client that excludes even `identity`, and takes nothing else of what there is, gets it all the same (ibid.).
    """
    stated = _qualities(accept.decode("latin-1").lower())
    others = stated.get("*", 0.0)
    best: Coding | None = None
    most = 0.0
    for coding in CODINGS:
        quality = stated.get(coding, others)
        if quality > most:
            best, most = coding, quality
    return best if most >= stated.get("identity", 0.0) else None


def _qualities(accept: str) -> dict[str, float]:
    found = {}
    for part in accept.split(","):
        name, *params = (piece.strip() for piece in part.split(";"))
        weight = next((param[2:].strip() for param in params if param.startswith("q=")), "1")
        if name:
            found[name.removeprefix("x-")] = float(weight) if _QUALITY.fullmatch(weight) else 0.0
    return found


def foreign(found: Mapping[bytes, bytes]) -> bool:
    """Whether the browser says that another site made this request, a sibling domain included."""
    return found.get(b"sec-fetch-site", b"none") not in _OWN


# --- encoding ---------------------------------------------------------------------------------------------------------


class Encoder(Protocol):
    """One response's coding. What `chunk` gave so far can be decoded to the last byte it was given."""

    def chunk(self, data: bytes, *, last: bool) -> bytes: ...


Idle = list[zstd.ZstdCompressor]
"""Compressors between two frames. Making one costs more than a page of a few KiB: its tables are fresh memory."""


class _Zstd:
    __slots__ = ("_idle", "_made")

    def __init__(self, idle: Idle | None) -> None:
        self._idle = idle
        self._made = idle.pop() if idle else zstd.ZstdCompressor(options=_ZSTD)

    def chunk(self, data: bytes, *, last: bool) -> bytes:
        made = self._made
        if not last:
            return made.compress(data, made.FLUSH_BLOCK)
        encoded = made.compress(data, made.FLUSH_FRAME)
        if self._idle is not None and len(self._idle) < _SPARE:
            self._idle.append(made)
        return encoded


class _Brotli:
    __slots__ = ("_made",)

    def __init__(self) -> None:
        self._made: Any = brotli.Compressor(quality=3, lgwin=17)

    def chunk(self, data: bytes, *, last: bool) -> bytes:
        made = self._made
        encoded: bytes = made.process(data) + (made.finish() if last else made.flush())
        return encoded


class _Gzip:
    __slots__ = ("_made",)

    def __init__(self) -> None:
        self._made = zlib.compressobj(3, zlib.DEFLATED, 31)

    def chunk(self, data: bytes, *, last: bool) -> bytes:
        made = self._made
        return made.compress(data) + made.flush(zlib.Z_FINISH if last else zlib.Z_SYNC_FLUSH)


def encoder(coding: Coding, idle: Idle | None = None) -> Encoder:
    """An encoder for one response; it holds 150 to 300 KiB until it is let go. `idle` lends compressors, and gets them back at the end."""
    match coding:
        case "zstd":
            return _Zstd(idle)
        case "br":
            return _Brotli()
        case "gzip":
            return _Gzip()
    assert_never(coding)


async def fed(made: Encoder, data: bytes, *, last: bool) -> bytes:
    """`made.chunk`; off the loop where that would take long."""
    if len(data) <= LARGE:
        return made.chunk(data, last=last)
    return await anyio.to_thread.run_sync(lambda: made.chunk(data, last=last))


def best(coding: Coding, data: bytes) -> bytes:
    """As small as it gets, for what is encoded once and sent often. Slow: some milliseconds for 10 KiB, up to a second in all."""
    patient = len(data) <= _PATIENT
    match coding:
        case "zstd":
            return zstd.compress(data, level=19 if patient else 9)
        case "br":
            smallest: bytes = brotli.compress(data, quality=11 if patient else 6)
            return smallest
        case "gzip":
            return zlib.compress(data, 9, wbits=31)
    assert_never(coding)


# --- whole answers ----------------------------------------------------------------------------------------------------


def compressible(headers: Fields) -> bool:
    """Whether a body with these headers is text, not encoded yet, and free to be transformed (RFC 9111 §5.2.2.6)."""
    named = dict(headers)
    if b"content-encoding" in named or b"no-transform" in named.get(b"cache-control", b"").lower():
        return False
    return _TEXT.match(named.get(b"content-type", b"")) is not None


async def suited(answer: Answer, headers: Sequence[tuple[bytes, bytes]], idle: Idle | None = None) -> Answer:
    """A whole answer as the client of these headers prefers it; `idle` as `encoder` has it."""
    return await encoded(answer, wanted(answer, headers), idle)


def wanted(answer: Answer, headers: Sequence[tuple[bytes, bytes]]) -> Coding | None:
    """The coding that the client of these headers prefers for an answer, if it is worth one.

    None where another site asks for what is not public: see docs/decisions/0014 on BREACH.
    """
    found = dict(headers)
    coding = asked(found)
    if coding is None:
        return None
    public = b"public" in dict(answer.headers).get(b"cache-control", b"")
    return None if not public and foreign(found) else coding


async def encoded(answer: Answer, coding: Coding | None, idle: Idle | None = None) -> Answer:
    """A whole answer in a coding, where it is worth one; `idle` as `encoder` has it."""
    if coding is None or len(answer.body) < TINY or not compressible(answer.headers):
        return answer
    body = await fed(encoder(coding, idle), answer.body, last=True)
    return replace(answer, headers=relabelled(answer.headers, coding, len(body)), body=body)


def relabelled(headers: Fields, coding: Coding, length: int) -> Fields:
    """Headers of the encoded form: its length, a weak ETag (RFC 9110 §8.8.1: the bytes differ), and what it varies on."""
    out: Fields = []
    vary = b"Accept-Encoding"
    for name, value in headers:
        match name:
            case b"content-length":
                continue
            case b"etag":
                out.append((name, weak(value)))
            case b"vary":
                vary = value if b"accept-encoding" in value.lower() else value + b", Accept-Encoding"
            case _:
                out.append((name, value))
    return [*out, (b"vary", vary), (b"content-encoding", coding.encode()), (b"content-length", b"%d" % length)]


def weak(etag: bytes) -> bytes:
    return etag if etag.startswith(b"W/") else b"W/" + etag
