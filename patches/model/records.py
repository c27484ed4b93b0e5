"""What a client knows of a document's versions and branches (`docs/internals/ot.md` 1.3, 1.4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol, Self, TypeAlias

from patches.errors import BranchError
from patches.model.json_values import Json
from patches.runtime import Millis

#: A change of a branch record that was not sent to the server yet.
PendingOp: TypeAlias = Literal["create", "update", "delete"]

#: Fields by their names on the wire, in the order in which a server writes them.
VERSION_FIELDS: Final = {
    "id": "id",
    "origin": "origin",
    "startedAt": "started_at",
    "endedAt": "ended_at",
    "startRev": "start_rev",
    "endRev": "end_rev",
    "parentId": "parent_id",
    "groupId": "group_id",
}
BRANCH_FIELDS: Final = {
    "id": "id",
    "docId": "doc_id",
    "branchedAtRev": "branched_at_rev",
    "createdAt": "created_at",
    "modifiedAt": "modified_at",
    "contentStartRev": "content_start_rev",
    "lastMergedRev": "last_merged_rev",
    "mergeBaseRev": "merge_base_rev",
    "deleted": "deleted",
}
#: What a client's records have beside those.
_CLIENTS_VERSION: Final = {**VERSION_FIELDS, "name": "name"}
_CLIENTS_BRANCH: Final = {**BRANCH_FIELDS, "name": "name", "pendingOp": "pending_op"}
#: What an update of a branch cannot set, by the names of the wire.
_FIXED_BRANCH_FIELDS: Final = frozenset(
    {
        "id",
        "docId",
        "branchedAtRev",
        "createdAt",
        "modifiedAt",
        "contentStartRev",
        "pendingOp",
        "deleted",
    }
)
#: Set by merges alone; silently left out of what anybody else gives.
_MERGE_FIELDS: Final = frozenset({"lastMergedRev", "mergeBaseRev", "mergeFrame"})


class HasMetadata(Protocol):
    """A record with keys of its owner's."""

    @property
    def metadata(self) -> Mapping[str, Json]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A saved point in a document's history."""

    id: str
    origin: str = "main"
    start_rev: int = 0
    end_rev: int = 0
    started_at: Millis = 0
    ended_at: Millis = 0
    parent_id: str | None = None
    group_id: str | None = None
    name: str | None = None
    metadata: Mapping[str, Json] = field(default_factory=dict)  # other keys

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> Self:
        """From a wire object; unknown keys become metadata."""
        return cls(**fields_of(wire, _CLIENTS_VERSION))


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """A copy of a document with a history of its own, which can be merged back."""

    id: str
    doc_id: str
    branched_at_rev: int = 0
    content_start_rev: int | None = None
    created_at: Millis = 0
    modified_at: Millis = 0
    name: str | None = None
    last_merged_rev: int | None = None
    merge_base_rev: int | None = None
    pending_op: PendingOp | None = None  # kept here alone
    deleted: bool = False
    metadata: Mapping[str, Json] = field(default_factory=dict)  # other keys

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> Self:
        """From a wire object or a stored record; unknown keys become metadata."""
        return cls(**fields_of(wire, _CLIENTS_BRANCH))

    def to_wire(self) -> dict[str, Any]:
        """The stored record: all of it. What is sent is less."""
        return record_of(self, _CLIENTS_BRANCH)


def check_branch_metadata(metadata: Mapping[str, Json]) -> None:
    """Raises `BranchError` naming the first field that is not to be set."""
    for key in metadata:
        if key in _FIXED_BRANCH_FIELDS:
            raise BranchError(f"Cannot modify branch field {key}")


def without_merge_fields(metadata: Mapping[str, Json]) -> dict[str, Json]:
    """Metadata of a branch without what merges alone set."""
    return {key: value for key, value in metadata.items() if key not in _MERGE_FIELDS}


def own_fields(metadata: Mapping[str, Json]) -> dict[str, Json]:
    """What a caller may put on a branch record: the name and keys of its own."""
    return {
        key: value
        for key, value in without_merge_fields(metadata).items()
        if key not in _FIXED_BRANCH_FIELDS
    }


def fields_of(wire: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """The fields of a record; unknown keys become its metadata."""
    fields = {
        names[key]: value for key, value in wire.items() if key in names and value is not None
    }
    fields["metadata"] = {key: value for key, value in wire.items() if key not in names}
    return fields


def record_of(record: HasMetadata, names: Mapping[str, str]) -> dict[str, Any]:
    """The wire object of a record: its fields that are set, and its metadata."""
    wire = {
        key: value
        for key, name in names.items()
        if (value := getattr(record, name)) is not None and value is not False
    }
    return {**wire, **record.metadata}
