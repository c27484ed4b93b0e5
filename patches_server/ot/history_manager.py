"""`PatchesHistoryManager`: the versions of documents, with the log of OT documents
(`docs/internals/ot.md` 16).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from patches.algorithms.ot import SkippedChange
from patches.errors import PatchesError
from patches.model.change import Change
from patches_server.documents.version_history import KeepsVersions, VersionHistory, explained
from patches_server.ot.server import OTServer


class PatchesHistoryManager(VersionHistory):
    """Lists, makes and reads versions of a server's documents, and what the log of OT ones says.

    `server` is a document server; an `OTServerStore`, or a backend, is served by an `OTServer`.
    `on_skipped_change(doc_id, skipped)` is called for every committed change that a state was built
    without, because it cannot be applied.
    """

    def __init__(
        self,
        server: KeepsVersions | Any,
        *,
        on_skipped_change: Callable[[str, SkippedChange], object] | None = None,
    ) -> None:
        is_server = hasattr(server, "capture_current_version")
        super().__init__(server if is_server else OTServer(server))
        self._on_skipped_change = on_skipped_change

    async def get_version_changes(self, doc_id: str, version_id: str) -> list[Change]:
        """The changes that a version stands for, as they are in the log; none if it is unknown."""
        if not isinstance(self._server, OTServer):
            return await super().get_version_changes(doc_id, version_id)
        store = self._server.store
        try:
            version = await store.versions.load_version(doc_id, version_id)
            if version is None:
                return []
            return await store.list_changes(
                doc_id, start_after=version.start_rev - 1, end_before=version.end_rev + 1
            )
        except PatchesError as exc:
            raise explained(exc, f"Could not load changes for version {version_id}.") from exc

    async def get_state_before_version(self, doc_id: str, version_id: str) -> bytes:
        """The state that a version started from, as JSON text; `null` before the first change.

        Raises `NotFoundError`, `VersionError`.
        """
        if not isinstance(self._server, OTServer):
            return await super().get_state_before_version(doc_id, version_id)
        version = await self._load(doc_id, version_id)
        report = self._on_skipped_change
        return await self._server.history.state_before(
            doc_id,
            version,
            on_skipped=None if report is None else lambda skipped: report(doc_id, skipped),
        )
