"""`SqliteTransaction`: one transaction on one document's SQLite database."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

from patches.algorithms.collections.declaration import DeclaredTable
from patches.model.json_values import Json
from patches.rows.row_ops import Row
from patches.runtime import Millis
from patches_server.collections.engines.engine import Commit, Order, Touched, Where
from patches_server.collections.engines.sqlite_rows import RowReader, bound, reader_of
from patches_server.collections.engines.sqlite_tables import enter_all, quoted

T = TypeVar("T")

#: Keys that are looked up with one statement; more are joined with the log.
_KEYS_AT_ONCE: Final = 500
#: Steps of SQLite's machine between two readings of the clock.
_STEPS: Final = 20_000


class TableSql:
    """The statements of one declared table, made once."""

    def __init__(self, table: DeclaredTable) -> None:
        name, key = quoted(table.name), quoted(table.key)
        columns = ", ".join(f"t.{quoted(column)}" for column in table.table.names)
        marks = ", ".join("?" * len(table.table.names))
        names = ", ".join(map(quoted, table.table.names))
        self.read: RowReader = reader_of(table)
        self.place: int = table.table.names.index(table.key)
        self.select: str = f"SELECT {columns} FROM {name} t"  # noqa: S608 -- declared names
        self.get: str = f"{self.select} WHERE t.{key} = ?"
        self.insert: str = f"INSERT INTO {name} ({names}) VALUES ({marks})"  # noqa: S608 -- declared names
        self.delete: str = f"DELETE FROM {name} WHERE {key} = ?"  # noqa: S608 -- declared names
        self.any: str = f"SELECT EXISTS (SELECT 1 FROM {name})"  # noqa: S608 -- declared names
        self.joined: str = f"{self.select} JOIN _patches_log l ON l.tbl = ? AND l.key = t.{key}"
        self.name: str = name
        self.key: str = key


class SqliteTransaction:
    """See `Transaction`."""

    def __init__(
        self,
        conn: sqlite3.Connection,
        tables: Mapping[str, DeclaredTable],
        statements: Mapping[str, TableSql],
        wall_ms: Callable[[], Millis],
    ) -> None:
        self._conn, self._tables, self._statements = conn, tables, statements
        self._wall_ms = wall_ms
        head: tuple[int, int, str] = conn.execute(
            "SELECT rev, floor, epoch FROM _patches_meta"
        ).fetchone()
        self.rev: int = head[0]
        self.floor: int = head[1]
        self.epoch: str = head[2]

    def sql(self, query: str, *params: Any) -> list[dict[str, Any]]:
        """One statement of the application's."""
        cursor = self._conn.execute(query, params)
        if cursor.description is None:
            return []
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, values, strict=True)) for values in cursor]

    def time_limit(self, seconds: float | None) -> None:
        """Break off what runs past so many seconds from now."""
        if seconds is None:
            self._conn.set_progress_handler(None, 0)
            return
        end = self._wall_ms() + seconds * 1000
        self._conn.set_progress_handler(lambda: self._wall_ms() > end, _STEPS)

    def attempt(self, work: Callable[[], T]) -> T:
        """Run a part of the transaction, which is undone if it raises."""
        rev = self.rev
        self._conn.execute("SAVEPOINT attempt")
        try:
            result = work()
        except BaseException:
            self.rev = rev
            if self._conn.in_transaction:  # else SQLite has given it up, and nothing is left
                self._conn.execute("ROLLBACK TO attempt")
                self._conn.execute("RELEASE attempt")
            raise
        self._conn.execute("RELEASE attempt")
        return result

    def is_broken(self) -> bool:
        """Whether the whole transaction was given up."""
        return not self._conn.in_transaction

    def get(self, table: DeclaredTable, key: str) -> Row | None:
        """One row."""
        statements = self._statements[table.name]
        values = self._conn.execute(statements.get, (key,)).fetchone()
        return None if values is None else statements.read(values)

    def insert(self, table: DeclaredTable, row: Row) -> None:
        """Add a row."""
        columns = table.table.columns.values()
        values = [bound(column.kind, row[column.name]) for column in columns]
        self._conn.execute(self._statements[table.name].insert, values)

    def update(self, table: DeclaredTable, key: str, columns: Mapping[str, Json]) -> None:
        """Write columns of a row."""
        statements = self._statements[table.name]
        names = [name for name in table.table.names if name in columns]
        if not names:
            return
        written = ", ".join(f"{quoted(name)} = ?" for name in names)
        kinds = table.table.columns
        values = [bound(kinds[name].kind, columns[name]) for name in names]
        query = f"UPDATE {statements.name} SET {written} WHERE {statements.key} = ?"  # noqa: S608 -- declared names
        self._conn.execute(query, [*values, key])

    def delete(self, table: DeclaredTable, key: str) -> None:
        """Remove a row."""
        self._conn.execute(self._statements[table.name].delete, (key,))

    def select(
        self, where: Where, *, order: Order = (), limit: int | None = None, after: int = 0
    ) -> list[Row]:
        """Rows of a table."""
        statements = self._statements[where.table.name]
        query, params = statements.select, []
        if where.conditions:
            parts = [each.to_sql(where.table.table, where.claims) for each in where.conditions]
            query += " WHERE " + " AND ".join(part for part, _ in parts)
            params = [value for _, values in parts for value in values]
        ranks = [
            f"{quoted(column)} IS NULL, {quoted(column)} {'DESC' if is_descending else 'ASC'}"
            for column, is_descending in order
        ]
        query += " ORDER BY " + ", ".join([*ranks, statements.key])
        if limit is not None:
            query += f" LIMIT {int(limit)} OFFSET {int(after)}"
        return [statements.read(values) for values in self._conn.execute(query, params)]

    def number(self, now: Millis) -> Touched:
        """Number what has no revision yet."""
        found = self._conn.execute(
            "SELECT tbl, key, born, rev FROM _patches_log WHERE rev IS NULL"
        ).fetchall()
        if not found:
            return Touched()
        rev = self.next_rev()
        touched = self._touched(found, is_born=lambda born: born is None, joined="l.rev IS NULL")
        self._conn.execute(
            "UPDATE _patches_log SET rev = ?, gone_at = NULL, born = coalesce(born, ?) "
            "WHERE rev IS NULL",
            (rev, rev),
        )
        gone = [
            (now, table, key)
            for table, rows in touched.rows.items()
            for key, row in rows.items()
            if row is None
        ]
        if gone:
            self._conn.executemany(
                "UPDATE _patches_log SET gone_at = ? WHERE tbl = ? AND key = ?", gone
            )
        return touched

    def next_rev(self) -> int:
        """Take a revision."""
        self.rev += 1
        self._conn.execute("UPDATE _patches_meta SET rev = ?", (self.rev,))
        return self.rev

    def changed(self, after: int, upto: int, *, limit: int) -> Touched | None:
        """What was touched last in some revisions."""
        found = self._conn.execute(
            "SELECT tbl, key, born, rev FROM _patches_log WHERE rev > ? AND rev <= ? LIMIT ?",
            (after, upto, limit + 1),
        ).fetchall()
        if len(found) > limit:
            return None
        return self._touched(
            found,
            is_born=lambda born: born is not None and born > after,
            joined=f"l.rev > {int(after)} AND l.rev <= {int(upto)}",
        )

    def touch(self, table: DeclaredTable) -> None:
        """Enter every row of a table."""
        enter_all(self._conn, table)

    def commits(self, change_ids: Collection[str]) -> dict[str, Commit]:
        """The changes that were carried out already."""
        found = {}
        for change_id in change_ids:
            row = self._conn.execute(
                "SELECT rev, author FROM _patches_commits WHERE change_id = ?", (change_id,)
            ).fetchone()
            if row is not None:
                found[change_id] = Commit(change_id, *row)
        return found

    def commits_after(self, rev: int) -> dict[int, Commit]:
        """The changes after a revision."""
        rows = self._conn.execute(
            "SELECT change_id, rev, author FROM _patches_commits WHERE rev > ?", (rev,)
        )
        return {row[1]: Commit(*row) for row in rows}

    def put_commit(self, commit: Commit, now: Millis) -> None:
        """Remember a change."""
        self._conn.execute(
            "INSERT INTO _patches_commits VALUES (?, ?, ?, ?)",
            (commit.change_id, commit.rev, commit.author, now),
        )

    def consumers(self) -> dict[str, int]:
        """The cursors of durable handlers."""
        return dict(self._conn.execute("SELECT name, rev FROM _patches_consumers"))

    def put_consumer(self, name: str, rev: int) -> None:
        """Set a cursor."""
        self._conn.execute("INSERT OR REPLACE INTO _patches_consumers VALUES (?, ?)", (name, rev))

    def sweep(self, *, deleted_before: Millis, committed_before: Millis) -> int:
        """Forget old deletions and changes."""
        highest, count = self._conn.execute(
            "SELECT max(rev), count(*) FROM _patches_log WHERE gone_at < ? AND rev IS NOT NULL",
            (deleted_before,),
        ).fetchone()
        self._conn.execute("DELETE FROM _patches_commits WHERE at < ?", (committed_before,))
        if count:
            self._conn.execute(
                "DELETE FROM _patches_log WHERE gone_at < ? AND rev IS NOT NULL", (deleted_before,)
            )
            self.floor = max(self.floor, highest)
            self._conn.execute("UPDATE _patches_meta SET floor = ?", (self.floor,))
        return int(count)

    def new_epoch(self, epoch: str) -> None:
        """Begin another history."""
        self._conn.execute("UPDATE _patches_meta SET epoch = ?", (epoch,))
        self.epoch = epoch

    def _touched(
        self,
        found: Sequence[tuple[str, str, int | None, int | None]],
        *,
        is_born: Callable[[int | None], bool],
        joined: str,
    ) -> Touched:
        touched = Touched()
        keys: dict[str, list[str]] = {}
        for table, key, born, rev in found:
            # A table that is declared no more keeps its entries; keys that are no text have none.
            if table in self._tables and isinstance(key, str):
                keys.setdefault(table, []).append(key)
                touched.revs[table, key] = self.rev if rev is None else rev
                if is_born(born):
                    touched.born.add((table, key))
        for table, names in keys.items():
            rows = touched.rows[table] = dict.fromkeys(names)
            statements = self._statements[table]
            for values in self._rows(statements, table, names, joined):
                key = values[statements.place]
                if key in rows:
                    rows[key] = statements.read(values)
            if len(names) > 1 and not self._conn.execute(statements.any).fetchone()[0]:
                touched.emptied.add(table)
        return touched

    def _rows(
        self, statements: TableSql, table: str, keys: Sequence[str], joined: str
    ) -> Iterable[Sequence[Any]]:
        if len(keys) == 1:
            return self._conn.execute(statements.get, keys)
        if len(keys) <= _KEYS_AT_ONCE:
            marks = ", ".join("?" * len(keys))
            query = f"{statements.select} WHERE t.{statements.key} IN ({marks})"
            return self._conn.execute(query, keys)
        return self._conn.execute(f"{statements.joined} WHERE {joined}", (table,))
