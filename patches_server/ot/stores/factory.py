"""The stores that OT brings for a server's backends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from patches.runtime import Runtime
from patches.stores.backend import StoreFactory
from patches_server.ot.store import OTServerStore
from patches_server.ot.stores.memory import OTMemoryServerStore
from patches_server.ot.stores.sqlite import OTSqliteServerStore
from patches_server.stores.memory.backend import MemoryBackend
from patches_server.stores.sqlite.backend import SqliteBackend

if TYPE_CHECKING:
    from patches_server.stores.postgres.backend import PostgresBackend


def _in_memory(backend: MemoryBackend, _runtime: Runtime) -> OTServerStore:
    return OTMemoryServerStore(backend.documents, backend.versions, backend.branches)


def _in_sqlite(backend: SqliteBackend, runtime: Runtime) -> OTServerStore:
    return OTSqliteServerStore(
        backend.database, backend.versions, backend.branches, runtime=runtime
    )


def _in_postgres(backend: PostgresBackend, _runtime: Runtime) -> OTServerStore:
    from patches_server.ot.stores.postgres import OTPostgresServerStore  # needs an extra

    return OTPostgresServerStore(backend)


OT_STORES: Final[StoreFactory[OTServerStore]] = StoreFactory(
    "ot", {"memory": _in_memory, "sqlite": _in_sqlite, "postgres": _in_postgres}
)
