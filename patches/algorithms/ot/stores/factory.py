"""The stores that OT brings for a client's backends."""

from __future__ import annotations

from typing import Any, Final

from patches.algorithms.ot.store import OTClientStore
from patches.algorithms.ot.stores.memory import OTMemoryStore
from patches.runtime import Runtime
from patches.stores.backend import StoreFactory


def _in_memory(_: Any, runtime: Runtime) -> OTClientStore:
    return OTMemoryStore(runtime=runtime)


def _in_sqlite(database: Any, runtime: Runtime) -> OTClientStore:
    # here, because a client that keeps all in memory needs no sqlite3
    from patches.algorithms.ot.stores.sqlite import OTSqliteStore

    return OTSqliteStore(database, runtime=runtime)


OT_STORES: Final = StoreFactory("ot", {"memory": _in_memory, "sqlite": _in_sqlite})
