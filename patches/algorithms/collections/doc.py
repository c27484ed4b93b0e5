"""`CollectionsDoc`: an open collections document: its rows, its writes and its live queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from patches.aio.signals import Spawn
from patches.algorithms.collections.collection import Collection
from patches.algorithms.collections.declaration import Collections
from patches.algorithms.collections.overlay import Place
from patches.algorithms.collections.shown_doc import DocHost
from patches.algorithms.collections.store_views import EventStore, SingularStore
from patches.algorithms.collections.tables import Work
from patches.algorithms.collections.transactions import Step, rows_of
from patches.algorithms.collections.writing_doc import WritingDoc
from patches.errors import PatchError
from patches.limits import Limits
from patches.model.change import Change, Snapshot
from patches.model.json_values import Op
from patches.rows.row_ops import Row, RowOp, parse_row_ops


class CollectionsSnapshot(Snapshot):
    """What the store holds, as `load_doc` gives it."""

    __slots__ = ("work",)

    def __init__(self, work: Work) -> None:
        super().__init__(state=work.rows, rev=work.committed_rev, changes=work.pending)
        self.work: Work = work


class CollectionsDoc(WritingDoc):
    """Synced rows, with rows in progress and unconfirmed writes on top."""

    algorithm: ClassVar[str] = "collections"

    def __init__(
        self,
        doc_id: str,
        snapshot: Snapshot | None,
        *,
        declaration: Collections,
        host: DocHost,
        limits: Limits | None = None,
    ) -> None:
        work = work_of(snapshot)
        super().__init__(doc_id, work, declaration=declaration, host=host, limits=limits)
        #: How often the store's tables were written to, as far as this document has followed.
        self.version: int = work.version
        self._lay_stored(work.pending)

    def collection(self, table: type | str) -> Collection:
        """The rows of a table, by the class that declares it or its name."""
        return Collection(self, self.declaration.table_of(table))

    def store(self, declared: type | str) -> EventStore | SingularStore:
        """The records of the user, by the class that declares the store or its name."""
        table = self.declaration.table_of(declared)
        if table.kind == "event":
            return EventStore(self, table)
        if table.kind == "singular":
            return SingularStore(self, table)
        raise PatchError(f"{table.name!r} is a table, not a store; use collection({table.name!r})")

    def is_pending(self, table: type | str, key: str) -> bool:
        """Whether an unconfirmed write concerns a row."""
        return self._overlay.is_touched((self.declaration.table_of(table).name, key))

    def is_partial(self, table: type | str, key: str) -> bool:
        """Whether a row is in progress: shown while the server still makes it."""
        return (self.declaration.table_of(table).name, key) in self._overlay.partials

    # ---- for collections and stores --------------------------------------------------------------

    def new_key(self) -> str:
        """A key for a row."""
        return self._host.new_key()

    def now(self) -> int:
        """The time, in milliseconds."""
        return self._host.now()

    # ---- for the algorithm -----------------------------------------------------------------------

    def saved(self, edits: Sequence[list[Op]], step: Step) -> None:
        """Edits are in the store as writes."""
        for ops in edits:
            self._forget_unsaved(ops)
        self.follow(step)

    def follow(self, step: Step) -> None:
        """Follow a write to the store's tables."""
        if step.work is not None:
            self.install(step.work)
        else:
            ops: list[RowOp] = []
            review: list[Place] = []
            for change in step.accepted:
                taken, left = self.interest.taken(change, self._overlay.synced)
                ops += taken
                review += left
            self.version = step.after
            self.committed_rev = max(self.committed_rev, step.committed_rev)
            self.interest.cursor = self.committed_rev
            changed = self._overlay.step(ops, remove=step.confirmed, review=review, keep=self._keep)
            self._settle(changed)
        for write_id in step.confirmed:
            self._book.confirmed(write_id)
        self._notify()

    def rejected(self, write_id: str, reason: str, step: Step) -> None:
        """The server has refused a write for good."""
        if step.work is not None:
            self.install(step.work, rejected=(write_id,))
        else:
            self.version = step.after
            self._settle(self._overlay.step(remove=[write_id], keep=self._keep))
        self._book.rejected(write_id, reason)
        self._notify()

    def retried(self, change: Change, step: Step) -> None:
        """A refused write is pending again."""
        if step.work is not None:
            self.install(step.work)
        else:
            self.version = step.after
            self._lay_stored([change])
        self._notify()

    def install(
        self,
        work: Work,
        *,
        snapshot: Snapshot | None = None,
        rejected: Sequence[str] = (),
    ) -> None:
        """Take over what is stored, or the server's `snapshot`; what is unsaved stays on top."""
        if snapshot is not None:
            self.interest.installed(work.committed_rev, snapshot.metadata.get("windows"))
        elif work.committed_rev != self.committed_rev:
            self.interest.lost()
        rows = work.rows
        for name in self._overlay.synced:
            if self.is_on_demand(name) and snapshot is None:
                rows.setdefault(name, self._overlay.synced[name])
        kept = {change.id for change in work.pending} | set(self._unsaved_ids.values())
        gone = [layer.id for layer in self._overlay.layers if layer.id not in kept]
        changed = self._overlay.replace_synced(rows, gone, keep=self._keep)
        self.committed_rev = work.committed_rev
        self.interest.cursor = work.committed_rev
        self.version = work.version
        self._settle(changed)
        for write_id in gone:
            if write_id not in rejected:
                self._book.confirmed(write_id)
        self._lay_stored(work.pending)
        self._notify()
        self.queries.load_again()  # what was lost above

    def import_snapshot(self, snapshot: Snapshot) -> None:
        """Replace synced rows and pending writes. An older one does nothing."""
        if snapshot.rev >= self.committed_rev:
            self.install(work_of(snapshot))

    def synced_again(self) -> None:
        """The document was synced over a connection."""
        self.wake_loads()
        self.queries.load_again()

    def take_partials(self, changes: Sequence[Mapping[str, Any]]) -> None:
        """Rows in progress, as the server sends them."""
        partials: dict[Place, Row | None] = {}
        for change in changes:
            for op in parse_row_ops(change["ops"]):
                if op.key is not None and op.kind in ("add", "remove"):
                    partials[op.table, op.key] = op.value if op.kind == "add" else None
        self._changed(self._overlay.step(partials=partials))

    def drop_partials(self) -> None:
        """The connection that brought the rows in progress has ended."""
        if self._overlay.partials:
            gone = dict.fromkeys(self._overlay.partials)
            self._changed(self._overlay.step(partials=gone))

    # ---- life ------------------------------------------------------------------------------------

    def adopt(self, *, spawn: Spawn, **owned: Any) -> None:
        """The caller owns this document from now on."""
        super().adopt(spawn=spawn, **owned)
        self._host.adopted(self)
        self._watch()

    def mark_closed(self) -> None:
        """Refuse further edits, end `async for`, queries and the watch over writes."""
        super().mark_closed()
        self._book.close(self.id)
        self.queries.close()


def work_of(snapshot: Snapshot | None) -> Work:
    """What a document takes over."""
    if isinstance(snapshot, CollectionsSnapshot):
        return snapshot.work
    if snapshot is None:
        return Work(rows={}, committed_rev=0, pending=[], version=0, schema_version=0)
    pending = [change for change in snapshot.changes if not change.committed_at]
    committed = [change for change in snapshot.changes if change.committed_at]
    settled = Snapshot(state=snapshot.state, rev=snapshot.rev, changes=committed)
    return Work(
        rows=rows_of(settled),
        committed_rev=settled.head,
        pending=pending,
        version=0,
        schema_version=0,
    )
