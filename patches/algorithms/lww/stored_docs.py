"""`StoredDocs`: what everything in LWW's algorithm stands on.

The store, one lock per document, which documents are kept and what history they are of, and how an
open document follows what was done to its tables.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Final, TypeVar

from patches.algorithms.histories import Copy, Histories, installation_of
from patches.algorithms.lww import reading, transactions
from patches.algorithms.lww.doc import UNKNOWN_VERSION, LWWDoc, LWWSnapshot
from patches.algorithms.lww.steps import Step, Work
from patches.algorithms.lww.stores.factory import LWW_STORES
from patches.algorithms.lww.tables import DocTables, LWWStore
from patches.algorithms.tables import TablesAlgorithm, TrackingSteps
from patches.documents.document import Document
from patches.errors import OutdatedAnswerError
from patches.limits import Limits
from patches.model.change import Change, Snapshot
from patches.model.ids import IdSource, change_ids
from patches.model.json_values import Json, Op
from patches.options import DocOptions
from patches.runtime import Millis, Runtime

T = TypeVar("T")


_TRACKING: Final = TrackingSteps(
    reading.committed_rev,
    transactions.untrack,
    transactions.mark_deleted,
    transactions.confirm_deleted,
)


class StoredDocs(TablesAlgorithm[DocTables]):
    """The part of LWW's algorithm that knows the store."""

    name: ClassVar[str] = "lww"

    def __init__(
        self,
        store: LWWStore | None = None,
        *,
        options: DocOptions | None = None,
        runtime: Runtime | None = None,
        limits: Limits | None = None,
    ) -> None:
        super().__init__(store, LWW_STORES, _TRACKING, runtime=runtime, limits=limits)
        self._options = options or DocOptions()
        self._histories = Histories(self.name, self._load_copy, self._save_token)

    # ---- tracking --------------------------------------------------------------------------------

    async def track_docs(self, doc_ids: Sequence[str]) -> None:
        """Keep these documents from now on; one that was deleted starts again at revision 0."""
        for doc_id in doc_ids:
            async with self._locks(doc_id):
                await self._store.change(doc_id, transactions.track)

    def _forgotten(self, doc_id: str) -> None:
        self._histories.drop(doc_id)

    async def load_doc(self, doc_id: str) -> Snapshot | None:
        """The committed state, the pieces being sent and one change of all pending ops."""
        work = await self._recovery.load(doc_id, lambda: self._store.read(doc_id, reading.load))
        if work is None:
            return None
        changes = list(work.sending)
        if work.pending:
            now = self._runtime.wall_ms()
            changes.append(self._change(work.pending, work.committed_rev, now))
        return LWWSnapshot(work, changes)

    # ---- history ---------------------------------------------------------------------------------

    async def sync_options(self, doc_id: str) -> Mapping[str, Json] | None:
        return await self._histories.options(doc_id)

    async def commit_options(self, doc_id: str) -> Mapping[str, Json] | None:
        return await self._histories.commit_options(doc_id)

    async def receive_token(self, doc_id: str, token: str | None, *, is_given: bool = True) -> None:
        async with self._locks(doc_id):
            await self._histories.receive_token(doc_id, token, is_given=is_given)

    async def _load_copy(self, doc_id: str) -> Copy:
        return await self._store.read(doc_id, reading.copy_of)

    async def _save_token(self, doc_id: str, token: str | None) -> None:
        asked = self._histories.asked_about(doc_id)
        await self._store.change(
            doc_id, lambda tables: transactions.put_token(tables, token, asked)
        )

    # ---- inside ----------------------------------------------------------------------------------

    async def _received(self, doc_id: str, receive: Callable[[DocTables], T]) -> T:
        """The result of a transaction that applies what the server said."""
        try:
            return await self._store.change(doc_id, receive)
        except OutdatedAnswerError as exc:
            if exc.is_replaced:
                self._histories.forget(doc_id)
            raise

    async def _follow(
        self, doc_id: str, doc: LWWDoc | None, step: Step | None, saved_edit: list[Op] | None = None
    ) -> None:
        """Bring the open document to where a step has brought the tables; under the lock."""
        if step is not None and step.history is not None:
            self._histories.advance(doc_id, step.history.last_rev, step.history.last_id)
        if doc is None or step is None:
            return
        known = doc.stored.version
        if doc.follow(step, saved_edit):
            if step.work is None:  # it is of the installation that the document has
                self._histories.seen_at(doc_id, doc.committed_rev)
                return
        else:
            work = await self._store.read(doc.id, reading.load)
            if work is not None:
                doc.install(work)
        self._notice(doc, known)

    async def get_committed_rev(self, doc_id: str) -> int:
        """The last revision known here, 0 if none."""
        rev = await super().get_committed_rev(doc_id)
        self._histories.seen_at(doc_id, rev)
        return rev

    def _take(self, doc: LWWDoc, work: Work) -> None:
        """Show everything that is stored."""
        known = doc.stored.version
        doc.install(work)
        self._notice(doc, known)

    def _notice(self, doc: LWWDoc, known: int | None) -> None:
        """Tell the coordinator if a document has taken over what another process has installed."""
        self._histories.seen_at(doc.id, doc.committed_rev)
        if known is None or known == UNKNOWN_VERSION or not doc.committed_rev:
            return
        if installation_of(known) != installation_of(doc.stored.version):
            self._histories.forget(doc.id)
            if self._recovery.host is not None:
                self._recovery.host.replaced(doc.id, doc.committed_rev)

    def _change(
        self,
        ops: Sequence[Op],
        rev: int,
        now: Millis,
        *,
        change_id: str | None = None,
        metadata: Mapping[str, Json] | None = None,
    ) -> Change:
        return Change(
            id=change_id or change_ids(self._runtime.random)(rev + 1),
            ops=list(ops),
            base_rev=rev,
            rev=rev + 1,
            created_at=now,
            metadata=dict(metadata or {}),
        )

    def _own_ids(self) -> IdSource:
        """Ids for a function in another thread, where the runtime's source must not be used."""
        return change_ids(random.Random(self._runtime.random.getrandbits(64)))


def lww_doc(doc: Document | None) -> LWWDoc | None:
    """An open document as its own algorithm knows it."""
    assert doc is None or isinstance(doc, LWWDoc)  # an algorithm gets its own documents only
    return doc
