"""The services of a backend: one document server, history and branches per algorithm."""

from __future__ import annotations

from patches.limits import Limits
from patches.runtime import Runtime
from patches_server.documents.backend import Backend
from patches_server.lww.branches import LWWBranchManager
from patches_server.lww.server import LWWServer
from patches_server.ot.branches.manager import OTBranchManager
from patches_server.ot.history_manager import PatchesHistoryManager
from patches_server.ot.server import OTServer
from patches_server.service.router import Services


def services_on(
    backend: Backend, *, limits: Limits | None = None, runtime: Runtime | None = None
) -> dict[str, Services]:
    """OT and LWW documents, kept in `backend`."""
    ot = OTServer(backend, limits=limits, runtime=runtime)
    lww = LWWServer(backend, limits=limits, runtime=runtime)
    return {
        "ot": Services(
            ot, PatchesHistoryManager(ot), OTBranchManager(ot.store, ot, runtime=runtime)
        ),
        "lww": Services(lww, PatchesHistoryManager(lww), LWWBranchManager(lww, runtime=runtime)),
    }
