"""What a client stores of one document, as the functions that work on it see it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from patches.algorithms.replay.clock import Time
from patches.model.change import Change, QuarantinedChange
from patches.model.history import History
from patches.model.json_values import Op
from patches.rows.row_ops import Row, State
from patches.stores.tables import TablesStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """A document's record. `version` grows with every write; `client` names it in its clocks."""

    committed_rev: int = 0
    version: int = 0
    deleted: bool = False
    time: Time = field(default_factory=Time)
    client: str = ""


@dataclass(frozen=True, slots=True)
class Unit:
    """Changes that were committed together, and the operations that lead back before them."""

    changes: Sequence[Change]
    back: Sequence[Op]

    @property
    def rev(self) -> int:
        """The revision of the last."""
        return self.changes[-1].rev


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientRun:
    """Of a document whose actions are run by who commits them: what was committed to it of late.

    `partial`: there may be rows that the user may not see.
    """

    partial: bool
    units: Sequence[Unit] = ()


class DocTables(Protocol):
    """One document's tables, inside of a transaction."""

    def head(self) -> Head | None:
        """The record, `None` if the document is not tracked."""

    def put_head(self, head: Head) -> Head:
        """Write the record; it gets the next version."""

    def remove_head(self) -> None:
        """Forget the record. The quarantine stays."""

    def history(self) -> History:
        """The history of the copy."""

    def put_history(self, history: History) -> None:
        """Write it."""

    def state(self) -> State:
        """All committed rows. Raises `CorruptDataError` if they are not those that were put."""

    def put_state(self, state: State) -> None:
        """Replace all committed rows."""

    def row(self, table: str, key: str) -> Row | None:
        """One committed row."""

    def put_row(self, table: str, key: str, row: Row | None) -> None:
        """Write a committed row, or remove it."""

    def clear_rows(self, table: str | None = None) -> None:
        """Remove the committed rows of a table, or all."""

    def is_client_run(self) -> bool:
        """Whether actions are run by who commits them."""

    def is_partial(self) -> bool:
        """If they are: whether there may be rows that the user may not see."""

    def client_run(self) -> ClientRun | None:
        """If they are, what was committed. Raises `CorruptDataError` if some of it is missing."""

    def begin_client_run(self, rev: int, *, partial: bool) -> None:
        """They are; what was committed up to `rev` is forgotten."""

    def add_unit(self, unit: Unit) -> None:
        """What was committed next. The oldest units may be forgotten."""

    def end_client_run(self) -> None:
        """They are not: the server runs them."""

    def pending(self) -> list[Change]:
        """What is not confirmed, in the order of the clocks."""

    def has_pending(self) -> bool:
        """Whether there is any."""

    def has_change(self, change_id: str) -> bool:
        """Whether a change is pending."""

    def put_pending(self, change: Change) -> None:
        """Write a pending change, in the place of one with its id."""

    def take_pending(self, change_ids: Collection[str]) -> None:
        """Remove pending changes. Unknown ones are no error."""

    def quarantined(self, change_id: str) -> QuarantinedChange | None:
        """A change in quarantine."""

    def put_quarantined(self, entry: QuarantinedChange) -> None:
        """Put a change into quarantine."""

    def discard_quarantined(self, change_id: str | None = None) -> None:
        """Remove one change from quarantine, or all."""

    def clear(self) -> None:
        """Remove rows, pending changes and history."""


#: A client's documents, each in its `DocTables`.
ReplayStore: TypeAlias = TablesStore[DocTables]
