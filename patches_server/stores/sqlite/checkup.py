"""Versions, as a checkup reads them: whatever is left of them."""

from __future__ import annotations

import sqlite3
import zlib
from typing import Any

from patches.errors import InvalidJsonError
from patches.model import codec


def state_of(packed: object) -> tuple[Any] | None:
    """A version's state in a tuple, `None` when it is missing or cannot be read."""
    try:
        return (codec.decode(zlib.decompress(packed)),) if isinstance(packed, bytes) else None
    except (zlib.error, InvalidJsonError):
        return None


def good_versions(conn: sqlite3.Connection, doc_id: str) -> list[tuple[int, Any]]:
    """Revision and state of each main version whose state can be read, oldest first."""
    rows = conn.execute(
        "SELECT end_rev, state FROM server_versions WHERE doc_id = ? AND origin = 'main' "
        "ORDER BY end_rev, seq",
        (doc_id,),
    )
    read = ((end_rev, state_of(packed)) for end_rev, packed in rows)
    return [(end_rev, state[0]) for end_rev, state in read if state is not None]
