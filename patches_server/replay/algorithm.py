"""Replay documents as a server registers them: with the application's actions, or without."""

from __future__ import annotations

from typing import Any, Final

from patches.algorithms.replay.actions import Actions
from patches.limits import Limits
from patches.runtime import Runtime
from patches_server.documents.backend import Backend
from patches_server.documents.services import ServedAlgorithm, Services
from patches_server.documents.version_history import VersionHistory
from patches_server.replay.server import ReplayServer
from patches_server.replay.stores.checkup import ReplayCheckup

CHECKUP: Final = ReplayCheckup()


def replay(actions: Actions | None = None, **settings: Any) -> ServedAlgorithm:
    """The algorithm of documents that these actions change. `settings`: of `ReplayServer`.

    Without actions the server is a gate and a log, and who commits an action has run it.
    """

    def serve(backend: Backend, limits: Limits | None, runtime: Runtime | None) -> Services:
        server = ReplayServer(backend, actions, limits=limits, runtime=runtime, **settings)
        return Services(server, VersionHistory(server))

    return ServedAlgorithm("replay", serve, CHECKUP)
