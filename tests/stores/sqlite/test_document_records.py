"""The tables that each algorithm has in a client's file, for an algorithm of one's own."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pytest

from patches.errors import CorruptDataError
from patches.model.change import Change, QuarantinedChange
from patches.stores.sqlite.document_records import DocumentRecords, damaged
from patches.stores.sqlite.keys import to_key

RECORDS = DocumentRecords("mine", "mine_rows")


@dataclass(frozen=True)
class Record:
    committed_rev: int
    deleted: int


def checked(key: bytes, row: Sequence[Any]) -> Record:
    rev, is_whole = row
    if not is_whole:
        raise damaged(key, "record", "it is not whole")
    return Record(rev, 0)


@pytest.fixture
def db() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(RECORDS.script)
        db.execute("CREATE TABLE mine_docs (doc_id BLOB PRIMARY KEY, rev, is_whole, version)")
        db.execute("CREATE TABLE mine_rows (doc_id BLOB)")
        yield db


def put(db: sqlite3.Connection, doc_id: str, rev: int = 1, *, is_whole: bool = True) -> int:
    version = RECORDS.make(db)
    row = (to_key(doc_id), rev, is_whole, version)
    db.execute("INSERT INTO mine_docs VALUES (?, ?, ?, ?)", row)
    return version


def listed(db: sqlite3.Connection) -> list[tuple[str, int, bool]]:
    docs = RECORDS.list_docs(db, "rev, is_whole", checked, include_deleted=True)
    assert {doc.algorithm for doc in docs} <= {"mine"}
    return [(doc.doc_id, doc.committed_rev, doc.is_damaged) for doc in docs]


def an_entry(doc_id: str, change_id: str, reason: str = "no") -> QuarantinedChange:
    change = Change(id=change_id, ops=[], base_rev=0, rev=1, created_at=1)
    return QuarantinedChange(
        doc_id=doc_id, change_id=change_id, change=change, reason=reason, quarantined_at=5
    )


def test_each_record_begins_with_a_version_that_no_other_had(db: sqlite3.Connection) -> None:
    first = put(db, "a")
    RECORDS.remove(db, to_key("a"))
    expected = RECORDS.next_version(db)
    assert put(db, "a") == expected > first
    assert listed(db) == [("a", 1, False)]


def test_a_record_that_is_damaged_or_missing_is_listed_as_such(db: sqlite3.Connection) -> None:
    put(db, "whole", 3)
    put(db, "broken", is_whole=False)
    RECORDS.make(db)  # a record that is lost, with a row that is not
    db.execute("INSERT INTO mine_rows VALUES (?)", (to_key("lost"),))
    assert listed(db) == [("whole", 3, False), ("broken", 0, True), ("lost", 0, True)]
    with pytest.raises(CorruptDataError, match="'lost': its record is missing"):
        RECORDS.check_unknown(db, to_key("lost"))
    db.execute("DELETE FROM mine_rows")
    with pytest.raises(CorruptDataError, match="3 records of 'mine' and holds 2"):
        listed(db)


def test_a_quarantine_keeps_an_entry_for_each_id(db: sqlite3.Connection) -> None:
    for entry in (an_entry("d", "1"), an_entry("d", "\ud800"), an_entry("e", "1")):
        RECORDS.quarantine(db, entry)
    RECORDS.quarantine(db, an_entry("d", "1", "again"))
    assert [
        (each.doc_id, each.change_id, each.reason) for each in RECORDS.list_quarantined(db, None)
    ] == [
        ("d", "\ud800", "no"),
        ("e", "1", "no"),
        ("d", "1", "again"),
    ]
    assert RECORDS.take_from_quarantine(db, to_key("d"), ["1", "2"]) == 1
    assert RECORDS.take_from_quarantine(db, to_key("d")) == 1
    assert [each.doc_id for each in RECORDS.list_quarantined(db, None)] == ["e"]
    assert RECORDS.counts(db).quarantined == 1


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("UPDATE mine_quarantine SET reason = x'00'", "'d': a quarantined change fails"),
        ("DELETE FROM mine_quarantine", "1 quarantined changes of 'mine' and holds 0"),
        ("UPDATE mine_file SET docs = 7", "the count of 'mine' documents in the file is damaged"),
    ],
)
def test_damage_is_told(db: sqlite3.Connection, damage: str, message: str) -> None:
    RECORDS.quarantine(db, an_entry("d", "1"))
    db.execute(damage)
    with pytest.raises(CorruptDataError, match=message):
        RECORDS.list_quarantined(db, None)
