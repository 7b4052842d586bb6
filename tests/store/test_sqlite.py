"""A file that is broken, deleted, locked, unreachable or on a full disk, and processes that are killed while they write."""

import asyncio
import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import pytest

from bff.model import Purge
from bff.store import statements
from bff.store.database import Database
from bff.store.purges import LIMIT
from bff.store.sqlite import SqliteTier
from tests.fakes import until
from tests.store.tiers import Place, back, now, record

pytestmark = pytest.mark.anyio

ROOT: Final = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "var" / "store.sqlite"


@pytest.fixture
async def at(path: Path) -> AsyncIterator[Place[SqliteTier]]:
    place = Place(lambda **given: SqliteTier(path, **given))
    yield place
    await place.close()


PROGRAM = """
import asyncio, sys
from pathlib import Path
from bff.model import Purge
from bff.store.sqlite import SqliteTier
from tests.store.tiers import now, record

async def main():
    tier = SqliteTier(Path(sys.argv[1]), failed=print, tell=lambda event, **_: print(event), patience=5.0)
    await tier.start()
    {}

asyncio.run(main())
"""


@contextlib.contextmanager
def process(path: Path, body: str, *around: str) -> Iterator[subprocess.Popen[str]]:
    """Another process with a tier on the same file; `body` runs in it."""
    program = PROGRAM.format(textwrap.indent(textwrap.dedent(body), "    ").strip())
    command = [*around, sys.executable, "-c", program, str(path)]
    env = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as running:
        try:
            yield running
        finally:
            running.kill()


def said(running: subprocess.Popen[str]) -> str:
    """The next line that it prints."""
    assert running.stdout is not None
    return running.stdout.readline().strip()


WRITING = """
for i in range(100_000):
    await tier.put(record(f"k{i}", body=b"%d" % i * 1000), keep=600, began=now())
    if i == 200:
        print("written")
"""


async def test_what_was_written_outlives_a_process_that_is_killed_in_the_middle(
    path: Path, at: Place[SqliteTier]
) -> None:
    with process(path, WRITING) as running:
        assert said(running) == "written"
        running.send_signal(signal.SIGKILL)
        running.wait()
    tier = await at.open()
    for i in range(201):
        kept = await tier.get(f"k{i}")
        assert kept is not None
        assert kept.body == b"%d" % i * 1000
    await tier.put(record(), keep=60, began=now())
    assert await tier.get(record().key) is not None
    assert at.told.failures == []


async def test_processes_share_records_purges_and_leases(path: Path, at: Place[SqliteTier]) -> None:
    sharing = """
        print(await tier.lease("k", 60))
        await tier.put(record(), keep=60, began=now())
        print("put")
        heard = asyncio.Event()
        tier.subscribe(lambda purge, _: (print(purge.value), heard.set()))
        await heard.wait()
        print(await tier.get(record().key))
        await tier.release("k")
        print("released")
        await asyncio.sleep(60)
    """
    with process(path, sharing) as running:
        assert await asyncio.to_thread(said, running) == "True"
        assert await asyncio.to_thread(said, running) == "put"
        tier = await at.open()
        assert await tier.get(record().key) is not None
        assert not await tier.lease("k", 60)
        await tier.purge(Purge(kind="tag", value="course:1"))
        assert [await asyncio.to_thread(said, running) for _ in range(3)] == ["course:1", "None", "released"]
        assert await tier.lease("k", 60)


FULL = """
    for i in range(50):
        await tier.put(record(f"k{i}", body=b"x" * 100_000), keep=600, began=now())
    print("filled", await tier.get("k0") is not None, await tier.get("k49") is not None, tier.reached)
    await tier.purge(Purge(kind="tag", value="course:1"))
    print("purged", await tier.get("k0"))
"""


async def test_a_file_that_cannot_grow_is_read_on(path: Path) -> None:
    limit = """
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))
    """
    with process(path, textwrap.dedent(limit) + textwrap.dedent(FULL)) as running:
        lines = [line.strip() for line in running.stdout or ()]
    assert "filled True False True" in lines
    assert lines.count("store_failed") == 1
    assert lines[-1] == "purged None"
    assert {"full", "away"} & {*lines}


@pytest.mark.skipif(
    subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode != 0,
    reason="this user may not mount anything",
)
async def test_a_full_disk_is_read_on(tmp_path: Path) -> None:
    mounted = f'mount -t tmpfs -o size=2m tmpfs {tmp_path} && exec "$@"'
    with process(tmp_path / "store.sqlite", FULL, "unshare", "--mount", "sh", "-c", mounted, "sh") as running:
        lines = [line.strip() for line in running.stdout or ()]
    assert "filled True False True" in lines
    assert lines.count("store_failed") == 1
    assert lines[-1] == "purged None"
    assert "full" in lines


def garble(path: Path) -> None:
    """Leave nothing but noise of a file, whatever of it is still in its log."""
    path.parent.mkdir(exist_ok=True)
    if path.exists():
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        with path.open("r+b") as file:
            file.write(b"\xff" * path.stat().st_size)
    else:
        path.write_bytes(b"this is no database" * 1000)


async def test_a_broken_file_is_put_aside_and_a_new_one_begun(path: Path, at: Place[SqliteTier]) -> None:
    garble(path)
    tier = await at.open()
    await back(tier)
    await tier.put(record(), keep=60, began=now())
    assert await tier.get(record().key) is not None
    assert path.with_name("store.sqlite.broken").read_bytes().startswith(b"this is no")
    assert at.told.events.count("store_set_aside") == 1


async def test_a_file_that_breaks_while_it_is_open_is_put_aside_once_for_all(path: Path, at: Place[SqliteTier]) -> None:
    tiers = [await at.open() for _ in range(3)]
    for i in range(200):
        await tiers[0].put(record(f"k{i}", body=b"x" * 5000), keep=60, began=now())
    garble(path)

    async def works(tier: SqliteTier) -> bool:
        await tier.put(record("new"), keep=60, began=now())
        return await tier.get("new") is not None

    for tier in tiers:
        for _ in range(400):
            if await works(tier):
                break
            await asyncio.sleep(0.05)
        else:
            pytest.fail("it does not work again")
    assert at.told.events.count("store_set_aside") == 1
    assert "corrupt" in at.told.failures or "store_away" in at.told.events
    await tiers[0].purge(Purge(kind="all"))
    assert [await tier.get("new") for tier in tiers] == [None, None, None]


async def test_a_deleted_file_is_made_anew_by_all(path: Path, at: Place[SqliteTier]) -> None:
    one, other = await at.open(), await at.open()
    await one.put(record("old"), keep=60, began=now())
    for each in path.parent.iterdir():
        each.unlink()
    before = one._ledger.floor
    await until(lambda: one._ledger.floor > before and other._ledger.floor > before, "both see the new file")
    await one.put(record("new"), keep=60, began=now())
    assert await other.get("new") is not None
    assert await other.get("old") is None
    await other.purge(Purge(kind="all"))
    assert await one.get("new") is None
    assert at.told.failures == []


async def test_a_place_that_cannot_be_written_is_done_without_until_it_can(path: Path, at: Place[SqliteTier]) -> None:
    path.parent.write_text("a file where a folder should be")
    tier = await at.open()
    assert not tier.reached
    assert await tier.get("k") is None
    await tier.put(record(), keep=60, began=now())
    assert await tier.lease("k", 1)
    assert await tier.add_value("k", b"mine") == b"mine"
    assert not await tier.purge(Purge(kind="all"))
    assert at.told.events == ["store_away"]
    path.parent.unlink()
    await back(tier)
    await tier.put(record(), keep=60, began=now())
    assert await tier.get(record().key) is not None
    assert at.told.events == ["store_away", "store_back"]


async def test_a_file_that_somebody_locks_is_still_read(path: Path, at: Place[SqliteTier]) -> None:
    tier = await at.open()
    await tier.put(record(), keep=60, began=now())
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        putting = asyncio.ensure_future(tier.put(record("more"), keep=60, began=now()))
        purging = asyncio.ensure_future(tier.purge(Purge(kind="tag", value="course:1")))
        await asyncio.sleep(0)
        assert await tier.get(record().key) is None  # what is purged counts as purged before it is written
        await putting
        assert not await purging
        assert at.told.failures == ["busy", "busy"]
        assert tier.reached
        other.execute("ROLLBACK")
    await until(lambda: not tier._ledger.owed, "the purge is written")
    assert await (await at.open()).get(record().key) is None


async def test_a_lease_ends_however_the_wall_clock_jumps_and_the_machine_restarts(
    path: Path, at: Place[SqliteTier]
) -> None:
    clock = {"wall": time.time()}
    one, other = [await at.open(wall=lambda: clock["wall"]) for _ in range(2)]
    assert await one.lease("k", 600)
    clock["wall"] += 1e6
    assert not await other.lease("k", 600)
    with contextlib.closing(sqlite3.connect(path)) as connection:  # as it would be after a restart
        connection.execute("UPDATE leases SET until = until + 1e6")
        connection.commit()
    assert await other.lease("k", 600)


@pytest.mark.parametrize("jump", [86400.0 * 365, -86400.0 * 365])
async def test_a_clock_that_jumps_costs_copies_and_revives_nothing(jump: float, at: Place[SqliteTier]) -> None:
    clock = {"wall": time.time()}
    tier = await at.open(wall=lambda: clock["wall"])
    await tier.put(record("before"), keep=60, began=now())
    await tier.purge(Purge(kind="tag", value="course:1"))
    clock["wall"] += jump
    assert await tier.get("before") is None
    await tier.put(record("after"), keep=60, began=now())
    assert await tier.get("after") is not None
    await tier.purge(Purge(kind="tag", value="course:1", soft=True))
    kept = await tier.get("after")
    assert kept is not None
    assert kept.stale_at is not None
    assert kept.stale_at <= clock["wall"]
    await tier.purge(Purge(kind="tag", value="course:1"))
    assert await tier.get("after") is None
    assert at.told.failures == []


async def test_beyond_the_limit_old_purges_are_forgotten_with_all_that_is_older(
    path: Path, at: Place[SqliteTier]
) -> None:
    tier = await at.open()
    await tier.put(record("old"), keep=60, began=now())
    with contextlib.closing(sqlite3.connect(path)) as connection:
        (floor,) = connection.execute("SELECT mark FROM purges").fetchone()
        rows = [(f"x{i}", floor + i) for i in range(1, LIMIT)]
        connection.executemany("INSERT INTO purges VALUES (?, ?)", rows)
        connection.commit()
        await tier.purge(Purge(kind="tag", value="one"), Purge(kind="tag", value="two"))
        left = connection.execute("SELECT what FROM purges ORDER BY mark").fetchall()
        assert (left[:2], len(left)) == ([("",), ("x3",)], LIMIT)
        assert connection.execute("SELECT count(*) FROM purges").fetchone() == (LIMIT,)
    assert await tier.get("old") is None
    assert await (await at.open()).get("old") is None
    await tier.put(record("new"), keep=60, began=now())
    assert await tier.get("new") is not None


def test_what_is_over_and_what_is_too_much_is_cleaned_away_in_batches(path: Path) -> None:
    database = Database(path, lambda _: None)
    for i in range(1200):
        database.run(statements.put(f"k{i}", 1, 100.0 if i < 600 else 200.0 + i, b"h", b"x" * 2000))
    database.run(statements.set_value("brief", b"1", 100.0))
    database.run(statements.set_value("long", b"1", None))
    database.run(statements.lease("over", "me", 100.0, 1.0))
    database.run(statements.lease("now", "me", 149.0, 10.0))

    def left(table: str) -> int:
        return int(database.run(lambda connection: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]))

    assert database.run(statements.clean(150.0, 150.0, 10**9))
    assert left("records") == 700
    assert not database.run(statements.clean(150.0, 150.0, 10**9))
    assert (left("records"), left("settings"), left("leases")) == (600, 1, 1)
    assert database.run(statements.clean(150.0, 150.0, 1_000_000))
    assert left("records") == 100
    assert database.run(statements.described("k1199")) is not None
    database.close()


async def test_cleaning_goes_by_itself(path: Path, at: Place[SqliteTier]) -> None:
    tier = await at.open()
    await tier.put(record(), keep=0.001, began=now())
    with contextlib.closing(sqlite3.connect(path)) as connection:
        await until(lambda: connection.execute("SELECT count(*) FROM records").fetchone() == (0,), "it is cleaned away")


async def test_what_takes_too_long_is_told_so_and_read_again_later(path: Path, at: Place[SqliteTier]) -> None:
    tier = await at.open()
    await tier.put(record(), keep=60, began=now())
    gate = threading.Event()
    tier._reader._thread.ask(lambda: gate.wait(10))
    tier._patience = 0.01
    assert await tier.get(record().key) is None
    assert at.told.failures == ["timeout"]
    gate.set()
    tier._patience = 5.0
    await back(tier)
    assert await tier.get(record().key) is not None


async def test_too_much_at_once_is_told_so(at: Place[SqliteTier]) -> None:
    tier = await at.open()
    gate = threading.Event()
    tier._reader._thread.ask(lambda: gate.wait(10))
    asked = [asyncio.ensure_future(tier.get(f"k{i}")) for i in range(1200)]
    await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
    gate.set()
    assert {*await asyncio.gather(*asked)} == {None}
    assert {*at.told.failures} == {"busy"}


async def test_garbage_is_a_miss(path: Path, at: Place[SqliteTier]) -> None:
    tier = await at.open()
    await tier.put(record(), keep=60, began=now())
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE records SET head = x'ff00'")
        connection.commit()
    assert await tier.get(record().key) is None
    await tier.touch(record().key, [], 1.0, keep=60, began=now())
    assert await tier.get(record().key) is None


async def test_many_records_that_are_over_are_cleaned_a_little_at_a_time(path: Path, at: Place[SqliteTier]) -> None:
    tier = await at.open()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        rows = ((f"k{i}", 1, 1.0, b"", b"") for i in range(10_000))
        connection.executemany("INSERT INTO records VALUES (?, ?, ?, ?, ?)", rows)
        connection.commit()
        tier._clean(database := Database(path, lambda _: None))
        assert connection.execute("SELECT count(*) FROM records").fetchone()[0] <= 6000
        database.close()
