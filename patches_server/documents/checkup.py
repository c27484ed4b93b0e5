"""What a checkup of a server's SQLite file says, and what an algorithm brings to it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

Kind: TypeAlias = Literal[
    "file", "checksum", "hole", "head", "ids", "count", "orphan", "version", "unappliable"
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
    """What one algorithm knows of its tables in a server's SQLite file."""

    #: The algorithm.
    algorithm: str
    #: Its tables that name documents in a column `doc_id`; the first has a row for each document.
    tables: tuple[str, ...]

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
