"""The sync coordinator: `PatchesSync`, what it shows, and the clients that use its connection."""

from patches.sync.branch_store import BranchStore
from patches.sync.branches import PatchesBranchClient
from patches.sync.history import PatchesHistoryClient
from patches.sync.patches_sync import PatchesSync
from patches.sync.presence import Room
from patches.sync.state import ErrorContext, SyncedDoc, SyncState

__all__ = [
    "BranchStore",
    "ErrorContext",
    "PatchesBranchClient",
    "PatchesHistoryClient",
    "PatchesSync",
    "Room",
    "SyncState",
    "SyncedDoc",
]
