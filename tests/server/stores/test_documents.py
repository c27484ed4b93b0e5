"""What all documents of a server share: the same in memory and in SQL."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from patches.errors import AlgorithmMismatchError, DocDeletedError
from patches_server.documents.records import Tombstone
from patches_server.documents.tombstones import MemoryDocuments
from patches_server.stores.sqlite import documents
from patches_server.stores.sqlite.checksums import SUMS_SCHEMA

STONE = Tombstone(doc_id="d", deleted_at=5, last_rev=7, deleted_by_client_id="c")


@pytest.fixture(params=["memory", "sql"])
def docs(request: pytest.FixtureRequest) -> Iterator[Any]:
    if request.param == "memory":
        memory = MemoryDocuments()
        yield memory
        return
    conn = sqlite3.connect(":memory:")
    conn.executescript(SUMS_SCHEMA.script + documents.DOCUMENTS_SCHEMA.script)
    assert documents.DOCUMENTS_SCHEMA.fill is not None
    documents.DOCUMENTS_SCHEMA.fill(conn)
    names = (
        "algorithm_of",
        "check_not_deleted",
        "require_writable",
        "forget_document",
        "put_tombstone",
        "get_tombstone",
        "remove_tombstone",
    )
    yield SimpleNamespace(**{name: partial(getattr(documents, name), conn) for name in names})
    conn.close()


def test_the_first_write_records_the_algorithm(docs: Any) -> None:
    assert docs.algorithm_of("d") is None
    docs.require_writable("d", "ot", now=1)
    docs.require_writable("d", "ot", now=2)
    assert docs.algorithm_of("d") == "ot"
    with pytest.raises(AlgorithmMismatchError, match="'ot'"):
        docs.require_writable("d", "lww", now=3)


def test_a_forgotten_document_may_have_another_algorithm(docs: Any) -> None:
    docs.require_writable("d", "ot", now=1)
    docs.forget_document("d")
    docs.forget_document("never")
    docs.require_writable("d", "lww", now=1)
    assert docs.algorithm_of("d") == "lww"


def test_nothing_is_written_under_a_tombstone(docs: Any) -> None:
    docs.put_tombstone(STONE)
    assert docs.get_tombstone("d") == STONE
    with pytest.raises(DocDeletedError) as error:
        docs.check_not_deleted("d")
    assert error.value.data == {"deletedAt": 5, "lastRev": 7}
    with pytest.raises(DocDeletedError):
        docs.require_writable("d", "ot", now=2**50)
    assert docs.algorithm_of("d") is None


def test_a_tombstone_can_be_removed_once(docs: Any) -> None:
    docs.put_tombstone(STONE)
    assert docs.remove_tombstone("d") is True
    assert docs.remove_tombstone("d") is False
    docs.check_not_deleted("d")
