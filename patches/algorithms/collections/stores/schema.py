"""The tables of `CollectionsSqliteStore`.

Names and keys are bytes, because text columns hold no lone surrogates. `sum` is the checksum of a
row. A document's record counts its rows and pending changes, and sums up the checksums of its rows.
"""

from __future__ import annotations

from typing import Final

from patches.stores.sqlite.document_records import DocumentRecords
from patches.stores.sqlite.file_kind import Schema

#: The records, and the quarantine.
RECORDS: Final = DocumentRecords("collections", "collections_rows", "collections_pending")

_TABLES: Final = """
CREATE TABLE collections_docs (
    doc_id BLOB PRIMARY KEY,
    committed_rev INTEGER NOT NULL,
    version INTEGER NOT NULL,
    deleted INTEGER NOT NULL,
    token BLOB NOT NULL,  -- JSON
    schema_version INTEGER NOT NULL,
    rows INTEGER NOT NULL,
    rows_sum INTEGER NOT NULL,
    pending INTEGER NOT NULL,
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
CREATE TABLE collections_pending (
    doc_id BLOB NOT NULL,
    change_id BLOB NOT NULL,
    position INTEGER NOT NULL,
    change BLOB NOT NULL,
    sum INTEGER NOT NULL,
    PRIMARY KEY (doc_id, change_id)
) WITHOUT ROWID;
"""

SCHEMA: Final = Schema(name="collections", script=RECORDS.script + _TABLES)
