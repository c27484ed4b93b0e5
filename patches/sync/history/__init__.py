"""Versions and branches of documents on the server, over the connection of a `PatchesSync`.

Uses what a `PatchesSync` offers, and is not needed by it, except to send branch records.
"""

from patches.sync.history.branches import PatchesBranchClient
from patches.sync.history.history import PatchesHistoryClient

__all__ = ["PatchesBranchClient", "PatchesHistoryClient"]
