"""Somewhere to keep things, for every kind of tier."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from bff.store.redis import RedisTier
from bff.store.sqlite import SqliteTier
from tests.store.tiers import Place, RedisServer


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def redis_place(redis_server: RedisServer) -> AsyncIterator[Place[RedisTier]]:
    redis_server.said(b"FLUSHALL")
    place = Place(lambda **given: RedisTier(redis_server.url, **given))
    yield place
    await place.close()


@pytest.fixture
async def sqlite_place(tmp_path: Path) -> AsyncIterator[Place[SqliteTier]]:
    place = Place(lambda **given: SqliteTier(tmp_path / "var" / "store.sqlite", **given))
    yield place
    await place.close()


@pytest.fixture(params=["sqlite", "redis"])
def place(request: pytest.FixtureRequest) -> Place[Any]:
    made: Place[Any] = request.getfixturevalue(f"{request.param}_place")
    return made
