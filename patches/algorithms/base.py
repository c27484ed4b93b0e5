"""`Algorithm`: the one interface between an algorithm and everything above it.

`Patches` and the sync coordinator never ask which algorithm a document uses. The coordinator owns
order, retries, status and subscriptions; everything that differs between algorithms is behind these
methods: what an edit becomes, what leaves for the server in which frames, how an answer confirms
it, what a received change does to unsent work, how a document is rebuilt after a reload
(`docs/decisions.md`).

It has four parts, by who calls them: `Tracking`, `Editing`, `Syncing` and `Quarantine`. What each
method returns and leaves behind is held by `patches.testing.contracts.algorithm`;
`docs/internals/algorithm.md` says how to write one.

Calls about one document may overlap; an algorithm orders its own (one lock per document, never held
over the network). A `doc` argument is the open document, or `None` where it is not open.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from patches.aio.signals import Signal
from patches.errors import ChangeRefusedError, ErrorContext, PatchesError, StatusError
from patches.model.change import Change, QuarantinedChange, Snapshot, TrackedDoc
from patches.model.json_values import Json, Op
from patches.options import DocOptions

if TYPE_CHECKING:
    from patches.documents.document import Document
    from patches.stores.backend import Backend


@dataclass(frozen=True, slots=True)
class LocalEdit:
    """One edit on its way to the store.

    `ops` is the very list that the open document holds among its unsaved edits.
    """

    ops: list[Op]
    metadata: Mapping[str, Json]
    change_id: str | None = None


class SyncHost(Protocol):
    """What an algorithm may ask of the coordinator that syncs its documents."""

    async def call(self, method: str, *params: Any) -> Json:
        """Call a method of the server. Raises `NetworkError`, and as the server answers."""

    def reload(self, doc_id: str) -> None:
        """Fetch a document whole, when that is possible; unsent work stays on top."""

    def work_changed(self, doc_id: str) -> None:
        """Unsent work was taken back, or is to be sent now, whatever stood against it before."""

    def replaced(self, doc_id: str, rev: int) -> None:
        """Another process that shares the store has replaced the copy of a document, which is at
        `rev` now. What the server said before was about the copy that is gone.
        """


class Tracking(ABC):
    """Which documents are kept here, and how far. Called by `Patches`."""

    @abstractmethod
    async def track_docs(self, doc_ids: Sequence[str]) -> None:
        """Keep these documents from now on; one that was deleted starts again at revision 0."""

    @abstractmethod
    async def untrack_docs(self, doc_ids: Sequence[str]) -> None:
        """Forget these documents' local data. What is in quarantine stays."""

    @abstractmethod
    async def list_docs(self, include_deleted: bool = False) -> list[TrackedDoc]:
        """The tracked documents, and with `include_deleted` those whose deletion is unconfirmed."""

    @abstractmethod
    async def get_committed_rev(self, doc_id: str) -> int:
        """The last revision known here, 0 if none."""

    @abstractmethod
    async def delete_doc(self, doc_id: str) -> None:
        """Replace the document's data by a tombstone until the server has deleted it too."""

    @abstractmethod
    async def confirm_delete_doc(self, doc_id: str) -> None:
        """Drop the tombstone."""


class Editing(ABC):
    """Documents in memory, and what an edit becomes. Called by `Patches`."""

    #: How many edits `handle_doc_changes` can be given.
    edits_at_once: ClassVar[int] = 1

    @abstractmethod
    def create_doc(self, doc_id: str, snapshot: Snapshot | None = None) -> Document:
        """An open document over what `load_doc` gave."""

    @abstractmethod
    async def load_doc(self, doc_id: str) -> Snapshot | None:
        """Committed state and pending changes, or `None` if nothing is stored."""

    @abstractmethod
    async def handle_doc_changes(
        self, doc_id: str, edits: Sequence[LocalEdit], doc: Document | None
    ) -> list[list[Change]]:
        """Make edits durable, at most `edits_at_once`, and confirm them to the open document.

        All or nothing: when it raises, none is stored, as far as it knows; an edit whose id is
        stored already by a call that failed is not stored again. One whose list of operations a
        rebase has emptied meanwhile is skipped. Returns the changes stored for each, `[]` if none.
        """

    async def handle_doc_change(
        self,
        doc_id: str,
        ops: list[Op],
        doc: Document | None,
        metadata: Mapping[str, Json],
        change_id: str | None = None,
    ) -> list[Change]:
        """`handle_doc_changes` for one edit."""
        edit = LocalEdit(ops, metadata, change_id)
        (stored,) = await self.handle_doc_changes(doc_id, [edit], doc)
        return stored

    async def list_pending(self, doc_id: str, doc: Document | None) -> list[Change]:
        """All unconfirmed work, to be handed to the application when the document goes.

        What only `doc` holds, although it was stored once, belongs to it; unsaved edits do not.
        """
        snapshot = await self.load_doc(doc_id)
        return list(snapshot.changes) if snapshot is not None else []


class Syncing(ABC):
    """Sending, receiving and reloading. Called by the coordinator, one call at a time."""

    @abstractmethod
    async def has_pending(self, doc_id: str) -> bool:
        """Whether the store holds work that the server has not confirmed."""

    async def withholds_work(self, doc_id: str) -> bool:
        """Whether the store holds unsent work of which none is for sending now. Most algorithms
        never do that.

        It is asked after an empty `next_batch`, and answered from one read of the store: between
        two, another process that shares it may have added work. Until an edit is made here the
        coordinator does not ask for a batch again.
        """
        return False

    @abstractmethod
    async def next_batch(
        self, doc_id: str, doc: Document | None, options: DocOptions
    ) -> list[Change]:
        """The changes to send in the next `commitChanges`, `[]` if the store holds none, or none
        for sending now (`withholds_work`).

        Asked again after each answer, so nothing is computed ahead. What it returns is in the store
        under the ids that are sent; called again without an answer in between, it returns the same
        ids. `options` is complete except where a limit is off (`None`). Raises
        `UnsplittableChangeError`.
        """

    @abstractmethod
    async def receive_answer(
        self,
        doc_id: str,
        sent: Sequence[Change],
        committed: Sequence[Change],
        doc: Document | None,
    ) -> list[Change]:
        """Apply the answer to a commit: confirm `sent`, apply `committed`, drop sent changes that
        came to nothing.

        Returns the newly committed changes, as `apply_server_changes` does; the own ones among
        them as the server committed them. What it leaves pending is sent again if the answer holds
        new changes and none of `sent`: the server refused such a commit because it was made on an
        old revision. Raises `MissingChangesError`, `ApplyChangesError`, `AlgorithmMismatchError`;
        then nothing was confirmed that cannot be sent again.
        """

    @abstractmethod
    async def apply_server_changes(
        self, doc_id: str, changes: Sequence[Change], doc: Document | None
    ) -> list[Change]:
        """Apply committed changes: to the store, to unsent work, to the open document.

        Returns the newly committed changes and nothing else: those of `changes` above the revision
        known before, in ascending order, as the server sent them; `[]` if all were known. What
        another process that shares the store has stored already may be left out. A pending change
        is never among them. Afterwards the store and the open document are at one revision: that
        of the last change returned, or a higher one if another process has stored more.

        Duplicates and stale changes are dropped (an own id still confirms). Raises
        `MissingChangesError` for a gap, `ApplyChangesError`, `AlgorithmMismatchError`; then nothing
        was stored.
        """

    async def needs_tail(self, doc_id: str) -> bool:
        """Whether a reload should fetch the changes since the local revision, for
        `install_snapshot`.
        """
        return False

    @abstractmethod
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
        """Replace the committed part by the server's snapshot, keeping unsent work.

        `is_new_history`: its revisions number other changes than those here, so nothing can be
        transformed; unsent work stands on the snapshot from now on. What of it does not apply is
        set aside by the same transaction and reported by `on_quarantined`.

        `tail`: what was committed between the local revision and the snapshot's head, if
        `needs_tail`. `resolved`: changes known to be committed, to be dropped from pending.
        `asked_at`: the committed revision when the server was asked for the snapshot. Raises
        `OutdatedAnswerError` if the copy has received more than the snapshot holds since then, or
        is another one; `ApplyChangesError` when the snapshot's own changes cannot be applied.
        Nothing was stored then.
        """

    # ---- a wire of its own -----------------------------------------------------------------------

    def attach(self, host: SyncHost) -> None:
        """A coordinator syncs this algorithm's documents from now on: ask it, if need be."""
        return None

    async def sync_options(self, doc_id: str) -> Mapping[str, Json] | None:
        """The options of `getDoc`, `getChangesSince` and `commitChanges`; `None` sends none."""
        return None

    async def commit_options(self, doc_id: str) -> Mapping[str, Json] | None:
        """The options of `commitChanges`, if they are others than those of the reads."""
        return await self.sync_options(doc_id)

    async def receive_token(self, doc_id: str, token: str | None, *, is_given: bool = True) -> None:
        """The server has named the history of the document, which is that of the copy here.

        `None`: it has no such document. Not `is_given`: it was asked, and knows no tokens. See
        `patches.model.history`.
        """
        return None

    async def handle_notification(
        self, doc_id: str, method: str, params: Mapping[str, Json], doc: Document | None
    ) -> None:
        """A notification that the coordinator does not know, for a document of this algorithm."""
        return None

    def connection_lost(self, doc_id: str, doc: Document | None) -> None:
        """The connection that synced the document has ended. What it alone brought is stale."""
        return None


class Quarantine:
    """Pending changes that the server refuses. Called by the coordinator, and by applications
    through `Patches`. An algorithm that keeps none needs nothing of this.
    """

    name: ClassVar[str]

    @cached_property
    def on_quarantined(self) -> Signal[[QuarantinedChange]]:
        """`(entry)`: the algorithm itself has set work aside that does not apply any more."""
        return Signal("on_quarantined")

    async def verify_pending_change(self, doc_id: str, change_id: str) -> bool:
        """Whether a pending change applies cleanly here; `False` only if it surely does not."""
        return True

    async def eject_pending_change(
        self,
        doc_id: str,
        change_id: str,
        reason: str,
        doc: Document | None,
        *,
        only_if_unappliable: bool = False,
    ) -> QuarantinedChange | None:
        """Set one pending change aside. `None`: there is none, or it applies after all."""
        return None

    async def divide_pending_change(
        self, doc_id: str, change_id: str, doc: Document | None
    ) -> bool:
        """Divide a pending change that the server refuses, so that only what is bad in it need be
        set aside: into changes that are sent one after another, the first under the same id.

        `False` if it is one edit, or there is none; nothing was changed then.
        """
        return False

    async def mend_refused_change(
        self, doc_id: str, change_id: str, error: StatusError, doc: Document | None
    ) -> bool:
        """Change pending work so that the server does not refuse it for this reason again.

        Ids stay. Asked before the change is divided or set aside. `False` if the refusal is about
        something else, or there is no such change; nothing was changed then.
        """
        return False

    async def list_quarantined_changes(self, doc_id: str | None = None) -> list[QuarantinedChange]:
        """What is in quarantine, for one document or all."""
        return []

    async def discard_quarantined_change(self, doc_id: str, change_id: str) -> None:
        """Forget a quarantined change for good. Unknown ones are no error."""
        return None

    async def retry_quarantined_change(
        self, doc_id: str, change_id: str, doc: Document | None
    ) -> list[Change]:
        """Make a quarantined change pending again, in one step with its removal.

        It keeps its id: ejected while it was under way, it may be committed, and the server knows
        it by that.
        """
        raise PatchesError(f"{self.name} keeps no change {change_id!r} of document {doc_id!r}")


class Algorithm(Tracking, Editing, Syncing, Quarantine):
    """One way to keep copies of a document equal. Owned by a `Patches`, which closes it."""

    #: How documents are recorded and chosen: `"ot"`, `"lww"`.
    name: ClassVar[str]

    #: `(error, context)`: a failure that belongs to no call, with `context.doc_id`.
    on_error: Signal[[Exception, ErrorContext]]

    def report_set_aside(self, entry: QuarantinedChange) -> None:
        """Tell of work that the algorithm itself has put into quarantine."""
        self.on_quarantined.emit(entry)
        self.on_error.emit(
            ChangeRefusedError(entry.change_id, entry.reason),
            ErrorContext(doc_id=entry.doc_id, change_id=entry.change_id),
        )

    @abstractmethod
    def open_store(self, backend: Backend) -> None:
        """Take this algorithm's own store from a backend, unless it was built with one."""

    async def close(self) -> None:
        """Release what the algorithm holds. The backend is closed by its owner."""
        return None
