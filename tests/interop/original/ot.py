"""The original's OT algorithm on the client, over its memory store.

The rules: `docs/internals/ot.md` 9 and 10.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from patches.aio.keyed_locks import KeyedLocks
from patches.algorithms.ot import apply_changes, rebase_changes
from patches.errors import MissingChangesError
from patches.model.change import Change, Snapshot
from patches.model.ids import random_id
from patches.model.json_values import Json, Op
from patches.runtime import Runtime
from tests.interop.original.ot_doc import OriginalOTDoc
from tests.interop.original.turns import Turns


@dataclass
class _Stored:
    state: Json = None
    rev: int = 0
    committed: list[Change] = field(default_factory=list)
    pending: list[Change] = field(default_factory=list)

    @property
    def head(self) -> int:
        return self.committed[-1].rev if self.committed else self.rev

    def fold(self) -> None:
        """Raises `ApplyChangesError` while what is committed cannot be applied."""
        self.state, self.rev = apply_changes(self.state, self.committed), self.head
        self.committed = []


class OriginalOT:
    """Owns the stored queue; the lock covers minting and receiving, as there (9.1)."""

    name = "ot"

    def __init__(self, turns: Turns, runtime: Runtime) -> None:
        self._turns, self._runtime = turns, runtime
        self._docs: dict[str, _Stored] = {}
        self._locks = KeyedLocks()

    # ---- the store -------------------------------------------------------------------------------

    def track(self, doc_id: str) -> None:
        self._docs.setdefault(doc_id, _Stored())

    def untrack(self, doc_id: str) -> None:
        self._docs.pop(doc_id, None)

    def mark_deleted(self, doc_id: str) -> None:
        self._docs.pop(doc_id, None)

    def open_doc(self, doc_id: str) -> OriginalOTDoc:
        return OriginalOTDoc(self.load(doc_id))

    def committed_rev(self, doc_id: str) -> int:
        return self._docs[doc_id].head if doc_id in self._docs else 0

    def committed_state(self, doc_id: str) -> Json:
        stored = self._docs[doc_id]
        return apply_changes(stored.state, stored.committed)

    def has_pending(self, doc_id: str) -> bool:
        return doc_id in self._docs and bool(self._docs[doc_id].pending)

    def pending_ops(self, doc_id: str) -> list[list[Op]]:
        return [c.ops for c in self._docs[doc_id].pending] if doc_id in self._docs else []

    def peek_pending_head(self, doc_id: str) -> str | None:
        return self._docs[doc_id].pending[0].id if self.has_pending(doc_id) else None

    def load(self, doc_id: str) -> Snapshot:
        stored = self._docs[doc_id]
        stored.fold()
        return Snapshot(state=stored.state, rev=stored.rev, changes=list(stored.pending))

    def save(self, doc_id: str, snapshot: Snapshot) -> None:
        stored = self._docs[doc_id]
        stored.state, stored.rev = snapshot.state, snapshot.rev
        stored.committed = list(snapshot.changes)

    def replace_pending(self, doc_id: str, old: Sequence[Change], new: Sequence[Change]) -> bool:
        stored, replaced = self._docs[doc_id], {change.id for change in old}
        since = [change for change in stored.pending if change.id not in replaced]
        stored.pending = [*new, *_numbered(since, new[-1].rev if new else stored.head)]
        return True

    def drop_pending(self, doc_id: str, ids: set[str]) -> int:
        stored = self._docs[doc_id]
        left = [change for change in stored.pending if change.id not in ids]
        dropped, stored.pending = len(stored.pending) - len(left), left
        return dropped

    def drop_resolved(
        self, doc_id: str, sent: Sequence[Change], committed: Sequence[Change]
    ) -> int:
        """What the server answered without naming it came to nothing there (9.6)."""
        return self.drop_pending(doc_id, {c.id for c in sent} - {c.id for c in committed})

    def reconcile(self, doc_id: str, tail: Sequence[Change]) -> None:
        """Rebase the queue, in the store only, onto what a reload is about to install (9.8)."""
        stored = self._docs[doc_id]
        if tail:
            stored.pending = rebase_changes(tail, stored.pending)
            stored.committed += [change for change in tail if change.rev > stored.head]

    # ---- the algorithm ---------------------------------------------------------------------------

    async def handle_doc_change(
        self,
        doc_id: str,
        ops: list[Op],
        doc: OriginalOTDoc | None,
        change_id: str | None = None,
    ) -> bool:
        """Store an edit and make it pending; whether there was anything left of it."""
        change_id = change_id or random_id(self._turns.random, 12)
        async with self._locks(doc_id):
            await self._turns.take()
            stored = self._docs.get(doc_id)
            if not ops or stored is None:
                return False
            tail = stored.pending[-1].rev if stored.pending else stored.head
            change = Change(
                id=change_id,
                ops=list(ops),
                base_rev=doc.committed_rev if doc is not None else stored.head,
                rev=tail + 1,
                created_at=self._runtime.wall_ms(),
            )
            stored.pending.append(change)
            if doc is not None:
                doc.take_own([change])
            return True

    async def get_pending_to_send(self, doc_id: str) -> list[Change] | None:
        """The leading run of one `baseRev` (9.3)."""
        await self._turns.take()
        pending = self._docs[doc_id].pending if doc_id in self._docs else []
        if not pending:
            return None
        base_rev = pending[0].base_rev
        mixed = next((at for at, c in enumerate(pending) if c.base_rev != base_rev), None)
        return pending[:mixed]

    async def confirm_sent(self, doc_id: str, sent: Sequence[Change]) -> bool:
        """Nothing: the echo confirms."""
        return False

    async def apply_server_changes(
        self, doc_id: str, changes: Sequence[Change], doc: OriginalOTDoc | None
    ) -> None:
        """Take what is new of it (9.4). Raises `MissingChangesError`, `ApplyChangesError`."""
        async with self._locks(doc_id):
            await self._turns.take()
            stored = self._docs.get(doc_id)
            if stored is None or not changes:
                return
            base = doc.committed_rev if doc is not None else stored.head
            new = [change for change in changes if change.rev > base]
            if _gap(new, base) and stored.head > base:
                base = stored.head
                new = [change for change in changes if change.rev > base]
            if (gap := _gap(new, base)) is not None:
                raise gap
            stale = {change.id for change in changes if change.rev <= base}
            pending = [change for change in stored.pending if change.id not in stale]
            rebased = rebase_changes(new, pending)
            stored.committed += [change for change in changes if change.rev > stored.head]
            stored.pending = rebased
            if doc is None:
                return
            if len(new) == len(changes) and new[0].rev == doc.committed_rev + 1:
                doc.take_server(new, rebased)
            else:
                doc.load(self.load(doc_id))


def _gap(new: Sequence[Change], base: int) -> MissingChangesError | None:
    expected = base + 1
    for at, change in enumerate(new):
        is_root = len(change.ops) == 1 and change.ops[0]["path"] == ""
        if change.rev != expected and not (at == 0 and is_root):
            return MissingChangesError(expected_rev=expected, got_rev=change.rev, since_rev=base)
        expected = change.rev + 1
    return None


def _numbered(queue: Sequence[Change], after: int) -> list[Change]:
    return [change.replace(rev=after + place) for place, change in enumerate(queue, start=1)]
