"""The stores that LWW brings for a client's backends."""

from __future__ import annotations

from typing import Any, Final

from patches.algorithms.lww.stores.memory import LWWMemoryStore
from patches.algorithms.lww.tables import LWWStore
from patches.runtime import Runtime
from patches.stores.backend import StoreFactory


def _in_memory(_: Any, runtime: Runtime) -> LWWStore:
    return LWWMemoryStore(runtime=runtime)


def _in_sqlite(database: Any, runtime: Runtime) -> LWWStore:
    # here, because a client that keeps all in memory needs no sqlite3
    from patches.algorithms.lww.stores.sqlite import LWWSqliteStore

    return LWWSqliteStore(database, runtime=runtime)


LWW_STORES: Final = StoreFactory("lww", {"memory": _in_memory, "sqlite": _in_sqlite})
