"""The past of OT documents as people ask for it: moments, and who wrote a text."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

from patches.history import Entry, Moment, Run, blame_of, moments_of
from patches.history.moments import block_of
from patches.model.change import Change
from patches_server.documents.authors import author_of
from patches_server.documents.offload import Offloader, steps_of_encoded
from patches_server.documents.records import ListVersionsOptions
from patches_server.ot.history import OTHistory
from patches_server.ot.store import OTServerStore

#: Older text has no author.
MAX_BLAMED: Final = 10_000


class Past:
    """Reads the logs of a store's documents."""

    def __init__(self, store: OTServerStore, history: OTHistory, offload: Offloader) -> None:
        self._store, self._history, self._offload = store, history, offload

    async def moments(self, doc_id: str, before: int | None, limit: int) -> list[Moment]:
        """Up to `limit` moments, newest first; those that end before the revision `before`."""
        last = (await self._store.get_head(doc_id)).rev
        if before is not None:
            last = min(last, before - 1)
        found: list[Moment] = []
        while last > 0 and len(found) < limit:
            first, _ = block_of(last)
            changes = await self._store.list_changes(
                doc_id, start_after=first - 1, end_before=last + 1
            )
            if not changes:
                break  # older ones were pruned
            names = await self._names(doc_id, first, last)
            made = await self._offload(
                steps_of_encoded(changes),
                partial(_moments_of, changes, names),
            )
            found += reversed(made)
            last = first - 1
        return found[:limit]

    async def blame(self, doc_id: str, path: str) -> list[Run]:
        """The runs of the text at a path. Raises `PatchError` if there is none."""
        head = await self._store.get_head(doc_id)
        start = max(0, head.rev - MAX_BLAMED)
        changes = await self._store.list_changes(doc_id, start_after=start, end_before=head.rev + 1)
        base = None
        if start:
            base, _ = await self._history.state_at(doc_id, start)
        return await self._offload(
            2 * steps_of_encoded(changes),
            lambda: blame_of(path, base, map(entry_of, changes)),
        )

    async def _names(self, doc_id: str, first: int, last: int) -> dict[int, str]:
        options = ListVersionsOptions(start_after=first - 1, end_before=last + 1, order_by="endRev")
        versions = await self._store.versions.list_versions(doc_id, options)
        named = {}
        for version in versions:
            name = version.metadata.get("name")
            if isinstance(name, str):
                named[version.end_rev] = name
        return named


def _moments_of(changes: Sequence[Change], names: dict[int, str]) -> list[Moment]:
    return moments_of(map(entry_of, changes), names)


def entry_of(change: Change) -> Entry:
    """A change as moments and authorship know it."""
    restored = change.metadata.get("restored")
    return Entry(
        rev=change.rev,
        at=change.committed_at or change.created_at,
        author=author_of(change),
        ops=change.ops,
        restored=restored if isinstance(restored, int) else None,
    )
