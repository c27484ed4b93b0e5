"""The stores that LWW brings for a server's backends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from patches.runtime import Runtime
from patches.stores.backend import StoreFactory
from patches_server.lww.store import LWWServerStore
from patches_server.lww.stores.memory import LWWMemoryServerStore
from patches_server.lww.stores.sqlite import LWWSqliteServerStore
from patches_server.stores.memory.backend import MemoryBackend
from patches_server.stores.sqlite.backend import SqliteBackend

if TYPE_CHECKING:
    from patches_server.stores.postgres.backend import PostgresBackend


def _in_memory(backend: MemoryBackend, _runtime: Runtime) -> LWWServerStore:
    return LWWMemoryServerStore(backend.documents, backend.versions, backend.branches)


def _in_sqlite(backend: SqliteBackend, runtime: Runtime) -> LWWServerStore:
    return LWWSqliteServerStore(
        backend.database, backend.versions, backend.branches, runtime=runtime
    )


def _in_postgres(backend: PostgresBackend, runtime: Runtime) -> LWWServerStore:
    from patches_server.lww.stores.postgres import LWWPostgresServerStore  # needs an extra

    return LWWPostgresServerStore(backend, runtime=runtime)


LWW_STORES: Final[StoreFactory[LWWServerStore]] = StoreFactory(
    "lww", {"memory": _in_memory, "sqlite": _in_sqlite, "postgres": _in_postgres}
)
