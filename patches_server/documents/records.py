"""What a server keeps beside changes: tombstones, versions and branch records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

from patches.errors import VersionError
from patches.model.change import Change
from patches.model.json_values import Json
from patches.model.records import BRANCH_FIELDS, VERSION_FIELDS, fields_of, record_of
from patches.runtime import Millis


@dataclass(frozen=True, slots=True, kw_only=True)
class Tombstone:
    """Stands in a deleted document's place (`docs/internals/ot.md` 1.5)."""

    doc_id: str
    deleted_at: Millis
    last_rev: int
    deleted_by_client_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitOptions:
    """Options of a commit. Only `force_commit` is taken from any client.

    The rules: `docs/internals/ot.md` 14.4.
    """

    force_commit: bool = False
    historical_import: bool = False
    allow_root_replace: bool = False
    max_changes_per_version: int | None = None
    extra: Mapping[str, Json] = field(default_factory=dict)

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> Self:
        """From a wire object; unknown keys are kept in `extra`."""
        known = {
            "forceCommit": "force_commit",
            "historicalImport": "historical_import",
            "allowRootReplace": "allow_root_replace",
        }
        fields: dict[str, Any] = {
            name: wire[key] is True for key, name in known.items() if key in wire
        }
        if isinstance(wire.get("maxChangesPerVersion"), int):
            fields["max_changes_per_version"] = wire["maxChangesPerVersion"]
        extra = {
            key: value
            for key, value in wire.items()
            if key not in known and key != "maxChangesPerVersion"
        }
        return cls(**fields, extra=extra)

    def to_wire(self) -> dict[str, Any]:
        """The options that are set, for the broadcast."""
        wire: dict[str, Any] = dict(self.extra)
        if self.force_commit:
            wire["forceCommit"] = True
        if self.historical_import:
            wire["historicalImport"] = True
        if self.allow_root_replace:
            wire["allowRootReplace"] = True
        if self.max_changes_per_version is not None:
            wire["maxChangesPerVersion"] = self.max_changes_per_version
        return wire


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitResult:
    """The answer to a commit: catch-up first, then the own changes as they were stored.

    `token`: of the document's history, for a caller that requested it.
    """

    changes: Sequence[Change]
    doc_reload_required: bool = False
    token: str | None = None


#: Fields of a version that only the server sets, by their wire names.
PROTECTED_VERSION_FIELDS: Final = frozenset(VERSION_FIELDS)


def check_version_metadata(metadata: Mapping[str, Json] | None) -> None:
    """Refuse metadata that sets a protected field. Raises `VersionError` naming the first."""
    for key in metadata or ():
        if key in PROTECTED_VERSION_FIELDS:
            raise VersionError(f"Cannot modify version field {key}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A saved point in a document's history (`docs/internals/ot.md` 1.4)."""

    id: str
    origin: str
    start_rev: int
    end_rev: int
    started_at: Millis
    ended_at: Millis
    parent_id: str | None = None
    group_id: str | None = None
    metadata: Mapping[str, Json] = field(default_factory=dict)  # name and custom keys

    def to_wire(self) -> dict[str, Any]:
        """The wire object."""
        return record_of(self, VERSION_FIELDS)

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> Self:
        """From its wire or stored form."""
        return cls(**fields_of(wire, VERSION_FIELDS))


@dataclass(frozen=True, slots=True, kw_only=True)
class ListVersionsOptions:
    """Which versions to list, in which order. Cursors follow the sort order.

    The rules: `docs/internals/ot.md` 16.
    """

    start_after: float | None = None
    end_before: float | None = None
    limit: int | None = None
    order_by: str | None = None  # "startedAt", "endRev" or "startRev"
    reverse: bool = False
    origin: str | None = None
    group_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """A copy of a document with its own history (`docs/internals/ot.md` 1.3)."""

    id: str
    doc_id: str
    branched_at_rev: int
    content_start_rev: int | None
    created_at: Millis
    modified_at: Millis
    last_merged_rev: int | None = None
    merge_base_rev: int | None = None
    merge_frame: Mapping[str, Json] | None = None
    deleted: bool = False
    metadata: Mapping[str, Json] = field(default_factory=dict)  # name and custom keys

    def to_wire(self, *, with_frame: bool = False) -> dict[str, Any]:
        """The wire object. The merge frame never leaves the server: with it, the stored form."""
        if self.deleted and self.content_start_rev is None and not with_frame:
            return {
                "id": self.id,
                "docId": self.doc_id,
                "modifiedAt": self.modified_at,
                "deleted": True,
            }
        return record_of(self, _STORED_BRANCH if with_frame else BRANCH_FIELDS)

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> Self:
        """From its stored record; unknown keys become metadata."""
        return cls(**{"content_start_rev": None, **fields_of(wire, _STORED_BRANCH)})


_STORED_BRANCH: Final = {**BRANCH_FIELDS, "mergeFrame": "merge_frame"}
