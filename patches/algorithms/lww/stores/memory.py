"""`LWWMemoryStore`: a client's LWW documents in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count
from typing import Final

from patches.algorithms.histories import version_after_install
from patches.algorithms.lww.field_table import FieldTable
from patches.algorithms.lww.tables import EDITS_KEPT, Head
from patches.model.change import Change, QuarantinedChange, Snapshot
from patches.model.history import NO_HISTORY, History
from patches.runtime import Runtime
from patches.stores.memory.tables import MemoryTablesStore

_VERSION_BITS: Final = 40


class LWWMemoryStore(MemoryTablesStore["_MemoryTables"]):
    """Forgets everything when the process ends. What it holds is shared, not copied."""

    def __init__(self, *, runtime: Runtime | None = None) -> None:
        records = count(1)
        super().__init__("lww", lambda: _MemoryTables(records))


class _MemoryTables:
    def __init__(self, records: Iterator[int]) -> None:
        self._records = records  # the store's: a document that was forgotten repeats no version
        self.committed = FieldTable()
        self.pending = FieldTable()
        self.quarantine: dict[str, QuarantinedChange] = {}
        self._head: Head | None = None
        self._history = NO_HISTORY
        self._snapshot = Snapshot(state={}, rev=0)
        self._sending: list[Change] = []
        self._edits: deque[str] = deque(maxlen=EDITS_KEPT)

    @property
    def is_empty(self) -> bool:
        return self._head is None and not self.quarantine

    def head(self) -> Head | None:
        return self._head

    def put_head(
        self,
        *,
        committed_rev: int,
        deleted: bool = False,
        newest_ts: int | None = None,
        pending_id: str | None = None,
        is_installed: bool = False,
    ) -> Head:
        before = self._head or Head(committed_rev=0, version=next(self._records) << _VERSION_BITS)
        version = before.version + 1
        self._head = Head(
            committed_rev=committed_rev,
            version=version_after_install(version) if is_installed else version,
            deleted=deleted,
            newest_ts=before.newest_ts if newest_ts is None else newest_ts,
            pending_id=before.pending_id if pending_id is None else pending_id,
        )
        return self._head

    def remove_head(self) -> None:
        self._head = None

    def history(self) -> History:
        return self._history

    def put_history(self, history: History) -> None:
        self._history = history

    def has_edit(self, edit_id: str) -> bool:
        return edit_id in self._edits

    def note_edit(self, edit_id: str) -> None:
        self._edits.append(edit_id)

    def snapshot(self) -> Snapshot:
        return self._snapshot

    def put_snapshot(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def sending(self) -> list[Change]:
        return list(self._sending)

    def put_sending(self, pieces: Sequence[Change]) -> None:
        self._sending = list(pieces)

    def quarantined(self, change_id: str) -> QuarantinedChange | None:
        return self.quarantine.get(change_id)

    def put_quarantined(self, quarantined: QuarantinedChange) -> None:
        self.quarantine[quarantined.change_id] = quarantined

    def discard_quarantined(self, change_id: str | None = None) -> None:
        if change_id is None:
            self.quarantine.clear()
        else:
            self.quarantine.pop(change_id, None)

    def clear(self) -> None:
        self.committed.clear()
        self.pending.clear()
        self._snapshot = Snapshot(state={}, rev=0)
        self._sending = []
        self._history = NO_HISTORY
        if self._head is not None:
            self._head = replace(self._head, pending_id="")
