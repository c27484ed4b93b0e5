"""Tables of a collections document in SQLite: made from the declaration, and followed by triggers.

Each table has three stored triggers, so that writes by any program are noticed. They only enter the
key into the log. They use no conflict clause: that of the statement which fires a trigger would
take its place.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Final

from patches.algorithms.collections.declaration import CREATED, USER, DeclaredTable
from patches.errors import SchemaError
from patches.model import codec
from patches.model.json_values import Json
from patches.rows.annotations import Kind
from patches.rows.schema import Column

#: `rev` is null for what was written and has no revision yet. `born`: the revision that made the
#: row. `gone_at`: when it was deleted.
LOG_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS _patches_meta (
    one INTEGER PRIMARY KEY CHECK (one = 1), rev INTEGER NOT NULL, floor INTEGER NOT NULL,
    epoch TEXT NOT NULL, doc_id TEXT
);
CREATE TABLE IF NOT EXISTS _patches_log (
    tbl TEXT NOT NULL, key TEXT NOT NULL, rev INTEGER, gone_at INTEGER, born INTEGER,
    PRIMARY KEY (tbl, key)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS _patches_log_rev ON _patches_log (rev);
CREATE INDEX IF NOT EXISTS _patches_log_gone ON _patches_log (gone_at) WHERE gone_at IS NOT NULL;
CREATE TABLE IF NOT EXISTS _patches_commits (
    change_id TEXT PRIMARY KEY, rev INTEGER NOT NULL, author TEXT, at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS _patches_commits_rev ON _patches_commits (rev);
CREATE TABLE IF NOT EXISTS _patches_consumers (
    name TEXT PRIMARY KEY, rev INTEGER NOT NULL
) WITHOUT ROWID;
INSERT OR IGNORE INTO _patches_meta VALUES (1, 0, 0, '', NULL);
"""

_TYPES: Final[dict[Kind, str]] = {
    "text": "TEXT",
    "integer": "INTEGER",
    "real": "REAL",
    "boolean": "BOOLEAN",
    "json": "TEXT",
}
#: The kinds of triggers of each table.
TRIGGERS: Final = ("insert", "update", "rekey", "delete")
_TEXT_TYPES: Final = ("TEXT", "CHAR", "CLOB")  # what gives a column of SQLite the affinity TEXT


def set_up(conn: sqlite3.Connection, tables: Iterable[DeclaredTable]) -> None:
    """Make or check every table, and its triggers. Doing it again changes nothing.

    Raises `SchemaError`, naming the table, for one of the application's own that cannot be synced.
    """
    for table in tables:
        columns = conn.execute(f"PRAGMA table_info({quoted(table.name)})").fetchall()
        if table.managed:
            _make(conn, table, {name for _, name, *_ in columns})
        else:
            _check(table, columns)
        _follow(conn, table)


def quoted(name: str) -> str:
    """A name as SQL takes it. Only names of a declaration come here."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A string as SQL takes it, in a statement that has no parameters."""
    return "'" + text.replace("'", "''") + "'"


def _make(conn: sqlite3.Connection, table: DeclaredTable, there: set[str]) -> None:
    columns = table.table.columns.values()
    if not there:
        defined = ", ".join(_definition(table, column) for column in columns)
        conn.execute(f"CREATE TABLE {quoted(table.name)} ({defined})")
    for column in columns:
        if there and column.name not in there:
            defined = _definition(table, column, is_added=True)
            conn.execute(f"ALTER TABLE {quoted(table.name)} ADD COLUMN {defined}")
    if table.kind == "event":
        conn.execute(
            f"CREATE INDEX IF NOT EXISTS {quoted(f'_patches_{table.name}_newest')} "
            f"ON {quoted(table.name)} ({quoted(USER)}, {quoted(CREATED)} DESC)"
        )


def _definition(table: DeclaredTable, column: Column, *, is_added: bool = False) -> str:
    text = f"{quoted(column.name)} {_TYPES[column.kind]}"
    if column.name == table.key:
        return f"{text} PRIMARY KEY NOT NULL"
    if column.has_default and column.default is not None:
        text += f" DEFAULT {_default(column.kind, column.default)}"
    elif is_added and not column.nullable:
        raise SchemaError(
            f"table {table.name!r}: the new column {column.name!r} needs a default, or None: there "
            "are rows without it"
        )
    return text if column.nullable else f"{text} NOT NULL"


def _default(kind: Kind, value: Json) -> str:
    if kind == "json":
        return literal(codec.encode_text(value))
    if isinstance(value, str):
        return literal(value)
    return str(int(value) if isinstance(value, bool) else value)


def _check(table: DeclaredTable, columns: list[tuple[int, str, str, int, object, int]]) -> None:
    if not columns:
        raise SchemaError(
            f"table {table.name!r} is not in the database; it is declared with managed=False, so "
            "the application makes it"
        )
    types = {name: declared.upper() for _, name, declared, *_ in columns}
    keys = [name for _, name, _, _, _, place in columns if place]
    if len(keys) > 1:
        raise SchemaError(
            f"table {table.name!r}: the primary key is of several columns ({', '.join(keys)}); "
            "one column of type TEXT is needed"
        )
    if keys != [table.key]:
        raise SchemaError(f"table {table.name!r}: the primary key must be the column {table.key!r}")
    if not any(text in types[table.key] for text in _TEXT_TYPES) or "INT" in types[table.key]:
        raise SchemaError(
            f"table {table.name!r}: the key {table.key!r} is of type "
            f"{types[table.key] or 'BLOB'}; it must be TEXT, VARCHAR or CHAR"
        )
    for name in table.table.columns:
        if name not in types:
            raise SchemaError(f"table {table.name!r} has no column {name!r} in the database")


def _follow(conn: sqlite3.Connection, table: DeclaredTable) -> None:
    """Put the triggers there. Where one was missing, rows may have been written unnoticed."""
    is_complete = True
    for name, script in _triggers(table).items():
        found = conn.execute("SELECT sql FROM sqlite_master WHERE name = ?", (name,)).fetchone()
        if found is None or found[0] != script:
            is_complete = False
            conn.execute(f"DROP TRIGGER IF EXISTS {quoted(name)}")
            conn.execute(script)
    if not is_complete:
        enter_all(conn, table)


def enter_all(conn: sqlite3.Connection, table: DeclaredTable) -> None:
    """Enter every row of a table into the log, and every key there whose row is gone."""
    name, key = quoted(table.name), quoted(table.key)
    conn.execute(
        f"INSERT INTO _patches_log (tbl, key) SELECT ?, {key} FROM {name} WHERE {key} IS NOT NULL "  # noqa: S608 -- declared names
        "ON CONFLICT (tbl, key) DO UPDATE SET rev = NULL, gone_at = NULL",
        (table.name,),
    )
    conn.execute(
        "UPDATE _patches_log SET rev = NULL WHERE tbl = ? AND gone_at IS NULL "  # noqa: S608 -- declared names
        f"AND NOT EXISTS (SELECT 1 FROM {name} WHERE {key} = _patches_log.key)",
        (table.name,),
    )


def _triggers(table: DeclaredTable) -> dict[str, str]:
    tbl, name, key = literal(table.name), quoted(table.name), quoted(table.key)

    def enter(row: str, *, is_new: bool = False) -> str:
        place = f"tbl = {tbl} AND key = {row}.{key}"
        # REPLACE deletes without firing a trigger: what has an entry was there, unless deleted.
        born = "born = CASE WHEN gone_at IS NULL THEN born END, " if is_new else ""
        # Not an upsert: the conflict clause of the statement outside would take its place.
        again = f"UPDATE _patches_log SET {born}rev = NULL, gone_at = NULL WHERE {place}; "  # noqa: S608 -- declared names
        missing = f"NOT EXISTS (SELECT 1 FROM _patches_log WHERE {place})"  # noqa: S608 -- declared names
        return (
            f"{again}INSERT INTO _patches_log (tbl, key) SELECT {tbl}, {row}.{key} "
            f"WHERE {row}.{key} IS NOT NULL AND {missing}; "
        )

    changed_key = f"NEW.{key} IS NOT OLD.{key}"
    bodies: dict[str, str] = {
        "insert": f"AFTER INSERT ON {name} BEGIN {enter('NEW', is_new=True)}END",
        "update": f"AFTER UPDATE ON {name} WHEN NOT {changed_key} BEGIN {enter('NEW')}END",
        "rekey": f"AFTER UPDATE ON {name} WHEN {changed_key} "
        f"BEGIN {enter('OLD')}{enter('NEW', is_new=True)}END",
        "delete": f"AFTER DELETE ON {name} BEGIN {enter('OLD')}END",
    }
    triggers = {}
    for kind, body in bodies.items():
        trigger = f"_patches_{table.name}_{kind}"
        triggers[trigger] = f"CREATE TRIGGER {quoted(trigger)} {body}"
    return triggers
