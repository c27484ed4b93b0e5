"""What OT needs of a client's store: the Protocol, and what its calls give."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol, TypeAlias

from patches.model.change import Change, QuarantinedChange, Snapshot, TrackedDoc

#: Answer of a replacing call that found the pending queue moved. Nothing was changed.
Conflict: TypeAlias = Literal["conflict"]
CONFLICT: Final[Conflict] = "conflict"


@dataclass(frozen=True, slots=True)
class PendingQueue:
    """A document's pending changes in order, and the committed revision they were read with."""

    committed_rev: int
    pending: list[Change]

    @property
    def tail_rev(self) -> int:
        """The revision of the last pending change, or the committed one."""
        return self.pending[-1].rev if self.pending else self.committed_rev


class OTClientStore(Protocol):
    """Committed state, pending changes and quarantine of OT documents (`spec/ot.md` 10).

    Every call is one transaction: all of it happens or none. Several processes may share a store:
    revisions of pending changes are given inside the transaction, and a call that replaces the
    queue is given the queue it was computed from (`read`); if the committed revision has moved
    since, the store holds a pending change with a revision above `read.tail_rev`, or one of
    `read.pending` has gone into quarantine, it changes nothing and returns `CONFLICT`. A document
    is known once it was tracked or anything was saved for it.
    """

    async def track_docs(self, doc_ids: Sequence[str]) -> None:
        """Record documents. Known ones stay as they are; a deleted one starts again at 0."""

    async def untrack_docs(self, doc_ids: Sequence[str]) -> None:
        """Remove the record, the state and all changes. Keeps what is in quarantine."""

    async def list_docs(self, include_deleted: bool = False) -> list[TrackedDoc]:
        """All recorded documents with the revision of their last committed change."""

    async def get_doc(self, doc_id: str) -> Snapshot | None:
        """Committed state and revision with all pending changes; `None` if unknown or deleted.

        Pending changes are given as they are stored. A committed change that cannot be applied is
        left out of the state.
        """

    async def get_committed_rev(self, doc_id: str) -> int:
        """The last committed revision, 0 if unknown."""

    async def save_doc(self, doc_id: str, snapshot: Snapshot) -> None:
        """Replace the committed part: a state and *committed* changes on it. Pending stays."""

    async def install_doc(
        self,
        doc_id: str,
        snapshot: Snapshot,
        rebased_pending: Sequence[Change],
        read: PendingQueue,
    ) -> Conflict | None:
        """`save_doc`, and replace all pending changes."""

    async def delete_doc(self, doc_id: str) -> None:
        """Remove everything, quarantine too, and keep a deleted record."""

    async def confirm_delete_doc(self, doc_id: str) -> None:
        """Drop a deleted record."""

    async def load_queue(self, doc_id: str) -> PendingQueue:
        """The pending changes and the committed revision, read together."""

    async def get_pending_changes(
        self, doc_id: str, *, start_after_rev: int | None = None, limit: int | None = None
    ) -> list[Change]:
        """Pending changes in order, those above `start_after_rev`, at most `limit`."""

    async def save_pending_changes(self, doc_id: str, changes: Sequence[Change]) -> list[Change]:
        """Append changes to the queue. Returns them with the revisions they got.

        The revisions count upwards from the largest the document has. A deleted document starts
        again with them. If the first of them is pending already, this call was made before, by
        somebody who did not learn of its success: nothing is appended, and the pending changes from
        that one on are returned, as many as were given.
        """

    async def save_pending_edits(
        self, doc_id: str, edits: Sequence[Sequence[Change]]
    ) -> list[list[Change]]:
        """`save_pending_changes` for one edit after the other, all in one transaction."""

    async def drop_pending_changes(self, doc_id: str, change_ids: Iterable[str]) -> int:
        """Remove pending changes by id. Returns how many there were."""

    async def list_changes(self, doc_id: str, *, start_after: int | None = None) -> list[Change]:
        """Stored committed changes, then pending ones, by revision.

        Committed changes that were folded into the state are not listed.
        """

    async def apply_server_changes(
        self,
        doc_id: str,
        server_changes: Sequence[Change],
        rebased_pending: Sequence[Change],
        read: PendingQueue | None = None,
    ) -> Conflict | None:
        """Append committed changes above the stored revision and replace all pending ones.

        One that is in quarantine leaves it: it was ejected while it was under way, and committed.
        """

    async def quarantine_pending_change(
        self,
        doc_id: str,
        poison: Change,
        reason: str,
        rebased_pending: Sequence[Change],
        read: PendingQueue | None = None,
    ) -> QuarantinedChange | Conflict | None:
        """Move a pending change into quarantine and replace the queue; `None` if it is gone."""

    async def list_quarantined_changes(self, doc_id: str | None = None) -> list[QuarantinedChange]:
        """What is in quarantine, oldest first."""

    async def discard_quarantined_change(self, doc_id: str, change_id: str) -> None:
        """Remove a change from quarantine, if it is there."""

    async def requeue_quarantined_change(
        self, doc_id: str, change_id: str, changes: Sequence[Change]
    ) -> list[Change] | None:
        """Remove a change from quarantine and append `changes`, as `save_pending_changes` does.

        `None`, and nothing is appended, if it is not in quarantine.
        """
