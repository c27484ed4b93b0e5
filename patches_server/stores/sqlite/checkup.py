"""What a checkup of a server's SQLite file says, and what an algorithm brings to it."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

from patches.errors import InvalidJsonError
from patches.model import codec

Kind: TypeAlias = Literal[
    "file", "checksum", "hole", "head", "ids", "count", "orphan", "version", "poison"
]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. `rev` is the revision that it was found at, if it has one."""

    kind: Kind
    doc_id: str | None
    detail: str
    rev: int | None = None

    def __str__(self) -> str:
        where = "" if self.doc_id is None else f"document {self.doc_id[:128]!r}: "
        return f"{self.kind}: {where}{self.detail}"


class Checkup(Protocol):
    """What one algorithm knows of its tables."""

    #: The algorithm, and the table that has a row for each of its documents.
    algorithm: str
    head_table: str

    def problems(self, conn: sqlite3.Connection) -> Iterator[Problem]:
        """What is wrong in its tables, as it is found. Reads only."""

    def replayed(self, conn: sqlite3.Connection) -> Iterator[Problem]:
        """Committed changes that cannot be applied; it applies everything."""

    def mended(
        self, conn: sqlite3.Connection, doc_id: str, problems: Iterable[Problem]
    ) -> Iterator[str]:
        """Mend one of its documents, as far as nothing is made up; what was done, a line each."""

    def without_orphans(self, conn: sqlite3.Connection) -> Iterator[str]:
        """Remove rows of no document; what was done, a line each."""


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
