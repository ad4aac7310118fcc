"""Where the store lies and how it is opened: SQLite in WAL mode, or PostgreSQL by URL."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs
from sqlalchemy import URL, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, DatabaseError, SQLAlchemyError
from sqlalchemy.schema import CreateColumn

from dspex.errors import DefinitionError, StoreError
from dspex.redact import quiet_logger
from dspex.store import schema

if TYPE_CHECKING:
    import sqlite3

_log = quiet_logger("dspex.store")
_REMOTE_FILE_SYSTEMS = {
    "9p",
    "afs",
    "beegfs",
    "ceph",
    "cifs",
    "fuse.sshfs",
    "gpfs",
    "lustre",
    "nfs",
    "nfs4",
    "smb3",
    "smbfs",
}
_BUSY_TIMEOUT_S = 10


def default_url() -> str:
    """Return ``DSPEX_STORE`` if it is set, else one SQLite file per project folder in the user's data folder."""
    given = os.environ.get("DSPEX_STORE")
    if given:
        return given
    project = Path.cwd()
    digest = hashlib.blake2b(str(project).encode(), digest_size=4).hexdigest()
    folder = platformdirs.user_data_path("dspex", ensure_exists=True)
    name = project.name or "root"
    return str(folder / f"{name}-{digest}.db")


def open_engine(url: str) -> Engine:
    """Open the database and make the tables that are missing.

    ``memory`` is a store that is gone with the process. A SQLite file that is damaged is moved aside,
    with a warning, and a new one is begun.

    Raises
    ------
    DefinitionError
        If the URL cannot be read, or names a SQLite file on a network file system.
    StoreError
        If the database cannot be opened.
    """
    if url == "memory":
        return _ready(_temporary())
    if "://" not in url:
        return _open_file(Path(url))
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise DefinitionError(
            "a store is 'memory', a file path, or a database URL; this URL cannot be read",
            hint="sqlite:///runs.db or postgresql+psycopg://host/database",
        ) from error
    if parsed.get_backend_name() == "sqlite":
        return (
            _ready(_temporary())
            if parsed.database in {None, "", ":memory:"}
            else _open_file(Path(parsed.database))
        )
    try:
        return _ready(create_engine(parsed))
    except (ModuleNotFoundError, SQLAlchemyError) as error:
        raise StoreError(
            f"cannot open the store {parsed.render_as_string()}: {error}",
            hint="PostgreSQL needs pip install 'dspex[postgres]' and a running server",
        ) from error


def _open_file(path: Path) -> Engine:
    path = path.expanduser().resolve()
    _refuse_remote(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return _ready(_sqlite(path))
    except DatabaseError as error:
        if "not a database" not in str(error) and "malformed" not in str(error):
            raise StoreError(f"cannot open the store {path}: {error.orig}") from error
        _move_aside(path)
        return _ready(_sqlite(path))
    except OSError as error:
        raise StoreError(f"cannot open the store {path}: {error}") from error


def _move_aside(path: Path) -> None:
    aside = path.with_name(f"{path.stem}.damaged-{time.time_ns()}{path.suffix}")
    path.rename(aside)
    for suffix in ("-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    _log.warning("the store %s is damaged; it was moved to %s and a new one is begun", path, aside)


def _temporary() -> Engine:
    """Make a store that goes with the process.

    A file nevertheless: SQLite's in-memory databases are one connection, on which a reader that lets go
    would roll back what the writer is about to commit.
    """
    folder = tempfile.mkdtemp(prefix="dspex-")
    engine = _sqlite(Path(folder) / "memory.db", synchronous="OFF")
    weakref.finalize(engine, shutil.rmtree, folder, ignore_errors=True)
    return engine


def _sqlite(path: Path, *, synchronous: str = "NORMAL") -> Engine:
    # Built from its parts: a path may hold what means something in a URL.
    url = URL.create("sqlite", database=str(path))
    engine = create_engine(url, connect_args={"timeout": _BUSY_TIMEOUT_S})

    @event.listens_for(engine, "connect")
    def tune(connection: sqlite3.Connection, _record: Any) -> None:
        # WAL lets readers and one writer work at once; NORMAL loses nothing when a process is killed.
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA synchronous={synchronous}")

    return engine


def _ready(engine: Engine) -> Engine:
    try:
        schema.metadata.create_all(engine)
        try:
            _bring_up_to_date(engine)
        except DatabaseError:
            # Another process that opened it at the same moment may have been sooner: look again.
            _bring_up_to_date(engine)
    except BaseException:
        engine.dispose()
        raise
    return engine


def _bring_up_to_date(engine: Engine) -> None:
    """Add what tables of an earlier version lack; what is there stays."""
    seen = inspect(engine)
    with engine.begin() as connection:
        for table in schema.metadata.sorted_tables:
            indexes = {index["name"] for index in seen.get_indexes(table.name)}
            for name in indexes & set(schema.OBSOLETE_INDEXES):
                connection.execute(text(f"DROP INDEX {name}"))
            present = {column["name"] for column in seen.get_columns(table.name)}
            for column in table.columns:
                if column.name not in present:
                    written = CreateColumn(column).compile(dialect=engine.dialect)
                    connection.execute(text(f"ALTER TABLE {table.name} ADD COLUMN {written}"))
            for index in table.indexes:
                if index.name not in indexes:
                    index.create(connection, checkfirst=True)


def _refuse_remote(path: Path) -> None:
    kind = file_system_of(path)
    if kind in _REMOTE_FILE_SYSTEMS:
        raise DefinitionError(
            f"SQLite's WAL cannot live on a network file system, {path} is on {kind}",
            hint="set DSPEX_STORE to a file on a local disk, or to a postgresql+psycopg:// URL",
        )


def file_system_of(path: Path, mounts: str | None = None) -> str | None:
    """Return the type of the file system that holds a path, or None where that is not told.

    `mounts` stands in for the content of Linux's ``/proc/mounts``.
    """
    if mounts is None:
        try:
            mounts = Path("/proc/mounts").read_text(encoding="utf-8")
        except OSError:
            return None
    best, kind = "", None
    for line in mounts.splitlines():
        parts = line.split()
        if len(parts) < 3:  # noqa: PLR2004  # device, place, type
            continue
        place = parts[1].replace("\\040", " ")
        if path.is_relative_to(place) and len(place) >= len(best):
            best, kind = place, parts[2]
    return kind
