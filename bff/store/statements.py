"""What the SQLite tier asks of its file: one function a question. Knows the tables, no threads, no clock."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import count
from typing import Final

from bff.store.database import Connection, Work, written
from bff.store.follower import ROWS
from bff.store.ledger import Row
from bff.store.purges import LIMIT

LONGEST: Final = 600.0  # seconds of a lease: one that ends later was made before the machine last started
BATCH: Final = 500  # records cleaned away at once

Kept = tuple[int, bytes, bytes]
"""A record's mark, head and body."""


def get(key: str, now: float, after: int) -> Work[tuple[Kept | None, list[Row], int]]:
    """A record, and then the log after a mark, with its floor: no purge before the call is overlooked."""
    return partial(_get, key, now, after)


def _get(key: str, now: float, after: int, connection: Connection) -> tuple[Kept | None, list[Row], int]:
    asked = "SELECT mark, head, body FROM records WHERE key = ? AND until > ?"
    row = connection.execute(asked, (key, now)).fetchone()
    return row, *_log(after, connection)


def log(after: int) -> Work[tuple[list[Row], int]]:
    """At most `ROWS` of the log after a mark, and its floor."""
    return partial(_log, after)


def _log(after: int, connection: Connection) -> tuple[list[Row], int]:
    asked = "SELECT what, mark FROM purges WHERE mark > ? AND what != '' ORDER BY mark LIMIT ?"
    rows = connection.execute(asked, (after, ROWS)).fetchall()
    return rows, connection.execute("SELECT mark FROM purges WHERE what = ''").fetchone()[0]


def write_log(texts: Sequence[str], mark: int) -> Work[int]:
    """Add purges to the log, from this mark on if all others are lower; gives the last one's. Beyond the limit the oldest are forgotten."""
    return partial(_write_log, texts, mark)


def _write_log(texts: Sequence[str], mark: int, connection: Connection) -> int:
    with written(connection):
        mark = max(mark, _number(connection, "SELECT max(mark) FROM purges") + 1)
        connection.executemany("INSERT OR REPLACE INTO purges VALUES (?, ?)", zip(texts, count(mark), strict=False))
        over = _number(connection, "SELECT count(*) FROM purges") - LIMIT
        if over > 0:
            oldest = "SELECT mark FROM purges WHERE what != '' ORDER BY mark LIMIT 1 OFFSET ?"
            (floor,) = connection.execute(oldest, (over - 1,)).fetchone()
            connection.execute("DELETE FROM purges WHERE what != '' AND mark <= ?", (floor,))
            connection.execute("UPDATE purges SET mark = ? WHERE what = ''", (floor,))
    return mark + len(texts) - 1


def put(key: str, mark: int, until: float, head: bytes, body: bytes) -> Work[None]:
    values = key, mark, until, head, body
    return partial(_do, "INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?, ?)", values)


def described(key: str) -> Work[tuple[int, bytes] | None]:
    """A record's mark and head."""
    return lambda connection: connection.execute("SELECT mark, head FROM records WHERE key = ?", (key,)).fetchone()


def renew(key: str, before: bytes, mark: int, until: float, head: bytes) -> Work[None]:
    """Change a record's head, if it is still that one."""
    values = mark, until, head, key, before
    return partial(_do, "UPDATE records SET mark = ?, until = ?, head = ? WHERE key = ? AND head = ?", values)


def lease(key: str, holder: str, now: float, seconds: float) -> Work[bool]:
    """Whether `holder` has it now: nobody did, or only for a time that is over."""
    return partial(_lease, key, holder, now, seconds)


def _lease(key: str, holder: str, now: float, seconds: float, connection: Connection) -> bool:
    taken = connection.execute(
        "INSERT INTO leases VALUES (:key, :holder, :until) ON CONFLICT (key) DO UPDATE"
        " SET holder = :holder, until = :until WHERE until <= :now OR until > :now + :longest",
        {"key": key, "holder": holder, "now": now, "until": now + min(seconds, LONGEST), "longest": LONGEST},
    )
    return taken.rowcount == 1


def release(key: str, holder: str) -> Work[None]:
    return partial(_do, "DELETE FROM leases WHERE key = ? AND holder = ?", (key, holder))


def value(name: str, now: float) -> Work[bytes | None]:
    return partial(_value, name, now)


def _value(name: str, now: float, connection: Connection) -> bytes | None:
    asked = "SELECT data FROM settings WHERE name = ? AND (until IS NULL OR until > ?)"
    row = connection.execute(asked, (name, now)).fetchone()
    return None if row is None else row[0]


def set_value(name: str, data: bytes, until: float | None) -> Work[None]:
    return partial(_do, "INSERT OR REPLACE INTO settings VALUES (?, ?, ?)", (name, data, until))


def add_value(name: str, data: bytes, now: float) -> Work[bytes]:
    """The setting, made now if there is none."""
    return partial(_add_value, name, data, now)


def _add_value(name: str, data: bytes, now: float, connection: Connection) -> bytes:
    with written(connection):
        kept = _value(name, now, connection)
        if kept is None:
            connection.execute("INSERT OR REPLACE INTO settings VALUES (?, ?, NULL)", (name, data))
    return data if kept is None else kept


def clean(now: float, monotonic: float, bound: int) -> Work[bool]:
    """Delete a batch of what is of no use any more, and of what is beyond `bound` bytes; whether there may be more."""
    return partial(_clean, now, monotonic, bound)


def _clean(now: float, monotonic: float, bound: int, connection: Connection) -> bool:
    over = "DELETE FROM records WHERE rowid IN (SELECT rowid FROM records WHERE until <= ? ORDER BY until LIMIT ?)"
    deleted = connection.execute(over, (now, BATCH)).rowcount
    connection.execute("DELETE FROM settings WHERE until <= ?", (now,))
    connection.execute("DELETE FROM leases WHERE until <= ? OR until > ?", (monotonic, monotonic + LONGEST))
    pages, free, size = (
        _number(connection, f"PRAGMA {each}") for each in ("page_count", "freelist_count", "page_size")
    )
    if (pages - free) * size > bound:
        least = "DELETE FROM records WHERE rowid IN (SELECT rowid FROM records ORDER BY until LIMIT ?)"
        deleted += connection.execute(least, (BATCH,)).rowcount
    return deleted >= BATCH


def _number(connection: Connection, asked: str) -> int:
    return int(connection.execute(asked).fetchone()[0])


def _do(statement: str, values: tuple[object, ...], connection: Connection) -> None:
    connection.execute(statement, values)
