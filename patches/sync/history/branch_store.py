"""Branch records that are kept here: what a store must do, and the rules for changing them.

A record that was not sent to the server yet carries a `pending_op`. The rules are functions of the
record; a store only loads and saves (`docs/internals/ot.md` 10.1).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from patches.model.json_values import Json
from patches.model.records import Branch, check_branch_metadata, own_fields, without_merge_fields
from patches.runtime import Millis


class BranchStore(Protocol):
    """Branch records, by id. `MemoryBranchStore` and `SqliteBranchStore` are two."""

    async def load(self, branch_id: str) -> Branch | None:
        """A record, deleted ones too."""

    async def list(self, doc_id: str) -> Sequence[Branch]:
        """All records of a source document, deleted ones too, oldest first."""

    async def list_pending(self) -> Sequence[Branch]:
        """All records with a `pending_op`, of any document, oldest first."""

    async def save(self, branches: Iterable[Branch]) -> None:
        """Add or replace records, all or none."""

    async def remove(self, branch_ids: Iterable[str]) -> None:
        """Remove records; unknown ids are no error."""


def new_branch(
    branch_id: str, doc_id: str, rev: int, metadata: Mapping[str, Json], *, now: Millis
) -> Branch:
    """A record for a branch that the server does not know."""
    wire: dict[str, Any] = without_merge_fields(metadata)
    wire.setdefault("contentStartRev", 0)
    wire.update(
        id=branch_id,
        docId=doc_id,
        branchedAtRev=rev,
        createdAt=now,
        modifiedAt=now,
        pendingOp="create",
    )
    return Branch.from_wire(wire)


def updated_branch(branch: Branch, metadata: Mapping[str, Json], *, now: Millis) -> Branch:
    """A record with other metadata. Raises `BranchError` for a field that is not to be set."""
    check_branch_metadata(metadata)
    wire = {**branch.to_wire(), **without_merge_fields(metadata), "modifiedAt": now}
    wire["pendingOp"] = "create" if branch.pending_op == "create" else "update"
    return Branch.from_wire(wire)


def deleted_branch(branch: Branch, *, now: Millis) -> Branch | None:
    """The mark that remains of a deleted record; `None`: the server never knew it."""
    if branch.pending_op == "create":
        return None
    return Branch(
        id=branch.id, doc_id=branch.doc_id, modified_at=now, deleted=True, pending_op="delete"
    )


def merged_with_server(
    before: Iterable[Branch], now: Mapping[str, Branch], received: Iterable[Branch]
) -> tuple[list[Branch], list[str]]:
    """What of the server's records to save, and which to remove. Local work is not overwritten.

    `before` and `now` are the records here before the server was asked, and after: a record that
    was sent to it meanwhile may be missing in its list, and does not count as deleted.
    """
    before = list(before)
    deleted_here = {branch.id for branch in before} - now.keys()
    saved: list[Branch] = []
    listed: set[str] = set()
    for branch in received:
        local = now.get(branch.id)
        if branch.deleted or branch.id in deleted_here:
            continue
        listed.add(branch.id)
        if local is not None and local.pending_op is not None:
            continue
        merged = (local.last_merged_rev if local is not None else None) or 0
        if merged > (branch.last_merged_rev or 0):
            branch = replace(branch, last_merged_rev=merged)
        saved.append(branch)
    removed = [
        branch.id
        for branch in before
        if branch.id not in listed and branch.pending_op is None and now.get(branch.id) == branch
    ]
    return saved, removed


def metadata_to_send(branch: Branch) -> dict[str, Json]:
    """The fields of a record that `createBranch` sends besides document and revision."""
    wire = without_merge_fields(branch.to_wire())
    for key in ("docId", "branchedAtRev", "createdAt", "modifiedAt", "pendingOp"):
        wire.pop(key, None)
    return wire


def changes_to_send(branch: Branch) -> dict[str, Json]:
    """The fields of a record that `updateBranch` sends."""
    return own_fields(branch.to_wire())
