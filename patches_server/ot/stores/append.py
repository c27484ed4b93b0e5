"""Appending to the logs of an SQLite file: what several commits bring, in as few statements as one.

The commits that wait for the writer are one transaction, whichever documents they are for. Each is
checked against the head that it was decided on; then the rows of all of them are inserted by one
statement for each table. Heads are remembered from one transaction to the next, for as long as no
other connection has written and nothing was rolled back.
"""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from patches.errors import PatchesError
from patches.model.change import Change
from patches.runtime import Millis
from patches.stores.sqlite.database import SqliteDatabase
from patches_server.documents.measure import Bounds
from patches_server.documents.tombstones import require_algorithm
from patches_server.ot.rows import ALGORITHM, check_follows, head_after
from patches_server.ot.store import DocHead
from patches_server.ot.stores.log import (
    INSERT,
    INSERT_ID,
    Log,
    checked_log,
    insert_ids,
    put_logs,
    row_of,
)
from patches_server.stores.sqlite import documents

#: Documents whose heads are remembered.
_REMEMBERED: Final = 10_000


@dataclass(frozen=True, slots=True)
class Append:
    """Changes that follow the head `expected` of a document; `bounds` are those after them."""

    doc_id: str
    changes: Sequence[Change]
    expected: DocHead
    now: Millis
    bounds: Bounds | None


class Appender:
    """Appends to the logs of one file. Used by the thread that writes, alone."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database
        self._logs: OrderedDict[str, Log] = OrderedDict()
        self._mark: object = None

    def forget(self, doc_id: str) -> None:
        """A document's log was changed otherwise, in the writer's thread."""
        self._logs.pop(doc_id, None)

    def append(self, conn: sqlite3.Connection, wanted: Sequence[Append]) -> list[Exception | None]:
        """Append all that follows the heads; for each, why it was refused or `None`."""
        mark = self._database.foreign_changes(conn)
        if mark != self._mark:
            self._logs.clear()
            self._mark = mark
        conn.execute("SAVEPOINT appended")
        try:
            outcome = self._append(conn, wanted)
        except sqlite3.IntegrityError:  # an id that was committed before
            conn.execute("ROLLBACK TO appended")
            outcome = [self._append_alone(conn, each) for each in wanted]
        conn.execute("RELEASE appended")
        return outcome

    def _append(self, conn: sqlite3.Connection, wanted: Sequence[Append]) -> list[Exception | None]:
        logs: dict[str, Log] = {}
        ids: list[tuple[str, str]] = []
        rows: list[tuple[Any, ...]] = []
        outcome: list[Exception | None] = []
        latest: Millis = 0
        for each in wanted:
            doc_id = each.doc_id
            try:
                log = logs.get(doc_id) or self._log(conn, each)
                check_follows(each.changes, expected=each.expected, head=log.head)
            except PatchesError as exc:
                outcome.append(exc)
                continue
            outcome.append(None)
            if not log.head.rev and doc_id not in logs:
                documents.record_document(conn, doc_id, ALGORITHM, now=each.now)
            prev = each.expected.rev
            for change in each.changes:
                ids.append((doc_id, change.id))
                # Made here and not by the caller, whose loop their checksums would hold up.
                rows.append(row_of(doc_id, change, prev))
                prev = change.rev
            logs[doc_id] = _after(log, each)
            latest = max(latest, each.now)
        if rows:
            conn.executemany(INSERT_ID, ids)
            conn.executemany(INSERT, rows)
            put_logs(conn, logs.items())
            documents.put_server_time(conn, latest)
            self._remember(logs)
        return outcome

    def _append_alone(self, conn: sqlite3.Connection, each: Append) -> Exception | None:
        """The same for one; its error names the ids that are taken."""
        conn.execute("SAVEPOINT one_append")
        try:
            [refused] = self._append(conn, [each])
        except sqlite3.IntegrityError:
            conn.execute("ROLLBACK TO one_append")
            try:
                insert_ids(conn, each.doc_id, each.changes)
            except PatchesError as exc:
                refused = exc
            else:
                raise
            conn.execute("ROLLBACK TO one_append")
        conn.execute("RELEASE one_append")
        return refused

    def _log(self, conn: sqlite3.Connection, each: Append) -> Log:
        known = self._logs.get(each.doc_id)
        if known is not None:
            return known
        record = documents.load(conn, each.doc_id)
        require_algorithm(each.doc_id, None if record is None else record.algorithm, ALGORITHM)
        return checked_log(conn, each.doc_id, record)

    def _remember(self, logs: dict[str, Log]) -> None:
        for doc_id, log in logs.items():
            if log.head.token is None:  # made just now: its token is in its record
                self._logs.pop(doc_id, None)
                continue
            self._logs[doc_id] = log
            self._logs.move_to_end(doc_id)
        while len(self._logs) > _REMEMBERED:
            self._logs.popitem(last=False)


def _after(log: Log, each: Append) -> Log:
    bounds = each.bounds or log.head.bounds
    head = head_after(each.changes, bounds, token=log.head.token)
    return Log(head, log.pruned, log.ids + len(each.changes))
