"""`SyncSignals`: the signals of a `PatchesSync`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from patches.aio.signals import Signal, Spawn
from patches.errors import ErrorContext
from patches.model.change import Change
from patches.sync.state import SyncedDoc, SyncState


class SyncSignals:
    """The signals of `PatchesSync`. Call one with a function, sync or async, to subscribe."""

    #: The new `state`.
    on_state_change: Signal[[SyncState]]
    #: The new `synced`.
    on_synced_change: Signal[[Mapping[str, SyncedDoc]]]
    #: `(error, context)`: what went wrong, and about which document (`context.doc_id`).
    on_error: Signal[[Exception, ErrorContext]]
    #: `(doc_id, pending)`: deleted on the server; the local work that went with it.
    on_remote_doc_deleted: Signal[[str, Sequence[Change]]]
    #: Branch records made or changed here were sent to the server.
    on_branches_synced: Signal[[]]

    def __init__(self, spawn: Spawn) -> None:
        for name in SyncSignals.__annotations__:
            setattr(self, name, Signal(name, spawn=spawn))
