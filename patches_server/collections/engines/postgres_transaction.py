"""`PostgresTransaction`: one transaction on one document's rows in PostgreSQL."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, TypeVar

import asyncpg

from patches.algorithms.collections.declaration import DeclaredTable
from patches.errors import ConstraintError, InvalidRowError, StorageTimeoutError
from patches.model import codec
from patches.model.json_values import Json
from patches.rows.row_ops import Row
from patches.runtime import Millis
from patches_server.collections.engines.engine import Commit, Order, Touched, Where
from patches_server.collections.engines.postgres_conditions import Where as Text
from patches_server.collections.engines.postgres_tables import BaseTable, enter_all
from patches_server.collections.engines.postgres_worker import DRIVER_ERRORS, Worker
from patches_server.collections.engines.sqlite_tables import literal, quoted
from patches_server.stores.postgres.errors import Outcome, as_storage_error, code_of, outcome_of

T = TypeVar("T")

#: Which keys have to be numbered: `$1` document, `$2` the revision, `$3` the time, `$4` tables.
#: One statement, so that all is of one moment: what is captured, and the rows.
_NUMBER: Final = """
WITH taken AS (
    DELETE FROM patches_rows.captured WHERE doc_id = $1 AND tbl = ANY ($4) RETURNING tbl, key
), due AS MATERIALIZED (SELECT DISTINCT tbl, key FROM taken),
found AS MATERIALIZED ({rows}),
head AS (
    UPDATE patches_rows.docs SET rev = $2 WHERE doc_id = $1 AND EXISTS (SELECT FROM due)
), put AS (
    INSERT INTO patches_rows.log AS l (doc_id, tbl, key, rev, gone_at, born)
    SELECT $1, tbl, key, $2, CASE WHEN row IS NULL THEN $3::bigint END, $2 FROM found
    ON CONFLICT (doc_id, tbl, key) DO UPDATE SET rev = excluded.rev, gone_at = excluded.gone_at,
        born = CASE WHEN l.gone_at IS NULL THEN l.born ELSE excluded.born END
    RETURNING tbl, key, born
)
SELECT f.tbl, f.key, f.row, p.born, $2::bigint AS rev
FROM found f JOIN put p ON p.tbl = f.tbl AND p.key = f.key"""
_CHANGED: Final = """
WITH due AS MATERIALIZED (
    SELECT tbl, key, born, rev FROM patches_rows.log
    WHERE doc_id = $1 AND rev > $2 AND rev <= $3 AND tbl = ANY ($4) LIMIT $5
), found AS ({rows})
SELECT f.tbl, f.key, f.row, d.born, d.rev
FROM found f JOIN due d ON d.tbl = f.tbl AND d.key = f.key"""
_SWEEP: Final = """
WITH gone AS (
    DELETE FROM patches_rows.log WHERE doc_id = $1 AND gone_at < $2 RETURNING rev
), forgotten AS (DELETE FROM patches_rows.commits WHERE doc_id = $1 AND at < $3)
SELECT max(rev) AS highest, count(*) AS count FROM gone"""


class TableText:
    """The statements of one table, made once. `$1` is the document in each."""

    def __init__(self, base: BaseTable) -> None:
        table = base.declared
        self.base: BaseTable = base
        self.declared: DeclaredTable = table
        key = f"t.{quoted(table.key)}"
        names = table.table.names
        shown = ", ".join(
            f"{key}::text AS {quoted(name)}" if name == table.key else f"t.{quoted(name)}"
            for name in names
        )
        self.rows: str = f"SELECT {shown} FROM {base.name} t WHERE t.{base.scope} = $1"  # noqa: S608 -- declared names
        self.get: str = self.as_json(f"{self.rows} AND {self.has_key('$2')}")
        listed = ", ".join(map(quoted, names))
        values = ", ".join(f"r.{quoted(name)}" for name in names)
        self.record: str = f"json_populate_record(NULL::{base.name}, $2::text::json) r"
        self.insert: str = (
            f"INSERT INTO {base.name} ({base.scope}, {listed}) SELECT $1, {values} "  # noqa: S608 -- declared names
            f"FROM {self.record}"
        )
        self.delete: str = (
            f"DELETE FROM {base.name} t WHERE t.{base.scope} = $1 AND {self.has_key('$2')}"  # noqa: S608 -- declared names
        )
        self.any: str = f"SELECT EXISTS (SELECT FROM {base.name} WHERE {base.scope} = $1)"  # noqa: S608 -- declared names
        self.touch: str = enter_all(base, is_scoped=True)
        one = self.as_json(f"{self.rows} AND {self.has_key('d.key')}")
        #: The rows of the keys in `due`, null for those that are not there.
        self.of_due: str = (
            f"SELECT d.tbl, d.key, r.row FROM due d LEFT JOIN LATERAL ({one} OFFSET 0) r ON true "  # noqa: S608 -- declared names
            f"WHERE d.tbl = {literal(table.name)}"
        )

    def has_key(self, value: str) -> str:
        """The condition on the key, with a value that is text."""
        kind = self.base.key_type
        cast = {"uuid": "::uuid", "character": "::bpchar"}.get(kind, "")
        return f"t.{quoted(self.declared.key)} = {value}::text{cast}"

    @staticmethod
    def as_json(query: str) -> str:
        """Each row of a query as one JSON object."""
        return f"SELECT row_to_json(x)::text AS row FROM ({query}) x"  # noqa: S608 -- declared names

    def is_key(self, key: str) -> bool:
        """Whether a row can have the key as it is written."""
        if self.base.key_type != "uuid":
            return "\0" not in key
        try:
            return str(uuid.UUID(key)) == key
        except ValueError:
            return False

    def read(self, text: str) -> Row:
        """A row from its JSON. Columns of the application's own types come as they can."""
        held: Row = codec.decode(text)
        row: Row = {}
        for name, column in self.declared.table.columns.items():
            value = held.get(name)
            if column.kind == "boolean" and isinstance(value, int):
                value = bool(value)
            elif column.kind == "json" and isinstance(value, str):
                value = _from_text(value)
            row[name] = value
        return row


class PostgresTransaction:
    """See `Transaction`. Used in the thread of its worker, while the transaction is open."""

    def __init__(
        self,
        worker: Worker,
        conn: asyncpg.Connection,
        doc_id: str,
        tables: Mapping[str, TableText],
        head: tuple[int, int, str],
    ) -> None:
        self._worker, self._conn, self._doc_id, self._tables = worker, conn, doc_id, tables
        self._deadline: float | None = None
        #: A statement failed: the database refuses all others, up to the last savepoint.
        self._failed = False
        self.rev: int = head[0]
        self.floor: int = head[1]
        self.epoch: str = head[2]

    def sql(self, query: str, *params: Any) -> list[dict[str, Any]]:
        """One statement of the application's: a declared table is this document's part of it."""
        return [dict(row) for row in self._fetch(query, *params)]

    def time_limit(self, seconds: float | None) -> None:
        """Break off what runs past so many seconds from now."""
        self._deadline = None if seconds is None else self._worker.now() + seconds

    def attempt(self, work: Callable[[], T]) -> T:
        """Run a part of the transaction, which is undone if it raises."""
        head = (self.rev, self.floor, self.epoch)
        self._fetch("SAVEPOINT attempt")
        try:
            result = work()
            self._fetch("RELEASE attempt")  # refused if a failed statement was passed over
        except BaseException:
            self.rev, self.floor, self.epoch = head
            if not self._conn.is_closed():
                self.time_limit(None)
                self._failed = False
                self._fetch("ROLLBACK TO attempt")
                self._fetch("RELEASE attempt")
            raise
        return result

    def is_broken(self) -> bool:
        """Whether the whole transaction was given up."""
        return self._failed or self._conn.is_closed()

    def get(self, table: DeclaredTable, key: str) -> Row | None:
        """One row."""
        text = self._tables[table.name]
        if not text.is_key(key):
            return None
        found = self._fetch(text.get, self._doc_id, key)
        return text.read(found[0]["row"]) if found else None

    def insert(self, table: DeclaredTable, row: Row) -> None:
        """Add a row. Raises `InvalidRowError` for a value that the column does not take."""
        text = self._tables[table.name]
        key = row[table.key]
        if not isinstance(key, str) or not text.is_key(key):
            kind = text.base.key_type
            raise InvalidRowError(table.name, table.key, f"{str(key)[:80]!r} is no {kind}")
        self._put(table, text.insert, codec.encode_text(row))

    def update(self, table: DeclaredTable, key: str, columns: Mapping[str, Json]) -> None:
        """Write columns of a row. Raises `InvalidRowError` as `insert` does."""
        text = self._tables[table.name]
        names = [name for name in table.table.names if name in columns]
        if not names or not text.is_key(key):
            return
        written = ", ".join(f"{quoted(name)} = r.{quoted(name)}" for name in names)
        query = (
            f"UPDATE {text.base.name} t SET {written} FROM {text.record} "  # noqa: S608 -- declared names
            f"WHERE t.{text.base.scope} = $1 AND {text.has_key('$3')}"
        )
        values = {name: columns[name] for name in names}
        self._put(table, query, codec.encode_text(values), key)

    def delete(self, table: DeclaredTable, key: str) -> None:
        """Remove a row."""
        text = self._tables[table.name]
        if text.is_key(key):
            self._fetch(text.delete, self._doc_id, key)

    def select(
        self, where: Where, *, order: Order = (), limit: int | None = None, after: int = 0
    ) -> list[Row]:
        """Rows of a table."""
        table = where.table
        text = self._tables[table.name]
        conditions = Text(table.table, where.claims, [self._doc_id])
        query = text.rows
        for each in where.conditions:
            query += f" AND {conditions.text_of(each)}"
        ranks = [
            f"{_ordered(table, column)} {'DESC' if is_descending else 'ASC'} NULLS LAST"
            for column, is_descending in order
        ]
        key = f't.{quoted(table.key)}::text COLLATE "C"' if text.base.key_type == "uuid" else None
        query += " ORDER BY " + ", ".join([*ranks, key or _ordered(table, table.key)])
        if limit is not None:
            query += f" LIMIT {int(limit)} OFFSET {int(after)}"
        return [
            text.read(found["row"])
            for found in self._fetch(text.as_json(query), *conditions.params)
        ]

    def number(self, now: Millis) -> Touched:
        """Number what has no revision yet."""
        query = _NUMBER.format(rows=self._rows_of_due)
        found = self._fetch(query, self._doc_id, self.rev + 1, now, [*self._tables])
        if found:
            self.rev += 1
        return self._touched(found, after=self.rev - 1)

    def next_rev(self) -> int:
        """Take a revision."""
        self.rev += 1
        self._fetch(
            "UPDATE patches_rows.docs SET rev = $2 WHERE doc_id = $1", self._doc_id, self.rev
        )
        return self.rev

    def changed(self, after: int, upto: int, *, limit: int) -> Touched | None:
        """What was touched last in some revisions."""
        query = _CHANGED.format(rows=self._rows_of_due)
        found = self._fetch(query, self._doc_id, after, upto, [*self._tables], limit + 1)
        return None if len(found) > limit else self._touched(found, after=after)

    def touch(self, table: DeclaredTable) -> None:
        """Enter every row of a table."""
        self._fetch(self._tables[table.name].touch, self._doc_id)

    def commits(self, change_ids: Collection[str]) -> dict[str, Commit]:
        """The changes that were carried out already."""
        rows = self._fetch(
            "SELECT change_id, rev, author FROM patches_rows.commits "
            "WHERE doc_id = $1 AND change_id = ANY ($2::bytea[])",
            self._doc_id,
            [_to_bytes(change_id) for change_id in change_ids],
        )
        commits = (_commit(row) for row in rows)
        return {commit.change_id: commit for commit in commits}

    def commits_after(self, rev: int) -> dict[int, Commit]:
        """The changes after a revision."""
        rows = self._fetch(
            "SELECT change_id, rev, author FROM patches_rows.commits "
            "WHERE doc_id = $1 AND rev > $2",
            self._doc_id,
            rev,
        )
        return {row["rev"]: _commit(row) for row in rows}

    def put_commit(self, commit: Commit, now: Millis) -> None:
        """Remember a change."""
        self._fetch(
            "INSERT INTO patches_rows.commits (doc_id, change_id, rev, author, at) "
            "VALUES ($1, $2, $3, $4, $5)",
            self._doc_id,
            _to_bytes(commit.change_id),
            commit.rev,
            None if commit.author is None else _to_bytes(commit.author),
            now,
        )

    def consumers(self) -> dict[str, int]:
        """The cursors of durable handlers."""
        rows = self._fetch(
            "SELECT name, rev FROM patches_rows.consumers WHERE doc_id = $1", self._doc_id
        )
        return {row["name"]: row["rev"] for row in rows}

    def put_consumer(self, name: str, rev: int) -> None:
        """Set a cursor."""
        self._fetch(
            "INSERT INTO patches_rows.consumers (doc_id, name, rev) VALUES ($1, $2, $3) "
            "ON CONFLICT (doc_id, name) DO UPDATE SET rev = excluded.rev",
            self._doc_id,
            name,
            rev,
        )

    def sweep(self, *, deleted_before: Millis, committed_before: Millis) -> int:
        """Forget old deletions and changes."""
        (swept,) = self._fetch(_SWEEP, self._doc_id, deleted_before, committed_before)
        if swept["count"]:
            self.floor = max(self.floor, swept["highest"])
            self._fetch(
                "UPDATE patches_rows.docs SET floor = $2 WHERE doc_id = $1",
                self._doc_id,
                self.floor,
            )
        return int(swept["count"])

    def new_epoch(self, epoch: str) -> None:
        """Begin another history."""
        self._fetch(
            "UPDATE patches_rows.docs SET epoch = $2 WHERE doc_id = $1", self._doc_id, epoch
        )
        self.epoch = epoch

    @property
    def _rows_of_due(self) -> str:
        return " UNION ALL ".join(text.of_due for text in self._tables.values())

    def _touched(self, found: Sequence[Any], *, after: int) -> Touched:
        touched = Touched()
        for tbl, key, row, born, rev in found:
            rows = touched.rows.setdefault(tbl, {})
            rows[key] = None if row is None else self._tables[tbl].read(row)
            touched.revs[tbl, key] = rev
            if born > after:
                touched.born.add((tbl, key))
        for tbl, rows in touched.rows.items():
            if len(rows) > 1 and not any(rows.values()):
                (is_any,) = self._fetch(self._tables[tbl].any, self._doc_id)
                if not is_any[0]:
                    touched.emptied.add(tbl)
        return touched

    def _put(self, table: DeclaredTable, query: str, *params: Any) -> None:
        try:
            self._fetch(query, self._doc_id, *params)
        except asyncpg.DataError as exc:
            raise InvalidRowError(table.name, None, f"PostgreSQL does not take it: {exc}") from exc

    def _fetch(self, query: str, *params: Any) -> list[Any]:
        """Run a statement. Errors of the application's SQL come as the driver raises them."""
        timeout = None
        if self._deadline is not None:
            timeout = max(0.001, self._deadline - self._worker.now())
        try:
            rows: list[Any] = self._worker.wait_for(
                self._conn.fetch(query, *params, timeout=timeout)
            )
        except TimeoutError as exc:
            self._failed = True
            raise StorageTimeoutError("a statement took longer than it may") from exc
        except asyncpg.IntegrityConstraintViolationError as exc:
            self._failed = True
            raise ConstraintError(exc.constraint_name, str(exc)) from exc
        except DRIVER_ERRORS as exc:
            self._failed = True
            if outcome_of(exc) is not Outcome.NOTHING or code_of(exc) is None:
                raise as_storage_error(exc) from exc
            raise
        return rows


def _ordered(table: DeclaredTable, column: str) -> str:
    collation = ' COLLATE "C"' if table.table.columns[column].kind == "text" else ""
    return f"t.{quoted(column)}{collation}"


def _from_text(value: str) -> Json:
    """JSON in a column of text, which the application has made."""
    try:
        decoded: Json = codec.decode(value)
    except ValueError:
        return value
    return decoded if isinstance(decoded, dict | list) else value


def _commit(row: Any) -> Commit:
    author = row["author"]
    return Commit(
        _from_bytes(row["change_id"]), row["rev"], None if author is None else _from_bytes(author)
    )


def _to_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _from_bytes(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")
