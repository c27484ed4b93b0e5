"""`Coordinator`: what a client asks of whoever keeps its documents in sync."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

from patches.model.change import Change
from patches.model.json_values import Json


class Coordinator(Protocol):
    """Set as `Patches.coordinator`. A client works without one."""

    async def find_algorithm(self, doc_id: str) -> str | None:
        """The algorithm that the server has for a document; `None` if it cannot be asked, or does
        not say. Raises nothing, and returns soon.
        """

    async def fetch_changes(self, doc_id: str, since: int) -> Sequence[Change]:
        """What the server has committed after a revision. Raises `NetworkError`."""

    async def call_server(self, method: str, *params: Any) -> Json:
        """Call a method of the server. Raises `NetworkError` without a connection."""

    async def settled(
        self,
        timeout_s: float | None,
        *,
        docs: Sequence[str],
        offline: Literal["wait", "raise"],
    ) -> None:
        """Wait until every edit of these documents is confirmed, as `PatchesSync.settled` does."""

    def ask_access(self, doc_ids: Sequence[str]) -> None:
        """Ask the server for the rights to open documents, if there is a connection."""

    async def show_docs(self, doc_ids: Sequence[str]) -> None:
        """Show documents that are tracked from now on."""
