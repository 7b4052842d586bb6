"""What a process has counted and how it stands now, as JSON, and what all workers have and how they stand as one.

What operators are shown during an incident: which worker answers them is chance, so each asks the others.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from functools import reduce
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Final

from bff.gateway.counts import AGES, LAGS, SECONDS

if TYPE_CHECKING:
    from bff.events.bus import Listener
    from bff.gateway.app import Gateway
    from bff.store.memory import MemoryStore
    from bff.store.tier import Tier

Standing = Mapping[str, Any]
_RANK: Final = {"closed": 0, "half-open": 1, "open": 2}


class Standings:
    """How this process stands, and how all workers of the gateway do."""

    def __init__(self, gateway: Gateway, store: MemoryStore, tier: Tier | None, listener: Listener | None) -> None:
        self._gateway = gateway
        self._store = store
        self._tier = tier
        self._listener = listener

    def own(self) -> Standing:
        """The numbers of this process, by full names; counts by the bounds of `counts`, the last of what is beyond."""
        counters, drain = self._gateway.telemetry, self._gateway.drain
        numbers = counters.told()
        for live in self._gateway.live.guarded.states():
            name = live.name.partition(":")[0]  # a context's proxy routes are told together
            breaker = {"state": live.state.word, "left": round(live.left, 1), "why": live.why}
            breaker |= {"since": counters.opened[live.name]} if live.name in counters.opened else {}
            there = numbers["fragments"].setdefault(name, {})
            there["breaker"] = _worse(there.get("breaker"), breaker)
            if live.limit is not None:
                numbers["contexts"].setdefault(live.context, {})["limit"] = live.limit
        reached = {} if self._tier is None else {"reached": self._tier.reached}
        bus = {} if self._listener is None else {"connected": self._listener.connected}
        return {
            **numbers,
            "process": {"pids": [str(os.getpid())], "streams": drain.streams, **numbers["process"]},
            "store": {**reached, "entries": self._store.entries, "bytes": self._store.bytes},
            "events": {"bus": bus},
            "actions": self._gateway.live.invalidation.admin.recent,
        }

    def told(self) -> bytes:
        """`own`, for another worker."""
        return json.dumps(self.own()).encode()

    async def all(self) -> Standing:
        """Those of all workers that answer, as one, and by which bounds they are counted."""
        peers, settings = self._gateway.peers, self._gateway.settings
        others = [] if peers is None else await peers.others("standing")
        found = together([self.own(), *map(json.loads, others)])
        positions = {} if self._listener is None else {"positions": self._listener.positions}
        return {
            **found,
            "process": {**found["process"], "workers": settings.workers},
            "bounds": {"seconds": SECONDS, "ages": AGES, "lags": LAGS},
            "store": {"tier": settings.store.partition(":")[0], **found["store"]},
            "events": {"bus": {**found["events"]["bus"], **positions}, "webhook": bool(settings.events.webhook_secret)},
        }


def together(found: Iterable[Standing]) -> dict[str, Any]:
    """Counts added up; of what holds or not, whether it does everywhere; breakers at their worst; actions by time."""
    one: dict[str, Any] = reduce(_joined, found, {})
    return {**one, "actions": sorted(one["actions"], key=lambda entry: str(entry["time"]))}


def _joined(one: Any, other: Any) -> Any:
    match one, other:
        case bool(), bool():
            return one and other
        case ((int() | float()), (int() | float())):
            return one + other
        case dict(), dict() if "state" in one and "state" in other:
            return _worse(one, other)
        case dict(), dict():
            return {**one, **other, **{key: _joined(one[key], other[key]) for key in one.keys() & other.keys()}}
        case list() | tuple(), list() | tuple() if all(isinstance(each, int) for each in (*one, *other)):
            return [a + b for a, b in zip_longest(one, other, fillvalue=0)]
        case list() | tuple(), list() | tuple():
            return [*one, *other]
        case _:
            return one


def _worse(one: Mapping[str, Any] | None, other: Mapping[str, Any]) -> Mapping[str, Any]:
    """The breaker that is further from closed, since the earlier of both."""
    if one is None:
        return other
    worse = max(one, other, key=lambda each: _RANK[each["state"]])
    since = [each["since"] for each in (one, other) if "since" in each]
    return {**worse, "since": min(since)} if since else worse
