"""The tables of collections documents in PostgreSQL, shared by all documents, and their triggers.

Each table has a column that holds the id of the row's document, its *scope*. Our own tables are in
the schema `patches_rows`:

- `docs`: one row for each document. Whoever writes to a document locks its row until the end of the
  transaction, so revisions are given in the order in which they are committed, without holes.
- `captured`: the keys that were written and have no revision yet. Triggers only ever insert here,
  so another program never waits for the server, nor the server for it.
- `log`: for each key the revision that touched it last.

Rows of `captured` are seen once their transaction is committed, and numbered then: a cursor cannot
pass a slow transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from patches.algorithms.collections.declaration import CREATED, USER, DeclaredTable
from patches.errors import SchemaError, WrongFileError
from patches.model import codec
from patches.model.json_values import Json
from patches.rows.annotations import Kind
from patches.rows.schema import Column
from patches_server.collections.engines.sqlite_tables import literal, quoted
from patches_server.stores.postgres.identity import IDENTITY

#: What a transaction on a document has set: the default of the scope column, and what views show.
SETTING: Final = "patches.doc_id"
_LEVEL: Final = 1
#: Serializes the setting up of tables in one database.
_LOCK: Final = 0x50415452
_SCHEMA: Final = """
CREATE SCHEMA IF NOT EXISTS patches_rows;
CREATE TABLE IF NOT EXISTS patches_rows.meta (
    one boolean PRIMARY KEY DEFAULT true CHECK (one), level int NOT NULL, identity text NOT NULL
);
CREATE TABLE IF NOT EXISTS patches_rows.docs (
    doc_id text COLLATE "C" PRIMARY KEY, rev bigint NOT NULL DEFAULT 0,
    floor bigint NOT NULL DEFAULT 0, epoch text NOT NULL,
    deleted_at bigint, last_rev bigint, client_id bytea
) WITH (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.02);
CREATE TABLE IF NOT EXISTS patches_rows.captured (
    doc_id text COLLATE "C" NOT NULL, tbl text COLLATE "C" NOT NULL, key text COLLATE "C" NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
CREATE INDEX IF NOT EXISTS captured_by_doc ON patches_rows.captured (doc_id, tbl);
CREATE TABLE IF NOT EXISTS patches_rows.log (
    doc_id text COLLATE "C", tbl text COLLATE "C", key text COLLATE "C", rev bigint NOT NULL,
    gone_at bigint, born bigint NOT NULL, PRIMARY KEY (doc_id, tbl, key)
);
CREATE INDEX IF NOT EXISTS log_by_rev ON patches_rows.log (doc_id, rev);
CREATE INDEX IF NOT EXISTS log_gone ON patches_rows.log (doc_id, gone_at)
    WHERE gone_at IS NOT NULL;
CREATE TABLE IF NOT EXISTS patches_rows.commits (
    doc_id text COLLATE "C", change_id bytea, rev bigint NOT NULL, author bytea, at bigint NOT NULL,
    PRIMARY KEY (doc_id, change_id)
);
CREATE INDEX IF NOT EXISTS commits_by_rev ON patches_rows.commits (doc_id, rev);
CREATE TABLE IF NOT EXISTS patches_rows.consumers (
    doc_id text COLLATE "C", name text COLLATE "C", rev bigint NOT NULL, PRIMARY KEY (doc_id, name)
);
"""
#: Another database than before (a standby that was promoted, a restored backup) may have lost what
#: was committed last: every document gets another epoch, and copies are fetched anew.
_SETTLE: Final = f"""
WITH moved AS (
    UPDATE patches_rows.meta SET identity = {IDENTITY} WHERE identity <> {IDENTITY} RETURNING 1
)
UPDATE patches_rows.docs SET epoch = left(replace(gen_random_uuid()::text, '-', ''), 16)
WHERE EXISTS (SELECT FROM moved)"""  # noqa: S608 -- fixed text
_COLUMNS: Final = """
SELECT a.attname AS name, format_type(a.atttypid, NULL) AS type FROM pg_attribute a
WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped"""
_UNIQUE: Final = """
SELECT ARRAY(
    SELECT a.attname::text FROM pg_attribute a
    WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
) AS columns, i.indisprimary AS is_primary
FROM pg_index i WHERE i.indrelid = to_regclass($1) AND i.indisunique AND i.indpred IS NULL
    AND i.indexprs IS NULL"""
_FUNCTION: Final = """
SELECT prosrc FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = 'patches_rows' AND p.proname = $1"""
_TRIGGERS: Final = """
SELECT count(*) FROM pg_trigger
WHERE tgrelid = to_regclass($1) AND tgname = ANY ($2) AND tgenabled IN ('O', 'A')"""

_TYPES: Final[dict[Kind, str]] = {
    "text": 'text COLLATE "C"',
    "integer": "bigint",
    "real": "double precision",
    "boolean": "boolean",
    "json": "jsonb",
}
_TEXT_TYPES: Final = frozenset({"text", "character varying", "character", "bpchar"})
_KEY_TYPES: Final = _TEXT_TYPES | {"uuid"}


@dataclass(frozen=True, slots=True)
class BaseTable:
    """A declared table as it is in the database."""

    declared: DeclaredTable
    #: Its name with its schema, quoted.
    name: str
    #: The column of the document's id, quoted.
    scope: str
    #: The type of its key.
    key_type: str


async def set_up(
    conn: Any, tables: Iterable[DeclaredTable], *, schema: str, scope: str
) -> dict[str, BaseTable]:
    """Make or check every table, and its triggers. Doing it again changes nothing.

    Several processes may do it at once. Raises `SchemaError`, naming the table, for one of the
    application's own that cannot be synced, `WrongFileError` for a database of a newer version.
    """
    async with conn.transaction():
        await conn.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        if await conn.fetchval("SELECT to_regclass('patches_rows.consumers') IS NULL"):
            await conn.execute(_SCHEMA)
        await conn.execute(
            f"INSERT INTO patches_rows.meta (level, identity) VALUES ($1, {IDENTITY}) "  # noqa: S608 -- fixed text
            "ON CONFLICT DO NOTHING",
            _LEVEL,
        )
        level = await conn.fetchval("SELECT level FROM patches_rows.meta")
        if level > _LEVEL:
            raise WrongFileError(
                f"the schema patches_rows is of level {level}; this version knows {_LEVEL}"
            )
        return {table.name: await _set_up(conn, table, schema, scope) for table in tables}


async def check_identity(conn: Any) -> None:
    """Give every document another epoch if this is another database than before."""
    await conn.execute(_SETTLE)


def view_of(table: BaseTable) -> str:
    """The statement that makes what `sql` sees of a table: the rows of the transaction's document.

    Rows that are added through it are the document's.
    """
    names = ", ".join([*map(quoted, table.declared.table.names), table.scope])
    view = f"pg_temp.{quoted(table.declared.name)}"
    return (
        f"CREATE OR REPLACE TEMP VIEW {quoted(table.declared.name)} AS SELECT {names} "  # noqa: S608 -- declared names
        f"FROM {table.name} WHERE {table.scope} = current_setting('{SETTING}') "
        "WITH LOCAL CHECK OPTION; "
        f"ALTER VIEW {view} ALTER COLUMN {table.scope} SET DEFAULT current_setting('{SETTING}')"
    )


async def _set_up(conn: Any, table: DeclaredTable, schema: str, scope: str) -> BaseTable:
    if scope in table.table.columns:
        raise SchemaError(
            f"table {table.name!r}: the column {scope!r} is the scope, which holds the id of the "
            "document; it is not declared"
        )
    name = f"{quoted(schema)}.{quoted(table.name)}"
    columns = {row["name"]: row["type"] for row in await conn.fetch(_COLUMNS, name)}
    if table.managed:
        await _make(conn, table, name, scope, columns)
        columns = {row["name"]: row["type"] for row in await conn.fetch(_COLUMNS, name)}
    _check(table, scope, columns, await conn.fetch(_UNIQUE, name))
    base = BaseTable(table, name, quoted(scope), columns[table.key])
    await _follow(conn, base, schema)
    return base


async def _make(
    conn: Any, table: DeclaredTable, name: str, scope: str, there: Mapping[str, str]
) -> None:
    columns = table.table.columns.values()
    if not there:
        defined = [_definition(table, column) for column in columns]
        # Last, so that rows can be given by place.
        defined.append(
            f"{quoted(scope)} text COLLATE \"C\" NOT NULL DEFAULT current_setting('{SETTING}')"
        )
        defined.append(f"PRIMARY KEY ({quoted(scope)}, {quoted(table.key)})")
        await conn.execute(f"CREATE TABLE {name} ({', '.join(defined)})")
    for column in columns:
        if there and column.name not in there:
            defined_as = _definition(table, column, is_added=True)
            await conn.execute(f"ALTER TABLE {name} ADD COLUMN {defined_as}")
    if table.kind == "event" and not there:
        await conn.execute(
            f"CREATE INDEX ON {name} ({quoted(scope)}, {quoted(USER)}, {quoted(CREATED)} DESC)"
        )


def _definition(table: DeclaredTable, column: Column, *, is_added: bool = False) -> str:
    text = f"{quoted(column.name)} {_TYPES[column.kind]}"
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
    return literal(value) if isinstance(value, str) else str(value)


def _check(
    table: DeclaredTable, scope: str, columns: Mapping[str, str], indexes: Iterable[Any]
) -> None:
    if not columns:
        raise SchemaError(
            f"table {table.name!r} is not in the database; it is declared with managed=False, so "
            "the application makes it"
        )
    for name in (scope, *table.table.columns):
        if name not in columns:
            raise SchemaError(f"table {table.name!r} has no column {name!r} in the database")
    if columns[scope] not in _TEXT_TYPES:
        raise SchemaError(
            f"table {table.name!r}: the scope {scope!r} is of type {columns[scope]}; it holds the "
            "id of a document, so it must be text"
        )
    if columns[table.key] not in _KEY_TYPES:
        raise SchemaError(
            f"table {table.name!r}: the key {table.key!r} is of type {columns[table.key]}; it must "
            "be text, varchar, char or uuid"
        )
    keys = [set(index["columns"]) for index in indexes]
    if {table.key} not in keys and {scope, table.key} not in keys:
        raise SchemaError(
            f"table {table.name!r}: the primary key must be the column {table.key!r}, alone or "
            f"together with {scope!r}"
        )


async def _follow(conn: Any, table: BaseTable, schema: str) -> None:
    """Put the triggers there. Where one was missing, rows may have been written unnoticed."""
    function = f"{schema}.{table.declared.name}"[:63]
    body = _body(table)
    names = {kind: f"_patches_{kind}" for kind in ("insert", "update", "delete", "truncate")}
    has_function = await conn.fetchval(_FUNCTION, function) == body
    if has_function and await conn.fetchval(_TRIGGERS, table.name, [*names.values()]) == len(names):
        return
    called = f"patches_rows.{quoted(function)}"
    await conn.execute(
        f"CREATE OR REPLACE FUNCTION {called}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER "
        f"SET search_path = pg_catalog AS $body${body}$body$"
    )
    for kind, name in names.items():
        old = "OLD TABLE AS old_rows" if kind in ("update", "delete") else ""
        new = "NEW TABLE AS new_rows" if kind in ("update", "insert") else ""
        seen = f"REFERENCING {old} {new}" if old or new else ""
        await conn.execute(f"DROP TRIGGER IF EXISTS {quoted(name)} ON {table.name}")
        await conn.execute(
            f"CREATE TRIGGER {quoted(name)} AFTER {kind} ON {table.name} {seen} "
            f"FOR EACH STATEMENT EXECUTE FUNCTION {called}()"
        )
        await conn.execute(f"ALTER TABLE {table.name} ENABLE ALWAYS TRIGGER {quoted(name)}")
    await conn.execute(enter_all(table, is_scoped=False))


def enter_all(table: BaseTable, *, is_scoped: bool) -> str:
    """The statement that enters every row of a table, and every key in the log whose row is gone.

    With `is_scoped` those of the document `$1`.
    """
    scope, key = table.scope, f"{quoted(table.declared.key)}::text"
    name = literal(table.declared.name)
    rows = f"SELECT {scope} AS doc_id, {key} AS key FROM {table.name}"  # noqa: S608 -- declared names
    logged = f"SELECT doc_id, key FROM patches_rows.log WHERE tbl = {name} AND gone_at IS NULL"  # noqa: S608 -- declared names
    return (
        f"INSERT INTO patches_rows.captured (doc_id, key, tbl) SELECT doc_id, key, {name} "  # noqa: S608 -- declared names
        f"FROM ({rows} UNION {logged}) AS every "
        f"WHERE doc_id {'= $1' if is_scoped else 'IS NOT NULL'}"
    )


def _body(table: BaseTable) -> str:
    scope, key = table.scope, quoted(table.declared.key)
    name = literal(table.declared.name)

    def enter(rows: str) -> str:
        return (
            "INSERT INTO patches_rows.captured (doc_id, tbl, key) "  # noqa: S608 -- declared names
            f"SELECT r.doc_id, {name}, r.key FROM ({rows}) AS r WHERE r.doc_id IS NOT NULL;"
        )

    old = f"SELECT {scope} AS doc_id, {key}::text AS key FROM old_rows"  # noqa: S608 -- declared names
    new = f"SELECT {scope} AS doc_id, {key}::text AS key FROM new_rows"  # noqa: S608 -- declared names
    known = (
        f"SELECT doc_id, key FROM patches_rows.log WHERE tbl = {name} AND gone_at IS NULL "  # noqa: S608 -- declared names
        f"UNION SELECT doc_id, key FROM patches_rows.captured WHERE tbl = {name}"
    )
    return f"""
BEGIN
    IF TG_OP = 'INSERT' THEN {enter(new)}
    ELSIF TG_OP = 'UPDATE' THEN {enter(f"{old} UNION {new}")}
    ELSIF TG_OP = 'DELETE' THEN {enter(old)}
    ELSE {enter(known)}
    END IF;
    RETURN NULL;
END"""
