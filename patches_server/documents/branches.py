"""`BranchManager`: makes, lists, changes and merges the branches of one algorithm's documents.

A branch is a document of its own and a record that says what it is a copy of and how far it has
been merged. What differs between algorithms is how a branch gets its first content and how it is
merged: a subclass brings `_seed` and `_merge`. The managers of one backend share their records.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from patches.aio.keyed_locks import KeyedLocks
from patches.errors import BranchError, NotFoundError
from patches.model.change import Change
from patches.model.json_values import Json
from patches.model.records import check_branch_metadata, own_fields
from patches.runtime import Millis
from patches_server.documents.branch_store import BranchStore
from patches_server.documents.clock import ServerClock
from patches_server.documents.records import Branch

BRANCH_ID_LENGTH: Final = 22
_MAX_ATTEMPTS: Final = 5


class BranchManager(ABC):
    """The branches of one document server's documents. `keeps_origin`: see `BranchStore`."""

    keeps_origin = False

    def __init__(
        self, branches: BranchStore, clock: ServerClock, new_branch_id: Callable[[], str]
    ) -> None:
        self._branches = branches
        self._clock = clock
        self._new_branch_id = new_branch_id
        self._locks = KeyedLocks()

    async def find_source(self, branch_id: str) -> str | None:
        """The document that a branch was made from, also of a deleted branch; `None`: no branch."""
        record = await self._branches.load_branch(branch_id)
        return None if record is None else record.doc_id

    async def get_source_doc_id(self, branch_id: str) -> str:
        """The document that a branch was made from; rights on a branch are rights on it.

        Raises `NotFoundError` for an unknown or deleted branch.
        """
        record = await self._branches.load_branch(branch_id)
        if record is None or record.deleted:
            raise NotFoundError(f"Branch {branch_id} not found")
        return record.doc_id

    async def list_branches(self, doc_id: str, *, since: float | None = None) -> list[Branch]:
        """The branches of a document; with `since`, those modified after it, deleted ones too."""
        found = await self._branches.list_branches(
            doc_id, since=None if since is None else int(since)
        )
        return [replace(branch, merge_frame=None) for branch in found]

    async def create_branch(
        self, doc_id: str, rev: int, metadata: Mapping[str, Json] | None = None
    ) -> str:
        """Make a branch of a document at a revision; its id.

        `metadata` may hold the `id` of the branch: asking again for the same document changes
        nothing, also when the first call was cut half-way. With `contentStartRev` the caller writes
        the first content itself. Raises `BranchError` for an id of another document's branch, for
        one of a document that exists, and for a branch of a branch or of the document itself.
        """
        given = dict(metadata or {})
        branch_id = given.pop("id", None) or self._new_branch_id()
        if not isinstance(branch_id, str):
            raise BranchError(f"a branch's id is a string, not {branch_id!r}")
        if branch_id == doc_id:
            raise BranchError(f"Document {doc_id} cannot be a branch of itself.")
        async with self._locks(branch_id):
            existing = await self._branches.load_branch(branch_id)
            if existing is not None:
                if existing.doc_id == doc_id:
                    return branch_id
                raise BranchError(f"Branch {branch_id} already exists for a different document")
            if await self._branches.load_branch(doc_id) is not None:
                raise BranchError("Cannot create a branch from another branch.")
            now = await self._clock.now()
            content_start_rev = given.pop("contentStartRev", None)
            if not content_start_rev:
                content_start_rev = await self._seed(
                    doc_id, rev, branch_id, now=now, name=given.get("name")
                )
            await self._branches.create_branch(
                Branch(
                    id=branch_id,
                    doc_id=doc_id,
                    branched_at_rev=rev,
                    content_start_rev=content_start_rev,
                    created_at=now,
                    modified_at=now,
                    metadata=own_fields(given),
                )
            )
        return branch_id

    async def update_branch(self, branch_id: str, metadata: Mapping[str, Json]) -> None:
        """Merge keys into a branch's metadata. Raises `BranchError` naming a key that is fixed."""
        check_branch_metadata(metadata)
        fields = {"metadata": own_fields(metadata), "modified_at": await self._clock.now()}
        await self._branches.update_branch(branch_id, fields)

    async def delete_branch(self, branch_id: str) -> None:
        """Close a branch. Its record stays as a mark for clients; its document is not deleted."""
        await self._branches.delete_branch(
            branch_id, modified_at=await self._clock.now(), keeps_origin=self.keeps_origin
        )

    async def merge_branch(self, branch_id: str) -> Sequence[Change]:
        """Commit what is new on a branch to its source; what the commit answered.

        `[]` if there was nothing to merge. All subscribers are notified, the caller too. The branch
        stays and may be merged again. Raises `BranchError`, or why the commit was refused.
        """
        return await self._merge(await load_live(self._branches, branch_id))

    @abstractmethod
    async def _seed(self, doc_id: str, rev: int, branch_id: str, *, now: Millis, name: Json) -> int:
        """Give the branch document its source's content; the first revision after that.

        A document that is exactly that content already is what a call that was cut has left.
        """

    @abstractmethod
    async def _merge(self, branch: Branch) -> Sequence[Change]:
        """Carry a merge out."""


async def load_live(branches: BranchStore, branch_id: str) -> Branch:
    """The record of a branch that can be merged. Raises `BranchError`."""
    record = await branches.load_branch(branch_id)
    if record is None:
        raise BranchError(f"Branch with ID {branch_id} not found.")
    if record.deleted:
        raise BranchError(f"Branch {branch_id} has been deleted.")
    return record


async def advance_watermark(
    branches: BranchStore,
    clock: ServerClock,
    branch: Branch,
    merged_rev: int,
    fields: Mapping[str, Any] | None = None,
) -> None:
    """Note that `branch` is merged up to `merged_rev`, unless another merge has come further."""
    seen: Branch | None = branch
    for _ in range(_MAX_ATTEMPTS):
        if seen is None or seen.deleted:
            return
        if merged_rev <= (seen.last_merged_rev or (seen.content_start_rev or 1) - 1):
            return
        updated = {
            **(fields or {}),
            "last_merged_rev": merged_rev,
            "modified_at": await clock.now(),
        }
        expected = {"last_merged_rev": seen.last_merged_rev}
        if await branches.update_branch_if(branch.id, updated, expected):
            return
        seen = await branches.load_branch(branch.id)
    raise BranchError(
        f"Failed to advance merge watermark for branch {branch.id} after concurrent merges."
    )
