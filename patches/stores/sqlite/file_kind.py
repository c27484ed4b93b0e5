"""What a SQLite file holds, checked before anything is written to it.

A file says what it is in its first 100 bytes: an application id, and a version. A file of another
application, or of a newer version, is refused and left as it is. Files that were made before there
was an application id are known by their tables.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

from patches.errors import CorruptDataError, WrongFileError
from patches.stores.sqlite.checksums import row_sum

#: Changes the tables of one version into those of the next, inside a transaction.
Migration: TypeAlias = Callable[[sqlite3.Connection], None]

_MAGIC: Final = b"SQLite format 3\x00"
_HEAD_BYTES: Final = 100
_VERSION_AT: Final = 60
_APPLICATION_AT: Final = 68

_PARTS: Final = """CREATE TABLE IF NOT EXISTS file_parts (
    name TEXT PRIMARY KEY, version INTEGER NOT NULL, sum INTEGER NOT NULL
) WITHOUT ROWID"""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileKind:
    """One kind of file.

    `known_by`: tables that only such a file has, for files without an id. `mistaken_for`: what to
    say of the files of other ids that are often given instead.
    """

    name: str
    application_id: int
    #: Raised when older programs must not use a file any more.
    version: int = 1
    known_by: frozenset[str] = frozenset()
    mistaken_for: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """The tables of one part of a file, with a version of their own.

    `migrations[n]` changes version n into n + 1. `fill` puts the first rows into new tables.
    Tables without a recorded version are version 1: those named in `known_by`, or whose names begin
    with the name of the part.
    """

    name: str
    script: str
    version: int = 1
    known_by: frozenset[str] = frozenset()
    migrations: Mapping[int, Migration] = field(default_factory=dict)
    fill: Migration | None = None


#: What `Patches` and its branch stores keep. The id reads "PTCC".
CLIENT_FILE: Final = FileKind(
    name="client's file",
    application_id=0x50544343,
    known_by=frozenset({"ot_pending", "lww_pieces", "branch_records"}),
    mistaken_for={
        0x50544353: "is a patches-server file; give the client its own: Patches('notes.db')",
    },
)


def check_head(path: str, kind: FileKind) -> None:
    """Raise `WrongFileError` for a file whose first bytes say that it is another kind.

    Opens nothing with SQLite, which would write beside the file. Says nothing about a file that
    does not exist, is no SQLite file, or has no application id.
    """
    try:
        with Path(path).open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return  # SQLite says what is wrong with it
    if len(head) == _HEAD_BYTES and head.startswith(_MAGIC):
        application_id = int.from_bytes(head[_APPLICATION_AT : _APPLICATION_AT + 4], "big")
        version = int.from_bytes(head[_VERSION_AT : _VERSION_AT + 4], "big")
        if application_id:
            _check(path, kind, application_id, version)


def claim(connection: sqlite3.Connection, path: str, kind: FileKind) -> None:
    """Check a file, and write down what it is if it is new. Raises `WrongFileError`."""
    if is_claimed(connection, path, kind):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        if not is_claimed(connection, path, kind):  # another process was first
            connection.execute(f"PRAGMA application_id={kind.application_id}")
            connection.execute(f"PRAGMA user_version={kind.version}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def is_claimed(connection: sqlite3.Connection, path: str, kind: FileKind) -> bool:
    """Whether a file is marked as of this kind. Raises `WrongFileError` if it is of another."""
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application_id:
        _check(path, kind, application_id & 0xFFFFFFFF, version)
        return bool(version == kind.version)
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    if tables and tables.isdisjoint(kind.known_by):
        raise WrongFileError(
            f"{path} is a SQLite file of something else, not {_article(kind.name)}; "
            f"nothing was written to it"
        )
    return False


def build(connection: sqlite3.Connection, path: str, schemas: Iterable[Schema]) -> None:
    """Create the tables of each part, or change older ones, in one transaction.

    Raises `WrongFileError` for a part that a newer version wrote.
    """
    schemas = list(schemas)
    if "sum" in _columns(connection) and all(
        _version(connection, schema) == schema.version for schema in schemas
    ):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        _make_parts(connection)
        for schema in schemas:
            _build(connection, path, schema)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def make_private(path: str) -> None:
    """Create a file that does not exist, for its owner only. SQLite gives its log the same mode."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except OSError:
        return  # it exists, or cannot be made: then SQLite says so


def _build(connection: sqlite3.Connection, path: str, schema: Schema) -> None:
    found = _version(connection, schema)
    if found == schema.version:
        return
    if found is None:
        for statement in statements(schema.script):
            connection.execute(statement)
        if schema.fill is not None:
            schema.fill(connection)
    elif found > schema.version:
        raise WrongFileError(
            f"{path} was written by a newer version of patches ({schema.name} {found}, this one "
            f"knows {schema.version}); upgrade patches to open it"
        )
    else:
        for version in range(found, schema.version):
            migration = schema.migrations.get(version)
            if migration is None:
                raise CorruptDataError(f"{path}: invalid version {found} of {schema.name}")
            migration(connection)
    connection.execute(
        "INSERT OR REPLACE INTO file_parts VALUES (?, ?, ?)",
        (schema.name, schema.version, _part_sum(schema.name, schema.version)),
    )


def damaged_parts(connection: sqlite3.Connection) -> list[str]:
    """The parts of a file whose recorded version fails its checksum."""
    if "sum" not in _columns(connection):
        return []
    return [
        str(name)
        for name, version, checksum in connection.execute("SELECT * FROM file_parts")
        if _part_sum(name, version) != checksum
    ]


def _make_parts(connection: sqlite3.Connection) -> None:
    connection.execute(_PARTS)
    if "sum" in _columns(connection):
        return
    connection.execute("ALTER TABLE file_parts ADD COLUMN sum INTEGER NOT NULL DEFAULT 0")
    for name, version, _ in connection.execute("SELECT * FROM file_parts").fetchall():
        connection.execute(
            "UPDATE file_parts SET sum = ? WHERE name = ?", (_part_sum(name, version), name)
        )


def _columns(connection: sqlite3.Connection) -> set[str]:
    """Of the table of versions; none if there is no table."""
    return {row[1] for row in connection.execute("PRAGMA table_info(file_parts)")}


def _part_sum(name: object, version: object) -> int:
    return row_sum(str(name).encode("utf-8", "backslashreplace"), version)


def _version(connection: sqlite3.Connection, schema: Schema) -> int | None:
    """The version of a part's tables in the file; `None`: there are none."""
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    if "file_parts" in tables:
        row = connection.execute(
            "SELECT * FROM file_parts WHERE name = ?", (schema.name,)
        ).fetchone()
        if row is not None:
            if len(row) > 2 and row[2] != _part_sum(*row[:2]):
                raise CorruptDataError(
                    f"the version of {schema.name} in the file is damaged; "
                    f"nothing was written to it"
                )
            return int(row[1])
    prefix = f"{schema.name}_"
    known = schema.known_by or {name for name in tables if name.startswith(prefix)}
    return None if tables.isdisjoint(known) else 1


def statements(script: str) -> list[str]:
    """The statements of a script, for a transaction that `executescript` would end."""
    found, statement = [], ""
    for part in script.split(";"):
        statement += part + ";"
        if sqlite3.complete_statement(statement):
            if statement.strip(" \n;"):
                found.append(statement)
            statement = ""
    return found


def _check(path: str, kind: FileKind, application_id: int, version: int) -> None:
    if (mistake := kind.mistaken_for.get(application_id)) is not None:
        raise WrongFileError(f"{path} {mistake}")
    if application_id != kind.application_id:
        raise WrongFileError(
            f"{path} is not {_article(kind.name)} (application id {application_id:#x}, expected "
            f"{kind.application_id:#x}); nothing was written to it"
        )
    if version > kind.version:
        raise WrongFileError(
            f"{path} was written by a newer version of patches (format {version}, this one knows "
            f"{kind.version}); nothing was written to it; upgrade patches to open it"
        )


def _article(name: str) -> str:
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
