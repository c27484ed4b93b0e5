"""`VersionHistory`: the versions of a document server's documents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

from patches.errors import NotFoundError, PatchesError, UnavailableError, VersionError
from patches.model import codec
from patches.model.change import Change
from patches.model.json_values import Json
from patches_server.documents.records import ListVersionsOptions, Version, check_version_metadata
from patches_server.documents.version_store import VersionStore


class KeepsVersions(Protocol):
    """The document servers whose versions can be managed."""

    store: Any  # with `versions`, a `VersionStore` or `None`

    async def capture_current_version(
        self, doc_id: str, metadata: Mapping[str, Json] | None = None
    ) -> str | None: ...


class VersionHistory:
    """Lists, makes and reads versions. An algorithm that keeps a log adds what is in it."""

    def __init__(self, server: KeepsVersions) -> None:
        self._server = server

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
            raise explained(exc, f"Could not load state for version {version_id}.") from exc
        if not state:
            raise state_unavailable(doc_id, version_id)
        return state

    async def get_version_changes(self, doc_id: str, version_id: str) -> list[Change]:
        """The changes that a version stands for; none where no log is kept."""
        return []

    async def get_state_before_version(self, doc_id: str, version_id: str) -> bytes:
        """The state that a version started from. Raises `VersionError` where no log is kept."""
        raise VersionError("getStateBeforeVersion is only supported for OT stores.")

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
            raise explained(exc, f"Could not load version {version_id}.") from exc
        if version is None:
            raise NotFoundError(f"Version {version_id} not found for doc {doc_id}.")
        return version


async def state_of_version(versions: VersionStore | None, doc_id: str, rev: int) -> Json:
    """The state of a version that ends at a revision. Raises `VersionError` if there is none."""
    found: list[Version] = []
    if versions is not None:
        at = ListVersionsOptions(start_after=rev - 1, end_before=rev + 1, order_by="endRev")
        found = await versions.list_versions(doc_id, at)
    for version in reversed(found):
        assert versions is not None
        state = await versions.load_version_state(doc_id, version.id)
        if not state:
            raise state_unavailable(doc_id, version.id)
        return codec.decode(state)
    raise VersionError(
        f"document {doc_id!r} keeps no log: it can be read at the revisions of its versions, and "
        f"{rev} is none"
    )


def state_unavailable(doc_id: str, version_id: str) -> UnavailableError:
    """A version is there, and its state is not."""
    return UnavailableError(
        f"State for version {version_id} of doc {doc_id} is unavailable; retry later.",
        {"docId": doc_id, "versionId": version_id},
    )


def explained(exc: PatchesError, message: str) -> PatchesError:
    """The store's own error if it has a code for the client to act on, else `message`."""
    return exc if isinstance(exc.code, int) else VersionError(message)
