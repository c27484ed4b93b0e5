"""Errors of stores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeAlias

from patches.errors.base import PatchesError


class StorageError(PatchesError):
    """A store could not read or write."""

    code: int = 503
    data: Mapping[str, Any] | None = {"reason": "STORAGE"}


class StorageTimeoutError(StorageError):
    """A store did not answer in time."""


class StorageFullError(StorageError):
    """The disk, or the room a store may use, is full."""


class WrongFileError(StorageError):
    """A file is not of the expected kind, or of a newer version. Nothing was written to it."""


DamagedPart: TypeAlias = Literal["committed", "pending", "record", "quarantine"]


class CorruptDataError(StorageError):
    """A stored row does not match its checksum, or is missing.

    `doc_id` and `part` say whose and which, where that is known: what the server has too
    (`"committed"`), unsent work (`"pending"`), the record of a document or of the file, quarantine.
    """

    data: Mapping[str, Any] | None = {"reason": "CORRUPT"}

    def __init__(
        self, message: str, *, doc_id: str | None = None, part: DamagedPart | None = None
    ) -> None:
        self.doc_id: str | None = doc_id
        self.part = part
        super().__init__(message)


class ImportFileError(PatchesError, ValueError):
    """An export that cannot be imported: it was cut, altered, or is newer. Nothing was stored."""

    def __init__(self, line: int, reason: str) -> None:
        self.line = line
        super().__init__(f"line {line}: {reason}; nothing was imported")


class RevConflictError(PatchesError):
    """Another commit wrote to the revision that this one rested on. Nothing was stored."""

    def __init__(
        self, message: str = "Revision conflict: another commit wrote to the same revision"
    ) -> None:
        super().__init__(message)


class DuplicateChangeIdsError(PatchesError):
    """Some change ids are committed to the document already. Nothing was stored."""

    def __init__(self, doc_id: str, change_ids: Iterable[str]) -> None:
        self.doc_id: str = doc_id
        self.change_ids: tuple[str, ...] = tuple(change_ids)
        super().__init__(
            f"Change id(s) already committed for doc {doc_id}: {', '.join(self.change_ids)}"
        )


class ConvergenceError(PatchesError):
    """A read-decide-write loop lost to another writer too often."""

    def __init__(self, method: str, doc_id: str, attempts: int) -> None:
        self.doc_id = doc_id
        super().__init__(f"{method} for {doc_id} did not converge after {attempts} attempts")
