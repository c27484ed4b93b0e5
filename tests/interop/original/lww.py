"""The original's LWW algorithm on the client (`docs/internals/lww.md` 11).

What makes `docs/internals/sync.md` 12.2 possible is here: a change whose id was sent is exempt from
every check, and its rows are put over whatever stands there.
"""

from __future__ import annotations

from collections.abc import Sequence

from patches.aio.keyed_locks import KeyedLocks
from patches.algorithms.lww import consolidate_ops, merge_server_with_local
from patches.errors import MissingChangesError
from patches.model.change import Change, Snapshot
from patches.model.ids import change_ids
from patches.model.json_values import Json, Op
from patches.runtime import Runtime
from tests.interop.original.lww_store import OriginalLWWDoc, StoredLWW
from tests.interop.original.turns import Turns


class OriginalLWW:
    """One mutex for each document, around each step (11)."""

    name = "lww"

    def __init__(self, turns: Turns, runtime: Runtime) -> None:
        self._turns, self._runtime = turns, runtime
        self._new_id = change_ids(turns.random)
        self._docs: dict[str, StoredLWW] = {}
        self._expected: dict[str, set[str]] = {}
        self._locks = KeyedLocks()

    # ---- the store -------------------------------------------------------------------------------

    def track(self, doc_id: str) -> None:
        self._docs.setdefault(doc_id, StoredLWW())

    def untrack(self, doc_id: str) -> None:
        self._docs.pop(doc_id, None)
        self._expected.pop(doc_id, None)

    def mark_deleted(self, doc_id: str) -> None:
        self.untrack(doc_id)

    def open_doc(self, doc_id: str) -> OriginalLWWDoc:
        return OriginalLWWDoc(self.load(doc_id))

    def stored(self, doc_id: str) -> StoredLWW:
        """The document's rows."""
        return self._docs[doc_id]

    def committed_rev(self, doc_id: str) -> int:
        return self._docs[doc_id].committed_rev if doc_id in self._docs else 0

    def committed_state(self, doc_id: str) -> Json:
        return self._docs[doc_id].committed_state()

    def has_pending(self, doc_id: str) -> bool:
        return doc_id in self._docs and bool(self._docs[doc_id].unsent)

    def pending_ops(self, doc_id: str) -> list[list[Op]]:
        return [self._docs[doc_id].unsent] if self.has_pending(doc_id) else []

    def peek_pending_head(self, doc_id: str) -> str | None:
        """Not there for LWW: so the head never moves (`docs/internals/sync.md` 12.1)."""
        return None

    def load(self, doc_id: str) -> Snapshot:
        return self._docs[doc_id].load(self._new_id, self._runtime.wall_ms())

    def save(self, doc_id: str, snapshot: Snapshot) -> None:
        self._docs[doc_id].save(snapshot)

    def replace_pending(self, doc_id: str, old: Sequence[Change], new: Sequence[Change]) -> bool:
        """Not there for LWW: the pieces of a split are not stored (15)."""
        return False

    def drop_pending(self, doc_id: str, ids: set[str]) -> int:
        return 0

    def drop_resolved(
        self, doc_id: str, sent: Sequence[Change], committed: Sequence[Change]
    ) -> int:
        return 0

    def reconcile(self, doc_id: str, tail: Sequence[Change]) -> None:
        """Nothing: rows are absolute."""

    # ---- the algorithm ---------------------------------------------------------------------------

    async def handle_doc_change(
        self, doc_id: str, ops: list[Op], doc: OriginalLWWDoc | None
    ) -> bool:
        """Store an edit with the time of now (11.1)."""
        async with self._locks(doc_id):
            await self._turns.take()
            stored = self._docs.get(doc_id)
            if not ops or stored is None:
                return False
            now = self._runtime.wall_ms()
            timed: list[Op] = [{**op, "ts": now} for op in ops]
            existing = stored.pending_at_or_below([op["path"] for op in timed])
            done = consolidate_ops(existing, timed)
            for path in done.paths_to_delete:
                stored.pending.pop(path, None)
            stored.pending |= {op["path"]: op for op in done.ops_to_save}
            saved_at = {op["path"] for op in done.ops_to_save}
            if doc is not None:
                retired = [op for op in existing if op["path"] in saved_at]
                doc.take_own(timed, done.ops_to_save, retired)
            return True

    async def get_pending_to_send(self, doc_id: str) -> list[Change] | None:
        """What is on its way again, or all that waits (11.2)."""
        async with self._locks(doc_id):
            await self._turns.take()
            stored = self._docs.get(doc_id)
            if stored is None:
                return None
            if stored.sending is None and stored.pending:
                rev = stored.committed_rev + 1
                stored.sending = Change(
                    id=self._new_id(rev),
                    ops=list(stored.pending.values()),
                    base_rev=stored.committed_rev,
                    rev=rev,
                    created_at=self._runtime.wall_ms(),
                )
                stored.pending = {}
            return [stored.sending] if stored.sending is not None else None

    async def confirm_sent(self, doc_id: str, sent: Sequence[Change]) -> bool:
        """Whether the document must be loaded again (11.4)."""
        self._expected[doc_id] = {change.id for change in sent}
        async with self._locks(doc_id):
            await self._turns.take()
            if doc_id not in self._docs:
                return False
            return self._docs[doc_id].confirm({op["path"] for c in sent for op in c.ops})

    async def apply_server_changes(
        self, doc_id: str, changes: Sequence[Change], doc: OriginalLWWDoc | None
    ) -> None:
        """Take what is not stale (11.3). Raises `MissingChangesError`."""
        async with self._locks(doc_id):
            await self._turns.take()
            stored = self._docs.get(doc_id)
            if stored is None or not changes:
                return
            accepted = self._accepted(stored.committed_rev, changes, self._expected.get(doc_id, ()))
            if not accepted:
                return  # the refresh for another context on the same store is left out
            stored.apply_server(accepted)
            if doc is not None:
                doc.take_server(merge_server_with_local(accepted, stored.unsent))

    def _accepted(
        self, cursor: int, changes: Sequence[Change], expected: set[str] | tuple[()]
    ) -> list[Change]:
        accepted = []
        for change in changes:
            if change.id not in expected:
                if change.rev <= cursor and change.base_rev < cursor:
                    continue
                if change.base_rev > cursor:
                    raise MissingChangesError(
                        expected_rev=cursor + 1, got_rev=change.rev, since_rev=cursor
                    )
            accepted.append(change)
            cursor = max(cursor, change.rev)
        return accepted
