"""The soak's visitors: what each of them does, and what all of them saw. They know what a page promises, and nothing of how."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from time import perf_counter
from typing import Final

from tests.e2e.wire import ask
from tests.soak.contexts import NAMES

KEYS: Final = 200
"""So many pages there are."""
PATIENCE: Final = 15.0
FRAGMENTS: Final = ("shop/side", *(f"{name}/slot" for name in NAMES))


@dataclass(slots=True)
class Seen:
    """What came of it. `broken` are promises; `errors` are what clients could not read."""

    statuses: Counter[str] = field(default_factory=Counter)  # "<kind> <status>"
    outcomes: dict[str, Counter[str]] = field(default_factory=dict)  # fragment → "<outcome> <reason>"
    times: dict[str, list[float]] = field(default_factory=dict)  # kind → seconds to the last byte
    broken: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)

    def done(self, kind: str, status: int, began: float) -> None:
        self.statuses[f"{kind} {status}"] += 1
        self.times.setdefault(kind, []).append(perf_counter() - began)


class Crowd:
    """Visitors at `origin`, each doing one thing after another until they are told to stop."""

    def __init__(self, origin: str, dice: random.Random) -> None:
        self.seen = Seen()
        self._origin = origin
        self._dice = dice

    async def visit(self, count: int, seconds: float) -> None:
        """`count` of them at once, for so long; each ends what it has begun."""
        until = perf_counter() + seconds
        await asyncio.gather(*(self._visitor(until) for _ in range(count)))

    async def _visitor(self, until: float) -> None:
        kinds: list[Callable[[], Awaitable[None]]] = [
            self._page, self._page, self._frail, self._json, self._fragment, self._live, self._slow_reader, self._leave,
            self._half_a_head, self._upload,
        ]  # fmt: skip
        while perf_counter() < until:
            kind = self._dice.choice(kinds)
            try:
                async with asyncio.timeout(PATIENCE):
                    await kind()
            except (OSError, AssertionError, TimeoutError) as error:
                self.seen.errors[f"{kind.__name__.strip('_')}: {type(error).__name__}: {str(error)[:80]}"] += 1

    @property
    def _n(self) -> int:
        return self._dice.randrange(KEYS)

    async def _page(self) -> None:
        began = perf_counter()
        async with await ask(self._origin, f"/page/{self._n}") as page:
            body = await page.whole()
        self.seen.done("page", page.status, began)
        if page.status != 200:
            self.seen.broken[f"a page with status {page.status} though its primary is well"] += 1
        elif not body.endswith(b"</body></html>\n") or body.count(b"</body>") != 1:
            self.seen.broken["a page that is not whole"] += 1

    async def _frail(self) -> None:
        began = perf_counter()
        async with await ask(self._origin, f"/frail/{self._n}") as page:
            body = await page.whole()
        self.seen.done("frail page", page.status, began)
        if page.status not in {200, 404, 500, 502, 503, 504} or (page.status == 200 and b"the end" not in body):
            self.seen.broken[f"a page whose primary fails, with status {page.status}"] += 1

    async def _json(self) -> None:
        began = perf_counter()
        async with await ask(self._origin, f"/page/{self._n}", headers={"accept": "application/json"}) as page:
            body = await page.whole()
        self.seen.done("json", page.status, began)
        if page.status != 200:
            self.seen.broken[f"a JSON form with status {page.status} though its primary is well"] += 1
            return
        for slot in json.loads(body)["slots"].values():
            counts = self.seen.outcomes.setdefault(slot["fragment"], Counter())
            counts[" ".join(filter(None, [slot["outcome"], slot.get("reason", "")]))] += 1

    async def _fragment(self) -> None:
        name, began = self._dice.choice(FRAGMENTS), perf_counter()
        async with await ask(self._origin, f"/_bff/fragments/{name}?n={self._n}") as answer:
            await answer.whole()
        self.seen.done("fragment", answer.status, began)
        if name == "shop/side" and answer.status != 200:
            self.seen.broken[f"a fragment that is well, with status {answer.status}"] += 1

    async def _live(self) -> None:
        target = "&".join(f"fragment={name}?n={self._n}" for name in FRAGMENTS[:3])
        async with await ask(self._origin, f"/_bff/live?{target}", headers={"accept": "text/event-stream"}) as stream:
            self.seen.statuses[f"live {stream.status}"] += 1
            if stream.status == 200:
                await stream.until("id:")
                await asyncio.sleep(self._dice.uniform(0, 2))

    async def _upload(self) -> None:
        body, began = b"u" * self._dice.randrange(1, 512 * 1024), perf_counter()
        async with await ask(self._origin, "/upload", method="POST", body=body) as answer:
            text = await answer.rest()
        self.seen.done("upload", answer.status, began)
        if (answer.status, text) != (200, str(len(body))):
            self.seen.broken[f"an upload that did not arrive, with status {answer.status}"] += 1

    async def _slow_reader(self) -> None:
        """Reads a page a few bytes at a time for a while, then all, or never again."""
        reader, writer = await self._sent(f"GET /page/{self._n} HTTP/1.1\r\nhost: soak\r\naccept: text/html\r\n\r\n")
        for _ in range(self._dice.randrange(20)):
            await reader.read(64)
            await asyncio.sleep(0.05)
        if self._dice.random() < 0.5:
            with suppress(asyncio.LimitOverrunError):
                await reader.readuntil(b"</html>")
        await _closed(writer)

    async def _leave(self) -> None:
        """Asks for something, and goes."""
        path = self._dice.choice([f"/page/{self._n}", f"/_bff/fragments/silent/slot?n={self._n}", "/_bff/live"])
        _, writer = await self._sent(f"GET {path} HTTP/1.1\r\nhost: soak\r\naccept: text/html\r\n\r\n")
        await asyncio.sleep(self._dice.uniform(0, 0.2))
        writer.transport.abort()

    async def _half_a_head(self) -> None:
        """Or half a body."""
        upload = "POST /upload HTTP/1.1\r\nhost: soak\r\ncontent-length: 100000\r\n\r\nhalf"
        _, writer = await self._sent(self._dice.choice(["GET /page/1 HT", upload]))
        await asyncio.sleep(self._dice.uniform(0, 0.5))
        writer.transport.abort()

    async def _sent(self, text: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, port = self._origin.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(text.encode())
        return reader, writer


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
