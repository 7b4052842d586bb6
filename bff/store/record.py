"""A raw answer as the tiers keep it, and its bytes: compact, versioned, checksummed. Pure; knows no tier.

Raw, because whoever loads it reads and checks its body again: a template or a rule of checking that has changed applies,
and nothing that a shared store says is believed to be safe.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from zlib import crc32

from bff.model import Headers

SCHEMA: Final = 1
"""Of the stored bytes; those of another one are a miss."""

_PREFIX: Final = struct.Struct(">3sBIIII")  # magic, schema, length and checksum of the description, then of the body
_MAGIC: Final = b"bff"
_NOT_UPDATED: Final = frozenset({b"content-length", b"content-encoding", b"content-range", b"transfer-encoding", b"connection"})  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One answer. Header names are lower-case, and only those are here that may be stored."""

    key: str
    fragment: str  # "<context>/<fragment>", or "<context>/proxy" for what a proxy route answered
    version: str  # of the registration; under another one it is stale at best
    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    born: float  # WALL seconds: its arrival, minus its age on arrival
    tags: tuple[str, ...] = ()
    principal: str | None = None  # whose it is, in private scope
    stale_at: float | None = None  # WALL seconds: a purge has marked it stale; said by the tier, not part of the bytes


def pack(record: Record) -> bytes:
    """The bytes of a record: `head` and its body."""
    return head(record) + record.body


def head(record: Record) -> bytes:
    """A record's bytes without its body, which they vouch for: both belong together, or neither counts."""
    return _head(_described(record), len(record.body), crc32(record.body))


def _head(described: bytes, length: int, checksum: int) -> bytes:
    return _PREFIX.pack(_MAGIC, SCHEMA, len(described), crc32(described), length, checksum) + described


def _described(record: Record) -> bytes:
    return json.dumps(
        {
            "key": record.key,
            "fragment": record.fragment,
            "version": record.version,
            "status": record.status,
            "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in record.headers],
            "born": record.born,
            "tags": record.tags,
            "principal": record.principal,
        },
        separators=(",", ":"),
    ).encode("ascii")


def unpack(data: bytes) -> Record | None:
    """The record in these bytes; None where they are none, damaged, or of another schema. Never raises."""
    described = _describing(data)
    if described is None:
        return None
    length, checksum = _PREFIX.unpack_from(data)[4:]
    body = data[_PREFIX.size + len(described) :]
    return _read(described, body) if len(body) == length and crc32(body) == checksum else None


def renewed(data: bytes, headers: Headers, born: float) -> bytes | None:
    """The `head` of a record, given its old one, that a 304 with these headers has confirmed; None where it is damaged."""
    described = _describing(data)
    record = None if described is None else _read(described, b"")
    if record is None:
        return None
    changed = Record(
        key=record.key,
        fragment=record.fragment,
        version=record.version,
        status=record.status,
        headers=updated(record.headers, headers),
        body=b"",
        born=born,
        tags=record.tags,
        principal=record.principal,
    )
    return _head(_described(changed), *_PREFIX.unpack_from(data)[4:])


def concerned(data: bytes) -> Record | None:
    """A record without its body, read from its `head`."""
    described = _describing(data)
    return None if described is None else _read(described, b"")


def _describing(data: bytes) -> bytes | None:
    if len(data) < _PREFIX.size:
        return None
    magic, schema, length, checksum = _PREFIX.unpack_from(data)[:4]
    described = data[_PREFIX.size : _PREFIX.size + length]
    sound = magic == _MAGIC and schema == SCHEMA and len(described) == length and crc32(described) == checksum
    return described if sound else None


def _read(described: bytes, body: bytes) -> Record | None:
    """Bytes with a good checksum may still be those of somebody else's program: shapes are checked too."""
    try:
        said = json.loads(described)
        return Record(
            key=_text(said["key"]),
            fragment=_text(said["fragment"]),
            version=_text(said["version"]),
            status=int(said["status"]),
            headers=tuple((name.encode("latin-1"), value.encode("latin-1")) for name, value in said["headers"]),
            body=body,
            born=float(said["born"]),
            tags=tuple(map(_text, said["tags"])),
            principal=None if said["principal"] is None else _text(said["principal"]),
        )
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return None


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def updated(headers: Headers, news: Headers) -> tuple[tuple[bytes, bytes], ...]:
    """Stored headers under those of the 304 that confirmed them (RFC 9111 §3.2): a field it names is replaced whole.

    Those that describe the body as stored stay: the 304 has none.
    """
    said: Mapping[bytes, bytes] = {name: value for name, value in news if name not in _NOT_UPDATED}
    kept = [(name, value) for name, value in headers if name not in said]
    return (*kept, *((name, value) for name, value in news if name in said))
