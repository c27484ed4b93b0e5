"""What OT needs of a client's store: the Protocol, and what its calls give."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol, TypeAlias

from patches.algorithms.histories import installation_of
from patches.model.change import Change, QuarantinedChange, Snapshot, TrackedDoc
from patches.model.history import NO_HISTORY, History
from patches.model.json_values import Json

#: Answer of a replacing call that found the pending queue moved. Nothing was changed.
Conflict: TypeAlias = Literal["conflict"]
CONFLICT: Final[Conflict] = "conflict"


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuePosition:
    """Which pending queue somebody has seen. Two equal positions are the same queue.

    `version` counts what was done to the queue beside appending to it, and identifies the
    installation that the committed part is of; `tail_rev` is the revision of the last pending
    change, or the committed one.
    """

    committed_rev: int = 0
    version: int = 0
    tail_rev: int = 0

    def is_of_same_install(self, other: QueuePosition) -> bool:
        """Whether the committed parts differ at most by changes that were applied to one of them.

        Installed anew, the same revisions may be those of another history.
        """
        return self.installation == other.installation

    @property
    def installation(self) -> int:
        """The number of the installation that the committed part stems from."""
        return installation_of(self.version)

    def is_behind(self, other: QueuePosition) -> bool:
        """Whether the store has lost what it had at another position: all that is done moves the
        position on.
        """
        return (self.version, self.tail_rev) < (other.version, other.tail_rev)

    def appended(self, count: int) -> QueuePosition:
        """After `count` more changes."""
        return QueuePosition(
            committed_rev=self.committed_rev, version=self.version, tail_rev=self.tail_rev + count
        )

    def replaced(self, committed_rev: int, pending: Sequence[Change]) -> QueuePosition:
        """After one call that replaced the queue."""
        return QueuePosition(
            committed_rev=committed_rev,
            version=self.version + 1,
            tail_rev=pending[-1].rev if pending else committed_rev,
        )


@dataclass(frozen=True, slots=True)
class PendingQueue:
    """A document's pending changes in order, and what they were read with.

    `committed`: the changes committed after the requested revision, as far as they are
    kept.
    """

    committed_rev: int
    pending: list[Change]
    version: int = 0
    committed: list[Change] = field(default_factory=list, compare=False)

    @property
    def tail_rev(self) -> int:
        """The revision of the last pending change, or the committed one."""
        return self.pending[-1].rev if self.pending else self.committed_rev

    @property
    def position(self) -> QueuePosition:
        """Where the queue stands."""
        committed_rev = self.committed_rev
        tail_rev = self.pending[-1].rev if self.pending else committed_rev
        return QueuePosition(committed_rev=committed_rev, version=self.version, tail_rev=tail_rev)


class StoredSnapshot(Snapshot):
    """A document as it is stored, with the version of its queue."""

    __slots__ = ("version",)

    def __init__(self, *, state: Json, rev: int, changes: Sequence[Change], version: int) -> None:
        super().__init__(state=state, rev=rev, changes=changes)
        self.version: int = version

    @classmethod
    def of(cls, state: Json, queue: PendingQueue) -> StoredSnapshot:
        """A queue with the committed state below it."""
        return cls(
            state=state, rev=queue.committed_rev, changes=queue.pending, version=queue.version
        )

    @property
    def position(self) -> QueuePosition:
        """Where the queue stands."""
        return QueuePosition(committed_rev=self.rev, version=self.version, tail_rev=self.head)


class OTClientStore(Protocol):
    """Committed state, pending changes and quarantine of OT documents.

    Every call is one transaction: all of it happens or none. Several processes may share a store. A
    call that writes to a queue is given the queue that it was computed from (`read`): if the store
    holds another one by now, it changes nothing and returns `CONFLICT`. So each change stands on
    what is before it in the queue. Appending raises `tail_rev` by as many; `install_doc` raises
    `version` to `version_after_install` of it, every other write to the queue or the committed part
    by one. A document is known once it was tracked or anything was saved for it; one that was
    forgotten and is known again repeats no version.
    """

    async def track_docs(self, doc_ids: Sequence[str]) -> None:
        """Record documents. Known ones stay as they are; a deleted one starts again at 0."""

    async def untrack_docs(self, doc_ids: Sequence[str]) -> None:
        """Remove the record, the state and all changes. Keeps what is in quarantine."""

    async def list_docs(self, include_deleted: bool = False) -> list[TrackedDoc]:
        """All recorded documents with the revision of their last committed change."""

    async def get_doc(self, doc_id: str) -> StoredSnapshot | None:
        """Committed state and revision with all pending changes; `None` if unknown or deleted.

        Pending changes are given as they are stored. A committed change that cannot be applied is
        left out of the state.
        """

    async def install_doc(
        self,
        doc_id: str,
        snapshot: Snapshot,
        rebased_pending: Sequence[Change],
        read: PendingQueue,
        history: History = NO_HISTORY,
        aside: Sequence[QuarantinedChange] = (),
        committed_ids: Collection[str] = (),
    ) -> Conflict | None:
        """Replace the committed part by a state and *committed* changes, the queue, the history.

        `aside` goes into quarantine; changes that are known to be committed leave it.
        """

    async def get_history(self, doc_id: str) -> History:
        """The history that was installed, with the newest change that was applied since."""

    async def put_token(self, doc_id: str, token: str | None) -> None:
        """Replace the history's token."""

    async def delete_doc(self, doc_id: str) -> None:
        """Remove everything, quarantine too, and keep a deleted record."""

    async def confirm_delete_doc(self, doc_id: str) -> None:
        """Drop a deleted record."""

    async def load_position(self, doc_id: str) -> QueuePosition:
        """Where the queue stands, without reading it."""

    async def load_queue(self, doc_id: str, *, committed_after: int | None = None) -> PendingQueue:
        """The pending changes, with the committed ones that are kept above `committed_after`."""

    async def load_appended(self, doc_id: str, known: QueuePosition) -> list[Change] | None:
        """What was appended to the queue at `known`; `None` if it is another queue by now, or the
        store has lost the end of it.
        """

    async def save_pending_edits(
        self, doc_id: str, edits: Sequence[Sequence[Change]], read: QueuePosition
    ) -> list[list[Change]] | Conflict:
        """Append the changes of several edits to the queue. Returns them with their revisions.

        The revisions count upwards from the largest the document has. A deleted document starts
        again with them.
        """

    async def apply_server_changes(
        self,
        doc_id: str,
        server_changes: Sequence[Change],
        rebased_pending: Sequence[Change],
        read: PendingQueue,
    ) -> Conflict | None:
        """Append committed changes above the stored revision and replace all pending ones.

        One that is in quarantine leaves it: it was ejected while it was under way, and committed.
        """

    async def quarantine_pending_change(
        self,
        doc_id: str,
        refused: Change,
        reason: str,
        rebased_pending: Sequence[Change],
        read: PendingQueue,
    ) -> QuarantinedChange | Conflict | None:
        """Move a pending change into quarantine and replace the queue; `None` if it is gone."""

    async def quarantine_edit(self, entry: QuarantinedChange) -> None:
        """Put an edit into quarantine that was not in the queue."""

    async def list_quarantined_changes(self, doc_id: str | None = None) -> list[QuarantinedChange]:
        """What is in quarantine, oldest first."""

    async def discard_quarantined_change(self, doc_id: str, change_id: str) -> None:
        """Remove a change from quarantine, if it is there."""

    async def requeue_quarantined_change(
        self, doc_id: str, change_id: str, changes: Sequence[Change], read: QueuePosition
    ) -> list[Change] | Conflict | None:
        """Remove a change from quarantine and append `changes` to the queue.

        `None`, and nothing is appended, if it is not in quarantine.
        """
