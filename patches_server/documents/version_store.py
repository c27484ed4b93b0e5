"""Versions: saved points of a document's history, each with its state.

The rules: `docs/internals/ot.md` 1.4, 16.

`VersionStore` is what document servers need; `MemoryVersions` keeps them in memory. The order and
the cursors of a list are the same in every store: `select_versions` is the rule.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final, Protocol

from patches.model.json_values import Json
from patches_server.documents.records import ListVersionsOptions, Version
from patches_server.documents.tombstones import MemoryDocuments

#: What a list can be ordered by: its wire name and the field of `Version`.
ORDERS: Final = {"startedAt": "started_at", "endRev": "end_rev", "startRev": "start_rev"}


class VersionStore(Protocol):
    """Keeps versions. One of an id that the document has already is left as it is."""

    async def create_version(self, doc_id: str, version: Version, state: bytes | None) -> None:
        """Save a version and its state as JSON text. Raises `DocDeletedError` under a tombstone."""

    async def list_versions(
        self, doc_id: str, options: ListVersionsOptions | None = None
    ) -> list[Version]:
        """The versions that `options` select, by `endRev` unless they say otherwise."""

    async def load_version(self, doc_id: str, version_id: str) -> Version | None:
        """One version, `None` if there is none of this id."""

    async def load_version_state(self, doc_id: str, version_id: str) -> bytes | None:
        """A version's state as JSON text, `None` if it is missing."""

    async def update_version(
        self, doc_id: str, version_id: str, metadata: Mapping[str, Json]
    ) -> None:
        """Merge keys into a version's metadata. An unknown id is no error."""


class MemoryVersions:
    """Versions in memory. States are kept as the JSON text they came as."""

    def __init__(self, documents: MemoryDocuments) -> None:
        self._documents = documents
        self._versions: dict[str, dict[str, tuple[Version, bytes | None]]] = {}

    async def create_version(self, doc_id: str, version: Version, state: bytes | None) -> None:
        self._documents.check_not_deleted(doc_id)
        self._versions.setdefault(doc_id, {}).setdefault(version.id, (version, state))

    async def list_versions(
        self, doc_id: str, options: ListVersionsOptions | None = None
    ) -> list[Version]:
        versions = (version for version, _ in self._versions.get(doc_id, {}).values())
        return select_versions(versions, options or ListVersionsOptions())

    async def load_version(self, doc_id: str, version_id: str) -> Version | None:
        found = self._versions.get(doc_id, {}).get(version_id)
        return found[0] if found else None

    async def load_version_state(self, doc_id: str, version_id: str) -> bytes | None:
        found = self._versions.get(doc_id, {}).get(version_id)
        return found[1] if found else None

    async def update_version(
        self, doc_id: str, version_id: str, metadata: Mapping[str, Json]
    ) -> None:
        found = self._versions.get(doc_id, {}).get(version_id)
        if found is not None:
            version, state = found
            merged = replace(version, metadata={**version.metadata, **metadata})
            self._versions[doc_id][version_id] = (merged, state)

    def newest_main(self, doc_id: str, *, through_rev: int) -> tuple[Version, bytes | None] | None:
        """The newest main version that ends at or before a revision, and its state."""
        best: tuple[Version, bytes | None] | None = None
        for version, state in self._versions.get(doc_id, {}).values():
            if version.origin == "main" and version.end_rev <= through_rev:
                if best is None or version.end_rev >= best[0].end_rev:
                    best = (version, state)
        return best

    def delete_versions(self, doc_id: str) -> None:
        """Forget all versions of a document; for the store that deletes it."""
        self._versions.pop(doc_id, None)


def select_versions(versions: Iterable[Version], options: ListVersionsOptions) -> list[Version]:
    """The versions that `options` select, in their order; `versions` come in order of creation.

    Among equals the order is that of creation, reversed in a reversed list. The cursors are
    exclusive and follow the resulting order.
    """
    field = ORDERS[options.order_by or "endRev"]
    chosen = [
        version
        for version in versions
        if (options.origin is None or version.origin == options.origin)
        and (options.group_id is None or version.group_id == options.group_id)
        and _between(getattr(version, field), options)
    ]
    chosen.sort(key=lambda version: int(getattr(version, field)))
    if options.reverse:
        chosen.reverse()
    return chosen if options.limit is None else chosen[: max(0, options.limit)]


def _between(value: float, options: ListVersionsOptions) -> bool:
    low, high = options.start_after, options.end_before
    if options.reverse:
        low, high = high, low
    return (low is None or value > low) and (high is None or value < high)
