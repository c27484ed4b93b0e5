"""`ReplayMemoryStore`: a client's replay documents in memory."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from typing import TypeVar

from patches.algorithms.replay.changes import in_order
from patches.algorithms.replay.past import MAX_UNITS
from patches.algorithms.replay.tables import ClientRun, DocTables, Head, Unit
from patches.model.change import Change, QuarantinedChange, TrackedDoc
from patches.model.history import NO_HISTORY, History
from patches.rows.row_ops import Row, State

T = TypeVar("T")


@dataclass(slots=True)
class _Doc:
    head: Head | None = None
    history: History = NO_HISTORY
    rows: dict[str, dict[str, Row]] = field(default_factory=dict)
    pending: dict[str, Change] = field(default_factory=dict)
    quarantine: dict[str, QuarantinedChange] = field(default_factory=dict)
    client_run: ClientRun | None = None

    def copy(self) -> _Doc:
        """What a transaction works on; rows of a table are copied when it is written to."""
        return _Doc(
            self.head,
            self.history,
            dict(self.rows),
            dict(self.pending),
            dict(self.quarantine),
            self.client_run,
        )


class ReplayMemoryStore:
    """Forgets everything when the process ends. What it holds is shared, not copied."""

    def __init__(self) -> None:
        self._docs: dict[str, _Doc] = {}
        self._versions = 0

    async def read(self, doc_id: str, fn: Callable[[DocTables], T]) -> T:
        """Run a function that writes nothing over one consistent view."""
        return fn(_MemoryTables(self, self._docs.get(doc_id) or _Doc()))

    async def change(self, doc_id: str, fn: Callable[[DocTables], T]) -> T:
        """Run a function over the document's tables: all that it writes, or nothing."""
        doc = (self._docs.get(doc_id) or _Doc()).copy()
        result = fn(_MemoryTables(self, doc))
        if doc.head is None and not doc.quarantine:
            self._docs.pop(doc_id, None)
        else:
            self._docs[doc_id] = doc
        return result

    def next_version(self) -> int:
        """A version that no record has had."""
        self._versions += 1
        return self._versions

    async def list_docs(self, include_deleted: bool = False) -> list[TrackedDoc]:
        """All documents, with `include_deleted` also those marked as deleted."""
        return [
            TrackedDoc(
                doc_id=doc_id,
                committed_rev=doc.head.committed_rev,
                deleted=doc.head.deleted,
                algorithm="replay",
            )
            for doc_id, doc in self._docs.items()
            if doc.head is not None and (include_deleted or not doc.head.deleted)
        ]

    async def list_quarantined(self, doc_id: str | None = None) -> list[QuarantinedChange]:
        """The quarantine of one document, or of all."""
        return [
            entry
            for name, doc in self._docs.items()
            if doc_id is None or name == doc_id
            for entry in doc.quarantine.values()
        ]


class _MemoryTables:
    def __init__(self, store: ReplayMemoryStore, doc: _Doc) -> None:
        self._store, self._doc = store, doc
        self._own: set[str] = set()  # tables whose rows were copied
        self._owns_units = False

    def head(self) -> Head | None:
        return self._doc.head

    def put_head(self, head: Head) -> Head:
        self._doc.head = replace(head, version=self._store.next_version())
        return self._doc.head

    def remove_head(self) -> None:
        self.clear()
        self._doc.head = None

    def history(self) -> History:
        return self._doc.history

    def put_history(self, history: History) -> None:
        self._doc.history = history

    def state(self) -> State:
        return dict(self._doc.rows)

    def put_state(self, state: State) -> None:
        self._doc.rows = {name: dict(rows) for name, rows in state.items()}
        self._own = set(self._doc.rows)

    def row(self, table: str, key: str) -> Row | None:
        return self._doc.rows.get(table, {}).get(key)

    def put_row(self, table: str, key: str, row: Row | None) -> None:
        if table not in self._own:
            self._own.add(table)
            self._doc.rows[table] = dict(self._doc.rows.get(table, {}))
        if row is None:
            self._doc.rows[table].pop(key, None)
        else:
            self._doc.rows[table][key] = row

    def clear_rows(self, table: str | None = None) -> None:
        for name in [table] if table is not None else list(self._doc.rows):
            self._doc.rows.pop(name, None)
            self._own.discard(name)

    def is_client_run(self) -> bool:
        return self._doc.client_run is not None

    def is_partial(self) -> bool:
        return self._doc.client_run is not None and self._doc.client_run.partial

    def client_run(self) -> ClientRun | None:
        return self._doc.client_run

    def begin_client_run(self, rev: int, *, partial: bool) -> None:
        self._doc.client_run = ClientRun(partial=partial)

    def add_unit(self, unit: Unit) -> None:
        run = self._doc.client_run
        if run is not None:
            if not self._owns_units:
                self._owns_units = True
                run = self._doc.client_run = ClientRun(partial=run.partial, units=list(run.units))
            assert isinstance(run.units, list)
            run.units.append(unit)
            del run.units[: max(0, len(run.units) - MAX_UNITS)]

    def end_client_run(self) -> None:
        self._doc.client_run = None

    def pending(self) -> list[Change]:
        return in_order(self._doc.pending.values())

    def has_pending(self) -> bool:
        return bool(self._doc.pending)

    def has_change(self, change_id: str) -> bool:
        return change_id in self._doc.pending

    def put_pending(self, change: Change) -> None:
        self._doc.pending[change.id] = change

    def take_pending(self, change_ids: Collection[str]) -> None:
        for change_id in change_ids:
            self._doc.pending.pop(change_id, None)

    def quarantined(self, change_id: str) -> QuarantinedChange | None:
        return self._doc.quarantine.get(change_id)

    def put_quarantined(self, entry: QuarantinedChange) -> None:
        self._doc.quarantine[entry.change_id] = entry

    def discard_quarantined(self, change_id: str | None = None) -> None:
        if change_id is None:
            self._doc.quarantine.clear()
        else:
            self._doc.quarantine.pop(change_id, None)

    def clear(self) -> None:
        self.clear_rows()
        self._doc.pending.clear()
        self._doc.history = NO_HISTORY
        self.end_client_run()
