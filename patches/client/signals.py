"""`ClientSignals`: the signals of a client."""

from __future__ import annotations

from collections.abc import Sequence

from patches.aio.signals import Signal, Spawn
from patches.documents.document import Document
from patches.errors import ErrorContext
from patches.model.change import Change, QuarantinedChange


class ClientSignals:
    """The signals of `Patches`. Call one with a function, sync or async, to subscribe."""

    #: `(doc_id)`: an edit was stored, so there is work for the server.
    on_change: Signal[[str]]
    #: `(error, context)`: what went wrong, and with which document or edit.
    on_error: Signal[[Exception, ErrorContext]]
    #: `(doc_id, changes)`: committed changes are durable here. Emitted by the coordinator.
    on_server_commit: Signal[[str, Sequence[Change]]]
    #: `(doc_id)`: the document was deleted here. Awaited by `delete_doc`.
    on_delete_doc: Signal[[str]]
    #: `(doc)`: a document has come into memory.
    on_open_doc: Signal[[Document]]
    #: `(doc_ids, algorithm)`: only those that were not tracked before.
    on_track_docs: Signal[[Sequence[str], str]]
    #: `(doc_ids)`: only those that were tracked.
    on_untrack_docs: Signal[[Sequence[str]]]
    #: `(by)`: this object keeps the documents in sync from now on. Emitted by the coordinator.
    on_taken_over: Signal[[object]]
    #: `(doc_id, entry)`: emitted at least once; doc and change id are the key.
    on_change_quarantined: Signal[[str, QuarantinedChange]]
    #: `(doc_id)`: the application has moved a change into quarantine or out of it.
    on_quarantine_changed: Signal[[str]]
    #: `(doc_id, changes)`: stored edits that could not be applied when the document was opened.
    on_pending_dropped: Signal[[str, Sequence[Change]]]

    def __init__(self, spawn: Spawn) -> None:
        for name in ClientSignals.__annotations__:
            setattr(self, name, Signal(name, spawn=spawn))

    def clear_signals(self) -> None:
        """Forget all subscribers."""
        for signal in vars(self).values():
            if isinstance(signal, Signal):
                signal.clear()
