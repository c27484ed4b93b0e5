"""`LWW`: last write wins per field, as a server registers it."""

from __future__ import annotations

from typing import Final

from patches.limits import Limits
from patches.runtime import Runtime
from patches_server.documents.backend import Backend
from patches_server.documents.services import ServedAlgorithm, Services
from patches_server.documents.version_history import VersionHistory
from patches_server.lww.branches import LWWBranchManager
from patches_server.lww.server import LWWServer
from patches_server.lww.stores.checkup import LWWCheckup


def _serve(backend: Backend, limits: Limits | None, runtime: Runtime | None) -> Services:
    server = LWWServer(backend, limits=limits, runtime=runtime)
    branches = LWWBranchManager(server, runtime=runtime)
    return Services(server, VersionHistory(server), branches)


LWW: Final = ServedAlgorithm("lww", _serve, LWWCheckup())
