"""The tables of `CollectionsSqliteStore`.

Names and keys are bytes, because text columns hold no lone surrogates. `sum` is the checksum of a
row. A document's record counts its rows and changes and sums up the checksums of its rows;
`collections_file` counts the records.
"""

from __future__ import annotations

from typing import Final

from patches.stores.sqlite.checksums import row_sum
from patches.stores.sqlite.file_kind import Schema

_TABLES: Final = """
CREATE TABLE collections_file (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    docs INTEGER NOT NULL,
    sum INTEGER NOT NULL
);
CREATE TABLE collections_docs (
    doc_id BLOB PRIMARY KEY,
    is_kept INTEGER NOT NULL,  -- 0: nothing is left but a quarantine
    committed_rev INTEGER NOT NULL,
    version INTEGER NOT NULL,
    deleted INTEGER NOT NULL,
    token BLOB NOT NULL,  -- JSON
    schema_version INTEGER NOT NULL,
    rows INTEGER NOT NULL,
    rows_sum INTEGER NOT NULL,
    pending INTEGER NOT NULL,
    quarantined INTEGER NOT NULL,
    position INTEGER NOT NULL,  -- of the last change that was put
    sum INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE collections_rows (
    doc_id BLOB NOT NULL,
    name BLOB NOT NULL,
    key BLOB NOT NULL,
    row BLOB NOT NULL,
    sum INTEGER NOT NULL,
    PRIMARY KEY (doc_id, name, key)
) WITHOUT ROWID;
CREATE TABLE collections_changes (
    doc_id BLOB NOT NULL,
    change_id BLOB NOT NULL,
    is_quarantined INTEGER NOT NULL,
    position INTEGER NOT NULL,
    change BLOB NOT NULL,
    reason BLOB NOT NULL,
    quarantined_at INTEGER NOT NULL,
    sum INTEGER NOT NULL,
    PRIMARY KEY (doc_id, change_id)
) WITHOUT ROWID;
INSERT INTO collections_file VALUES (1, 0, {no_docs});
"""

SCHEMA: Final = Schema(name="collections", script=_TABLES.format(no_docs=row_sum(0)))
