"""Reading a real Redis: everything once, through outages, from where it stopped."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import anyio
import pytest
from redis.asyncio import Redis

from bff.events.bus import Bus, Listener, opener, schemes
from bff.events.redis import RedisBus, open_bus
from tests.events.telling import CATALOG, TOPIC, Notes, captured, subscription
from tests.fakes import until
from tests.redis import RedisServer, redis_server

pytestmark = pytest.mark.anyio
STREAM = f"dev-{TOPIC}"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RedisServer]:
    async with redis_server(tmp_path) as running:
        yield running


@pytest.fixture
async def redis(server: RedisServer) -> AsyncIterator[Redis]:
    async with Redis.from_url(server.url) as client:
        yield client


class Kept:
    """Positions, as the store's second tier keeps them."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}

    async def value(self, name: str) -> bytes | None:
        return self.values.get(name)

    async def set_value(self, name: str, data: bytes, *, keep: float | None = None) -> None:
        self.values[name] = data


async def at_once(_: float) -> None:
    """A pause between two tries, as short as can be."""
    await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def reading(
    notes: Notes, url: str, kept: Kept | None = None, make: Callable[[], Bus] | None = None
) -> AsyncIterator[Listener]:
    listener = Listener(notes.consumer, make or (lambda: open_bus(url, "dev")), positions=kept, pause=at_once)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listener.run)
        await until(lambda: listener.connected or make, "a connection")
        yield listener
        tasks.cancel_scope.cancel()


async def send(redis: Redis, number: int = 0, **fields: bytes) -> None:
    """A captured message, with other fields where the test wants them."""
    stream, told = captured(number)
    await redis.xadd(stream, told | {name.encode(): value for name, value in fields.items()})


async def test_what_open_edx_wrote_is_acted_on(server: RedisServer, redis: Redis) -> None:
    notes = Notes(subscription(), subscription(context="site", topic="xblock-published", type="other"))
    async with reading(notes, server.url):
        for number in (0, 1, 2):
            await send(redis, number)
        await until(lambda: sum(notes.counted.values()) == 3, "three events")
    assert notes.tags == ["course:course-v1:HarborX+NAV101+R1", "course:course-v1:HarborX+NAV101+R2"]
    assert notes.counted == {(CATALOG, "applied"): 2, ("other", "ignored"): 1}


async def test_what_was_there_before_it_began_is_not_read(server: RedisServer, redis: Redis) -> None:
    notes = Notes()
    await send(redis, 0)
    async with reading(notes, server.url):
        await send(redis, 1)
        await until(lambda: notes.purges, "an event")
    assert notes.tags == ["course:course-v1:HarborX+NAV101+R2"]


async def test_every_reader_reads_everything(server: RedisServer, redis: Redis) -> None:
    one, other = Notes(), Notes()
    async with reading(one, server.url), reading(other, server.url):
        await send(redis, 0)
        await send(redis, 1)
        await until(lambda: len(one.purges) == len(other.purges) == 2, "two events each")
    assert not await redis.xinfo_groups(STREAM), "nobody is asked to share them out"


async def test_it_goes_on_where_it_stopped(server: RedisServer, redis: Redis) -> None:
    kept = Kept()
    async with reading(first := Notes(), server.url, kept):
        await send(redis, 0)
        await until(lambda: first.purges and kept.values.get(f"events:{TOPIC}") not in (None, b"0-0"), "an event")
    await send(redis, 1)
    async with reading(second := Notes(), server.url, kept):
        await until(lambda: second.purges, "the event that came meanwhile")
    assert first.tags == ["course:course-v1:HarborX+NAV101+R1"]
    assert second.tags == ["course:course-v1:HarborX+NAV101+R2"]
    assert not second.said("events-missed")


async def test_poison_is_skipped(server: RedisServer, redis: Redis) -> None:
    notes = Notes()
    async with reading(notes, server.url):
        await send(redis, event_data=b"\xff\xff\xff\xff\x0f")
        await redis.xadd(STREAM, {"nothing": "of use"})
        await redis.xadd(STREAM, {b"type": b"\xff\xfe", b"id": b"1", b"source": b"x", b"event_data": b"\x00"})
        await send(redis, 1)
        await until(lambda: notes.purges, "the good one")
    assert notes.tags == ["course:course-v1:HarborX+NAV101+R2"]
    assert notes.counted == {(CATALOG, "poison"): 1, ("other", "poison"): 2, (CATALOG, "applied"): 1}


async def test_redelivery_and_disorder(server: RedisServer, redis: Redis) -> None:
    notes = Notes()
    async with reading(notes, server.url):
        for number in (1, 0, 1, 0, 0):
            await send(redis, number)
        await until(lambda: sum(notes.counted.values()) == 5, "five messages")
    assert sorted(notes.tags) == ["course:course-v1:HarborX+NAV101+R1", "course:course-v1:HarborX+NAV101+R2"]
    assert notes.counted[CATALOG, "duplicate"] == 3


async def test_json_is_taken_too(server: RedisServer, redis: Redis) -> None:
    notes = Notes()
    async with reading(notes, server.url):
        await send(redis, event_data=b'{"catalog_info": {"course_key": "A+1"}}')
        await until(lambda: notes.purges, "an event")
    assert notes.tags == ["course:A+1"]


async def test_a_bus_that_goes_away_is_told_once_and_read_again(server: RedisServer) -> None:
    notes = Notes()
    async with reading(notes, server.url) as listener:
        await server.stop()
        await until(lambda: notes.counted["", "away"] >= 3, "three tries")
        assert not listener.connected
        assert len(notes.said("events-bus-away")) == 1
        await server.start()
        await until(lambda: notes.said("events-bus-back"), "a connection")
        async with Redis.from_url(server.url) as redis:
            await send(redis, 0)
        await until(lambda: "course:course-v1:HarborX+NAV101+R1" in notes.tags, "an event")
    assert len(notes.said("events-bus-away")) == 1


async def test_a_bus_that_was_away_when_it_began(server: RedisServer) -> None:
    notes = Notes()
    await server.stop()
    async with reading(notes, server.url, make=lambda: open_bus(server.url, "dev")):
        await until(lambda: notes.counted["", "away"], "a try")
        await server.start()
        await until(lambda: notes.said("events-bus-back"), "a connection")
    assert notes.counted["", "missed"] == 1, "nobody knows what was told meanwhile"


async def test_a_stream_that_was_flushed_has_lost_messages(server: RedisServer, redis: Redis) -> None:
    kept = Kept()
    kept.values[f"events:{TOPIC}"] = b"9999999999999-0"
    await send(redis, 1)
    async with reading(notes := Notes(), server.url, kept):
        await until(lambda: len(notes.purges) == 2, "what is left, and that something is lost")
    assert notes.counted["", "missed"] == 1
    assert notes.tags == ["discovery", "course:course-v1:HarborX+NAV101+R2"]


async def test_a_stream_that_was_trimmed_has_lost_messages(server: RedisServer, redis: Redis) -> None:
    kept = Kept()
    kept.values[f"events:{TOPIC}"] = b"1-1"
    await send(redis, 1)
    async with reading(notes := Notes(), server.url, kept):
        await until(lambda: len(notes.purges) == 2, "what is left, and that something is lost")
    assert notes.tags == ["discovery", "course:course-v1:HarborX+NAV101+R2"]


async def test_a_position_that_is_none(server: RedisServer) -> None:
    kept = Kept()
    kept.values[f"events:{TOPIC}"] = b"nonsense"
    async with reading(notes := Notes(), server.url, kept):
        await until(lambda: notes.counted["", "missed"], "the loss")


async def test_other_topics_after_a_reload(server: RedisServer, redis: Redis) -> None:
    notes = Notes(subscription(topic=""))
    async with reading(notes, server.url, make=lambda: open_bus(server.url, "dev")) as listener:
        assert not listener.connected, "there is nothing to read"
        notes.subscriptions = [subscription()]
        listener.changed()
        await until(lambda: listener.connected, "a connection")
        listener.changed()
        await send(redis, 0)
        await until(lambda: notes.purges, "an event")


async def test_a_message_without_fields(server: RedisServer) -> None:
    from bff.events.redis import _message  # noqa: PLC0415 - Redis 7 shows deleted entries to consumer groups alone

    assert _message(None).attributes == {}


def test_buses_are_found_by_their_scheme() -> None:
    assert schemes() == ("redis", "rediss")
    assert opener("redis://127.0.0.1:1/0") is open_bus
    assert opener("kafka://127.0.0.1") is None
    assert isinstance(open_bus("redis://127.0.0.1:1/0", ""), RedisBus)
