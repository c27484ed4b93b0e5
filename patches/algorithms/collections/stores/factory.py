"""The stores that collections bring for a client's backends."""

from __future__ import annotations

from typing import Any, Final

from patches.algorithms.collections.stores.memory import CollectionsMemoryStore
from patches.algorithms.collections.stores.sqlite import CollectionsSqliteStore
from patches.algorithms.collections.tables import CollectionsStore
from patches.runtime import Runtime
from patches.stores.backend import StoreFactory


def _in_memory(_offer: Any, _runtime: Runtime) -> CollectionsStore:
    return CollectionsMemoryStore()


def _in_sqlite(database: Any, _runtime: Runtime) -> CollectionsStore:
    return CollectionsSqliteStore(database)


COLLECTIONS_STORES: Final = StoreFactory(
    "collections", {"memory": _in_memory, "sqlite": _in_sqlite}
)
