"""`CollectionsAlgorithm`: the client's side of collections.

It decides nothing itself: each call is one transaction over the document's tables
(`transactions.py`), and the open document then follows the same step (`doc.py`). A lock per
document keeps both in the same order; it is not held over the network.

A write is confirmed when its id comes in the stream, and by nothing else; it has one id for ever,
so sending it again is always safe.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Final
from weakref import WeakValueDictionary

from patches.algorithms.base import LocalEdit, SyncHost
from patches.algorithms.collections import call_ops, transactions
from patches.algorithms.collections.declaration import Collections, Declarations, completing
from patches.algorithms.collections.doc import CollectionsDoc, CollectionsSnapshot
from patches.algorithms.collections.sending import fitting
from patches.algorithms.collections.stores.factory import COLLECTIONS_STORES
from patches.algorithms.collections.tables import CollectionsStore, DocTables, Work
from patches.algorithms.collections.transactions import NewWrite
from patches.algorithms.histories import check_not_outdated
from patches.algorithms.tables import TablesAlgorithm, TrackingSteps
from patches.documents.document import Document
from patches.limits import Limits
from patches.model.change import Change, QuarantinedChange, Snapshot
from patches.model.ids import random_id, uuid7
from patches.model.json_values import Json
from patches.options import DocOptions
from patches.runtime import Runtime

CONFIRM_TIMEOUT_S: Final = 10.0
_ID_LENGTH: Final = 20
_EDITS_AT_ONCE: Final = 64


_TRACKING: Final = TrackingSteps(
    transactions.committed_rev,
    transactions.untrack,
    transactions.mark_deleted,
    transactions.confirm_deleted,
)


class CollectionsAlgorithm(TablesAlgorithm[DocTables]):
    """Keeps collections documents equal.

    `declarations`: the declaration of all documents, or by pattern of the document's id, the first
    that matches (`{"board/*": board}`). `store` is usually left to `open_store`.
    """

    name: ClassVar[str] = "collections"
    edits_at_once: ClassVar[int] = _EDITS_AT_ONCE

    def __init__(
        self,
        declarations: Collections | Mapping[str, Collections],
        store: CollectionsStore | None = None,
        *,
        confirm_timeout_s: float = CONFIRM_TIMEOUT_S,
        runtime: Runtime | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.confirm_timeout_s = confirm_timeout_s
        self._declarations = Declarations(declarations)
        super().__init__(store, COLLECTIONS_STORES, _TRACKING, runtime=runtime, limits=limits)
        self._in_memory: WeakValueDictionary[str, CollectionsDoc] = WeakValueDictionary()

    def declaration_of(self, doc_id: str) -> Collections:
        """The declaration of a document. Raises `PatchesError` if no pattern matches its id."""
        return self._declarations.of(doc_id)

    def _is_stored(self, doc_id: str) -> transactions.IsStored:
        on_demand = self.declaration_of(doc_id).on_demand
        return lambda table: table not in on_demand

    # ---- tracking --------------------------------------------------------------------------------

    async def track_docs(self, doc_ids: Sequence[str]) -> None:
        for doc_id in doc_ids:
            self.declaration_of(doc_id)
        for doc_id in doc_ids:
            async with self._locks(doc_id):
                await self._store.change(doc_id, transactions.track)

    # ---- documents and local edits ---------------------------------------------------------------

    def create_doc(self, doc_id: str, snapshot: Snapshot | None = None) -> CollectionsDoc:
        return CollectionsDoc(
            doc_id,
            snapshot,
            declaration=self.declaration_of(doc_id),
            host=self,
            limits=self._limits,
        )

    async def load_doc(self, doc_id: str) -> Snapshot | None:
        """The synced rows of eager tables, and the pending changes."""
        work = await self._recovery.load(
            doc_id, lambda: self._store.read(doc_id, transactions.load)
        )
        if work is None:
            return None
        declaration = self.declaration_of(doc_id)
        if work.committed_rev and work.schema_version != declaration.version:
            async with self._locks(doc_id):
                await self._store.change(
                    doc_id,
                    lambda tables: transactions.complete_rows(
                        tables, completing(declaration), declaration.version
                    ),
                )
                work = await self._store.read(doc_id, transactions.load)
        return None if work is None else CollectionsSnapshot(work)

    async def handle_doc_changes(
        self, doc_id: str, edits: Sequence[LocalEdit], doc: Document | None
    ) -> list[list[Change]]:
        now, opened = self._runtime.wall_ms(), _opened(doc)
        async with self._locks(doc_id):
            # what was rolled back while it waited is empty
            kept = [edit for edit in edits if edit.ops]
            if not kept:
                return [[] for _ in edits]
            writes = [self._new_write(edit, opened) for edit in kept]
            known = None if opened is None else opened.version
            stored, step = await self._store.change(
                doc_id, lambda tables: transactions.add_writes(tables, writes, now, known)
            )
            if opened is not None:
                opened.saved([edit.ops for edit in kept], step)
            for edit, write in zip(kept, writes, strict=True):
                if not edit.ops:  # taken back while it was being stored
                    await self._forget(doc_id, write.id, opened)
        changes = iter(stored)
        written = {id(edit) for edit in kept}
        return [[next(changes)] if id(edit) in written else [] for edit in edits]

    def _new_write(self, edit: LocalEdit, doc: CollectionsDoc | None) -> NewWrite:
        write_id = (doc.write_id_of(edit.ops) if doc is not None else None) or edit.change_id
        write_id = write_id or self.new_id()
        call = call_ops.decode(edit.ops)
        if call is None:
            return NewWrite(write_id, list(edit.ops), edit.metadata)
        name, arguments = call
        ops = [] if doc is None else doc.optimistic_ops(write_id)
        action: Json = {"name": name, "args": arguments}
        return NewWrite(write_id, ops, {**edit.metadata, "action": action})

    # ---- sending ---------------------------------------------------------------------------------

    async def has_pending(self, doc_id: str) -> bool:
        return await self._store.read(doc_id, lambda tables: tables.has_pending())

    async def next_batch(
        self, doc_id: str, doc: Document | None, options: DocOptions
    ) -> list[Change]:
        async with self._locks(doc_id):
            pending = await self._store.read(doc_id, transactions.sendable)
        batch = fitting(pending, options, self._limits)
        opened = _opened(doc)
        if opened is not None:
            opened.sent(batch)
        return batch

    async def receive_answer(
        self,
        doc_id: str,
        sent: Sequence[Change],
        committed: Sequence[Change],
        doc: Document | None,
    ) -> list[Change]:
        """As `Algorithm` has it: `sent` is confirmed by the ids in the answer alone."""
        return await self._receive(doc_id, committed, doc)

    # ---- receiving -------------------------------------------------------------------------------

    async def apply_server_changes(
        self, doc_id: str, changes: Sequence[Change], doc: Document | None
    ) -> list[Change]:
        if not changes and doc is None:
            return []
        return await self._receive(doc_id, changes, doc)

    async def _receive(
        self, doc_id: str, changes: Sequence[Change], doc: Document | None
    ) -> list[Change]:
        opened, is_stored = _opened(doc), self._is_stored(doc_id)

        async def receive() -> transactions.Step:
            known = None if opened is None else opened.version
            return await self._store.change(
                doc_id, lambda tables: transactions.receive(tables, changes, is_stored, known)
            )

        async with self._locks(doc_id):
            step = await self._recovery.receive(doc_id, receive)
            if opened is not None:
                opened.follow(step)
        return list(step.accepted)

    async def install_snapshot(
        self,
        doc_id: str,
        snapshot: Snapshot,
        doc: Document | None,
        *,
        tail: Sequence[Change] = (),
        resolved: Sequence[Change] = (),
        is_new_history: bool = False,
        asked_at: int | None = None,
    ) -> None:
        """Replace the synced rows by the server's; pending changes stay on top."""
        opened, ids = _opened(doc), [change.id for change in resolved]
        version = self.declaration_of(doc_id).version

        def install(tables: DocTables) -> Work:
            rev = transactions.committed_rev(tables)
            if not is_new_history:
                check_not_outdated(doc_id, asked_at=asked_at, head=snapshot.head, rev=rev)
            return transactions.install(tables, snapshot, ids, self._is_stored(doc_id), version)

        async with self._locks(doc_id):
            work = await self._store.change(doc_id, install)
            if opened is not None:
                opened.install(work, snapshot=snapshot)
                opened.synced_again()

    async def handle_notification(
        self, doc_id: str, method: str, params: Mapping[str, Json], doc: Document | None
    ) -> None:
        """Rows in progress. They are shown, and never stored."""
        opened, changes = _opened(doc), params.get("changes")
        if opened is not None and method == "changesPartial" and isinstance(changes, list):
            opened.take_partials(changes)

    def connection_lost(self, doc_id: str, doc: Document | None) -> None:
        opened = _opened(doc)
        if opened is not None:
            opened.drop_partials()

    # ---- changes that the server refuses ---------------------------------------------------------

    async def eject_pending_change(
        self,
        doc_id: str,
        change_id: str,
        reason: str,
        doc: Document | None,
        *,
        only_if_unappliable: bool = False,
    ) -> QuarantinedChange | None:
        """As `Algorithm` has it. A write always applies here: only the server refuses it."""
        if only_if_unappliable:
            return None
        opened, now = _opened(doc), self._runtime.wall_ms()
        async with self._locks(doc_id):
            known = None if opened is None else opened.version
            ejected = await self._store.change(
                doc_id,
                lambda tables: transactions.eject(tables, doc_id, change_id, reason, now, known),
            )
            if ejected is None:
                return None
            entry, step = ejected
            if opened is not None:
                opened.rejected(change_id, reason, step)
        return entry

    async def retry_quarantined_change(
        self, doc_id: str, change_id: str, doc: Document | None
    ) -> list[Change]:
        opened = _opened(doc)
        async with self._locks(doc_id):
            known = None if opened is None else opened.version
            change, step = await self._store.change(
                doc_id, lambda tables: transactions.retry(tables, doc_id, change_id, known)
            )
            if opened is not None:
                opened.retried(change, step)
        return [change]

    # ---- a wire of its own -----------------------------------------------------------------------

    async def sync_options(self, doc_id: str) -> Mapping[str, Json] | None:
        return await self._options(doc_id)

    async def receive_token(self, doc_id: str, token: str | None, *, is_given: bool = True) -> None:
        if is_given:
            async with self._locks(doc_id):
                await self._store.change(
                    doc_id, lambda tables: transactions.put_token(tables, token)
                )
        if (doc := self._document(doc_id)) is not None:
            doc.synced_again()

    async def _options(self, doc_id: str) -> dict[str, Json]:
        token = await self._store.read(doc_id, transactions.token_of)
        options: dict[str, Json] = {"algorithm": self.name, "token": token}
        if on_demand := sorted(self.declaration_of(doc_id).on_demand):
            doc = self._document(doc_id)
            options["onDemand"] = list(on_demand)
            options["subsets"] = [] if doc is None else doc.interest.stated()
        return options

    def _document(self, doc_id: str) -> CollectionsDoc | None:
        doc = self._in_memory.get(doc_id)
        return None if doc is None or doc.is_closed else doc

    # ---- for its documents -----------------------------------------------------------------------

    @property
    def host(self) -> SyncHost | None:
        """Who syncs the documents, if anybody does."""
        return self._recovery.host

    def adopted(self, doc: Document) -> None:
        """A document is open."""
        assert isinstance(doc, CollectionsDoc)
        self._in_memory[doc.id] = doc

    def new_id(self) -> str:
        """An id for a change."""
        return random_id(self._runtime.random, _ID_LENGTH)

    def new_key(self) -> str:
        """A key for a row: a UUIDv7."""
        return uuid7(self._runtime.random, self._runtime.wall_ms())

    def now(self) -> int:
        """The time, in milliseconds."""
        return self._runtime.wall_ms()

    async def read_options(self, doc_id: str) -> Mapping[str, Json]:
        """The options of a call that reads."""
        return {"token": await self._store.read(doc_id, transactions.token_of)}

    async def forget_write(self, doc_id: str, write_id: str) -> None:
        """Take a stored write out of the store."""
        async with self._locks(doc_id):
            await self._forget(doc_id, write_id, self._document(doc_id))
        if self.host is not None:
            self.host.work_changed(doc_id)

    async def _forget(self, doc_id: str, write_id: str, opened: CollectionsDoc | None) -> None:
        known = None if opened is None else opened.version
        step = await self._store.change(
            doc_id, lambda tables: transactions.remove_write(tables, write_id, known)
        )
        if opened is not None and step is not None:
            opened.follow(step)


def _opened(doc: Document | None) -> CollectionsDoc | None:
    assert doc is None or isinstance(doc, CollectionsDoc)
    return doc
