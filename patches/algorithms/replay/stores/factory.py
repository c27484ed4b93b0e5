"""The stores that replay brings for a client's backends."""

from __future__ import annotations

from typing import Any, Final

from patches.algorithms.replay.stores.memory import ReplayMemoryStore
from patches.algorithms.replay.stores.sqlite import ReplaySqliteStore
from patches.algorithms.replay.tables import ReplayStore
from patches.runtime import Runtime
from patches.stores.backend import StoreFactory


def _in_memory(_: Any, _runtime: Runtime) -> ReplayStore:
    return ReplayMemoryStore()


def _in_sqlite(database: Any, _runtime: Runtime) -> ReplayStore:
    return ReplaySqliteStore(database)


REPLAY_STORES: Final = StoreFactory("replay", {"memory": _in_memory, "sqlite": _in_sqlite})
