"""Reads the parameters of remote methods: everything after the first. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from patches.errors import InvalidRequestError
from patches.json_patch import pointer
from patches.limits import Limits
from patches.model.change import ChangeInput
from patches.model.json_values import Json
from patches.runtime import Millis
from patches_server.documents.records import CommitOptions
from patches_server.wire import checks as wire_checks

#: `listHistory` answers no more at once.
MAX_MOMENTS: Final = 200


@dataclass(frozen=True, slots=True)
class Given:
    """The parameters after the first, and what bounds them."""

    params: Sequence[Json]
    limits: Limits
    frame_bytes: int
    capabilities: frozenset[str]

    def __getitem__(self, index: int) -> Any:
        return wire_checks.param(self.params, index)


Read: TypeAlias = Callable[[Given], tuple[Any, ...]]


def read_nothing(_given: Given) -> tuple[()]:
    """No parameters count."""
    return ()


def read_all(given: Given) -> tuple[Any, ...]:
    """All parameters, as they came."""
    return tuple(given.params[1:])


def read_get_doc(given: Given) -> tuple[int | None]:
    """The revision, if one is given."""
    rev = wire_checks.options(given[1]).get("rev")
    return (None if rev is None else wire_checks.revision(rev),)


def read_since_rev(given: Given) -> tuple[int]:
    """A revision."""
    return (wire_checks.revision(given[1]),)


def read_commit(given: Given) -> tuple[list[ChangeInput], CommitOptions | None]:
    """The changes and the options."""
    changes = wire_checks.changes(given[1], given.limits, frame_bytes=given.frame_bytes)
    return changes, wire_checks.commit_options(given[2], given.capabilities)


def read_delete_doc(given: Given) -> tuple[bool]:
    """Whether no tombstone is left."""
    return (wire_checks.skip_tombstone(given[1], given.capabilities),)


def read_list_history(given: Given) -> tuple[int | None, int]:
    """The revision to begin before, and how many moments."""
    options = wire_checks.options(given[1])
    before, limit = options.get("before"), options.get("limit", 50)
    if before is not None:
        before = wire_checks.revision(before, "before")
    return before, min(MAX_MOMENTS, wire_checks.revision(limit, "limit"))


def read_path(given: Given) -> tuple[str]:
    """A path."""
    path = given[1]
    if not isinstance(path, str):
        raise InvalidRequestError(f"expected a path, such as '/body', got {path!r:.80}")
    pointer.parse(path)
    return (path,)


def read_list_versions(given: Given) -> tuple[Any]:
    """How to list versions."""
    return (wire_checks.list_options(given[1]),)


def read_metadata(given: Given) -> tuple[dict[str, Json]]:
    """The metadata of a version."""
    return (wire_checks.metadata(given[1], given.limits),)


def read_version(given: Given) -> tuple[str]:
    """The id of a version."""
    return (wire_checks.version_id(given[1], given.limits),)


def read_version_metadata(given: Given) -> tuple[str, dict[str, Json]]:
    """The id of a version and its metadata."""
    return (
        wire_checks.version_id(given[1], given.limits),
        wire_checks.metadata(given[2], given.limits),
    )


def read_list_branches(given: Given) -> tuple[Millis | None]:
    """The time since which branches were modified, if one is given."""
    return (wire_checks.since(given[1]),)


def read_create_branch(given: Given) -> tuple[int, dict[str, Json]]:
    """The revision and the metadata of a branch."""
    metadata = wire_checks.metadata(given[2], given.limits)
    if metadata.get("id") is not None:
        wire_checks.doc_id(metadata["id"], given.limits)
    if metadata.get("contentStartRev") is not None:
        wire_checks.revision(metadata["contentStartRev"], "contentStartRev")
    return wire_checks.revision(given[1]), metadata
