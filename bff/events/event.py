"""An event as CloudEvents 1.0 tell it, however it came: over the webhook in two forms, or as a message of a bus.

Knows what an event is, not what it is for; no I/O. Source: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/
(spec.md, bindings/http-protocol-binding.md §3, formats/json-format.md §3).
"""

from __future__ import annotations

import binascii
import json
from base64 import b64decode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import unquote

STRUCTURED: Final = "application/cloudevents+json"
LONGEST: Final = 512  # characters of a type, an id or a source; what is longer is no name

Read = Callable[[str, bytes], Mapping[str, Any]]
"""Reads a payload by the event's type; raises `Poison`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One occurrence. `source` and `id` together name it: the same pair is the same event, told again."""

    type: str
    id: str
    source: str
    time: float | None  # wall; when it occurred, where that is said
    data: Mapping[str, Any]


class Poison(Exception):
    """No event can be made of this; `type` is the type that it claims to have, as far as that can be read."""

    def __init__(self, why: str, *, type: str = "") -> None:  # noqa: A002 - as CloudEvents call it
        super().__init__(why)
        self.type = type


def from_http(headers: Mapping[str, str], body: bytes, read: Read) -> Event:
    """The event of an HTTP request, in structured or binary mode; header names are lower-case. Raises `Poison`."""
    media = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media == STRUCTURED:
        return _structured(body, read)
    if media.startswith("application/cloudevents"):
        raise Poison(f"{media} is not taken here; send {STRUCTURED}, or one event with ce-* headers")
    attributes = {name[3:]: unquote(value) for name, value in headers.items() if name.startswith("ce-")}
    return from_message(attributes, body, read)


def from_message(attributes: Mapping[str, str], body: bytes, read: Read) -> Event:
    """The event of attributes beside a payload. Raises `Poison`."""
    type_ = _named(attributes, "type", "")
    return Event(
        type=type_,
        id=_named(attributes, "id", type_),
        source=_named(attributes, "source", type_),
        time=_moment(attributes.get("time", ""), type_),
        data=read(type_, body) if body else {},
    )


def read_json(body: bytes, type_: str) -> Mapping[str, Any]:
    """A payload that is a JSON object. Raises `Poison`."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Poison(f"the payload is not JSON: {error}", type=type_) from None
    if not isinstance(data, dict):
        raise Poison("the payload is JSON, but no object", type=type_)
    return data


def _structured(body: bytes, read: Read) -> Event:
    told = read_json(body, "")
    attributes = {name: value for name, value in told.items() if isinstance(value, str)}
    type_ = attributes.get("type", "")
    payload = _encoded(told["data_base64"], type_) if "data_base64" in told else b""
    event = from_message(attributes, payload, read)
    data = told.get("data")
    if data is None or payload:
        return event
    if not isinstance(data, dict):
        raise Poison("data is no JSON object", type=type_)
    return Event(type=event.type, id=event.id, source=event.source, time=event.time, data=data)


def _encoded(text: object, type_: str) -> bytes:
    try:
        return b64decode(str(text), validate=True)
    except (binascii.Error, ValueError):
        raise Poison("data_base64 is not Base64", type=type_) from None


def _named(attributes: Mapping[str, str], name: str, type_: str) -> str:
    text = attributes.get(name, "")
    if not text or len(text) > LONGEST:
        raise Poison(f"the attribute {name} is {'too long' if text else 'missing'}", type=type_)
    return text


def _moment(text: str, type_: str) -> float | None:
    """RFC 3339, or ISO 8601 without an offset, which is UTC."""
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise Poison(f"the time {text[:40]!r} is none", type=type_) from None
