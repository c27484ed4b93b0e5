"""`Announcing`: the signals of a server, each fed by whatever knows of its event."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from patches.errors import PatchesError
from patches.model.change import Change
from patches_server.documents.authors import author_of
from patches_server.documents.document_server import DocumentServer
from patches_server.documents.records import CommitOptions
from patches_server.service.server_signals import ServerSignal


class Announcing:
    """The signals of one server process: each fires here for what happens here."""

    def __init__(self, spawn: Callable[[Coroutine[Any, Any, None]], object]) -> None:
        self._announced: list[DocumentServer] = []
        self._watches_commits = False
        #: `(session)`: a peer has been let in.
        self.on_connect: ServerSignal[[Any]] = ServerSignal("on_connect", spawn)
        #: `(session)`: it is gone.
        self.on_disconnect: ServerSignal[[Any]] = ServerSignal("on_disconnect", spawn)
        #: `(doc_id)`: the first subscriber has come.
        self.on_first_open: ServerSignal[[str]] = ServerSignal("on_first_open", spawn)
        #: `(doc_id)`: the last one has left.
        self.on_last_close: ServerSignal[[str]] = ServerSignal("on_last_close", spawn)
        #: `(doc_id)`: its first commit was stored.
        self.on_created: ServerSignal[[str]] = ServerSignal(
            "on_created", spawn, self._watch_commits
        )
        #: `(doc_id, changes, author)`: a commit was stored.
        self.on_committed: ServerSignal[[str, Sequence[Change], str | None]] = ServerSignal(
            "on_committed", spawn, self._watch_commits
        )
        #: `(doc_id)`.
        self.on_deleted: ServerSignal[[str]] = ServerSignal("on_deleted", spawn)
        #: `(doc_id, version_id)`: a version was saved.
        self.on_version: ServerSignal[[str, str]] = ServerSignal("on_version", spawn)
        #: `(doc_id, error, principal)`: a commit of a peer was refused for good.
        self.on_refused: ServerSignal[[str, PatchesError, Any]] = ServerSignal("on_refused", spawn)

    def announce(self, documents: DocumentServer) -> None:
        """Announce what a document server commits, deletes and saves from now on."""
        self._announced.append(documents)
        documents.on_doc_deleted(lambda doc_id, _origin: self.on_deleted.emit(doc_id))
        documents.on_version_saved(self.on_version.emit)

    def _watch_commits(self) -> None:
        # With the first subscriber: a commit that nobody waits for pays nothing.
        if not self._watches_commits:
            self._watches_commits = True
            for documents in self._announced:
                documents.on_changes_committed(self._committed)

    def _committed(
        self,
        doc_id: str,
        changes: Sequence[Change],
        _options: CommitOptions | None,
        _origin: str | None,
    ) -> None:
        if changes and changes[0].rev == 1:
            self.on_created.emit(doc_id)
        if changes:
            self.on_committed.emit(doc_id, changes, author_of(changes[-1]))
