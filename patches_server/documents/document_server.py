"""`DocumentServer`: what the RPC layer and the hub need of a server of documents.

`OTServer` and `LWWServer` are two; others may be registered beside them. A document server owns the
rules of its documents and their store; it has never heard of sockets or subscriptions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from patches.aio.signals import Signal
from patches.json_patch import JSONPatch
from patches.model.change import Change, ChangeInput, Snapshot
from patches.model.json_values import Json
from patches_server.documents.records import CommitOptions, CommitResult

#: `(doc_id, changes, options, origin)`: newly committed changes, once per commit that stored
#: something; `origin` is the connection id that committed, `None` when everybody is to be told.
ChangesCommitted = Signal[[str, Sequence[Change], CommitOptions | None, str | None]]
#: `(doc_id, origin)`
DocDeleted = Signal[[str, str | None]]


#: `(doc_id, method, params, connection_id)`: a notification to the subscribers of a document, or to
#: the one connection that is named.
Notification = Signal[[str, str, Mapping[str, Json], str | None]]
#: `(doc_id, origin)`
NothingStored = Signal[[str, str | None]]


class DocumentServer(Protocol):
    """Documents of one algorithm. Every method raises `DocDeletedError` under a tombstone, but the
    last two.

    It may have more, each of which is looked for once, when it is registered:

    - `remote_methods: RemoteMethods`: remote methods of its own;
    - `async view(doc_id, changes, context)`: what of a commit one subscriber is told; `[]` tells it
      to look again, `None` tells it nothing;
    - `on_notification: Notification`: notifications of its own;
    - `connection_ended(connection_id)`: what it kept for a connection can be forgotten;
    - `on_nothing_stored: NothingStored`: commits that were answered from what was there already.

    `current_context().options` is the options object of the call, and the metadata of a `Snapshot`
    goes out beside its state.
    """

    name: str  # the algorithm: "ot", "lww"
    on_changes_committed: ChangesCommitted
    on_doc_deleted: DocDeleted

    async def get_doc(self, doc_id: str, *, rev: int | None = None) -> Snapshot:
        """The document's state and the changes on top of it."""

    async def get_changes_since(self, doc_id: str, rev: int) -> Sequence[Change]:
        """What was committed after `rev`, ascending."""

    async def commit_changes(
        self,
        doc_id: str,
        changes: Sequence[Change | ChangeInput],
        options: CommitOptions | None = None,
    ) -> CommitResult:
        """Commit changes as the caller of `current_context()`."""

    async def change(
        self,
        doc_id: str,
        edit: Callable[[JSONPatch], object],
        metadata: Mapping[str, Json] | None = None,
    ) -> Change | None:
        """An edit made by the server itself: same path, same broadcast."""

    async def capture_current_version(
        self, doc_id: str, metadata: Mapping[str, Json] | None = None
    ) -> str | None:
        """Save the head as a version; its id, or `None` when there is nothing new."""

    async def delete_doc(self, doc_id: str, *, skip_tombstone: bool = False) -> None:
        """Remove the document, leaving a tombstone."""

    async def undelete_doc(self, doc_id: str) -> bool:
        """Remove the tombstone; whether there was one. The data does not come back."""


#: Extra remote methods of a document server: name -> (access kind, handler).
RemoteMethods = Mapping[str, tuple[str, Callable[..., Any]]]


def is_repeated(
    changes: Sequence[Change | ChangeInput], under_way: Sequence[Change | ChangeInput] | None
) -> bool:
    """Whether a commit that waits for its turn was sent before, and is being carried out."""
    return under_way is not None and any(each.id == changes[0].id for each in under_way)
