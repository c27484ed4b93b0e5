"""The contract of an `OTServerStore`."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import pytest

from patches.errors import (
    AlgorithmMismatchError,
    DocDeletedError,
    DuplicateChangeIdsError,
    RevConflictError,
)
from patches.model.change import Change
from patches.model.json_values import Json
from patches_server.documents.measure import Bounds
from patches_server.documents.records import Branch, Tombstone, Version
from patches_server.ot.store import NO_DOC, DocHead, OTServerStore

NOW: Final = 1_700_000_000_000


def a_change(rev: int, change_id: str | None = None, **fields: Any) -> Change:
    """A committed change that sets `/a` to its revision."""
    values: dict[str, Any] = {
        "id": change_id or f"c{rev}",
        "ops": [{"op": "replace", "path": "/a", "value": rev}],
        "base_rev": rev - 1,
        "rev": rev,
        "created_at": NOW + rev,
        "committed_at": NOW + rev,
        **fields,
    }
    return Change(**values)


async def append(store: OTServerStore, doc_id: str, *changes: Change, **options: Any) -> DocHead:
    """Save changes after whatever the head is; the new head."""
    head = await store.get_head(doc_id)
    await store.save_changes(doc_id, changes, expected=head, now=NOW, **options)
    return await store.get_head(doc_id)


async def filled(store: OTServerStore, doc_id: str, count: int) -> DocHead:
    """Save `count` changes; the head."""
    return await append(store, doc_id, *(a_change(rev) for rev in range(1, count + 1)))


async def revs(store: OTServerStore, doc_id: str, **options: Any) -> list[int]:
    """The revisions that a list gives."""
    return [change.rev for change in await store.list_changes(doc_id, **options)]


def a_version(end_rev: int, start_rev: int = 1, origin: str = "main", **fields: Any) -> Version:
    """A version of some changes."""
    values: dict[str, Any] = {
        "id": f"v{end_rev}",
        "origin": origin,
        "start_rev": start_rev,
        "end_rev": end_rev,
        "started_at": NOW,
        "ended_at": NOW,
        **fields,
    }
    return Version(**values)


def a_tombstone(doc_id: str, **fields: Any) -> Tombstone:
    """A tombstone whose `last_rev` the store has to fill in."""
    values: dict[str, Any] = {"deleted_at": NOW, "last_rev": 0, **fields}
    return Tombstone(doc_id=doc_id, **values)


class OTServerStoreContract:
    """Every OT server store passes these. Subclass it and give a `store` fixture, an empty one."""

    async def test_an_unknown_document_is_empty(self, store: OTServerStore) -> None:
        assert await store.get_head("d") == NO_DOC
        assert await store.list_changes("d") == []
        snapshot = await store.load_snapshot("d")
        assert (snapshot.version, snapshot.state, snapshot.changes) == (None, None, [])
        assert await store.get_tombstone("d") is None
        assert await store.last_server_time() == 0

    async def test_changes_come_back_as_they_were_saved(self, store: OTServerStore) -> None:
        change = a_change(
            1,
            ops=[{"op": "add", "path": "/é", "value": {"half": "\ud83d", "x": [1.5, None]}}],
            batch_id="b",
            client_id="u",
            metadata={"by": "job"},
        )
        await append(store, "d", change)
        (found,) = await store.list_changes("d")
        assert found == change
        assert found.encoded == change.encoded

    async def test_the_head_is_that_of_the_newest_change(self, store: OTServerStore) -> None:
        head = await append(store, "d", a_change(1), a_change(2), bounds=Bounds(7, 3))
        assert head == DocHead(rev=2, change_id="c2", created_at=NOW + 2, bounds=Bounds(7, 3))
        head = await append(store, "d", a_change(3))
        assert head.bounds == Bounds(7, 3), "kept where no others are given"

    async def test_a_token_names_one_life_of_a_document(self, store: OTServerStore) -> None:
        assert (await store.get_head("d")).token is None
        first = await append(store, "d", a_change(1))
        await append(store, "e", a_change(1))
        assert first.token is not None
        assert (await append(store, "d", a_change(2))).token == first.token
        assert (await store.get_head("e")).token != first.token
        await store.delete_doc("d", None, now=NOW)
        assert (await store.get_head("d")).token is None
        again = await append(store, "d", a_change(1))
        assert again.token not in (None, first.token)
        with pytest.raises(RevConflictError):
            await store.save_changes("d", [a_change(2)], expected=first, now=NOW)

    async def test_documents_do_not_mix(self, store: OTServerStore) -> None:
        await append(store, "d", a_change(1, "same"))
        await append(store, "D", a_change(1, "same"), a_change(2))
        await append(store, "d/é", a_change(1, "same"))
        assert [await revs(store, doc_id) for doc_id in ("d", "D", "d/é")] == [[1], [1, 2], [1]]

    async def test_a_taken_revision_saves_nothing(self, store: OTServerStore) -> None:
        before = await filled(store, "d", 1)
        head = await append(store, "d", a_change(2))
        with pytest.raises(RevConflictError):
            await store.save_changes(
                "d", [a_change(2, "x"), a_change(3, "y")], expected=before, now=NOW
            )
        assert await store.get_head("d") == head
        assert await revs(store, "d") == [1, 2]

    async def test_a_head_of_the_same_revision_in_another_log_is_a_conflict(
        self, store: OTServerStore
    ) -> None:
        old = await filled(store, "d", 2)
        await store.delete_doc("d", None, now=NOW)
        await append(store, "d", a_change(1, "n1"), a_change(2, "n2"))
        with pytest.raises(RevConflictError):
            await store.save_changes("d", [a_change(3)], expected=old, now=NOW)
        assert await revs(store, "d") == [1, 2]

    async def test_revisions_that_do_not_go_up_are_a_conflict(self, store: OTServerStore) -> None:
        head = await filled(store, "d", 2)
        for wrong in ([2], [3, 3], [4, 3]):
            changes = [a_change(rev, f"x{place}") for place, rev in enumerate(wrong)]
            with pytest.raises(RevConflictError):
                await store.save_changes("d", changes, expected=head, now=NOW)
        assert await store.get_head("d") == head

    async def test_an_id_is_committed_once(self, store: OTServerStore) -> None:
        head = await filled(store, "d", 2)
        with pytest.raises(DuplicateChangeIdsError) as raised:
            await store.save_changes(
                "d",
                [a_change(3, "new"), a_change(4, "c1"), a_change(5, "new")],
                expected=head,
                now=NOW,
            )
        assert sorted(raised.value.change_ids) == ["c1", "new"]
        assert await revs(store, "d") == [1, 2]
        await append(store, "d", a_change(3, "new"))

    async def test_the_revision_is_checked_before_the_ids(self, store: OTServerStore) -> None:
        before = await filled(store, "d", 1)
        await append(store, "d", a_change(2))
        with pytest.raises(RevConflictError):
            await store.save_changes("d", [a_change(2)], expected=before, now=NOW)

    async def test_one_of_two_writers_wins(self, store: OTServerStore) -> None:
        head = await filled(store, "d", 1)
        results = await asyncio.gather(
            *(
                store.save_changes("d", [a_change(2, f"x{n}")], expected=head, now=NOW)
                for n in range(5)
            ),
            return_exceptions=True,
        )
        assert sorted(map(repr, map(type, results))) == sorted(
            map(repr, [type(None), *[RevConflictError] * 4])
        )
        assert await revs(store, "d") == [1, 2]

    async def test_lists_keep_to_their_bounds(self, store: OTServerStore) -> None:
        await filled(store, "d", 6)
        assert await revs(store, "d", start_after=2) == [3, 4, 5, 6]
        assert await revs(store, "d", end_before=3) == [1, 2]
        assert await revs(store, "d", start_after=1, end_before=5, limit=2) == [2, 3]
        assert await revs(store, "d", limit=0) == []
        assert await revs(store, "d", start_after=6) == []

    async def test_a_list_within_bytes_has_at_least_one_change(self, store: OTServerStore) -> None:
        await filled(store, "d", 4)
        size = len((await store.list_changes("d", limit=1))[0].encoded)
        assert await revs(store, "d", max_bytes=1) == [1]
        assert await revs(store, "d", max_bytes=2 * size + size // 2) == [1, 2]

    async def test_a_snapshot_is_the_newest_main_version_and_the_tail(
        self, store: OTServerStore
    ) -> None:
        await filled(store, "d", 6)
        await store.versions.create_version("d", a_version(2), b'{"a":2}')
        await store.versions.create_version("d", a_version(4), b'{"a":4}')
        await store.versions.create_version("d", a_version(5, origin="branch"), b"{}")
        for rev, state, tail in (
            (None, b'{"a":4}', [5, 6]),
            (99, b'{"a":4}', [5, 6]),
            (5, b'{"a":4}', [5]),
            (4, b'{"a":4}', []),
            (3, b'{"a":2}', [3]),
            (1, None, [1]),
            (0, None, []),
        ):
            snapshot = await store.load_snapshot("d", rev=rev)
            assert snapshot.state == state, rev
            assert [change.rev for change in snapshot.changes] == tail, rev

    async def test_a_version_beyond_the_log_is_hidden(self, store: OTServerStore) -> None:
        await filled(store, "d", 3)
        await store.versions.create_version("d", a_version(2), b"2")
        await store.versions.create_version("d", a_version(9), b"9")
        assert (await store.load_snapshot("d")).state == b"2"

    async def test_a_version_whose_state_is_missing_is_not_passed_over(
        self, store: OTServerStore
    ) -> None:
        await filled(store, "d", 3)
        await store.versions.create_version("d", a_version(2), None)
        snapshot = await store.load_snapshot("d")
        assert snapshot.version is not None
        assert snapshot.version.end_rev == 2
        assert not snapshot.state

    async def test_a_pruned_log_keeps_its_ids(self, store: OTServerStore) -> None:
        head = await filled(store, "d", 4)
        await store.prune_changes("d", through_rev=2)
        assert await revs(store, "d") == [3, 4]
        assert await store.get_head("d") == head
        with pytest.raises(DuplicateChangeIdsError):
            await append(store, "d", a_change(5, "c1"))
        await store.prune_changes("d", through_rev=4)
        assert (await append(store, "d", a_change(5))).rev == 5

    async def test_a_deleted_document_is_gone(self, store: OTServerStore) -> None:
        await filled(store, "d", 3)
        await store.versions.create_version("d", a_version(2), b"2")
        await store.delete_doc("d", None, now=NOW)
        assert await store.get_head("d") == NO_DOC
        assert await store.list_changes("d") == []
        assert await store.versions.list_versions("d") == []
        assert (await append(store, "d", a_change(1))).rev == 1, "its ids too"

    async def test_a_tombstone_is_set_with_the_removal(self, store: OTServerStore) -> None:
        await filled(store, "d", 3)
        await store.delete_doc("d", a_tombstone("d", deleted_by_client_id="u"), now=NOW)
        tombstone = await store.get_tombstone("d")
        assert tombstone == a_tombstone("d", deleted_by_client_id="u", last_rev=3)

    async def test_a_second_deletion_keeps_the_tombstone(self, store: OTServerStore) -> None:
        await filled(store, "d", 3)
        await store.delete_doc("d", a_tombstone("d"), now=NOW)
        await store.delete_doc("d", a_tombstone("d", deleted_at=NOW + 9), now=NOW)
        assert await store.get_tombstone("d") == a_tombstone("d", last_rev=3)

    async def test_a_tombstone_bars_reading_and_writing(self, store: OTServerStore) -> None:
        await filled(store, "d", 1)
        await store.delete_doc("d", a_tombstone("d"), now=NOW)
        for call in (
            lambda: store.get_head("d"),
            lambda: store.list_changes("d"),
            lambda: store.load_snapshot("d"),
            lambda: store.prune_changes("d", through_rev=1),
            lambda: store.save_changes("d", [a_change(1)], expected=NO_DOC, now=NOW),
            lambda: store.versions.create_version("d", a_version(1), b"1"),
        ):
            with pytest.raises(DocDeletedError) as raised:
                await call()
            assert raised.value.data == {"deletedAt": NOW, "lastRev": 1}

    async def test_without_its_tombstone_a_document_can_start_again(
        self, store: OTServerStore
    ) -> None:
        await filled(store, "d", 2)
        await store.delete_doc("d", a_tombstone("d"), now=NOW)
        assert await store.remove_tombstone("d") is True
        assert await store.remove_tombstone("d") is False
        assert await store.list_changes("d") == [], "the data does not come back"
        assert (await append(store, "d", a_change(1))).rev == 1

    async def test_the_latest_server_time_is_remembered(self, store: OTServerStore) -> None:
        await store.save_changes("d", [a_change(1)], expected=NO_DOC, now=NOW + 5)
        await store.save_changes("e", [a_change(1)], expected=NO_DOC, now=NOW)
        assert await store.last_server_time() == NOW + 5

    async def test_what_callers_do_to_their_changes_later_is_not_stored(
        self, store: OTServerStore
    ) -> None:
        ops: list[Json] = [{"op": "replace", "path": "/a", "value": [1]}]
        await append(store, "d", a_change(1, ops=ops))
        ops[0]["value"].append(2)
        (found,) = await store.list_changes("d")
        assert found.ops[0]["value"] == [1]

    async def test_branch_records_are_at_hand(self, store: OTServerStore) -> None:
        branch = Branch(
            id="b",
            doc_id="d",
            branched_at_rev=1,
            content_start_rev=2,
            created_at=NOW,
            modified_at=NOW,
        )
        await store.branches.create_branch(branch)
        assert await store.branches.load_branch("b") == branch
        assert await store.branches.update_branch_if(
            "b", {"last_merged_rev": 3}, {"last_merged_rev": None}
        )


async def check_algorithm_is_kept(store: OTServerStore, doc_id: str) -> None:
    """For a document that another algorithm has: it is neither written nor deleted."""
    with pytest.raises(AlgorithmMismatchError):
        await store.save_changes(doc_id, [a_change(1)], expected=NO_DOC, now=NOW)
    with pytest.raises(AlgorithmMismatchError):
        await store.delete_doc(doc_id, a_tombstone(doc_id), now=NOW)
    assert await store.get_tombstone(doc_id) is None
