"""What the tests of events share: messages as Open edX's bus carries them, and a consumer that notes what it does."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from bff.events.consumer import Consumer
from bff.events.event import Event
from bff.model import Purge, Ref, Subscription

CAPTURED = json.loads((Path(__file__).parent / "captured.json").read_text())
"""Three messages as openedx-events 10.5.0 and edx-event-bus-redis 0.6.1 wrote them into Redis: streams, and fields in hex."""
CATALOG = "org.openedx.content_authoring.course.catalog_info.changed.v1"
TOPIC = "course-catalog-info-changed"
NOW = 1796117500.0
"""98 seconds after the second of the captured events."""


def captured(number: int) -> tuple[str, dict[Any, Any]]:
    """Stream and fields of a captured message."""
    message = CAPTURED[number]
    return message["stream"], {name.encode(): bytes.fromhex(value) for name, value in message["fields"].items()}


def attributes(number: int) -> tuple[dict[str, str], bytes]:
    """The attributes and the payload of a captured message."""
    fields = {name.decode(): value for name, value in captured(number)[1].items()}
    body = fields.pop("event_data")
    return {name: value.decode() for name, value in fields.items()}, body


def subscription(**given: Any) -> Subscription:
    fields: dict[str, Any] = {
        "context": "discovery",
        "type": CATALOG,
        "topic": TOPIC,
        "tags": (("course:", Ref("field", "catalog_info.course_key"), ""),),
        "action": "refresh",
    }
    return Subscription(**(fields | given))


def event(**given: Any) -> Event:
    fields: dict[str, Any] = {
        "type": CATALOG,
        "id": "1",
        "source": "studio",
        "time": NOW - 2,
        "data": {"catalog_info": {"course_key": "A+1"}},
    }
    return Event(**(fields | given))


class Notes:
    """Takes what a consumer does: purges, counts, lines."""

    def __init__(self, *subscriptions: Subscription) -> None:
        self.subscriptions = list(subscriptions or [subscription()])
        self.purges: list[tuple[Purge, bool]] = []
        self.counted: Counter[tuple[str, str]] = Counter()
        self.lags: list[float] = []
        self.lines: list[dict[str, object]] = []
        self.broken = False
        self.consumer = Consumer(
            subscriptions=lambda: self.subscriptions,
            on_event=self._on_event,
            counts=self,
            tell=self._tell,
            wall=lambda: NOW,
        )

    @property
    def tags(self) -> list[str]:
        return [purge.value for purge, _ in self.purges]

    def said(self, event: str) -> list[dict[str, object]]:
        return [line for line in self.lines if line["event"] == event]

    def event(self, type: str, result: str) -> None:  # noqa: A002 - the metric's label
        self.counted[type, result] += 1

    def event_lag(self, seconds: float) -> None:
        self.lags.append(seconds)

    async def _on_event(self, purge: Purge, refresh: bool) -> int:
        if self.broken:
            raise RuntimeError("no store")
        self.purges.append((purge, refresh))
        return 1

    def _tell(self, event: str, *, level: str = "info", **fields: object) -> None:
        self.lines.append({"event": event, "level": level, **fields})
