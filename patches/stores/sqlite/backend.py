"""`SqliteBackend`: the stores of all algorithms, in one SQLite file."""

from __future__ import annotations

import os

from patches.algorithms.lww.stores.sqlite import LWWSqliteStore
from patches.algorithms.ot.stores.sqlite import OTSqliteStore
from patches.runtime import Runtime
from patches.stores.sqlite.database import Durability, SqliteDatabase
from patches.stores.sqlite.file_kind import CLIENT_FILE


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
        runtime = runtime or Runtime()
        self.database = SqliteDatabase(
            path, durability=durability, runtime=runtime, kind=CLIENT_FILE
        )
        self.ot = OTSqliteStore(self.database, runtime=runtime)
        self.lww = LWWSqliteStore(self.database, runtime=runtime)

    async def close(self) -> None:
        """Finish what is being written and close the file."""
        await self.database.close()
