"""The sync coordinator: `PatchesSync`, what it shows, and the clients that use its connection.

Owns order, retries, status and subscriptions. Never names an algorithm.
"""

from patches.errors import ErrorContext
from patches.sync.history.branch_store import BranchStore
from patches.sync.history.branches import PatchesBranchClient
from patches.sync.history.history import PatchesHistoryClient
from patches.sync.patches_sync import PatchesSync
from patches.sync.presence.presence import Room
from patches.sync.state import SyncedDoc, SyncState

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
