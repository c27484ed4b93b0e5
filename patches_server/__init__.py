"""The Patches server: document servers behind JSON-RPC on aiohttp websockets."""

from patches import __version__ as __version__
from patches_server.auth.access import AuthProvider, Principal, allow_all
from patches_server.documents.context import CallContext, call_context, current_context
from patches_server.documents.records import (
    Branch,
    CommitOptions,
    CommitResult,
    ListVersionsOptions,
    Tombstone,
    Version,
)
from patches_server.documents.rules import Review
from patches_server.documents.services import Services
from patches_server.http.app import SERVER, create_app, create_server, setup
from patches_server.lww import LWWBranchManager, LWWServer
from patches_server.ot import OTBranchManager, OTServer, PatchesHistoryManager
from patches_server.service.server import PatchesServer
from patches_server.stores.memory.backend import MemoryBackend
from patches_server.stores.sqlite.backend import SqliteBackend

__all__ = [
    "SERVER",
    "AuthProvider",
    "Branch",
    "CallContext",
    "CommitOptions",
    "CommitResult",
    "LWWBranchManager",
    "LWWServer",
    "ListVersionsOptions",
    "MemoryBackend",
    "OTBranchManager",
    "OTServer",
    "PatchesHistoryManager",
    "PatchesServer",
    "Principal",
    "Review",
    "Services",
    "SqliteBackend",
    "Tombstone",
    "Version",
    "allow_all",
    "call_context",
    "create_app",
    "create_server",
    "current_context",
    "setup",
]
