"""`/_bff/live` as an ASGI application: who may listen for what, what is sent, and the ways out."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from bff.gateway.listeners import Listeners
from bff.gateway.live import FRAGMENTS, Live, since
from bff.gateway.state import Drain
from bff.model import Forward, Outcome, Purge, Reason, Ref, Result
from tests.build import World, fragment, int_param, text_param
from tests.fakes import until

pytestmark = pytest.mark.anyio

CARD = fragment(
    "shop/card", layer={"cache.fresh": "10s"}, params={"n": int_param("n")}, tags=(("card:", Ref("param", "n"), ""),)
)
MINE = fragment("shop/mine", params={"user": text_param("user", principal=True)}, tags=(("mine",),))
COOKIES = fragment("shop/basket", forward=Forward(cookies=("session",)))
WORK = fragment("shop/export", starts_task=True)


class Connection:
    """One connection: what was sent, and a client that may go."""

    def __init__(self, live: Live, query: str, *, extension: bool, method: str, headers: dict[str, str]) -> None:
        self.sent: list[Any] = []
        self._gone = asyncio.Event()
        self._callbacks: list[Callable[[], None]] = []
        fields = [(name.encode(), text.encode()) for name, text in headers.items()]
        scope: dict[str, Any] = {"type": "http", "method": method, "query_string": query.encode(), "headers": fields}
        if extension:
            scope["extensions"] = {"bff.closed": self._callbacks.append}
        self.task = asyncio.ensure_future(live(scope, self._receive, self._send))

    async def _receive(self) -> Any:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        self.sent.append(message)

    def go(self) -> None:
        self._gone.set()
        for callback in self._callbacks:
            callback()

    async def has(self, text: str) -> str:
        await until(lambda: text in self.body, f"{text!r} in {self.body!r}")
        return self.body

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def body(self) -> str:
        return b"".join(message.get("body", b"") for message in self.sent).decode()


class Desk:
    """The application over a faked world."""

    def __init__(self) -> None:
        self.world = World(fragments={each.name: each for each in (CARD, MINE, COOKIES, WORK)})
        self.drain = Drain()
        self.wall = 1_000_000.0
        self.listeners = Listeners(settle=0.0, wall=lambda: self.wall)
        self.principal: str | None = None
        self.live = Live(
            self.listeners,
            planner=lambda: self.world.planner,
            visit=lambda _scope, _seconds: self.world.visit(self.principal),
            resolver=self.world.resolver,
            store=self.world.store,
            drain=self.drain,
        )

    @asynccontextmanager
    async def listening(
        self, query: str, *, extension: bool = True, method: str = "GET", **headers: str
    ) -> AsyncIterator[Connection]:
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        connection = Connection(self.live, query, extension=extension, method=method, headers=named)
        await asyncio.sleep(0)
        yield connection
        connection.go()
        await asyncio.wait_for(connection.task, 5)

    async def refused(self, query: str, **more: Any) -> int:
        async with self.listening(query, **more) as connection:
            await connection.task
            assert len(self.listeners) == 0
            return connection.status


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk()
    yield desk
    desk.live.close()


@pytest.mark.parametrize("extension", [True, False])
async def test_a_change_is_told_as_an_event(desk: Desk, extension: bool) -> None:
    async with desk.listening("fragment=shop%2Fcard%3Fn%3D1&fragment=shop/card?n=2", extension=extension) as connection:
        body = await connection.has("\n\n")
        assert body.startswith("retry: ")
        assert body.endswith("id: 1000000000\n\n")
        head = dict(connection.sent[0]["headers"])
        assert connection.status == 200
        assert head[b"content-type"] == b"text/event-stream"
        assert head[b"cache-control"] == b"no-store"
        assert head[b"x-accel-buffering"] == b"no"
        desk.wall += 7
        desk.live.heard(Purge(kind="tag", value="card:1"))
        said = (
            'id: 1000007000\nevent: refresh\ndata: {"fragment":"shop/card","src":"/_bff/fragments/shop/card?n=1"}\n\n'
        )
        assert (await connection.has("event:")).endswith(said)
        assert "n=2" not in connection.body
    assert len(desk.listeners) == 0
    assert connection.sent[-1] == {"type": "http.response.body", "body": b""}


async def test_who_comes_back_is_told_what_they_missed(desk: Desk) -> None:
    desk.wall += 1000
    desk.live.heard(Purge(kind="tag", value="card:1"))
    async with desk.listening("fragment=shop/card?n=1", last_event_id="1000999000") as connection:
        await connection.has("event: refresh")
    async with desk.listening("fragment=shop/card?n=1&since=-5000.25") as connection:
        await connection.has("event: refresh")
    desk.wall += 1000
    async with desk.listening("fragment=shop/card?n=1&since=-5000", last_event_id="1001999000") as connection:
        await connection.has("\n\n")
        assert "event" not in connection.body


@pytest.mark.parametrize(
    ("text", "known"),
    [("12", 12), ("-12", -12), ("-12.7", -12), ("", None), ("x", None), ("--1", None), ("9" * 16, None)],
)
def test_what_a_client_has_last_heard(text: str, known: int | None) -> None:
    assert since({"headers": [(b"last-event-id", text.encode())], "query_string": b""}) == known
    assert since({"headers": [], "query_string": b"since=" + text.encode()}) == known


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 400),
        ("fragment=shop/card", 400),
        ("fragment=shop/card?n=x", 400),
        ("fragment=shop/card?n=1&fragment=shop/nothing", 404),
        ("fragment=shop/export", 400),
        ("fragment=shop/mine", 401),
        ("fragment=shop/basket", 401),
        ("&".join(f"fragment=shop/card?n={n}" for n in range(FRAGMENTS + 1)), 400),
    ],
)
async def test_bad_unknown_and_others_own_are_refused(desk: Desk, query: str, status: int) -> None:
    assert await desk.refused(query) == status


async def test_only_get_listens(desk: Desk) -> None:
    assert await desk.refused("fragment=shop/card?n=1", method="POST") == 405


@pytest.mark.parametrize("status", [401, 403])
async def test_the_context_says_who_may_listen_for_what_is_private(desk: Desk, status: int) -> None:
    desk.principal = "ada"
    async with desk.listening("fragment=shop/mine") as connection:
        desk.world.upstreams.to("/mine/ada").reply(status=status)
        await connection.task
        assert connection.status == status
    assert len(desk.listeners) == 0


async def test_what_is_private_carries_the_tags_of_its_own_answer(desk: Desk) -> None:
    desk.principal = "ada"
    async with desk.listening("fragment=shop/mine") as connection:
        desk.world.upstreams.to("/mine/ada").reply(surrogate_key="order:7")
        await connection.has("id:")
        desk.live.heard(Purge(kind="tag", value="order:7", context="shop"))
        await connection.has("event: refresh")


async def test_who_goes_while_the_context_is_asked_leaves_nothing(desk: Desk) -> None:
    desk.principal = "ada"
    connection = Connection(desk.live, "fragment=shop/mine", extension=True, method="GET", headers={})
    await asyncio.sleep(0)
    connection.go()
    with pytest.raises(asyncio.CancelledError):
        await connection.task
    assert (len(desk.listeners), connection.sent) == (0, [])


async def test_what_is_kept_and_what_the_endpoint_answers_tells_more_tags(desk: Desk) -> None:
    call = desk.world.planner.call(CARD, CARD.policy, {"n": ["1"]})
    assert call is not None
    desk.world.resolver.start(call, desk.world.visit(), lambda _: None)
    desk.world.upstreams.to("/card/1").reply(surrogate_key="kept")
    async with desk.listening("fragment=shop/card?n=1") as connection:
        await connection.has("id:")
        desk.live.heard(Purge(kind="tag", value="kept"))
        await connection.has("event: refresh")
        told = Result(outcome=Outcome.FRESH, reason=Reason.OK, tags=("card:1", "new"))
        desk.live.learned(call, "n=1", desk.world.visit(), told)
        nothing = Result(outcome=Outcome.FALLBACK, reason=Reason.TIMEOUT)
        desk.live.learned(call, "n=1", desk.world.visit(), nothing)
        desk.wall += 1
        desk.live.heard(Purge(kind="tag", value="new"))
        await connection.has("id: 1000001000\nevent: refresh")


async def test_signs_of_life_carry_ids_and_all_end_when_the_gateway_leaves(desk: Desk) -> None:
    async with desk.listening("fragment=shop/card?n=1") as connection:
        await connection.has("id:")
        for _ in range(15):
            desk.live._second()
        await connection.has("id: 1000000000\n:\n\n")
        desk.drain.draining = True
        desk.live._second()
        await asyncio.wait_for(connection.task, 5)
        assert connection.sent[-1] == {"type": "http.response.body", "body": b""}
        desk.live._second()
        assert desk.live._tick is None, "nobody is left to give signs to"
