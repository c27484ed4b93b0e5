"""The stores that replay brings for a server's backends."""

from __future__ import annotations

from typing import Final

from patches.runtime import Runtime
from patches.stores.backend import StoreFactory
from patches_server.replay.store import ReplayServerStore
from patches_server.replay.stores.memory import ReplayMemoryServerStore
from patches_server.replay.stores.sqlite import ReplaySqliteServerStore
from patches_server.stores.memory.backend import MemoryBackend
from patches_server.stores.sqlite.backend import SqliteBackend


def _in_memory(backend: MemoryBackend, _runtime: Runtime) -> ReplayServerStore:
    return ReplayMemoryServerStore(backend.documents, backend.versions)


def _in_sqlite(backend: SqliteBackend, runtime: Runtime) -> ReplayServerStore:
    return ReplaySqliteServerStore(backend.database, backend.versions, runtime=runtime)


REPLAY_STORES: Final[StoreFactory[ReplayServerStore]] = StoreFactory(
    "replay", {"memory": _in_memory, "sqlite": _in_sqlite}
)
