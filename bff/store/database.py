"""One SQLite file and one connection to it, for one thread: opened, opened anew, put aside where it is broken.

The only importer of sqlite3; maps its errors to `Away`. Knows the tables' shapes, not what records mean.
"""

from __future__ import annotations

import contextlib
import fcntl
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeVar

from bff.store.follower import Away
from bff.store.ledger import mark_at

Connection = sqlite3.Connection
T = TypeVar("T")
Work = Callable[[Connection], T]
"""Something to be done with a connection."""

BUSY: Final = 0.5  # seconds that a write waits for those of other processes
AGAIN: Final = 0.005  # seconds between two tries to open a file that another process is opening for the first time
HOLD: Final = 1.0  # seconds after an error until the file is tried again
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS records (key TEXT PRIMARY KEY, mark INTEGER, until REAL, head BLOB, body BLOB);
CREATE INDEX IF NOT EXISTS records_until ON records (until);
CREATE TABLE IF NOT EXISTS purges (what TEXT PRIMARY KEY, mark INTEGER UNIQUE) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS leases (key TEXT PRIMARY KEY, holder TEXT, until REAL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, data BLOB, until REAL) WITHOUT ROWID;
"""
_BROKEN: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_BUSY: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})


class Database:
    """A file by its path. Every method belongs to one thread."""

    def __init__(self, path: Path, broken: Callable[[str], None]) -> None:
        self._path = path
        self._broken = broken  # told where the file was put aside, from this thread
        self._connection: Connection | None = None
        self._file: tuple[int, int] | None = None
        self._held = 0.0

    def run(self, work: Work[T]) -> T:
        """Do something with the connection. Raises `Away`."""
        if time.monotonic() < self._held:
            raise Away("away", "it has just failed")
        try:
            return work(self._open())
        except sqlite3.Error as error:
            raise self._failed(error) from None
        except OSError as error:
            self._hold()
            raise Away("away", str(error)) from None

    def close(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
        self._connection = self._file = None

    def _open(self) -> Connection:
        """The connection to the file that is at the path now: it may have been deleted, or put aside by another process."""
        if self._connection is not None and self._file == self._identity():
            return self._connection
        self.close()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self._path, timeout=BUSY, isolation_level=None)
        self._connection, self._file = connection, self._identity()
        _journal(connection)
        connection.execute(
            "PRAGMA synchronous = NORMAL"
        )  # with WAL: a lost power supply may cost the last writes, no more
        connection.execute("PRAGMA journal_size_limit = 67108864")
        self._make(connection)
        self._file = self._identity()
        return connection

    def _make(self, connection: Connection) -> None:
        with written(connection):
            for statement in _TABLES.split(";"):
                connection.execute(statement)
            connection.execute("INSERT OR IGNORE INTO purges VALUES ('', ?)", (mark_at(time.time()),))

    def _identity(self) -> tuple[int, int] | None:
        with contextlib.suppress(FileNotFoundError):
            found = self._path.stat()
            return found.st_dev, found.st_ino
        return None

    def _failed(self, error: sqlite3.Error) -> Away:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the primary one
        if code in _BUSY:
            return Away("busy", str(error), lost=False)
        if code == sqlite3.SQLITE_FULL:
            return Away("full", str(error), lost=False)
        if code in _BROKEN:
            self._set_aside(str(error))
            return Away("corrupt", str(error), lost=False)
        self._hold()
        return Away("away", f"{self._path}: {error}")  # which SQLite does not name

    def _hold(self) -> None:
        self.close()
        self._held = time.monotonic() + HOLD

    def _set_aside(self, why: str) -> None:
        """Rename a broken file, unless another process has done so already; the next call makes a new one."""
        seen = self._file
        self.close()
        try:
            with Path(f"{self._path}.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if seen is None or self._identity() != seen:
                    return
                self._path.replace(f"{self._path}.broken")
                for left in ("-wal", "-shm"):
                    Path(f"{self._path}{left}").unlink(missing_ok=True)
            self._broken(why)
        except OSError:
            self._hold()


def _journal(connection: Connection) -> None:
    """Keep a write-ahead log. The first to open a file changes it; SQLite's own timeout does not wait for that (`BUSY` does)."""
    until = time.monotonic() + BUSY
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in _BUSY or time.monotonic() > until:
                raise
            time.sleep(AGAIN)
        else:
            return


@contextlib.contextmanager
def written(connection: Connection) -> Iterator[None]:
    """All that is done within is done, or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
