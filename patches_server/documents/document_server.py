"""`DocumentServer`: what the service needs of a server of documents.

`OTServer` and `LWWServer` are two; others may be registered beside them. A document server owns the
rules of its documents and their store; it knows no sockets or subscriptions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from enum import Enum, auto
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias

from patches.aio.signals import Signal
from patches.errors import PatchesError, VersionError
from patches.history import Moment, Run
from patches.json_patch import JSONPatch
from patches.model.change import Change, ChangeInput, Snapshot
from patches.model.json_values import Json, Op
from patches_server.documents.context import CallContext, Reviewer, current_context
from patches_server.documents.history import HistoryMark, KnownHistory
from patches_server.documents.listing import Summary
from patches_server.documents.records import CommitOptions, CommitResult
from patches_server.documents.rules import RuleBook

#: `(doc_id, changes, options, origin)`: newly committed changes, once per commit that stored
#: something; `origin` is the connection that committed and gets no broadcast, or `None`.
ChangesCommitted = Signal[[str, Sequence[Change], CommitOptions | None, str | None]]
#: `(doc_id, origin)`
DocDeleted = Signal[[str, str | None]]
#: `(doc_id, method, params, to)`: a notification to the subscribers of a document, or to those of
#: them that are named by the id of their connection.
Notification = Signal[[str, str, Mapping[str, Any], str | Collection[str] | None]]
#: `(doc_id, origin)`
NothingStored = Signal[[str, str | None]]
#: Extra remote methods of a document server: name -> (access kind, handler).
RemoteMethods: TypeAlias = Mapping[str, tuple[Literal["read", "write"], Callable[..., Any]]]

#: `(state, rev)`: the operations of an edit that the server makes.
MakeOps: TypeAlias = Callable[[Json, int], list[Op]]
#: An edit of the server's own is made again so often when another process writes.
MAX_EDIT_ATTEMPTS: Final = 5


class Begun(Enum):
    """Said of a commit that is on its way to disk."""

    BEGUN = auto()


#: Told what a begun commit has come to: its result, an error, or `None`: nothing was done, and
#: `commit_changes` has to be called.
Then: TypeAlias = Callable[[CommitResult | Exception | None], None]

#: A commit that is carried out at once is no larger than this, in steps of an `Offloader`.
MAX_STEPS_AT_ONCE: Final = 2_000


class DocumentServer(ABC):
    """Documents of one algorithm.

    Every method raises `DocDeletedError` under a tombstone, but `delete_doc` and `undelete_doc`.
    `current_context().options` is the options object of the call, and the metadata of a `Snapshot`
    goes out beside its state.
    """

    #: The algorithm: "ot", "lww".
    name: str
    #: Patterns of ids that are of this algorithm where an application gives no other route.
    default_routes: tuple[str, ...] = ()
    #: Remote methods of its own.
    remote_methods: RemoteMethods = MappingProxyType({})
    #: Whether other processes may commit to the same documents, where the backend is shared.
    is_shared: bool = False
    #: Whether subscribers get different parts of one commit: then `view` is called for each.
    has_views: bool = False

    def __init__(self) -> None:
        self.on_changes_committed: ChangesCommitted = Signal("on_changes_committed")
        self.on_doc_deleted: DocDeleted = Signal("on_doc_deleted")
        #: Notifications of its own.
        self.on_notification: Notification = Signal("on_notification")
        #: A commit of a connection was answered from what was there already.
        self.on_nothing_stored: NothingStored = Signal("on_nothing_stored")
        #: `(doc_id, version_id)`: a version was saved.
        self.on_version_saved: Signal[[str, str]] = Signal("on_version_saved")
        #: What the application has to say about content; `None`: nothing.
        self.content_rules: RuleBook | None = None

    def reviewer(self, doc_id: str, caller: CallContext) -> Reviewer | None:
        """What judges the states that a commit makes; `None`: nobody needs them."""
        return (
            caller.review
            if self.content_rules is None
            else self.content_rules.reviewer(doc_id, caller)
        )

    @property
    def unappliable(self) -> int:
        """Committed changes that a state was built without."""
        return 0

    @property
    def clock_jumps(self) -> int:
        """Leaps forward of the wall clock that were noticed."""
        return 0

    @abstractmethod
    async def get_doc(self, doc_id: str, *, rev: int | None = None) -> Snapshot:
        """The document's state and the changes on top of it."""

    @abstractmethod
    async def get_changes_since(self, doc_id: str, rev: int) -> Sequence[Change]:
        """What was committed after `rev`, ascending."""

    @abstractmethod
    async def commit_changes(
        self,
        doc_id: str,
        changes: Sequence[Change | ChangeInput],
        options: CommitOptions | None = None,
    ) -> CommitResult:
        """Commit changes as the caller of `current_context()`."""

    def commit_at_once(
        self, context: CallContext, doc_id: str, changes: Sequence[ChangeInput], then: Then
    ) -> CommitResult | Begun | None:
        """Commit as `commit_changes` would without options, deciding in this turn of the loop.

        `changes` hold no more than `MAX_STEPS_AT_ONCE` values. The result, if the store waits for
        nothing. `BEGUN`: the changes are on their way to disk; `then` is called once they are
        there, after the subscribers, in the turn in which they are notified.

        `None`: that cannot be done now, or there is something to refuse. Nothing was done then,
        `commit_changes` has to be called, and `then` is not.
        """
        return None

    @abstractmethod
    async def delete_doc(self, doc_id: str, *, skip_tombstone: bool = False) -> None:
        """Remove the document, leaving a tombstone."""

    @abstractmethod
    async def undelete_doc(self, doc_id: str) -> bool:
        """Remove the tombstone; whether there was one. The data does not come back."""

    async def change(
        self,
        doc_id: str,
        edit: Callable[[JSONPatch], object],
        metadata: Mapping[str, Json] | None = None,
    ) -> Change | None:
        """An edit made by the server itself: same path, same broadcast."""
        raise PatchesError(f"{self.name} documents cannot be edited by the server")

    async def edit(
        self, doc_id: str, make_ops: MakeOps, metadata: Mapping[str, Json] | None = None
    ) -> Change | None:
        """Commit what `make_ops` says for the state as it is now, as the server itself.

        `make_ops(state, rev)` is called again when another process was faster; `RevConflictError`
        after five times. `None`: it has given no operations. Everybody is notified.
        """
        raise PatchesError(f"{self.name} documents cannot be edited by the server")

    async def read(self, doc_id: str, rev: int | None = None) -> tuple[Json, int]:
        """The state at a revision, the head without one, and that revision.

        A document that does not exist is `None` at revision 0.
        """
        raise PatchesError(f"{self.name} documents cannot be read by the server")

    async def summary(self, doc_id: str) -> Summary:
        """What a list shows of a document. Raises `DocDeletedError`."""
        _, rev = await self.read(doc_id)
        return Summary(rev=rev)

    def export_records(self, doc_id: str) -> AsyncIterator[Mapping[str, Json]]:
        """What an export holds beside the state."""
        raise PatchesError(f"{self.name} documents cannot be exported with their history")

    async def import_records(
        self, doc_id: str, state: Json, records: Sequence[Mapping[str, Any]]
    ) -> None:
        """Make a document of the records of an export, whose state is `state`, as it was.

        The rules judge the state. Raises `RevConflictError` if the document exists.
        """
        raise PatchesError(f"{self.name} documents cannot be imported with their history")

    async def review_first(self, doc_id: str, state: Json) -> None:
        """Let the rules about a document judge a content that it begins with, as a whole."""
        caller = CallContext(principal=current_context().principal)
        review = self.reviewer(doc_id, caller)
        if review is not None:
            ops: list[Op] = [{"op": "replace", "path": "", "value": state}]
            await review(ChangeInput(id=doc_id, ops=ops), None, state)

    async def list_history(
        self, doc_id: str, *, before: int | None = None, limit: int = 50
    ) -> Sequence[Moment]:
        """Moments of the document's history, newest first: those before the revision `before`."""
        raise VersionError(f"{self.name} documents have no history of moments here")

    async def blame(self, doc_id: str, path: str) -> Sequence[Run]:
        """Who wrote what at a path. Raises `PatchError` if there is nothing."""
        raise VersionError(f"{self.name} documents do not say who wrote what")

    async def capture_current_version(
        self, doc_id: str, metadata: Mapping[str, Json] | None = None
    ) -> str | None:
        """Save the head as a version; its id, or `None` when there is nothing to save."""
        return None

    async def history_of(
        self, doc_id: str, known: KnownHistory | None = None, rev: int = 0
    ) -> HistoryMark | None:
        """The document's history; `None` where documents have no token.

        Raises `OtherHistoryError` if a copy at `rev` is of another.
        """
        return None

    async def view(
        self, doc_id: str, changes: Sequence[Change], context: CallContext
    ) -> Sequence[Change] | None:
        """What one subscriber gets of a commit; `[]` makes it pull, `None` sends nothing."""
        return changes

    async def start(self) -> None:  # noqa: B027  # most have no tasks of their own
        """The service begins: tasks of the document server's own may run from now on."""

    async def close(self) -> None:  # noqa: B027  # most have no tasks of their own
        """The service has ended: end those tasks."""

    def forget(self, doc_id: str) -> None:  # noqa: B027  # most keep nothing
        """Another process has written the document: what is at hand of it is out of date."""

    def connection_ended(self, connection_id: str) -> None:  # noqa: B027  # nothing is kept
        """What was kept for a connection can be forgotten."""
