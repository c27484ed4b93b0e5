"""The rows of `OTSqliteStore`: what its transactions are made of.

Changes are stored as their wire bytes. Once `SNAPSHOT_INTERVAL` committed changes have gathered
they are folded into the state, in the transaction that brought the last of them. The newest of
those stay in the file, for other processes that are behind.

Every row has a checksum over all its values. A document's record says how many rows belong to it
and where they end, so that a row that is gone is noticed as well. Damage raises `CorruptDataError`,
which names the document and the part.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from patches.algorithms.ot.store import PendingQueue, QueuePosition
from patches.algorithms.ot.stores.replay import KEPT_CHANGES, SNAPSHOT_INTERVAL, replayed
from patches.algorithms.ot.stores.schema import RECORDS
from patches.model.change import Change, Snapshot, TrackedDoc
from patches.model.codec import decode, encode
from patches.model.json_values import Json
from patches.stores.sqlite.checksums import row_sum
from patches.stores.sqlite.document_records import damaged
from patches.stores.sqlite.keys import from_key, to_key

_NO_STATE: Final = -1
_COLUMNS: Final = "committed_rev, deleted, version, tail_rev, pending, committed, state_rev, sum"


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """A document's record."""

    committed_rev: int = 0
    deleted: int = 0
    version: int
    tail_rev: int = 0
    pending: int = 0  # how many rows there are
    committed: int = 0  # those above the state
    state_rev: int = _NO_STATE

    @property
    def position(self) -> QueuePosition:
        """Where the queue stands."""
        return QueuePosition(
            committed_rev=self.committed_rev, version=self.version, tail_rev=self.tail_rev
        )

    def values(self) -> tuple[int, ...]:
        """In the order of the columns."""
        return (
            self.committed_rev,
            self.deleted,
            self.version,
            self.tail_rev,
            self.pending,
            self.committed,
            self.state_rev,
        )


# ---- records -------------------------------------------------------------------------------------


def head_of(db: sqlite3.Connection, key: bytes) -> Head | None:
    """The record of a document, `None` if it is unknown."""
    row = db.execute(f"SELECT {_COLUMNS} FROM ot_docs WHERE doc_id = ?", (key,)).fetchone()  # noqa: S608 -- fixed names
    if row is not None:
        return _checked_head(key, row)
    RECORDS.check_unknown(db, key)
    return None


def known_head(db: sqlite3.Connection, key: bytes) -> Head:
    """The record of a document, or what it would be if it were recorded now."""
    head = head_of(db, key)
    if head is None or head.deleted:
        return Head(version=RECORDS.next_version(db))
    return head


def live_head(db: sqlite3.Connection, key: bytes) -> Head:
    """The record, made if there is none; a deleted document starts again at revision 0."""
    head = head_of(db, key)
    if head is None or head.deleted:
        return new_head(db, key, is_known=head is not None)
    return head


def new_head(db: sqlite3.Connection, key: bytes, *, is_known: bool, deleted: bool = False) -> Head:
    """Put a new record in the place of one that may be there."""
    head = Head(version=RECORDS.make(db, is_known=is_known), deleted=int(deleted))
    put_head(db, key, head)
    return head


def put_head(db: sqlite3.Connection, key: bytes, head: Head) -> None:
    """Write a record."""
    values = head.values()
    db.execute(
        "INSERT OR REPLACE INTO ot_docs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (key, *values, row_sum(key, *values)),
    )


def list_heads(db: sqlite3.Connection, *, include_deleted: bool) -> list[TrackedDoc]:
    """All documents, without those marked as deleted if not wanted."""
    return RECORDS.list_docs(db, _COLUMNS, _checked_head, include_deleted=include_deleted)


def _checked_head(key: bytes, row: Sequence[int]) -> Head:
    *values, found = row
    if row_sum(key, *values) != found:
        raise damaged(key, "record", "its record fails its checksum")
    rev, deleted, version, tail_rev, pending, committed, state_rev = values
    return Head(
        committed_rev=rev,
        deleted=deleted,
        version=version,
        tail_rev=tail_rev,
        pending=pending,
        committed=committed,
        state_rev=state_rev,
    )


# ---- pending changes -----------------------------------------------------------------------------


def pending_changes(
    db: sqlite3.Connection, key: bytes, head: Head, *, after: int | None = None
) -> list[Change]:
    """All pending changes in order, or those with a revision above `after`."""
    found = []
    for rev, change_id, change, checksum in db.execute(
        "SELECT rev, change_id, change, sum FROM ot_pending WHERE doc_id = ? AND rev > ?"
        " ORDER BY rev",
        (key, -1 if after is None else after),
    ):
        if row_sum(key, rev, change_id, change) != checksum:
            raise damaged(key, "pending", f"its unsent change at {rev} fails its checksum")
        found.append(Change.from_encoded(change, rev=rev, id=from_key(change_id)))
    count = head.pending if after is None else head.tail_rev - after
    if len(found) != count or (found and found[-1].rev != head.tail_rev):
        raise damaged(key, "pending", f"expected {count} unsent changes, found {len(found)}")
    return found


def append_pending(
    db: sqlite3.Connection, key: bytes, head: Head, changes: Sequence[Change]
) -> tuple[Head, list[Change]]:
    """Queue changes, numbered on from the last. The record, still to be written, and the rows."""
    saved = [
        change if change.rev == rev else change.replace(rev=rev)
        for rev, change in enumerate(changes, start=head.tail_rev + 1)
    ]
    _insert_pending(db, key, saved)
    count = len(saved)
    return replace(head, tail_rev=head.tail_rev + count, pending=head.pending + count), saved


def replace_pending(
    db: sqlite3.Connection, key: bytes, head: Head, pending: Sequence[Change]
) -> Head:
    """Put these changes in the place of all pending ones. The record, still to be written."""
    if head.pending:
        db.execute("DELETE FROM ot_pending WHERE doc_id = ?", (key,))
    _insert_pending(db, key, pending)
    return replace(
        head,
        version=head.version + 1,
        pending=len(pending),
        tail_rev=pending[-1].rev if pending else head.committed_rev,
    )


def _insert_pending(db: sqlite3.Connection, key: bytes, pending: Iterable[Change]) -> None:
    db.executemany("INSERT INTO ot_pending VALUES (?, ?, ?, ?, ?)", _pending_rows(key, pending))


def _pending_rows(
    key: bytes, pending: Iterable[Change]
) -> Iterator[tuple[bytes, int, bytes, bytes, int]]:
    for change in pending:
        change_id = to_key(change.id)
        checksum = row_sum(key, change.rev, change_id, change.encoded)
        yield key, change.rev, change_id, change.encoded, checksum


# ---- the committed part --------------------------------------------------------------------------


def committed_changes(
    db: sqlite3.Connection, key: bytes, head: Head, *, after: int = -1
) -> list[Change]:
    """The committed changes that are kept, those with a revision above `after`."""
    found = []
    for rev, change, checksum in db.execute(
        "SELECT rev, change, sum FROM ot_committed WHERE doc_id = ? AND rev > ? ORDER BY rev",
        (key, after),
    ):
        if row_sum(key, rev, change) != checksum:
            raise damaged(key, "committed", f"revision {rev} fails its checksum")
        found.append(Change.from_encoded(change, rev=rev))
    live = sum(change.rev > head.state_rev for change in found)
    if after <= head.state_rev and live != head.committed:
        raise damaged(key, "committed", f"expected {head.committed} revisions, found {live}")
    last = found[-1].rev if found else after
    if head.committed and last < head.committed_rev:
        raise damaged(key, "committed", f"its revisions end at {last}, not {head.committed_rev}")
    return found


def append_committed(
    db: sqlite3.Connection, key: bytes, head: Head, changes: Sequence[Change]
) -> Head:
    """Add changes that follow on. The record, still to be written. Does not fold."""
    db.executemany(
        "INSERT INTO ot_committed VALUES (?, ?, ?, ?)",
        [
            (key, change.rev, change.encoded, row_sum(key, change.rev, change.encoded))
            for change in changes
        ],
    )
    return replace(
        head,
        committed_rev=changes[-1].rev if changes else head.committed_rev,
        committed=head.committed + len(changes),
    )


def replace_committed(db: sqlite3.Connection, key: bytes, head: Head, snapshot: Snapshot) -> Head:
    """Put a state, with changes on it, in the place of the committed part."""
    db.execute("DELETE FROM ot_committed WHERE doc_id = ?", (key,))
    _put_state(db, key, snapshot.rev, snapshot.encoded_state)
    head = replace(head, state_rev=snapshot.rev, committed_rev=snapshot.rev, committed=0)
    return append_committed(db, key, head, snapshot.changes)


def state_of(db: sqlite3.Connection, key: bytes, head: Head) -> bytes:
    """The state below the committed changes, as JSON."""
    if head.state_rev == _NO_STATE:
        return b"null"
    row = db.execute("SELECT rev, state, sum FROM ot_snapshots WHERE doc_id = ?", (key,)).fetchone()
    if row is None or row_sum(key, row[0], row[1]) != row[2] or row[0] != head.state_rev:
        raise damaged(key, "committed", "its state is damaged")
    state: bytes = row[1]
    return state


def _put_state(db: sqlite3.Connection, key: bytes, rev: int, state: bytes) -> None:
    db.execute(
        "INSERT OR REPLACE INTO ot_snapshots VALUES (?, ?, ?, ?)",
        (key, rev, state, row_sum(key, rev, state)),
    )


def fold(db: sqlite3.Connection, doc_id: str, head: Head) -> Head:
    """Fold committed changes into the state, whole intervals of them, and forget old ones."""
    whole = head.committed - head.committed % SNAPSHOT_INTERVAL
    if not whole:
        return head
    key = to_key(doc_id)
    changes = committed_changes(db, key, head, after=head.state_rev)[:whole]
    folded: Json = replayed(doc_id, decode(state_of(db, key, head)), changes)
    rev = changes[-1].rev
    _put_state(db, key, rev, encode(folded))
    db.execute("DELETE FROM ot_committed WHERE doc_id = ? AND rev <= ?", (key, rev - KEPT_CHANGES))
    return replace(head, state_rev=rev, committed=head.committed - whole)


def wipe(db: sqlite3.Connection, key: bytes) -> None:
    """Forget a document's state and changes; its record and its quarantine stay."""
    db.execute("DELETE FROM ot_snapshots WHERE doc_id = ?", (key,))
    db.execute("DELETE FROM ot_committed WHERE doc_id = ?", (key,))
    db.execute("DELETE FROM ot_pending WHERE doc_id = ?", (key,))


def load_queue(db: sqlite3.Connection, key: bytes, *, after: int | None = None) -> PendingQueue:
    """The pending changes, and those committed above `after`."""
    head = known_head(db, key)
    return PendingQueue(
        head.committed_rev,
        pending_changes(db, key, head),
        head.version,
        [] if after is None else committed_changes(db, key, head, after=after),
    )
