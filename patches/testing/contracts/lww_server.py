"""The contract of an `LWWServerStore`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import pytest

from patches.errors import AlgorithmMismatchError, DocDeletedError, RevConflictError
from patches.model.json_values import Json
from patches_server.documents.records import Tombstone, Version
from patches_server.lww.rows import Row
from patches_server.lww.store import LoadedRows, LWWServerStore

NOW: Final = 1_700_000_000_000
LONE: Final = "/\ud83d"  # half of a surrogate pair, as a browser can send it


def a_row(path: str, value: Json = 1, *, rev: int, pos: int = 0, ts: float = NOW) -> Row:
    """A row that writes `value`; a value of `...` removes."""
    op = {"op": "replace", "path": path, "value": value, "ts": ts}
    if value is ...:
        op = {"op": "remove", "path": path, "ts": ts}
    return Row.from_op(op, rev=rev, pos=pos)


async def write(
    store: LWWServerStore, doc_id: str, rev: int, values: dict[str, Any], **options: Any
) -> None:
    """Write one revision of a document."""
    rows = [
        a_row(path, value, rev=rev, pos=pos) for pos, (path, value) in enumerate(values.items())
    ]
    options.setdefault("now", NOW)
    await store.save_rows(doc_id, rows, expected_rev=rev - 1, **options)


async def paths_of(store: LWWServerStore, doc_id: str, **options: Any) -> list[str]:
    """The paths of the rows that a load gives."""
    return [row.path for row in (await store.load_rows(doc_id, now=NOW, **options)).rows]


class LWWServerStoreContract:
    """Every LWW server store passes these. Subclass it and give a `store` fixture, an empty one."""

    async def test_an_unknown_document_is_empty(self, store: LWWServerStore) -> None:
        assert await store.load_rows("d", now=NOW) == LoadedRows()
        assert await store.get_current_rev("d") == 0

    async def test_rows_come_back_in_the_order_in_which_they_were_stored(
        self, store: LWWServerStore
    ) -> None:
        await write(store, "d", 1, {"/b": 1, "/a": 2})
        await write(store, "d", 2, {"/c": 3})
        await write(store, "d", 3, {"/b": 4})
        assert await paths_of(store, "d") == ["/a", "/c", "/b"]

    async def test_a_row_keeps_its_op_and_what_it_knows(self, store: LWWServerStore) -> None:
        op = {"op": "replace", "path": LONE, "value": {"x": [1.5, None, "é\ud83d"]}, "ts": 12.5}
        row = Row.from_op(op, rev=1, pos=0, held=((1, 2), (3, None)), pinned=True)
        await store.save_rows("d", [row], expected_rev=0, now=NOW)
        (found,) = (await store.load_rows("d", now=NOW)).rows
        assert found.op == {**op, "rev": 1}
        assert found.encoded == row.encoded
        assert (found.path, found.rev, found.ts, found.held) == (LONE, 1, 12.5, row.held)
        assert (found.hidden, found.pinned) == (False, True)

    async def test_a_row_keeps_its_author(self, store: LWWServerStore) -> None:
        op = {"op": "replace", "path": "/a", "value": 1, "ts": 1}
        for rev, author in enumerate(("ann \ud800", None), start=1):
            row = Row.from_op(op, rev=rev, pos=0, author=author)
            await store.save_rows("d", [row], expected_rev=rev - 1, now=NOW)
            (loaded,) = (await store.load_rows("d", now=NOW)).rows
            assert loaded.author == author

    async def test_a_token_names_one_life_of_a_document(self, store: LWWServerStore) -> None:
        await write(store, "d", 1, {"/a": 1}, head_id="c1", change_ids=["c1"])
        first = await store.load_rows("d", now=NOW)
        assert (first.head_id, first.token is not None) == ("c1", True)
        await write(store, "d", 2, {"/a": 2}, token=first.token)
        assert (await store.load_rows("d", now=NOW)).token == first.token
        await store.delete_doc("d", None, now=NOW)
        await write(store, "d", 1, {"/a": 1})
        again = await store.load_rows("d", now=NOW)
        assert again.token not in (None, first.token)
        with pytest.raises(RevConflictError):
            await write(store, "d", 2, {"/a": 2}, token=first.token)

    async def test_it_is_known_which_change_made_a_revision(self, store: LWWServerStore) -> None:
        if not store.keeps_change_ids:
            pytest.skip("it keeps no change ids")
        for rev in (1, 2, 3):
            ids = [f"c{rev}"]
            await write(
                store, "d", rev, {"/a": rev}, head_id=ids[0], change_ids=ids, expires_at=NOW + rev
            )
        assert await store.made_by("d", 3, "c3") is True
        assert await store.made_by("d", 2, "c2") is True
        assert await store.made_by("d", 2, "c1") is False
        assert await store.made_by("d", 2, "other") is False
        assert await store.made_by("none", 1, "c1") is False
        # The first two ids expire, and are pruned with the next write.
        later = NOW + 9
        await write(
            store, "d", 4, {"/a": 4}, head_id="c4", change_ids=["c4"], now=NOW + 2, expires_at=later
        )
        assert await store.made_by("d", 2, "c2") is None
        assert await store.made_by("d", 2, "other") is None
        assert await store.made_by("d", 3, "other") is False
        assert await store.made_by("d", 4, "c4") is True

    async def test_a_row_replaces_those_at_and_below_its_path(self, store: LWWServerStore) -> None:
        await write(store, "d", 1, {"/a/b": 1, "/a/b/c": 2, "/ab": 3, "/a/é": 4, "/a0": 5})
        await write(store, "d", 2, {"/a": {}})
        assert await paths_of(store, "d") == ["/ab", "/a0", "/a"]

    async def test_the_root_replaces_everything(self, store: LWWServerStore) -> None:
        await write(store, "d", 1, {"/a": 1, "/": 2, LONE: 3})
        await write(store, "d", 2, {"": {}})
        assert await paths_of(store, "d") == [""]

    async def test_a_child_of_the_same_revision_stays(self, store: LWWServerStore) -> None:
        await write(store, "d", 1, {"/a": {}, "/a/b": 1})
        assert await paths_of(store, "d") == ["/a", "/a/b"]

    async def test_paths_load_what_is_at_above_and_below_them(self, store: LWWServerStore) -> None:
        values = ["", "/a", "/a/b", "/a/b/c", "/a/bc", "/x"]
        await write(store, "d", 1, dict.fromkeys(values, "x"))
        assert await paths_of(store, "d", paths=["/a/b"]) == ["", "/a", "/a/b", "/a/b/c"]
        assert await paths_of(store, "d", paths=["/a/b", "/x"]) == [*values[:4], "/x"]
        assert await paths_of(store, "d", paths=[""]) == values
        assert await paths_of(store, "d", paths=[]) == []

    async def test_many_paths_can_be_loaded_at_once(self, store: LWWServerStore) -> None:
        paths = [f"/k{number}" for number in range(1_500)]
        await write(store, "d", 1, dict.fromkeys(paths, 1))
        assert len(await paths_of(store, "d", paths=paths)) == 1_500

    async def test_a_revision_loads_what_was_written_after_it(self, store: LWWServerStore) -> None:
        await write(store, "d", 1, {"/a": 1, "/b": 1})
        await write(store, "d", 2, {"/c": 1})
        await write(store, "d", 3, {"/a": 2})
        assert await paths_of(store, "d", since_rev=1) == ["/c", "/a"]
        assert await paths_of(store, "d", since_rev=3) == []
        assert await paths_of(store, "d", since_rev=2, paths=["/b"]) == ["/b", "/a"]

    async def test_a_moved_head_saves_nothing(self, store: LWWServerStore) -> None:
        await write(store, "d", 1, {"/a": 1})
        with pytest.raises(RevConflictError):
            await write(store, "d", 1, {"/a": 2, "/b": 2}, change_ids=["x"], expires_at=NOW + 9)
        with pytest.raises(RevConflictError):
            await write(store, "d", 3, {"/a": 2})
        loaded = await store.load_rows("d", now=NOW, change_ids=["x"])
        assert (loaded.rev, len(loaded.rows), loaded.seen) == (1, 1, frozenset())

    async def test_a_hidden_removal_stays_among_the_rows(self, store: LWWServerStore) -> None:
        await write(store, "d", 1, {"/a": ...})
        await write(store, "d", 2, {"/a/b": 1}, hide=["/a"])
        rows = (await store.load_rows("d", now=NOW)).rows
        assert [(row.path, row.hidden) for row in rows] == [("/a", True), ("/a/b", False)]
        await write(store, "d", 3, {"/a": {}})
        rows = (await store.load_rows("d", now=NOW)).rows
        assert [(row.path, row.hidden) for row in rows] == [("/a", False)]

    async def test_change_ids_are_seen_until_they_expire(self, store: LWWServerStore) -> None:
        if not store.keeps_change_ids:
            return
        ids = ["x", "\ud83d"]
        await write(store, "d", 1, {"/a": 1}, change_ids=ids, expires_at=NOW + 10)
        for now, seen in ((NOW, {"x", "\ud83d"}), (NOW + 9, set(ids)), (NOW + 10, set())):
            loaded = await store.load_rows("d", now=now, paths=(), change_ids=[*ids, "y"])
            assert loaded.seen == seen
        other = await store.load_rows("e", now=NOW, change_ids=ids)
        assert other.seen == frozenset()

    async def test_expired_change_ids_do_not_come_back(self, store: LWWServerStore) -> None:
        if not store.keeps_change_ids:
            return
        await write(store, "d", 1, {"/a": 1}, change_ids=["x", "y"], expires_at=NOW + 10)
        await write(store, "d", 2, {"/a": 2}, change_ids=["x"], expires_at=NOW + 30, now=NOW + 20)
        loaded = await store.load_rows("d", now=NOW + 25, paths=(), change_ids=["x", "y"])
        assert loaded.seen == {"x"}

    async def test_old_removals_can_be_dropped(self, store: LWWServerStore) -> None:
        await write(store, "d", 1, {"/a": ..., "/b": 1, "/c": ...})
        await write(store, "d", 2, {"/c/d": 1}, hide=["/c"])
        await write(store, "d", 3, {"/e": ...}, now=NOW + 5)
        assert await store.drop_removals("d", stored_before=NOW, limit=10) == 0
        assert await store.drop_removals("d", stored_before=NOW + 5, limit=10) == 2
        loaded = await store.load_rows("d", now=NOW)
        assert [row.path for row in loaded.rows] == ["/b", "/c/d", "/e"]
        assert (loaded.rev, loaded.floor) == (3, 1)

    async def test_a_pinned_removal_is_not_dropped(self, store: LWWServerStore) -> None:
        op = {"op": "remove", "path": "/a/b", "ts": NOW}
        await store.save_rows(
            "d", [Row.from_op(op, rev=1, pos=0, pinned=True)], expected_rev=0, now=NOW
        )
        assert await store.drop_removals("d", stored_before=NOW + 1, limit=10) == 0
        assert (await store.load_rows("d", now=NOW)).floor == 0

    async def test_removals_are_dropped_a_few_at_a_time(self, store: LWWServerStore) -> None:
        await write(store, "d", 1, {f"/{number}": ... for number in range(5)})
        dropped = [await store.drop_removals("d", stored_before=NOW + 1, limit=2) for _ in range(4)]
        assert dropped == [2, 2, 1, 0]
        assert await store.drop_removals("none", stored_before=NOW, limit=2) == 0

    async def test_a_seed_is_a_snapshot_with_rows(self, store: LWWServerStore) -> None:
        await store.seed("d", b'{"a":1}', [a_row("/a", rev=1)], now=NOW)
        loaded = await store.load_rows("d", now=NOW)
        assert loaded.snapshot is not None
        assert (loaded.snapshot.state, loaded.snapshot.rev) == (b'{"a":1}', 0)
        assert (loaded.rev, [row.path for row in loaded.rows]) == (1, ["/a"])
        with pytest.raises(RevConflictError):
            await store.seed("d", b"{}", [], now=NOW)

    async def test_a_seed_without_rows_has_no_revision(self, store: LWWServerStore) -> None:
        await store.seed("d", b"{}", [], now=NOW)
        assert await store.get_current_rev("d") == 0
        await write(store, "d", 1, {"/a": 1})

    async def test_a_snapshot_takes_the_place_of_rows(self, store: LWWServerStore) -> None:
        await write(store, "d", 1, {"/a": 1})
        await write(store, "d", 2, {"/b": 1})
        await store.save_snapshot("d", b'{"a":1}', 1, now=NOW)
        loaded = await store.load_rows("d", now=NOW)
        assert loaded.snapshot is not None
        assert loaded.snapshot.rev == 1
        assert (loaded.rev, [row.path for row in loaded.rows]) == (2, ["/b"])

    async def test_a_deleted_document_is_gone(self, store: LWWServerStore) -> None:
        await write(store, "d", 1, {"/a": 1}, change_ids=["x"], expires_at=NOW + 10)
        await store.delete_doc("d", None, now=NOW)
        assert await store.load_rows("d", now=NOW, change_ids=["x"]) == LoadedRows()
        await write(store, "d", 1, {"/b": 1})
        assert await paths_of(store, "d") == ["/b"]

    async def test_a_tombstone_refuses_reads_and_writes(self, store: LWWServerStore) -> None:
        await write(store, "d", 1, {"/a": 1})
        stone = Tombstone(doc_id="d", deleted_at=NOW, last_rev=1, deleted_by_client_id="c")
        await store.delete_doc("d", stone, now=NOW)
        assert await store.get_tombstone("d") == stone
        with pytest.raises(DocDeletedError) as error:
            await store.load_rows("d", now=NOW)
        assert error.value.data == {"deletedAt": NOW, "lastRev": 1}
        for refused in (
            write(store, "d", 1, {"/a": 1}),
            write(store, "d", 2, {"/a": 1}),
            store.seed("d", b"{}", [], now=NOW),
            store.save_snapshot("d", b"{}", 1, now=NOW),
        ):
            with pytest.raises(DocDeletedError):
                await refused
        assert await store.get_current_rev("d") == 0

    async def test_without_its_tombstone_a_document_starts_again(
        self, store: LWWServerStore
    ) -> None:
        await store.delete_doc("d", Tombstone(doc_id="d", deleted_at=NOW, last_rev=0), now=NOW)
        assert await store.remove_tombstone("d") is True
        assert await store.remove_tombstone("d") is False
        assert await store.get_tombstone("d") is None
        await write(store, "d", 1, {"/a": 1})

    async def test_versions_outlive_the_document(self, store: LWWServerStore) -> None:
        if store.versions is None:
            return
        await write(store, "d", 1, {"/a": 1})
        version = Version(
            id="v", origin="main", start_rev=1, end_rev=1, started_at=NOW, ended_at=NOW
        )
        await store.versions.create_version("d", version, b"{}")
        await store.delete_doc("d", None, now=NOW)
        assert await store.versions.list_versions("d") == [version]

    async def test_the_latest_server_time_is_remembered(self, store: LWWServerStore) -> None:
        assert await store.last_server_time() == 0
        await write(store, "d", 1, {"/a": 1}, now=NOW + 7)
        await write(store, "e", 1, {"/a": 1}, now=NOW)
        assert await store.last_server_time() == NOW + 7

    async def test_documents_do_not_share_rows(self, store: LWWServerStore) -> None:
        await write(store, "d", 1, {"/a": 1})
        await write(store, "e", 1, {"/b": 1})
        await store.delete_doc("d", None, now=NOW)
        assert await paths_of(store, "e") == ["/b"]


class SharedDocumentsContract:
    """What the stores of one backend know of each other. Give a `stores` fixture: two LWW stores
    over the same data, as two processes would have them."""

    async def test_what_one_writes_the_other_reads(self, stores: Sequence[LWWServerStore]) -> None:
        first, second = stores
        await write(first, "d", 1, {"/a": 1})
        assert await paths_of(second, "d") == ["/a"]

    async def test_only_one_of_two_writers_gets_a_revision(
        self, stores: Sequence[LWWServerStore]
    ) -> None:
        first, second = stores
        await write(first, "d", 1, {"/a": 1})
        with pytest.raises(RevConflictError):
            await write(second, "d", 1, {"/a": 2})
        await write(second, "d", 2, {"/a": 2})
        assert await first.get_current_rev("d") == 2

    async def test_a_deletion_by_one_stops_the_other(
        self, stores: Sequence[LWWServerStore]
    ) -> None:
        first, second = stores
        await write(first, "d", 1, {"/a": 1})
        await first.delete_doc("d", Tombstone(doc_id="d", deleted_at=NOW, last_rev=1), now=NOW)
        with pytest.raises(DocDeletedError):
            await write(second, "d", 2, {"/a": 2})


async def check_algorithm_is_kept(store: LWWServerStore, other_algorithms_doc: str) -> None:
    """A document that another algorithm's store has recorded is refused, and nothing is written."""
    with pytest.raises(AlgorithmMismatchError):
        await write(store, other_algorithms_doc, 1, {"/a": 1})
    assert await store.get_current_rev(other_algorithms_doc) == 0
