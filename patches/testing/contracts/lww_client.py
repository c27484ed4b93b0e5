"""The contract of a client's LWW store (`patches.algorithms.lww.tables`)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from patches.algorithms.lww.field_table import Rows
from patches.algorithms.lww.tables import EDITS_KEPT, DocTables, LWWStore
from patches.model.change import Change, QuarantinedChange, Snapshot
from patches.model.history import NO_HISTORY, History
from patches.model.json_values import Json, Op

DOC = "lww/doc"
OTHER = "lww/other"
HALF = "\ud83d"  # half of an emoji, as a browser can send it


def write(path: str, value: Json = 1, **fields: Json) -> Op:
    """A plain write."""
    return {"op": "replace", "path": path, "value": value, **fields}


def piece(change_id: str = "1abcd", *ops: Op) -> Change:
    """A change that is being sent."""
    return Change(id=change_id, ops=list(ops), base_rev=0, rev=1, created_at=5)


def refused(change_id: str, doc_id: str = DOC) -> QuarantinedChange:
    """A change in quarantine."""
    return QuarantinedChange(
        doc_id=doc_id,
        change_id=change_id,
        change=piece(change_id, write("/a")),
        reason="no",
        quarantined_at=7,
    )


def quarantining(entry: QuarantinedChange) -> Callable[[DocTables], None]:
    """A function that puts a change into quarantine."""
    return lambda tables: tables.put_quarantined(entry)


def fill(tables: DocTables) -> None:
    """Put something into every table of a document."""
    tables.put_snapshot(Snapshot(state={"s": 1}, rev=3))
    tables.committed.put(write("/a", rev=4, ts=1))
    tables.pending.put(write("/p", ts=2))
    tables.put_sending([piece("1aaaa", write("/x")), piece("1bbbb", write("/y"))])
    tables.put_quarantined(refused("1cccc"))
    tables.put_head(committed_rev=4)


class LWWClientStoreContract:
    """Every client store of LWW documents passes these. Subclass it and give a `store` fixture."""

    async def test_an_unknown_document_is_empty(self, store: LWWStore) -> None:
        def look(tables: DocTables) -> None:
            assert tables.head() is None
            assert tables.snapshot() == Snapshot(state={}, rev=0)
            assert tables.committed.ops() == tables.pending.ops() == tables.sending() == []
            assert tables.quarantined("x") is None

        await store.read(DOC, look)
        await store.change(DOC, look)
        assert await store.list_docs(include_deleted=True) == []

    async def test_what_was_written_is_read(self, store: LWWStore) -> None:
        await store.change(DOC, fill)

        def look(tables: DocTables) -> None:
            head = tables.head()
            assert head is not None
            assert (head.committed_rev, head.deleted) == (4, False)
            assert tables.snapshot() == Snapshot(state={"s": 1}, rev=3)
            assert tables.committed.ops() == [write("/a", rev=4, ts=1)]
            assert tables.pending.ops() == [write("/p", ts=2)]
            assert [change.id for change in tables.sending()] == ["1aaaa", "1bbbb"]
            assert tables.sending()[0] == piece("1aaaa", write("/x"))
            assert tables.quarantined("1cccc") == refused("1cccc")

        await store.read(DOC, look)

    async def test_a_history_is_kept_as_long_as_the_copy(self, store: LWWStore) -> None:
        history = History("epoch.7", 4, "c\ud83d")

        def put(tables: DocTables) -> None:
            tables.put_head(committed_rev=4)
            tables.put_history(history)

        assert await store.read(DOC, lambda tables: tables.history()) == NO_HISTORY
        await store.change(DOC, put)
        assert await store.read(DOC, lambda tables: tables.history()) == history

        def forget(tables: DocTables) -> None:
            tables.clear()
            tables.remove_head()

        await store.change(DOC, forget)
        assert await store.read(DOC, lambda tables: tables.history()) == NO_HISTORY

    async def test_a_function_that_raises_leaves_nothing(self, store: LWWStore) -> None:
        def fail(tables: DocTables) -> None:
            raise KeyError("decided before it wrote")

        with pytest.raises(KeyError):
            await store.change(DOC, fail)
        with pytest.raises(KeyError):
            await store.read(DOC, fail)
        assert await store.list_docs() == []
        await store.change(DOC, fill)
        assert len(await store.list_docs()) == 1

    async def test_the_result_of_the_function_is_returned(self, store: LWWStore) -> None:
        assert await store.change(DOC, lambda tables: "done") == "done"
        assert await store.read(DOC, lambda tables: "seen") == "seen"

    async def test_documents_do_not_mix(self, store: LWWStore) -> None:
        await store.change(DOC, fill)

        def put(tables: DocTables) -> None:
            tables.pending.put(write("/p", 2))
            tables.put_head(committed_rev=0)

        await store.change(OTHER, put)

        def clear(tables: DocTables) -> None:
            assert tables.pending.ops() == [write("/p", 2)]
            assert tables.quarantined("1cccc") is None
            tables.clear()

        await store.change(OTHER, clear)
        assert await store.read(DOC, lambda tables: len(tables.pending.ops())) == 1

    # ---- the record --------------------------------------------------------------------------

    async def test_every_write_of_the_record_raises_the_version(self, store: LWWStore) -> None:
        def put(tables: DocTables) -> int:
            return tables.put_head(committed_rev=1).version

        versions = [await store.change(DOC, put) for _ in range(3)]
        assert versions == sorted(set(versions))

    async def test_a_forgotten_document_does_not_repeat_a_version(self, store: LWWStore) -> None:
        def put(tables: DocTables) -> int:
            return tables.put_head(committed_rev=1).version

        before = [await store.change(DOC, put) for _ in range(3)]
        await store.change(DOC, lambda tables: tables.remove_head())
        after = [await store.change(DOC, put) for _ in range(3)]
        assert not set(before) & set(after)

    async def test_deleted_documents_are_listed_on_request(self, store: LWWStore) -> None:
        await store.change(DOC, lambda tables: tables.put_head(committed_rev=4))
        await store.change(OTHER, lambda tables: tables.put_head(committed_rev=2, deleted=True))
        assert [(doc.doc_id, doc.committed_rev) for doc in await store.list_docs()] == [(DOC, 4)]
        listed = await store.list_docs(include_deleted=True)
        assert {(doc.doc_id, doc.deleted, doc.algorithm) for doc in listed} == {
            (DOC, False, "lww"),
            (OTHER, True, "lww"),
        }

    async def test_clearing_keeps_record_and_quarantine(self, store: LWWStore) -> None:
        await store.change(DOC, fill)
        await store.change(DOC, lambda tables: tables.clear())

        def look(tables: DocTables) -> None:
            assert tables.head() is not None
            assert tables.snapshot() == Snapshot(state={}, rev=0)
            assert tables.committed.ops() == tables.pending.ops() == tables.sending() == []
            assert tables.quarantined("1cccc") is not None

        await store.read(DOC, look)

    async def test_the_quarantine_outlives_the_record(self, store: LWWStore) -> None:
        def forget(tables: DocTables) -> None:
            tables.clear()
            tables.remove_head()

        await store.change(DOC, fill)
        await store.change(DOC, forget)
        assert await store.list_docs(include_deleted=True) == []
        assert await store.list_quarantined() == [refused("1cccc")]

    async def test_the_last_edits_are_remembered(self, store: LWWStore) -> None:
        def note(tables: DocTables) -> None:
            for number in range(EDITS_KEPT + 1):
                assert not tables.has_edit(f"edit{number}")
                tables.note_edit(f"edit{number}")
            tables.put_head(committed_rev=0)

        def look(tables: DocTables) -> None:
            assert not tables.has_edit("edit0")
            assert all(tables.has_edit(f"edit{number}") for number in range(1, EDITS_KEPT + 1))

        await store.change(DOC, note)
        await store.read(DOC, look)
        await store.read(OTHER, lambda tables: None)

    # ---- rows --------------------------------------------------------------------------------

    @pytest.mark.parametrize("table", ["committed", "pending"])
    async def test_children_are_the_paths_below(self, store: LWWStore, table: str) -> None:
        paths = ["", "/a", "/ab", "/a/b", "/a/b/c", "/a~1b", "/a/", "/b", "/a0", "/a.b"]

        def check(tables: DocTables) -> None:
            rows: Rows = getattr(tables, table)
            for path in paths:
                rows.put(write(path))
            assert rows.below("/a") == ["/a/b", "/a/b/c", "/a/"]
            assert rows.below("/a/b") == ["/a/b/c"]
            assert rows.below("") == paths[1:]
            assert rows.below("/c") == []
            assert rows.has_below("/a/b")
            assert not rows.has_below("/a/b/c")
            assert not rows.has_below("/c")

        await store.change(DOC, check)

    async def test_a_path_put_again_keeps_its_place_and_one_written_moves(
        self, store: LWWStore
    ) -> None:
        def check(tables: DocTables) -> None:
            rows = tables.pending
            for path in ("/a", "/b", "/c"):
                rows.put(write(path))
            rows.put(write("/a", 2))
            assert rows.ops() == [write("/a", 2), write("/b"), write("/c")]
            rows.write(write("/b", 3))
            assert rows.ops() == [write("/a", 2), write("/c"), write("/b", 3)]
            rows.put(write("/c/d"))
            rows.write(write("/c", 5))
            assert rows.below("/c") == ["/c/d"]
            rows.discard("/c/d")
            rows.write(write("/b", 3))
            rows.discard("/a")
            rows.discard("/unknown")
            rows.put(write("/a", 4))
            assert [op["path"] for op in rows.ops()] == ["/c", "/b", "/a"]
            assert rows.get("/a") == write("/a", 4)
            assert rows.get("/nope") is None

        await store.change(DOC, check)

    async def test_clearing_one_table_keeps_the_other(self, store: LWWStore) -> None:
        def check(tables: DocTables) -> None:
            tables.committed.put(write("/a"))
            tables.pending.put(write("/a", 2))
            tables.pending.clear()
            assert not tables.pending.any()
            assert tables.committed.any()
            assert tables.committed.get("/a") == write("/a")

        await store.change(DOC, check)

    async def test_halves_of_emoji_live_in_paths_values_and_ids(self, store: LWWStore) -> None:
        op = write(f"/{HALF}/x", {HALF: [HALF]}, ts=1)

        def put(tables: DocTables) -> None:
            tables.committed.put(op)
            tables.put_snapshot(Snapshot(state={HALF: HALF}, rev=1))
            tables.put_sending([piece(f"1{HALF}", op)])
            tables.put_head(committed_rev=1)

        def look(tables: DocTables) -> None:
            assert tables.committed.below(f"/{HALF}") == [f"/{HALF}/x"]
            assert tables.committed.get(f"/{HALF}/x") == op
            assert tables.snapshot().state == {HALF: HALF}
            assert tables.sending()[0].id == f"1{HALF}"

        await store.change(f"doc{HALF}", put)
        await store.read(f"doc{HALF}", look)

    # ---- quarantine --------------------------------------------------------------------------

    async def test_the_quarantine_is_listed_in_order_and_by_document(self, store: LWWStore) -> None:
        for doc_id, change_id in ((DOC, "1b"), (DOC, "1a"), (OTHER, "1b")):
            await store.change(doc_id, quarantining(refused(change_id, doc_id)))
        assert [entry.change_id for entry in await store.list_quarantined(DOC)] == ["1b", "1a"]
        assert len(await store.list_quarantined()) == 3

    async def test_one_or_all_of_a_document_leave_the_quarantine(self, store: LWWStore) -> None:
        def put(tables: DocTables) -> None:
            for change_id in ("1a", "1b", "1c"):
                tables.put_quarantined(refused(change_id))

        await store.change(DOC, put)
        await store.change(OTHER, lambda tables: tables.put_quarantined(refused("1a", OTHER)))
        await store.change(DOC, lambda tables: tables.discard_quarantined("1b"))
        await store.change(DOC, lambda tables: tables.discard_quarantined("unknown"))
        assert [entry.change_id for entry in await store.list_quarantined(DOC)] == ["1a", "1c"]
        await store.change(DOC, lambda tables: tables.discard_quarantined())
        assert [entry.doc_id for entry in await store.list_quarantined()] == [OTHER]
