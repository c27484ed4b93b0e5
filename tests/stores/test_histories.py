"""What a client's file says of the histories of its documents."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest

from patches.model.history import NO_HISTORY, History
from patches.stores.sqlite.file_kind import CLIENT_FILE, build
from patches.stores.sqlite.histories import (
    HISTORIES_SCHEMA,
    advance_history,
    load_history,
    put_history,
)

KNOWN = History("token", 3, "c3")


@pytest.fixture
def db() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    build(connection, CLIENT_FILE.name, [HISTORIES_SCHEMA])
    yield connection
    connection.close()


def test_a_history_is_found_again_and_goes_on(db: sqlite3.Connection) -> None:
    assert load_history(db, "d") == NO_HISTORY
    put_history(db, "d", KNOWN)
    assert load_history(db, "d") == KNOWN
    advance_history(db, "d", 4, None)
    assert load_history(db, "d") == History("token", 4, None)
    advance_history(db, "new", 1, "c1")
    assert load_history(db, "new") == History(None, 1, "c1")


@pytest.mark.parametrize(
    "change", ["token = x'00'", "token = NULL", "last_rev = 4", "last_id = NULL"]
)
def test_of_a_damaged_row_nothing_is_known(db: sqlite3.Connection, change: str) -> None:
    put_history(db, "d", KNOWN)
    db.execute(f"UPDATE histories SET {change}")
    assert load_history(db, "d") == NO_HISTORY


def test_older_tables_get_checksums(db: sqlite3.Connection) -> None:
    put_history(db, "d", KNOWN)
    put_history(db, "e", NO_HISTORY)
    db.execute("ALTER TABLE histories DROP COLUMN sum")
    db.execute("ALTER TABLE file_parts DROP COLUMN sum")
    db.execute("UPDATE file_parts SET version = 1")
    build(db, CLIENT_FILE.name, [HISTORIES_SCHEMA])
    assert load_history(db, "d") == KNOWN
    assert load_history(db, "e") == NO_HISTORY
