"""What the algorithm needs of a client's store: one document's tables, in transactions."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from patches.model.change import Change, QuarantinedChange
from patches.rows.row_ops import Row
from patches.stores.tables import TablesStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The record of a document. `version` counts the writes to its tables, in all processes."""

    committed_rev: int
    version: int
    deleted: bool = False
    #: Names the history that the revision counts in; `None` until the server has given one.
    token: str | None = None
    #: Of the declaration that the rows were received with.
    schema_version: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """All that is stored of a document."""

    rows: dict[str, dict[str, Row]]
    committed_rev: int
    pending: list[Change]
    version: int
    schema_version: int


class DocTables(Protocol):
    """One document's part of a store, valid while the function that got it runs."""

    def head(self) -> Head | None:
        """The record, or `None` for a document that is not kept here."""

    def put_head(self, head: Head) -> None:
        """Create or replace the record."""

    def remove_head(self) -> None:
        """Remove the record, rows and pending changes. The quarantine stays."""

    def rows(self) -> dict[str, dict[str, Row]]:
        """The synced rows, by table and key."""

    def row(self, table: str, key: str) -> Row | None:
        """One synced row."""

    def put_row(self, table: str, key: str, row: Row) -> None:
        """Add or replace a synced row."""

    def remove_row(self, table: str, key: str) -> None:
        """Remove a synced row. One that is not there is no error."""

    def clear_rows(self, table: str) -> None:
        """Remove all rows of a table."""

    def replace_rows(self, rows: Mapping[str, Mapping[str, Row]]) -> None:
        """Put these rows in the place of all."""

    def pending(self) -> list[Change]:
        """The pending changes, in order."""

    def has_pending(self) -> bool:
        """Whether there are any."""

    def find_pending(self, change_id: str) -> Change | None:
        """One pending change."""

    def add_pending(self, change: Change) -> None:
        """Add a pending change behind the others."""

    def remove_pending(self, ids: Collection[str]) -> list[str]:
        """Remove pending changes; the ids of those that were there."""

    def quarantined(self, change_id: str) -> QuarantinedChange | None:
        """One change in quarantine."""

    def put_quarantined(self, quarantined: QuarantinedChange) -> None:
        """Add to the quarantine."""

    def discard_quarantined(self, change_id: str | None = None) -> None:
        """Remove one from the quarantine, or all of the document."""


#: A client's documents, each in its `DocTables`.
CollectionsStore: TypeAlias = TablesStore[DocTables]
