"""OT documents as records of an export, and documents made of such records."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from patches.errors import RevConflictError
from patches.model import codec
from patches.model.change import Change
from patches.model.json_values import Json
from patches.runtime import Millis
from patches_server.documents.records import Branch, ListVersionsOptions, Version
from patches_server.ot.store import OTServerStore

#: So many changes are read at once.
_PAGE: Final = 500


async def records_of(store: OTServerStore, doc_id: str) -> AsyncIterator[dict[str, Json]]:
    """The changes, versions and branch records of a document."""
    head = await store.get_head(doc_id)
    at = 0
    while at < head.rev:
        page = await store.list_changes(
            doc_id, start_after=at, end_before=head.rev + 1, limit=_PAGE
        )
        if not page:
            break
        for change in page:
            yield {"change": change.to_wire()}
        at = page[-1].rev
    for version in await store.versions.list_versions(doc_id, ListVersionsOptions()):
        state = await store.versions.load_version_state(doc_id, version.id)
        yield {
            "version": version.to_wire(),
            "state": None if not state else codec.decode(state),
            "hasState": bool(state),
        }
    for branch in await store.branches.list_branches(doc_id):
        yield {"branch": branch.to_wire(with_frame=True)}


def changes_of(records: Sequence[Mapping[str, Any]]) -> list[Change]:
    """The changes among records. Raises `RevConflictError` unless they are a whole log."""
    changes = [Change.from_wire(each["change"]) for each in records if "change" in each]
    if [change.rev for change in changes] != list(range(1, len(changes) + 1)):
        raise RevConflictError("the changes of the export are no whole log")
    return changes


async def save_beside(
    store: OTServerStore, doc_id: str, records: Sequence[Mapping[str, Any]], now: Millis
) -> None:
    """Save the versions and those branch records of an export that no document here has."""
    for each in records:
        if "version" in each:
            state = codec.encode(each["state"]) if each.get("hasState") else None
            version = Version.from_wire(each["version"])
            await store.versions.create_version(doc_id, version, state)
        elif "branch" in each:
            branch = replace(Branch.from_wire(each["branch"]), doc_id=doc_id, modified_at=now)
            if await store.branches.load_branch(branch.id) is None:
                await store.branches.create_branch(branch)
