"""Last write wins per field: the document server and its branches.

What a commit stores is decided by pure functions (`commit`, `rows`, `holdings`).
"""

from patches_server.lww.branches import LWWBranchManager
from patches_server.lww.server import LWWServer

__all__ = ["LWWBranchManager", "LWWServer"]
