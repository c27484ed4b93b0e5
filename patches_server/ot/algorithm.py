"""`OT`: operational transformation, as a server registers it."""

from __future__ import annotations

from typing import Final

from patches.limits import Limits
from patches.runtime import Runtime
from patches_server.documents.backend import Backend
from patches_server.documents.services import ServedAlgorithm, Services
from patches_server.ot.branches.manager import OTBranchManager
from patches_server.ot.history_manager import PatchesHistoryManager
from patches_server.ot.server import OTServer
from patches_server.ot.stores.checkup import OTCheckup


def _serve(backend: Backend, limits: Limits | None, runtime: Runtime | None) -> Services:
    server = OTServer(backend, limits=limits, runtime=runtime)
    branches = OTBranchManager(server.store, server, runtime=runtime)
    return Services(server, PatchesHistoryManager(server), branches)


OT: Final = ServedAlgorithm("ot", _serve, OTCheckup())
