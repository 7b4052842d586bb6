import sqlite3
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest

from bff.store import statements
from bff.store.database import Connection, Database, Work
from bff.store.follower import Away

GARBAGE = b"no database at all, and long enough to be seen as none" * 100


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite"


def put(key: str, size: int = 10) -> Work[None]:
    return statements.put(key, 1, 1e12, b"head", b"x" * size)


def grow_no_more(connection: Connection) -> None:
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")


def failing(connection: Connection) -> None:
    connection.execute("SELECT * FROM missing")


def test_a_full_file_is_told_and_read_on(path: Path) -> None:
    database = Database(path, lambda _: None)
    database.run(put("k"))
    database.run(grow_no_more)
    with pytest.raises(Away) as error:
        database.run(put("large", 1_000_000))
    assert (error.value.reason, error.value.lost) == ("full", False)
    assert database.run(statements.described("k")) == (1, b"head")
    with pytest.raises(Away):
        database.run(statements.write_log(["p" * 1_000_000], 1))  # all of it is undone
    assert database.run(statements.log(0))[0] == []
    assert database.run(statements.write_log(["small"], 1)) > 0
    database.close()


def test_whoever_opens_it_first_is_waited_for(path: Path) -> None:
    """Two workers start at once: SQLite refuses the one that comes while the other changes the file, without waiting."""
    first = sqlite3.connect(path, isolation_level=None)
    first.execute("CREATE TABLE made (what)")
    first.execute("BEGIN IMMEDIATE")
    database = Database(path, lambda _: None)
    with ThreadPoolExecutor() as threads:
        second = threads.submit(database.run, statements.log(0))
        assert not wait([second], timeout=0.05).done
        first.execute("COMMIT")
        assert second.result()[0] == []
    first.close()
    database.close()


def test_a_file_that_stays_locked_is_busy(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bff.store.database.BUSY", 0.01)
    first = sqlite3.connect(path, isolation_level=None)
    first.execute("CREATE TABLE made (what)")
    first.execute("BEGIN IMMEDIATE")
    database = Database(path, lambda _: None)
    with pytest.raises(Away, match="locked") as error:
        database.run(statements.log(0))
    assert (error.value.reason, error.value.lost) == ("busy", False)
    first.close()
    database.close()


def test_after_any_other_error_it_is_left_alone_for_a_moment(path: Path) -> None:
    database = Database(path, lambda _: None)
    with pytest.raises(Away, match="no such table"):
        database.run(failing)
    with pytest.raises(Away, match="just failed") as error:
        database.run(put("k"))
    assert error.value.lost
    database._held = 0.0
    database.run(put("k"))
    database.close()


def test_only_the_first_to_see_it_broken_puts_it_aside(path: Path) -> None:
    told: list[str] = []
    one, other = Database(path, told.append), Database(path, told.append)
    one.run(put("k"))
    other.run(put("k"))
    seen = other._file
    one.close()
    other.close()
    path.write_bytes(GARBAGE)
    for left in ("-wal", "-shm"):
        path.with_name(path.name + left).unlink(missing_ok=True)
    with pytest.raises(Away) as error:
        one.run(put("k"))
    assert error.value.reason == "corrupt"
    one.run(put("k"))
    other._file = seen
    other._set_aside("it looked broken to me, too")
    assert one.run(statements.described("k")) == (1, b"head")
    assert len(told) == 1
    one.close()


def test_what_cannot_be_put_aside_is_left_alone_for_a_moment(path: Path) -> None:
    told: list[str] = []
    path.write_bytes(GARBAGE)
    path.with_name("store.sqlite.lock").mkdir()
    database = Database(path, told.append)
    with pytest.raises(Away):
        database.run(put("k"))
    with pytest.raises(Away, match="just failed"):
        database.run(put("k"))
    assert told == []
    assert path.read_bytes() == GARBAGE


def test_what_cannot_be_opened_is_named(path: Path) -> None:
    path.mkdir()
    with pytest.raises(Away, match=f"{path}: unable to open database file"):
        Database(path, lambda _: None).run(put("k"))
