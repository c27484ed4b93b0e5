"""Patches: JSON documents that several people, services and agents edit at once."""

from patches.aio.signals import Signal
from patches.client.patches import Patches
from patches.documents.document import Document
from patches.documents.undo import UndoManager
from patches.errors import PatchError, PatchesError
from patches.limits import Limits
from patches.model.change import Change, QuarantinedChange, Snapshot, TrackedDoc
from patches.options import DocOptions
from patches.runtime import Runtime
from patches.sync import PatchesSync, SyncedDoc, SyncState

__all__ = [
    "Change",
    "DocOptions",
    "Document",
    "Limits",
    "PatchError",
    "Patches",
    "PatchesError",
    "PatchesSync",
    "QuarantinedChange",
    "Runtime",
    "Signal",
    "Snapshot",
    "SyncState",
    "SyncedDoc",
    "TrackedDoc",
    "UndoManager",
]
