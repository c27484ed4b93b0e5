"""`Coordinator`: what a client asks of whoever keeps its documents in sync."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Coordinator(Protocol):
    """Set as `Patches.coordinator`. A client works without one."""

    async def find_algorithm(self, doc_id: str) -> str | None:
        """The algorithm that the server has for a document; `None` if it cannot be asked, or does
        not say. Raises nothing, and returns soon.
        """

    async def show_docs(self, doc_ids: Sequence[str]) -> None:
        """Show documents that are tracked from now on."""
