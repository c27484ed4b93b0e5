"""The OT document server: commits, catch-up, versions and branches (`spec/ot.md` 13-19)."""

from patches_server.ot.server import OTServer
from patches_server.ot.store import NO_DOC, Bounds, DocHead, OTServerStore, StoredSnapshot

__all__ = [
    "NO_DOC",
    "Bounds",
    "DocHead",
    "OTServer",
    "OTServerStore",
    "StoredSnapshot",
]
