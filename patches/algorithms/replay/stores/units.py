"""What was committed to documents whose actions are run by who commits them, in a client's file.

Each unit of changes is a row, with the operations that lead back before it. They follow on each
other up to the committed revision, so one that is missing is found when the document is opened.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from patches.algorithms.replay.past import MAX_UNITS
from patches.algorithms.replay.tables import ClientRun, Unit
from patches.errors import CorruptDataError
from patches.model import codec
from patches.model.change import Change
from patches.stores.sqlite.checksums import row_sum
from patches.stores.sqlite.document_records import damaged
from patches.stores.sqlite.file_kind import Schema

UNITS_SCHEMA: Final = Schema(
    name="replay_units",
    script="""
CREATE TABLE replay_client_runs (
    doc_id BLOB PRIMARY KEY, floor INTEGER NOT NULL, partial INTEGER NOT NULL, sum INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE replay_units (
    doc_id BLOB NOT NULL, rev INTEGER NOT NULL, content BLOB NOT NULL, sum INTEGER NOT NULL,
    PRIMARY KEY (doc_id, rev)
) WITHOUT ROWID;
""",
    known_by=frozenset({"replay_client_runs"}),
)
_TRIMMED_EVERY: Final = 500


def is_client_run(db: sqlite3.Connection, key: bytes) -> bool:
    """Whether the actions of the document are run by who commits them."""
    row = db.execute("SELECT 1 FROM replay_client_runs WHERE doc_id = ?", (key,)).fetchone()
    return row is not None


def is_partial(db: sqlite3.Connection, key: bytes) -> bool:
    """If they are: whether there may be rows that the user may not see."""
    row = db.execute("SELECT partial FROM replay_client_runs WHERE doc_id = ?", (key,)).fetchone()
    return row is not None and bool(row[0])


def read(db: sqlite3.Connection, key: bytes, rev: int) -> ClientRun | None:
    """All units up to the committed revision. Raises `CorruptDataError`."""
    row = db.execute("SELECT * FROM replay_client_runs WHERE doc_id = ?", (key,)).fetchone()
    if row is None:
        return None
    *values, checksum = row
    if row_sum(*values) != checksum:
        raise damaged(key, "committed", "what it says of its runner fails its checksum")
    _, last, partial = values
    units: list[Unit] = []
    for unit_rev, content, unit_sum in db.execute(
        "SELECT rev, content, sum FROM replay_units WHERE doc_id = ? ORDER BY rev", (key,)
    ):
        if row_sum(key, unit_rev, content) != unit_sum:
            raise damaged(key, "committed", f"revision {unit_rev} fails its checksum")
        unit = _decoded(key, content)
        if unit.changes[0].base_rev != last or unit.rev != unit_rev:
            raise damaged(key, "committed", f"what follows revision {last} is missing")
        units.append(unit)
        last = unit_rev
    if last != rev:
        raise damaged(key, "committed", f"what follows revision {last} is missing")
    return ClientRun(partial=bool(partial), units=units)


def begin(db: sqlite3.Connection, key: bytes, rev: int, *, partial: bool) -> None:
    """From this revision on units are kept, and none of before."""
    end(db, key)
    _put_run(db, key, rev, partial)


def add(db: sqlite3.Connection, key: bytes, unit: Unit) -> None:
    """Keep one more; the oldest go."""
    wire = [change.to_wire() for change in unit.changes]
    content = codec.encode({"changes": wire, "back": list(unit.back)})
    db.execute(
        "INSERT OR REPLACE INTO replay_units VALUES (?, ?, ?, ?)",
        (key, unit.rev, content, row_sum(key, unit.rev, content)),
    )
    if unit.rev % _TRIMMED_EVERY:
        return
    gone = db.execute(
        "SELECT max(rev) FROM replay_units WHERE doc_id = ? AND rev <= ?",
        (key, unit.rev - MAX_UNITS),
    ).fetchone()[0]
    if gone is not None:
        db.execute("DELETE FROM replay_units WHERE doc_id = ? AND rev <= ?", (key, gone))
        _put_run(db, key, gone, is_partial(db, key))


def end(db: sqlite3.Connection, key: bytes) -> None:
    """Keep none any more."""
    db.execute("DELETE FROM replay_client_runs WHERE doc_id = ?", (key,))
    db.execute("DELETE FROM replay_units WHERE doc_id = ?", (key,))


def _put_run(db: sqlite3.Connection, key: bytes, rev: int, partial: bool) -> None:
    values = (key, rev, int(partial))
    db.execute(
        "INSERT OR REPLACE INTO replay_client_runs VALUES (?, ?, ?, ?)",
        (*values, row_sum(*values)),
    )


def _decoded(key: bytes, content: bytes) -> Unit:
    try:
        wire = codec.decode(content)
        return Unit([Change.from_wire(change) for change in wire["changes"]], wire["back"])
    except (ValueError, KeyError, TypeError) as error:
        cause: CorruptDataError = damaged(key, "committed", "a unit of changes cannot be read")
        raise cause from error
