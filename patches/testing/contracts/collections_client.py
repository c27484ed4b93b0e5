"""The contract of a client's collections store (`patches.algorithms.collections.tables`)."""

from __future__ import annotations

import pytest

from patches.algorithms.collections.tables import CollectionsStore, DocTables, Head
from patches.model.change import Change, QuarantinedChange

DOC = "board/doc"
OTHER = "board/other"
HALF = "\ud83d"  # half of an emoji, as a browser can send it


def write(change_id: str) -> Change:
    """A pending change."""
    op = {"op": "remove", "path": "/tasks/a"}
    return Change(id=change_id, ops=[op], base_rev=0, rev=1, created_at=5)


def refused(change_id: str, doc_id: str = DOC) -> QuarantinedChange:
    """A change in quarantine."""
    return QuarantinedChange(
        doc_id=doc_id,
        change_id=change_id,
        change=write(change_id),
        reason=f"no {HALF}",
        quarantined_at=7,
    )


def fill(tables: DocTables) -> None:
    """Put something into every table of a document."""
    tables.put_head(Head(committed_rev=4, version=1, token="t", schema_version=2))
    tables.replace_rows({"tasks": {"a": {"id": "a"}, HALF: {"id": HALF}}, "lists": {"a": {"n": 1}}})
    tables.add_pending(write("w2"))
    tables.add_pending(write("w1"))
    tables.put_quarantined(refused("w0"))


class CollectionsClientStoreContract:
    """Every client store of collections passes these. Subclass it and give a `store` fixture."""

    async def test_an_unknown_document_is_empty(self, store: CollectionsStore) -> None:
        def look(tables: DocTables) -> None:
            assert tables.head() is None
            assert tables.rows() == {}
            assert tables.row("tasks", "a") is None
            assert tables.pending() == []
            assert not tables.has_pending()
            assert tables.find_pending("w1") is None
            assert tables.quarantined("w0") is None

        await store.read(DOC, look)
        assert await store.list_docs() == []

    async def test_what_is_put_is_there(self, store: CollectionsStore) -> None:
        await store.change(DOC, fill)

        def look(tables: DocTables) -> None:
            head = tables.head()
            assert head is not None
            assert (head.committed_rev, head.token, head.schema_version) == (4, "t", 2)
            assert tables.rows() == {
                "tasks": {"a": {"id": "a"}, HALF: {"id": HALF}},
                "lists": {"a": {"n": 1}},
            }
            assert tables.row("tasks", HALF) == {"id": HALF}
            assert [change.id for change in tables.pending()] == ["w2", "w1"]
            assert tables.find_pending("w1") == write("w1")
            assert tables.quarantined("w0") == refused("w0")

        await store.read(DOC, look)
        (listed,) = await store.list_docs()
        assert (listed.doc_id, listed.committed_rev, listed.algorithm) == (DOC, 4, "collections")

    async def test_rows_are_put_replaced_and_removed(self, store: CollectionsStore) -> None:
        await store.change(DOC, fill)

        def edit(tables: DocTables) -> None:
            tables.put_row("tasks", "a", {"id": "a", "title": "new"})
            tables.put_row("tasks", "b", {"id": "b"})
            tables.remove_row("tasks", HALF)
            tables.remove_row("tasks", "nobody")
            tables.clear_rows("lists")
            tables.clear_rows("nothing")

        await store.change(DOC, edit)
        rows = await store.read(DOC, lambda tables: tables.rows())
        assert {name: table for name, table in rows.items() if table} == {
            "tasks": {"a": {"id": "a", "title": "new"}, "b": {"id": "b"}}
        }

    async def test_pending_changes_leave_by_their_ids(self, store: CollectionsStore) -> None:
        await store.change(DOC, fill)
        gone = await store.change(DOC, lambda tables: tables.remove_pending(["w1", "unknown"]))
        assert gone == ["w1"]
        pending = await store.read(DOC, lambda tables: tables.pending())
        assert [change.id for change in pending] == ["w2"]

    async def test_a_forgotten_document_leaves_its_quarantine(
        self, store: CollectionsStore
    ) -> None:
        await store.change(DOC, fill)

        def fill_other(tables: DocTables) -> None:
            tables.put_head(Head(committed_rev=1, version=1))
            tables.put_quarantined(refused("w0", OTHER))

        await store.change(OTHER, fill_other)
        await store.change(DOC, lambda tables: tables.remove_head())
        assert [doc.doc_id for doc in await store.list_docs()] == [OTHER]
        assert await store.read(DOC, lambda tables: tables.rows()) == {}
        assert await store.list_quarantined(DOC) == [refused("w0")]
        await store.change(DOC, lambda tables: tables.discard_quarantined("w0"))
        assert await store.list_quarantined(DOC) == []
        assert len(await store.list_quarantined()) == 1

    async def test_a_tombstone_is_listed_only_when_asked_for(self, store: CollectionsStore) -> None:
        await store.change(
            DOC,
            lambda tables: tables.put_head(Head(committed_rev=3, version=1, deleted=True)),
        )
        assert await store.list_docs() == []
        assert [doc.deleted for doc in await store.list_docs(include_deleted=True)] == [True]

    async def test_what_raises_before_its_first_write_leaves_nothing(
        self, store: CollectionsStore
    ) -> None:
        def failing(tables: DocTables) -> None:
            raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            await store.change(DOC, failing)
        assert await store.list_docs() == []
