"""`PatchesHistoryManager`: the versions of documents, for those who look at history
(`docs/internals/ot.md` 16).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol

from patches.algorithms.ot import SkippedChange
from patches.errors import NotFoundError, PatchesError, VersionError
from patches.model.change import Change
from patches.model.json_values import Json
from patches_server.documents.records import ListVersionsOptions, Version, check_version_metadata
from patches_server.documents.version_store import VersionStore
from patches_server.ot.history import state_unavailable
from patches_server.ot.server import OTServer


class KeepsVersions(Protocol):
    """The document servers whose versions can be managed: OT and LWW ones, and others alike."""

    store: Any  # with `versions`, a `VersionStore` or `None`

    async def capture_current_version(
        self, doc_id: str, metadata: Mapping[str, Json] | None = None
    ) -> str | None: ...


class PatchesHistoryManager:
    """Lists, makes and reads versions of a server's documents.

    `server` is a document server; an `OTServerStore`, or a backend, is served by an `OTServer`.
    `on_skipped_change(doc_id, skipped)` hears of every committed change that a state was built
    without, because it cannot be applied.
    """

    def __init__(
        self,
        server: KeepsVersions | Any,
        *,
        on_skipped_change: Callable[[str, SkippedChange], object] | None = None,
    ) -> None:
        is_server = hasattr(server, "capture_current_version")
        self._server: KeepsVersions = server if is_server else OTServer(server)
        self._on_skipped_change = on_skipped_change

    async def list_versions(
        self, doc_id: str, options: ListVersionsOptions | None = None
    ) -> list[Version]:
        """The versions that `options` select, by `startedAt` unless they say otherwise."""
        options = options or ListVersionsOptions()
        return await self._versions.list_versions(
            doc_id, replace(options, order_by=options.order_by or "startedAt")
        )

    async def create_version(
        self, doc_id: str, metadata: Mapping[str, Json] | None = None
    ) -> str | None:
        """Save the head as a version; its id, or `None` when there is nothing new.

        Raises `VersionError` for metadata that only the server sets.
        """
        check_version_metadata(metadata)
        return await self._server.capture_current_version(doc_id, metadata)

    async def update_version(
        self, doc_id: str, version_id: str, metadata: Mapping[str, Json]
    ) -> None:
        """Merge keys into a version's metadata. Raises `VersionError` as `create_version`."""
        check_version_metadata(metadata)
        await self._versions.update_version(doc_id, version_id, metadata)

    async def get_version_state(self, doc_id: str, version_id: str) -> bytes:
        """A version's state, as JSON text.

        Raises `NotFoundError`, `UnavailableError` when the state is missing, `VersionError`.
        """
        version = await self._load(doc_id, version_id)
        try:
            state = await self._versions.load_version_state(doc_id, version.id)
        except PatchesError as exc:
            raise _explained(exc, f"Could not load state for version {version_id}.") from exc
        if not state:
            raise state_unavailable(doc_id, version_id)
        return state

    async def get_version_changes(self, doc_id: str, version_id: str) -> list[Change]:
        """The changes that a version stands for, as they are in the log; none if it is unknown."""
        if not isinstance(self._server, OTServer):
            return []
        store = self._server.store
        try:
            version = await store.versions.load_version(doc_id, version_id)
            if version is None:
                return []
            return await store.list_changes(
                doc_id, start_after=version.start_rev - 1, end_before=version.end_rev + 1
            )
        except PatchesError as exc:
            raise _explained(exc, f"Could not load changes for version {version_id}.") from exc

    async def get_state_before_version(self, doc_id: str, version_id: str) -> bytes:
        """The state that a version started from, as JSON text; `null` before the first change.

        Raises `NotFoundError`, `VersionError`.
        """
        if not isinstance(self._server, OTServer):
            raise VersionError("getStateBeforeVersion is only supported for OT stores.")
        version = await self._load(doc_id, version_id)
        report = self._on_skipped_change
        return await self._server.history.state_before(
            doc_id,
            version,
            on_skipped=None if report is None else lambda skipped: report(doc_id, skipped),
        )

    @property
    def _versions(self) -> VersionStore:
        versions: VersionStore | None = self._server.store.versions
        if versions is None:
            raise VersionError("this store keeps no versions")
        return versions

    async def _load(self, doc_id: str, version_id: str) -> Version:
        try:
            version = await self._versions.load_version(doc_id, version_id)
        except PatchesError as exc:
            raise _explained(exc, f"Could not load version {version_id}.") from exc
        if version is None:
            raise NotFoundError(f"Version {version_id} not found for doc {doc_id}.")
        return version


def _explained(exc: PatchesError, message: str) -> PatchesError:
    """The store's own error if it has a code that tells a client what to do, else `message`."""
    return exc if isinstance(exc.code, int) else VersionError(message)
