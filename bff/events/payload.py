"""Payloads: Avro as Open edX's event bus writes it, or JSON. The only importer of fastavro.

Avro on the bus is bare: neither the schema nor its name is in the message, so the reader must have the schema that the
writer had. `schemas/` holds those of every event of openedx-events 10.5.0 for which that library makes one (its
`AvroSignalSerializer`), a file for each type. A record that goes on after the fields that are known is a later minor
version's: they are read, the rest is left alone.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from bff.events.event import Poison, read_json

if TYPE_CHECKING:
    from fastavro.types import Schema

LARGEST: Final = 1 << 20  # bytes; Open edX's events have a few hundred
_FOLDER: Final = Path(__file__).parent / "schemas"


@cache
def types() -> frozenset[str]:
    """The types of events whose Avro can be read."""
    return frozenset(file.name.removesuffix(".avsc") for file in _FOLDER.glob("*.avsc"))


def read(type_: str, body: bytes) -> Mapping[str, Any]:
    """A payload's fields. Raises `Poison`.

    JSON is told by itself: a payload that is a JSON object as a whole is no record of Avro, which begins with a length.
    """
    if len(body) > LARGEST:
        raise Poison(f"the payload has {len(body)} bytes; {LARGEST} are taken", type=type_)
    if type_ not in types():
        return read_json(body, type_)
    if body.startswith(b"{"):
        try:
            return read_json(body, type_)
        except Poison:  # Avro that happens to begin so
            pass
    return _avro(type_, body)


def _avro(type_: str, body: bytes) -> Mapping[str, Any]:
    import fastavro  # noqa: PLC0415 - only where it is used: a start waits for it

    try:
        found = fastavro.schemaless_reader(io.BytesIO(body), _schema(type_), None)
    except Exception as error:  # noqa: BLE001 - the library raises what its loops meet: EOFError, IndexError, UnicodeDecodeError…
        raise Poison(f"the payload is not what {type_} has: {type(error).__name__} {error}", type=type_) from None
    return cast("Mapping[str, Any]", found)  # every schema is a record


@cache
def _schema(type_: str) -> Schema:
    from fastavro.schema import load_schema  # noqa: PLC0415 - as above

    return load_schema(str(_FOLDER / f"{type_}.avsc"))
