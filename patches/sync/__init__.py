"""The sync coordinator: `PatchesSync`, and what it shows."""

from patches.sync.patches_sync import PatchesSync
from patches.sync.state import ErrorContext, SyncedDoc, SyncState

__all__ = ["ErrorContext", "PatchesSync", "SyncState", "SyncedDoc"]
