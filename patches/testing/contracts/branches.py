"""The contract of a `BranchStore`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from patches_server.documents.branch_store import BranchStore
from patches_server.documents.records import Branch

NOW: Final = 1_700_000_000_000


def a_branch(branch_id: str, doc_id: str = "d", **fields: Any) -> Branch:
    """A branch record."""
    values: dict[str, Any] = {
        "branched_at_rev": 3,
        "content_start_rev": 2,
        "created_at": NOW,
        "modified_at": NOW,
    }
    return Branch(id=branch_id, doc_id=doc_id, **{**values, **fields})


class BranchStoreContract:
    """Every branch store passes these. Subclass it and give a `store` fixture, empty at first."""

    async def test_a_record_comes_back_as_it_was(self, store: BranchStore) -> None:
        frame = {"sourceRev": 4, "branchRev": 2, "programs": '[[{"op":"remove"}]]'}
        branch = a_branch(
            "b",
            merge_frame=frame,
            last_merged_rev=7,
            merge_base_rev=2,
            metadata={"name": "Draft", "custom": [1, None]},
        )
        await store.create_branch(branch)
        assert await store.load_branch("b") == branch
        assert await store.load_branch("none") is None

    async def test_a_branch_without_content_start_has_none(self, store: BranchStore) -> None:
        await store.create_branch(a_branch("b", content_start_rev=None))
        loaded = await store.load_branch("b")
        assert loaded is not None
        assert loaded.content_start_rev is None

    async def test_branches_are_listed_by_document_in_order_of_creation(
        self, store: BranchStore
    ) -> None:
        for branch in (a_branch("z"), a_branch("other", "e"), a_branch("a")):
            await store.create_branch(branch)
        assert [branch.id for branch in await store.list_branches("d")] == ["z", "a"]

    async def test_since_lists_what_was_modified_after_it(self, store: BranchStore) -> None:
        await store.create_branch(a_branch("a", modified_at=5))
        await store.create_branch(a_branch("b", modified_at=6))
        assert [branch.id for branch in await store.list_branches("d", since=5)] == ["b"]
        assert len(await store.list_branches("d", since=0)) == 2

    async def test_fields_are_set_and_metadata_is_merged(self, store: BranchStore) -> None:
        await store.create_branch(a_branch("b", metadata={"name": "Draft", "color": 1}))
        await store.update_branch("b", {"modified_at": 9, "metadata": {"color": 2, "new": True}})
        assert await store.load_branch("b") == a_branch(
            "b", modified_at=9, metadata={"name": "Draft", "color": 2, "new": True}
        )

    async def test_an_unknown_branch_is_not_made_by_an_update(self, store: BranchStore) -> None:
        await store.update_branch("b", {"modified_at": 9})
        assert await store.load_branch("b") is None

    async def test_a_field_can_be_cleared(self, store: BranchStore) -> None:
        await store.create_branch(a_branch("b", merge_frame={"sourceRev": 1}, last_merged_rev=2))
        await store.update_branch("b", {"merge_frame": None})
        assert await store.load_branch("b") == a_branch("b", last_merged_rev=2)

    async def test_a_conditional_update_checks_what_is_expected(self, store: BranchStore) -> None:
        await store.create_branch(a_branch("b"))
        fields = {"last_merged_rev": 5, "modified_at": 9}
        assert await store.update_branch_if("b", fields, {"last_merged_rev": None})
        assert not await store.update_branch_if("b", fields, {"last_merged_rev": None})
        assert not await store.update_branch_if(
            "b", {"last_merged_rev": 8}, {"last_merged_rev": 5, "merge_base_rev": 1}
        )
        assert await store.update_branch_if("b", {"last_merged_rev": 8}, {"last_merged_rev": 5})
        assert await store.load_branch("b") == a_branch("b", last_merged_rev=8, modified_at=9)

    async def test_a_conditional_update_of_no_branch_is_refused(self, store: BranchStore) -> None:
        assert not await store.update_branch_if("b", {"modified_at": 9}, {})
        await store.create_branch(a_branch("b"))
        await store.delete_branch("b", modified_at=9)
        assert not await store.update_branch_if("b", {"last_merged_rev": 1}, {})

    async def test_a_deleted_branch_leaves_a_mark(self, store: BranchStore) -> None:
        await store.create_branch(
            a_branch("b", last_merged_rev=5, merge_frame={"sourceRev": 1}, metadata={"name": "x"})
        )
        await store.delete_branch("b", modified_at=NOW + 5)
        mark = a_branch("b", content_start_rev=None, modified_at=NOW + 5, deleted=True)
        assert await store.load_branch("b") == mark
        assert await store.list_branches("d") == []
        assert await store.list_branches("d", since=NOW) == [mark]
        await store.delete_branch("none", modified_at=9)

    async def test_a_mark_can_keep_the_origin(self, store: BranchStore) -> None:
        await store.create_branch(a_branch("b"))
        await store.delete_branch("b", modified_at=NOW + 5, keeps_origin=True)
        assert await store.load_branch("b") == a_branch("b", modified_at=NOW + 5, deleted=True)

    async def test_a_record_can_be_replaced(self, store: BranchStore) -> None:
        branch = a_branch("b", metadata={"name": "x"})
        await store.create_branch(branch)
        other = replace(branch, metadata={}, doc_id="e")
        await store.create_branch(other)
        assert await store.list_branches("d") == []
        assert await store.list_branches("e") == [other]
