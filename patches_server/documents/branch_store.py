"""Branch records: what a branch is a copy of, and how far it has been merged.

The rules: `docs/internals/ot.md` 1.3.

`BranchStore` is what branch managers need; `MemoryBranches` keeps the records in memory. A deleted
branch leaves a record with `deleted=True`, so that clients which list modified branches see it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol, TypeAlias

from patches.runtime import Millis
from patches_server.documents.records import Branch

#: A record from the one before; `None`: it stays.
Changed: TypeAlias = Callable[[Branch], Branch | None]


class BranchStore(Protocol):
    """Keeps branch records. Fields are named as in `Branch`; `None` is "not set"."""

    async def list_branches(self, doc_id: str, *, since: float | None = None) -> list[Branch]:
        """The branches of a document in order of creation, without deleted ones.

        With `since` (neither `None` nor 0): those modified after it, deleted ones too.
        """

    async def load_branch(self, branch_id: str) -> Branch | None:
        """The record, also of a deleted branch."""

    async def create_branch(self, branch: Branch) -> None:
        """Save a record, or replace the one of this id."""

    async def update_branch(self, branch_id: str, fields: Mapping[str, Any]) -> None:
        """Set fields; `metadata` is merged by key. An unknown id is no error."""

    async def update_branch_if(
        self, branch_id: str, fields: Mapping[str, Any], expected: Mapping[str, Any]
    ) -> bool:
        """The same, if every field of `expected` has that value now. `False`: it has not, or the
        branch is missing or deleted; then nothing was changed."""

    async def delete_branch(
        self, branch_id: str, *, modified_at: Millis, keeps_origin: bool = False
    ) -> None:
        """Leave only ids, times, `branched_at_rev` and `deleted=True`.

        `keeps_origin`: `content_start_rev` too, and then its wire form has all of these.
        """


class ChangesBranches(ABC):
    """The writes of a `BranchStore`, each a function of the record that is stored."""

    @abstractmethod
    async def _change(self, branch_id: str, change: Changed) -> bool:
        """Store what `change` makes of a record, in one transaction; whether there is any."""

    async def update_branch(self, branch_id: str, fields: Mapping[str, Any]) -> None:
        await self._change(branch_id, lambda branch: updated(branch, fields))

    async def update_branch_if(
        self, branch_id: str, fields: Mapping[str, Any], expected: Mapping[str, Any]
    ) -> bool:
        return await self._change(
            branch_id,
            lambda branch: updated(branch, fields) if matches(branch, expected) else None,
        )

    async def delete_branch(
        self, branch_id: str, *, modified_at: Millis, keeps_origin: bool = False
    ) -> None:
        await self._change(
            branch_id, lambda branch: tombstone_of(branch, modified_at, keeps_origin)
        )


class MemoryBranches(ChangesBranches):
    """Branch records in memory."""

    def __init__(self) -> None:
        self._branches: dict[str, Branch] = {}

    async def list_branches(self, doc_id: str, *, since: float | None = None) -> list[Branch]:
        return [
            branch
            for branch in self._branches.values()
            if branch.doc_id == doc_id
            and (branch.modified_at > since if since else not branch.deleted)
        ]

    async def load_branch(self, branch_id: str) -> Branch | None:
        return self._branches.get(branch_id)

    async def create_branch(self, branch: Branch) -> None:
        self._branches[branch.id] = branch

    async def _change(self, branch_id: str, change: Changed) -> bool:
        before = self._branches.get(branch_id)
        after = None if before is None else change(before)
        if after is not None:
            self._branches[branch_id] = after
        return after is not None


def updated(branch: Branch, fields: Mapping[str, Any]) -> Branch:
    """The record with fields set and metadata merged."""
    merged = {**branch.metadata, **fields.get("metadata", {})}
    return replace(branch, **{**fields, "metadata": merged})


def matches(branch: Branch, expected: Mapping[str, Any]) -> bool:
    """Whether the branch is not deleted and has these values."""
    return not branch.deleted and all(
        getattr(branch, name) == value for name, value in expected.items()
    )


def tombstone_of(branch: Branch, modified_at: Millis, keeps_origin: bool) -> Branch:
    """What remains of a deleted branch."""
    return Branch(
        id=branch.id,
        doc_id=branch.doc_id,
        branched_at_rev=branch.branched_at_rev,
        content_start_rev=branch.content_start_rev if keeps_origin else None,
        created_at=branch.created_at,
        modified_at=modified_at,
        deleted=True,
    )
