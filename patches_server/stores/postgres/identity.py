"""Which database this is, and which history it holds.

A database has an *identity*: of its cluster, its timeline and itself. It changes when a standby is
promoted or a base backup is restored. Then what was committed last may be lost, so the database
gets another *epoch*, and with it every document another token: clients load their copies anew.
"""

from __future__ import annotations

from typing import Any, Final

#: The first eight digits of a WAL file's name are the timeline.
IDENTITY: Final = (
    "(SELECT system_identifier::text FROM pg_control_system()) || '/' || "
    "left(pg_walfile_name(pg_current_wal_lsn()), 8) || '/' || "
    "(SELECT oid::text FROM pg_database WHERE datname = current_database())"
)
NEW_EPOCH: Final = "left(replace(gen_random_uuid()::text, '-', ''), 16)"
_CHECK: Final = f"SELECT epoch, identity = {IDENTITY} AS is_same FROM patches.meta"  # noqa: S608 -- fixed text
_REPLACE: Final = (
    f"UPDATE patches.meta SET epoch = {NEW_EPOCH}, identity = {IDENTITY} "  # noqa: S608 -- fixed text
    f"WHERE identity <> {IDENTITY}"
)
#: The revisions of LWW documents are raised with a new epoch: a client that keeps no token
#: then gets the whole document.
_RAISED: Final = 1_000_000


async def settle_epoch(conn: Any) -> str:
    """The epoch of the database, a new one if it is another database than before."""
    found = await conn.fetchrow(_CHECK)
    if not found["is_same"]:
        await conn.execute(_REPLACE)
        found = await conn.fetchrow(_CHECK)
    epoch: str = found["epoch"]
    return epoch


async def new_epoch(conn: Any) -> str:
    """Give the database another epoch, as after a dump was restored; the epoch."""
    async with conn.transaction():
        epoch: str = await conn.fetchval(
            f"UPDATE patches.meta SET epoch = {NEW_EPOCH}, identity = {IDENTITY} "  # noqa: S608 -- fixed text
            "RETURNING epoch"
        )
        await conn.execute(
            "UPDATE patches.docs SET rev = rev + $1, floor = rev + $1, ids_floor = rev + $1 "
            "WHERE algorithm = 'lww'",
            _RAISED,
        )
    return epoch
