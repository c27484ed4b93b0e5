"""`WorkingCopy`: rows in an SQLite database in memory, and a journal of what is written to them.

Triggers report every row that is written, cascades and `INSERT OR REPLACE` included. Without an
open journal they abort the write. The rows are kept beside, as Python values: the state is made of
them, and a number is the number that was written. No rule is checked by SQLite: a committed row is
put whatever it holds; what an action writes is checked in Python, where the triggers report it.

Actions see the tables under their own names, by views that hide what the author may not see. The
authorizer keeps an action's SQL to these views, to reading and writing rows, and to functions that
give the same result everywhere.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeAlias

from patches.errors import AudienceDeniedError, InvalidRowError, PatchesError, WritesRefusedError
from patches.model.json_values import Json
from patches.rows.held_rows import HeldRows
from patches.rows.journal import Journal
from patches.rows.physical import bindable, cascades, loaded, statements, stored, whole_row
from patches.rows.row_ops import Row, RowOp, State
from patches.rows.schema import AUDIENCE, Schema, Table
from patches.rows.sql_guard import authorize, check_sql

#: Who may see and write which rows: those of these audiences, or all.
Rights: TypeAlias = frozenset[str] | None

#: Our own statements begin with it: the statements of actions have no comments, so none of theirs
#: is ever taken for one of ours, which was prepared without the authorizer.
_OURS: Final = "/**/"
_STEPS: Final = 1_000  # of SQLite's machine, between two checks of the time


class WorkingCopy:
    """The rows of one document. Belongs to one thread at a time; closed by its owner."""

    def __init__(self, schema: Schema) -> None:
        self.schema: Final = schema
        self._rows = HeldRows(schema.tables)
        self._journals: list[Journal] = []
        self._is_loading = False
        self._is_running = False
        self._rights: Rights = None
        self._failure: Exception | None = None  # of a function that SQLite called
        self._is_guarded = False
        self._savepoints = 0
        self._connection = connection = sqlite3.connect(
            ":memory:", isolation_level=None, check_same_thread=False, cached_statements=256
        )
        connection.execute("PRAGMA recursive_triggers = ON")
        functions: list[tuple[str, Callable[..., int | None]]] = [
            ("_patches_put", self._put),
            ("_patches_gone", self._gone),
            ("_patches_is_running", lambda: self._is_running),
            ("_patches_is_visible", self._is_visible),
        ]
        for name, function in functions:
            connection.create_function(name, -1, function)
        for table in schema.tables.values():
            for statement in statements(table):
                connection.execute(statement)
        for statement in cascades(schema):
            connection.execute(statement)
        connection.execute("SELECT 1 FROM json_each('[]'), json_tree('[]')")  # made on first use
        connection.set_authorizer(self._authorized)

    def close(self) -> None:
        """Release the database."""
        self._connection.close()

    # ---- what it holds ---------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """`{table: {key: row}}`. Shared, and never changed later.

        A table whose rows are equal to those of the last time is the same object.
        """
        return self._rows.shown

    def row(self, table: str, key: str) -> Row | None:
        """One row, whoever may see it. Shared: do not change it."""
        return self._rows[table].get(key)

    def audience_of(self, table: str, key: str) -> Json:
        """The audience of a row, also of one that was here and is gone; `None` if it has none."""
        return self._rows.audience_of(table, key)

    def count(self) -> int:
        """How many rows there are."""
        return self._rows.count()

    def load(self, state: State) -> None:
        """Hold these rows and no others. Tables that the schema does not have are left out."""
        self._is_loading = True
        self._rows.forget_gone()
        try:
            with self.record():
                for table in self.schema.tables.values():
                    self._load(table, state.get(table.name, {}))
        finally:
            self._is_loading = False

    def _load(self, table: Table, given: Mapping[str, Row]) -> None:
        name, columns = table.name, list(table.columns.values())
        rows = {key: whole_row(table, row) for key, row in given.items()}
        marks = ", ".join("?" * len(columns))
        self._connection.execute(f'{_OURS}DELETE FROM "_patches_{name}"')  # noqa: S608 -- from the schema
        self._connection.executemany(
            f'{_OURS}INSERT INTO "_patches_{name}" VALUES ({marks})',  # noqa: S608 -- from the schema
            ([stored(column, row[column.name]) for column in columns] for row in rows.values()),
        )
        self._rows.load(name, rows, given)

    # ---- writing ---------------------------------------------------------------------------------

    @contextmanager
    def record(self) -> Iterator[Journal]:
        """Record what the block writes. If it raises, nothing of it is left.

        Journals nest: the outer one has what the inner ones have.
        """
        journal = Journal()
        self._savepoints += 1
        name = f"s{self._savepoints}"
        self._connection.execute(f"{_OURS}SAVEPOINT {name}")
        self._journals.append(journal)
        try:
            yield journal
        except BaseException:
            self._connection.execute(f"{_OURS}ROLLBACK TO {name}")
            self._connection.execute(f"{_OURS}RELEASE {name}")
            self._journals.pop()
            self._rows.undo(journal)
            raise
        else:
            self._connection.execute(f"{_OURS}RELEASE {name}")
            self._journals.pop()
            if self._journals:
                self._journals[-1].extend(journal)
        finally:
            self._savepoints -= 1

    def apply(self, ops: Sequence[RowOp]) -> None:
        """Apply changes of rows, inside of `record`. Never fails for a change the schema knows."""
        for op in ops:
            table = self.schema.tables[op.table]
            rows = self._rows[op.table]
            if op.key is None:
                self._execute(f'DELETE FROM "_patches_{op.table}"')  # noqa: S608 -- from the schema
            elif op.kind == "add":
                row = whole_row(table, op.value)
                self._insert(table, {**row, table.key: op.key})
            elif op.key not in rows:
                continue
            elif op.kind == "remove":
                self._delete(table, op.key)
            elif op.column is not None:
                self._update(table, op.key, {op.column: op.value})

    @contextmanager
    def run(self, rights: Rights) -> Iterator[None]:
        """The block is an action's: it sees and writes only rows of its rights, and is checked."""
        before = self._is_running, self._rights
        self._is_running, self._rights = True, rights
        try:
            yield
            self._check_references()
        finally:
            self._is_running, self._rights = before

    @contextmanager
    def limited(self, is_late: Callable[[], bool] | None) -> Iterator[None]:
        """Interrupt SQL of the block once `is_late` says so."""
        if is_late is None:
            yield
            return
        self._connection.set_progress_handler(lambda: int(is_late()), _STEPS)
        try:
            yield
        finally:
            self._connection.set_progress_handler(None, _STEPS)

    # ---- rows, as an action works with them ------------------------------------------------------

    def visible(self, table: Table, key: str) -> Row | None:
        """A row that the action may see."""
        row = self._rows[table.name].get(key)
        return row if row is not None and self._sees(table, row) else None

    def insert(self, table: Table, row: Row) -> None:
        """Put a new, whole and checked row. Raises `InvalidRowError` if its key is taken."""
        if row[table.key] in self._rows[table.name]:
            raise InvalidRowError(table.name, table.key, f"there is a row {row[table.key]!r}")
        self._insert(table, row)

    def update(self, table: Table, key: str, columns: Row) -> bool:
        """Change columns of a visible row; whether there is one."""
        if self.visible(table, key) is None:
            return False
        if columns:
            self._update(table, key, columns)
        return True

    def delete(self, table: Table, key: str) -> bool:
        """Delete a visible row; whether there was one."""
        if self.visible(table, key) is None:
            return False
        self._delete(table, key)
        return True

    def keys(self, table: Table, condition: str, values: Sequence[Json]) -> list[str]:
        """The keys of the visible rows that an SQL condition holds for, in order."""
        query = f'SELECT "{table.key}" FROM "{table.name}" WHERE {condition} ORDER BY "{table.key}"'  # noqa: S608 -- compiled from a checked condition
        return [key for (key,) in self._execute(query, values)]

    def count_where(self, table: Table, condition: str, values: Sequence[Json]) -> int:
        """How many keys `keys` would give."""
        query = f'SELECT count(*) FROM "{table.name}" WHERE {condition}'  # noqa: S608 -- as in `keys`
        ((count,),) = self._execute(query, values)
        return int(count)

    def sql(self, query: str, values: Sequence[Json]) -> list[dict[str, Json]]:
        """One statement of an action, within what the authorizer allows. Rows come as SQLite has
        them: 0 and 1 for booleans, JSON as a string.
        """
        check_sql(query)
        with self._guarded():
            cursor = self._execute(query, [bindable(value) for value in values], ours=False)
            if cursor.description is None:
                return []
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in self._fetched(cursor)]

    def query(self, query: str, values: Sequence[Json]) -> list[dict[str, Json]]:
        """One statement that only reads. Raises `WritesRefusedError` for one that writes."""
        if self._journals:
            raise PatchesError("an action reads with tx.sql")
        return self.sql(query, values)

    # ---- inside: statements ----------------------------------------------------------------------

    def _insert(self, table: Table, row: Row) -> None:
        columns = table.columns.values()
        marks = ", ".join("?" * len(table.columns))
        self._execute(
            f'INSERT OR REPLACE INTO "_patches_{table.name}" VALUES ({marks})',  # noqa: S608 -- from the schema
            [stored(column, row[column.name]) for column in columns],
        )

    def _update(self, table: Table, key: str, columns: Row) -> None:
        known = [table.columns[name] for name in columns]
        assignments = ", ".join(f'"{column.name}" = ?' for column in known)
        self._execute(
            f'UPDATE "_patches_{table.name}" SET {assignments} WHERE "{table.key}" = ?',  # noqa: S608 -- from the schema
            [*(stored(column, columns[column.name]) for column in known), key],
        )

    def _delete(self, table: Table, key: str) -> None:
        self._execute(f'DELETE FROM "_patches_{table.name}" WHERE "{table.key}" = ?', [key])  # noqa: S608 -- from the schema

    def _execute(
        self, query: str, values: Sequence[Json] = (), *, ours: bool = True
    ) -> sqlite3.Cursor:
        try:
            return self._connection.execute(_OURS + query if ours else query, values)
        except sqlite3.Error as error:
            raise self._cause(error) from error

    def _fetched(self, cursor: sqlite3.Cursor) -> list[Any]:
        try:
            return cursor.fetchall()
        except sqlite3.Error as error:
            raise self._cause(error) from error

    def _cause(self, error: Exception) -> Exception:
        failure, self._failure = self._failure, None
        return failure or PatchesError(f"SQL: {error}")

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        self._is_guarded = True
        try:
            yield
        finally:
            self._is_guarded = False

    def _authorized(
        self, action: int, arg1: str | None, arg2: str | None, _db: str | None, inner: str | None
    ) -> int:
        if not self._is_guarded or authorize(self.schema.tables, action, arg1, arg2, inner):
            return sqlite3.SQLITE_OK
        self._failure = WritesRefusedError(
            f"this SQL is not allowed: it uses {arg2 or arg1 or 'a statement'!r}; an action reads "
            f"and writes tables of its schema, by functions that give the same result everywhere"
        )
        return sqlite3.SQLITE_DENY

    # ---- inside: called by triggers --------------------------------------------------------------

    def _put(self, name: str, old_key: str | None, *values: Json) -> None:
        """A row was inserted or changed; `old_key` is that of the row before, if it was changed."""
        if self._is_loading:
            return
        try:
            self._noted(name, old_key, values)
        except Exception as error:
            self._failure = error
            raise

    def _noted(self, name: str, old_key: str | None, values: Sequence[Json]) -> None:
        journal, table = self._journal(), self.schema.tables[name]
        row = {
            column.name: loaded(table, column, value)
            for column, value in zip(table.columns.values(), values, strict=True)
        }
        key = row[table.key]
        before = self._rows[name].get(key)
        if self._is_running:
            if old_key is not None and old_key != key:
                raise InvalidRowError(name, table.key, "never changes; delete and insert instead")
            for column_name, value in row.items():
                table.check_value(column_name, value)
            if old_key is not None and before is not None and table.has_audience:
                if before[AUDIENCE] != row[AUDIENCE]:
                    raise InvalidRowError(
                        name, AUDIENCE, "never changes; delete and insert instead"
                    )
            self._check_rights(table, row)
        journal.note(name, key, before, row)
        self._rows.put(name, key, row)

    def _gone(self, name: str, key: str) -> None:
        """A row was deleted."""
        if self._is_loading:
            return
        try:
            journal, before = self._journal(), self._rows[name].get(key)
            if before is not None:
                if self._is_running:
                    self._check_rights(self.schema.tables[name], before)
                journal.note(name, key, before, None)
                self._rows.remove(name, key)
        except Exception as error:
            self._failure = error
            raise

    def _journal(self) -> Journal:
        if not self._journals:
            raise WritesRefusedError("writes go through actions")
        return self._journals[-1]

    # ---- inside: rights and references -----------------------------------------------------------

    def _is_visible(self, audience: str) -> bool:
        return self._rights is None or audience in self._rights

    def _sees(self, table: Table, row: Row) -> bool:
        return self._rights is None or not table.has_audience or row[AUDIENCE] in self._rights

    def _check_rights(self, table: Table, row: Row) -> None:
        if not self._sees(table, row):
            raise AudienceDeniedError(table.name, row[AUDIENCE])

    def _check_references(self) -> None:
        """Every row that was written refers to rows that are there."""
        for name, key in self._journals[-1].rows:
            table, row = self.schema.tables[name], self._rows[name].get(key)
            for column, target in table.references.items() if row is not None else ():
                value = row[column] if row is not None else None
                if value is not None and value not in self._rows[target]:
                    raise InvalidRowError(name, column, f"there is no row {value!r} in {target}")
