"""Pages of a gateway as an app in Python takes them: slot by slot over NDJSON, or all at once as JSON. Only importer of httpx2 here.

The counterpart of static/bff-client.js, for tests over real processes.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urljoin

import httpx2

Slot = dict[str, Any]
ADDRESSES = ("src", "next", "task", "result")


class Problem(Exception):
    """The gateway says that something is wrong."""

    def __init__(self, status: int, said: dict[str, Any]) -> None:
        super().__init__(said.get("detail", f"status {status}"))
        self.status = status
        self.said = said


@dataclass(kw_only=True)
class App:
    """One app: where its gateway is, and whose token it shows. `plan` is the last page's first line."""

    origin: str
    token: str = ""
    accept: str = "application/x-ndjson, application/json;q=0.9"
    plan: dict[str, Any] = field(default_factory=dict)

    async def page(self, path: str) -> AsyncIterator[Slot]:
        """Each slot as it ends, then those that the page leaves to its client but by a click or by hand."""
        pending = []
        async with self._client() as client, client.stream("GET", path, headers={"accept": self.accept}) as answer:
            if answer.status_code != 200:
                raise Problem(answer.status_code, json.loads(await answer.aread()))
            async for slot in self._slots(answer):
                yield slot
                if "src" in slot and "task" not in slot and slot.get("load") not in {"click", "none"}:
                    pending.append(slot)
        for following in asyncio.as_completed([self.load(slot) for slot in pending]):
            yield await following

    async def load(self, slot: Slot) -> Slot:
        """One slot by its `src`."""
        await asyncio.sleep(slot.get("retry_after", 0))
        known = {key: slot[key] for key in ("slot", "as", "fragment", "parent") if key in slot}
        async with self._client() as client:
            answer = await client.get(slot["src"], headers={"accept": "application/json"})
        head = answer.headers
        if answer.status_code >= 400:
            return known | {"outcome": "omitted", "reason": head.get("bff-reason", ""), "status": answer.status_code}
        found = known | {"outcome": head["bff-outcome"], "reason": head["bff-reason"], "status": answer.status_code}
        if "location" in head:
            return self._whole(found | {"task": head["location"], "retry_after": int(head["retry-after"])})
        if "next" in answer.links:
            found["next"] = answer.links["next"]["url"]
        body = {"data": answer.json()} if "json" in head["content-type"] else {"html": answer.text}
        return self._whole(found | body)

    async def task(self, url: str) -> dict[str, Any]:
        """How far slow work is."""
        async with self._client() as client:
            answer = await client.get(url, headers={"accept": "application/json"})
        if answer.status_code != 200:
            raise Problem(answer.status_code, answer.json())
        return self._whole(answer.json())

    async def _slots(self, answer: httpx2.Response) -> AsyncIterator[Slot]:
        if answer.headers["content-type"] == "application/json":
            self.plan = json.loads(await answer.aread())
            for slot in self.plan["slots"].values():
                yield self._whole(slot)
            return
        async for line in answer.aiter_lines():
            said = json.loads(line)
            if "outcome" in said:
                yield self._whole(said)
            elif "done" in said:
                return
            else:
                self.plan = said
        raise AssertionError("the page was torn")

    def _whole(self, said: dict[str, Any]) -> dict[str, Any]:
        return said | {key: urljoin(self.origin, said[key]) for key in ADDRESSES if said.get(key)}

    def _client(self) -> httpx2.AsyncClient:
        headers = {"authorization": f"Bearer {self.token}"} if self.token else {}
        return httpx2.AsyncClient(base_url=self.origin, headers=headers, timeout=10)
