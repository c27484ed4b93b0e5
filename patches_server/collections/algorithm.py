"""Collections as a server registers them: with the application's `CollectionsServer`."""

from __future__ import annotations

from patches.limits import Limits
from patches.runtime import Runtime
from patches_server.collections.server import CollectionsServer
from patches_server.documents.backend import Backend
from patches_server.documents.services import ServedAlgorithm, Services


def collections(documents: CollectionsServer) -> ServedAlgorithm:
    """The algorithm of the documents that `documents` serves. They are kept by its own engine, so
    the backend has nothing of them.
    """

    def serve(_backend: Backend, _limits: Limits | None, _runtime: Runtime | None) -> Services:
        return Services(documents)

    return ServedAlgorithm(documents.name, serve)
