"""`SqliteBackend`: the stores of a client, in one SQLite file."""

from __future__ import annotations

import os
from typing import Any, TypeVar

from patches.runtime import Runtime
from patches.stores.backend import StoreFactory
from patches.stores.sqlite.database import Durability, SqliteDatabase
from patches.stores.sqlite.file_kind import CLIENT_FILE

T = TypeVar("T")


class SqliteBackend:
    """Documents, pending changes and tombstones that survive a restart.

    Several processes may share the file. Opened on first use, closed by `close`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        durability: Durability = "full",
        runtime: Runtime | None = None,
    ) -> None:
        self._runtime = runtime or Runtime()
        self.database: SqliteDatabase = SqliteDatabase(
            path, durability=durability, runtime=self._runtime, kind=CLIENT_FILE
        )
        #: The stores that were opened, by the name of their algorithm.
        self.stores: dict[str, Any] = {}

    def open_store(self, factory: StoreFactory[T]) -> T:
        """An algorithm's store."""
        if factory.name not in self.stores:
            self.stores[factory.name] = factory.make("sqlite", self.database, self._runtime)
        store: T = self.stores[factory.name]
        return store

    async def close(self) -> None:
        """Finish what is being written and close the file."""
        await self.database.close()
