"""Rounds of kill -9 with several servers on one PostgreSQL database.

As in `kill_rounds`; the clients are divided among the servers. In a round one server gets SIGKILL,
or all connections of all servers to the database are cut while they serve.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import asyncpg

from patches.errors import PatchesError
from patches.stores.sqlite.database import Durability
from patches.testing.kill_rounds import BrokenPromiseError, KillRounds
from patches.testing.server_process import ServerProcess
from patches_server.lww.stores.factory import LWW_STORES
from patches_server.ot.stores.factory import OT_STORES
from patches_server.stores.postgres.backend import PostgresBackend

_CUT: Final = (
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
)
_CUTS: Final = 0.3  # how often
_IDS: Final = (
    "SELECT i.change_id FROM patches.{} i JOIN patches.docs d ON d.life = i.life "
    "WHERE d.doc_id = $1"
)


class PostgresKillRounds(KillRounds):
    """`servers` processes on the database at `url`, which is theirs alone."""

    def __init__(
        self,
        folder: Path,
        url: str,
        *,
        servers: int = 2,
        bus: str = "postgres",
        clients: int = 20,
        seed: int = 0,
        load_s: float = 1.0,
    ) -> None:
        self._url, self._server_count, self._bus = url, servers, bus
        self.cuts: int = 0
        super().__init__(folder, clients=clients, seed=seed, load_s=load_s)

    def _make_servers(self, durability: Durability) -> list[ServerProcess]:
        options = ("--durability", durability, "--bus", self._bus)
        return [
            ServerProcess(self._url, options=options, log=self._log)
            for _ in range(self._server_count)
        ]

    async def _kill_and_restart(self) -> None:
        if self._random.random() < _CUTS:
            conn = await asyncpg.connect(self._url)
            await conn.fetchval(_CUT)
            await conn.close()
            self.cuts += 1
            await asyncio.sleep(self._random.uniform(0.0, 0.3))
        await super()._kill_and_restart()

    async def _check_store(self) -> int:
        backend = PostgresBackend(self._url)
        more = 0
        try:
            for doc_id, acked in self.acked().items():
                stored = await _stored_ids(backend, doc_id)
                more += len(stored - acked)
                missing = acked - stored
                if missing:
                    raise BrokenPromiseError(
                        f"{doc_id}: acknowledged and not stored: {sorted(missing)[:5]}"
                    )
        finally:
            await backend.close()
        return more


async def _stored_ids(backend: PostgresBackend, doc_id: str) -> set[str]:
    """The ids of what is stored, read so that damage and holes show."""
    is_lww = doc_id.startswith("lww/")
    sql = _IDS.format("lww_change_ids" if is_lww else "ot_change_ids")
    try:
        if is_lww:
            await backend.open_store(LWW_STORES).load_rows(doc_id, now=0)
        else:
            await backend.open_store(OT_STORES).list_changes(doc_id)
    except PatchesError as exc:
        raise BrokenPromiseError(f"{doc_id}: {exc}") from exc
    rows = await backend.database.read(lambda conn: conn.fetch(sql, doc_id))
    return {row[0].decode() for row in rows}
