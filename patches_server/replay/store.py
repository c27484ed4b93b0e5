"""`ReplayServerStore`: what a replay server needs of a store.

It keeps a snapshot and the changes after it, in the order of their revisions. Which changes are
known by their id is kept for as long as the document lives, also of those that were folded into the
snapshot: one that is sent again has its effect once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from patches.model.change import Change
from patches.runtime import Millis
from patches_server.documents.records import Tombstone
from patches_server.documents.version_store import VersionStore


@dataclass(frozen=True, slots=True)
class Logged:
    """A committed change, with the audiences that its author had (`None`: all rows)."""

    change: Change
    rights: Sequence[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedDoc:
    """What is stored of a document: `state` at `floor`, the changes after it, and all ids.

    `clock`: the greatest clock up to the floor.
    """

    token: str | None = None
    floor: int = 0
    state: bytes = b"{}"
    clock: tuple[int, int] = (0, 0)
    log: Sequence[Logged] = ()
    folded_ids: Sequence[tuple[str, int]] = ()


class ReplayServerStore(Protocol):
    """Each method is one transaction. `DocDeletedError` while a tombstone stands."""

    @property
    def versions(self) -> VersionStore | None:
        """Where versions are kept, if anywhere."""

    async def load(self, doc_id: str, *, now: Millis) -> LoadedDoc:
        """All of a document; an empty one if it does not exist."""

    async def append(
        self, doc_id: str, entries: Sequence[Logged], *, expected_rev: int, now: Millis
    ) -> str:
        """Write changes behind the head; the token of the history. Raises `RevConflictError` if
        the head is not `expected_rev`, `DuplicateChangeIdsError`; nothing is stored then.
        """

    async def fold(
        self, doc_id: str, rev: int, state: bytes, clock: tuple[int, int], *, now: Millis
    ) -> None:
        """Put a snapshot in the place of the changes up to `rev`. Their ids stay."""

    async def get_current_rev(self, doc_id: str) -> int:
        """The head, 0 if there is none."""

    async def delete_doc(self, doc_id: str, tombstone: Tombstone | None, *, now: Millis) -> None:
        """Remove all of a document but the tombstone."""

    async def get_tombstone(self, doc_id: str) -> Tombstone | None:
        """The tombstone that stands in the document's place."""

    async def remove_tombstone(self, doc_id: str) -> bool:
        """Remove it; whether one stood."""

    async def last_server_time(self) -> Millis:
        """The server time of the latest write, 0 if there was none."""
