"""`PostgresBackend`: everything that a server keeps, in a PostgreSQL database.

Any number of processes may serve the same database.
"""

from __future__ import annotations

from typing import Any, TypeVar

from patches.runtime import Runtime
from patches.stores.backend import StoreFactory
from patches.stores.sqlite.database import Durability
from patches_server.bus.postgres import PostgresBus
from patches_server.documents.records import Tombstone
from patches_server.stores.postgres.branches import PostgresBranches
from patches_server.stores.postgres.database import STORE_TIMEOUT_S, PostgresDatabase
from patches_server.stores.postgres.documents import PostgresDocuments
from patches_server.stores.postgres.identity import settle_epoch
from patches_server.stores.postgres.shared import PostgresSharing
from patches_server.stores.postgres.versions import PostgresVersions

T = TypeVar("T")


class PostgresBackend(PostgresSharing):
    """The stores of all algorithms, and what they share. Opened on first use, closed by `close`.

    Args:
        dsn: `postgresql://user:password@host:port/database`, also with several hosts.
        writers, readers: how many connections save commits, and serve all else.
        durability: `"relaxed"` does not wait for the disk: the newest commits may be lost when the
            database crashes.
        may_migrate: bring an older schema up to date; an empty database always gets one.
        timeout_s: how long a call waits for a database that is away, before it fails with 503.
    """

    def __init__(
        self,
        dsn: str,
        *,
        writers: int = 4,
        readers: int = 8,
        durability: Durability = "full",
        may_migrate: bool = False,
        timeout_s: float = STORE_TIMEOUT_S,
        runtime: Runtime | None = None,
    ) -> None:
        self._runtime = runtime or Runtime()
        self.database: PostgresDatabase = PostgresDatabase(
            dsn,
            writers=writers,
            readers=readers,
            durability=durability,
            may_migrate=may_migrate,
            timeout_s=timeout_s,
            runtime=self._runtime,
        )
        super().__init__(self.database)
        self.documents: PostgresDocuments = PostgresDocuments(self.database)
        self.versions: PostgresVersions = PostgresVersions(self.database, runtime=self._runtime)
        self.branches: PostgresBranches = PostgresBranches(self.database)
        #: The stores that were opened, by the name of their algorithm.
        self.stores: dict[str, Any] = {}

    def open_store(self, factory: StoreFactory[T]) -> T:
        """An algorithm's store. A maker is given this object."""
        if factory.name not in self.stores:
            self.stores[factory.name] = factory.make("postgres", self, self._runtime)
        store: T = self.stores[factory.name]
        return store

    async def epoch(self) -> str:
        """The id of this database's history. Raises `StorageError` when it cannot be used."""
        return await self.database.read(settle_epoch)

    async def algorithm_of(self, doc_id: str) -> str | None:
        """The algorithm that a document was first committed with, `None` if it does not exist."""
        found: str | None = await self.database.read(
            lambda conn: conn.fetchval("SELECT algorithm FROM docs WHERE doc_id = $1", doc_id)
        )
        return found

    async def get_tombstone(self, doc_id: str) -> Tombstone | None:
        """The tombstone that stands in a document's place."""
        return await self.documents.get_tombstone(doc_id)

    def hint_bus(self) -> PostgresBus:
        """A bus over this database."""
        return PostgresBus(self.database.connect)

    async def close(self) -> None:
        """Finish what is being saved and close the connections."""
        for store in self.stores.values():
            await store.close()
        await self.database.close()
