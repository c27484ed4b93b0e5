"""What the algorithm needs of a client store: one document's tables inside a transaction.

A store takes no decision. It runs a function over `DocTables` and keeps all of what the function
did, or nothing; the functions are in `transactions.py`. Several processes may share a store, so
what must hold together is read and written by one function.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from patches.algorithms.histories import installation_of
from patches.algorithms.lww.field_table import Rows
from patches.model.change import Change, QuarantinedChange, Snapshot
from patches.model.history import History
from patches.stores.tables import TablesStore

#: How many stored edits a store remembers by id. As many are stored in one transaction, and may be
#: tried again.
EDITS_KEPT: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The record of a document. `version` counts the writes to its tables, in all processes."""

    committed_rev: int
    version: int
    deleted: bool = False
    #: The time of the newest write that was seen here, 0 if none.
    newest_ts: int = 0
    #: The id under which the pending ops will be sent: that of the first edit in them, or "".
    pending_id: str = ""

    @property
    def installation(self) -> int:
        """The number of the installation that the rows stem from."""
        return installation_of(self.version)


class DocTables(Protocol):
    """One document's part of a store, valid while the function that got it runs.

    Everything but the quarantine belongs to the record: what writes it puts the record as well.
    """

    @property
    def committed(self) -> Rows:
        """The server's rows, and confirmed writes that it has not echoed."""

    @property
    def pending(self) -> Rows:
        """Writes that are not being sent yet."""

    def head(self) -> Head | None:
        """The record, or `None` for an unknown document."""

    def put_head(
        self,
        *,
        committed_rev: int,
        deleted: bool = False,
        newest_ts: int | None = None,
        pending_id: str | None = None,
        is_installed: bool = False,
    ) -> Head:
        """Create or change the record; its version is one more. `None` leaves a value as it is.

        `is_installed`: a snapshot has replaced the rows; the version is `version_after_install`.
        """

    def history(self) -> History:
        """The history of the copy."""

    def put_history(self, history: History) -> None:
        """Replace it."""

    def has_edit(self, edit_id: str) -> bool:
        """Whether this is one of the last `EDITS_KEPT` edits that were noted."""

    def note_edit(self, edit_id: str) -> None:
        """Remember that an edit is stored, so that storing it again does not count it twice."""

    def snapshot(self) -> Snapshot:
        """The state below the committed rows; `{}` at revision 0 if none was saved."""

    def put_snapshot(self, snapshot: Snapshot) -> None:
        """Replace the state below the committed rows."""

    def sending(self) -> list[Change]:
        """The pieces that are being sent, in order."""

    def put_sending(self, pieces: Sequence[Change]) -> None:
        """Replace the pieces."""

    def quarantined(self, change_id: str) -> QuarantinedChange | None:
        """One change in quarantine."""

    def put_quarantined(self, quarantined: QuarantinedChange) -> None:
        """Add to the quarantine."""

    def discard_quarantined(self, change_id: str | None = None) -> None:
        """Remove one from the quarantine, or all of the document."""

    def clear(self) -> None:
        """Remove snapshot, rows, pending ops and their id, and pieces.

        Record, quarantine and edit ids stay.
        """

    def remove_head(self) -> None:
        """Remove the record."""


#: A client's documents, each in its `DocTables`.
LWWStore: TypeAlias = TablesStore[DocTables]
