"""The OT document server: commits, catch-up, versions and branches.

What a commit stores is decided by pure functions (`commit`). The rules: `docs/internals/ot.md` 13.
"""

from patches_server.documents.measure import Bounds
from patches_server.ot.branches.manager import ContentDuplicationGuard, OTBranchManager
from patches_server.ot.history_manager import PatchesHistoryManager
from patches_server.ot.server import OTServer
from patches_server.ot.store import NO_DOC, DocHead, OTServerStore, StoredSnapshot

__all__ = [
    "NO_DOC",
    "Bounds",
    "ContentDuplicationGuard",
    "DocHead",
    "OTBranchManager",
    "OTServer",
    "OTServerStore",
    "PatchesHistoryManager",
    "StoredSnapshot",
]
