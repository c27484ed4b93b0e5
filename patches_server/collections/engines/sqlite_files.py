"""The files of a `SQLiteEngine` without a server: copies of them, and what is wrong with them.

The tables are read from the files themselves: those that are in a log, or that have its triggers.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from patches.errors import InvalidRequestError
from patches.stores.sqlite.file_kind import make_private
from patches_server.collections.engines.sqlite import RECORDS_FILE, SUFFIX
from patches_server.collections.engines.sqlite_tables import TRIGGERS, quoted
from patches_server.documents.checkup import Problem
from patches_server.stores.sqlite.backup import Backup

_LOG: Final = "_patches_log"


def backup_folder(folder: Path, target: Path, *, epoch: str) -> Backup:
    """Copy every document of a folder to a new folder, while a server runs.

    Each copy is of one moment, but not all are of the same. Each gets an epoch of its own, so that
    clients of a server on the copies fetch everything anew. Raises `InvalidRequestError` where
    there is no folder, or something at `target`, `sqlite3.Error`, `OSError`.
    """
    if not folder.is_dir():
        raise InvalidRequestError(f"there is no folder {folder}")
    if target.exists():
        raise InvalidRequestError(f"{target} exists; a backup is a new folder")
    unfinished = target.with_name(f"{target.name}.unfinished")
    unfinished.mkdir(mode=0o700)
    count, size = 0, 0
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        copy = unfinished / path.name
        _copy(path, copy, f"{epoch}-{count}")
        size += copy.stat().st_size
        count += path.name != RECORDS_FILE
    os.replace(unfinished, target)
    return Backup(documents=count, size=size, epoch=epoch)


def problems_in(folder: Path) -> Iterator[Problem]:
    """What is wrong with the documents of a folder, as it is found."""
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        if path.name == RECORDS_FILE:
            continue
        try:
            with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as conn:
                yield from _problems(conn, path.name)
        except sqlite3.DatabaseError as exc:
            yield Problem("file", None, f"{path.name}: reading it failed: {exc}")


def repair_folder(folder: Path) -> Iterator[str]:
    """Enter into the logs what is missing there, so that it is sent again; what was done.

    The server puts missing triggers back by itself. No other program may use the files meanwhile.
    """
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        if path.name == RECORDS_FILE:
            continue
        with closing(sqlite3.connect(path, timeout=1.0, isolation_level=None)) as conn:
            for table in _followed(conn):
                key = _key_of(conn, table)
                if key is None:
                    continue
                name, column = quoted(table), quoted(key)
                logged = f"SELECT 1 FROM {_LOG} l WHERE l.tbl = ? AND l.key = {name}.{column}"  # noqa: S608 -- names of the file's own
                there = f"SELECT 1 FROM {name} WHERE {column} = {_LOG}.key"  # noqa: S608 -- names of the file's own
                count = conn.execute(
                    f"INSERT INTO {_LOG} (tbl, key) SELECT ?, {column} FROM {name} "  # noqa: S608 -- names of the file's own
                    f"WHERE {column} IS NOT NULL AND NOT EXISTS ({logged})",
                    (table, table),
                ).rowcount
                count += conn.execute(
                    f"UPDATE {_LOG} SET rev = NULL WHERE tbl = ? AND rev IS NOT NULL "  # noqa: S608 -- names of the file's own
                    f"AND (gone_at IS NULL) <> EXISTS ({there})",
                    (table,),
                ).rowcount
                if count:
                    yield f"{path.name}: {count} rows of {table} are sent again"


def _copy(source: Path, target: Path, epoch: str) -> None:
    make_private(os.fspath(target))
    with (
        closing(sqlite3.connect(source, timeout=5.0)) as conn,
        closing(sqlite3.connect(target)) as copy,
    ):
        conn.backup(copy)
        copy.execute("PRAGMA journal_mode=DELETE")
        if source.name != RECORDS_FILE:
            with copy:
                copy.execute("UPDATE _patches_meta SET epoch = ?", (epoch,))
        check = copy.execute("PRAGMA quick_check").fetchone()[0]
        if check != "ok":
            raise sqlite3.DatabaseError(f"{source} is damaged ({check})")


def _problems(conn: sqlite3.Connection, name: str) -> Iterator[Problem]:
    check = conn.execute("PRAGMA quick_check").fetchone()[0]
    if check != "ok":
        yield Problem("file", None, f"{name}: {check}")
    tables = {table for (table,) in conn.execute("SELECT name FROM sqlite_master")}
    if not {"_patches_meta", _LOG, "_patches_commits"} <= tables:
        yield Problem("file", None, f"{name}: this is no document of collections")
        return
    head = conn.execute("SELECT rev, doc_id FROM _patches_meta").fetchone()
    if head is None:
        yield Problem("head", None, f"{name}: it has lost its head")
        return
    rev, doc_id = head
    for table in (_LOG, "_patches_commits"):
        query = f"SELECT count(*) FROM {table} WHERE rev > ?"  # noqa: S608 -- fixed names
        (count,) = conn.execute(query, (rev,)).fetchone()
        if count:
            yield Problem("ids", doc_id, f"{count} entries of {table} are above the head", rev)
    for table in _followed(conn):
        if table not in tables:
            yield Problem("orphan", doc_id, f"the table {table} is gone")
            continue
        missing = [kind for kind in TRIGGERS if f"_patches_{table}_{kind}" not in tables]
        if missing:
            yield Problem("count", doc_id, f"table {table} has lost triggers: {missing}")
        yield from _unlogged(conn, table, doc_id)


def _unlogged(conn: sqlite3.Connection, table: str, doc_id: str | None) -> Iterator[Problem]:
    key = _key_of(conn, table)
    if key is None:
        yield Problem("count", doc_id, f"table {table} has no primary key of one column")
        return
    (count,) = conn.execute(
        f"SELECT count(*) FROM {quoted(table)} t WHERE t.{quoted(key)} IS NOT NULL AND NOT EXISTS "  # noqa: S608 -- names of the file's own
        f"(SELECT 1 FROM {_LOG} l WHERE l.tbl = ? AND l.key = t.{quoted(key)})",
        (table,),
    ).fetchone()
    if count:
        yield Problem("count", doc_id, f"{count} rows of {table} are not in the log")
    (count,) = conn.execute(
        f"SELECT count(*) FROM {_LOG} l WHERE l.tbl = ? AND l.rev IS NOT NULL "  # noqa: S608 -- names of the file's own
        f"AND (l.gone_at IS NULL) <> EXISTS "
        f"(SELECT 1 FROM {quoted(table)} t WHERE t.{quoted(key)} = l.key)",
        (table,),
    ).fetchone()
    if count:
        yield Problem("count", doc_id, f"{count} entries of {table} say other than the rows")


def _followed(conn: sqlite3.Connection) -> list[str]:
    """The tables that the log has, or that have the triggers."""
    found = {table for (table,) in conn.execute(f"SELECT DISTINCT tbl FROM {_LOG}")}  # noqa: S608 -- a fixed name
    names = conn.execute("SELECT name, tbl_name FROM sqlite_master WHERE type = 'trigger'")
    found |= {table for name, table in names if name == f"_patches_{table}_insert"}
    return sorted(found)


def _key_of(conn: sqlite3.Connection, table: str) -> str | None:
    columns = conn.execute(f"PRAGMA table_info({quoted(table)})").fetchall()
    keys = [name for _, name, _, _, _, place in columns if place]
    return keys[0] if len(keys) == 1 else None
