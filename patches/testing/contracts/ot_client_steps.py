"""What the contract of an OT client store does to a store, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from patches.algorithms.ot import CONFLICT, OTClientStore
from patches.model.change import Change, Snapshot

DOC = "doc"


def pending(change_id: str, *, base_rev: int = 0, rev: int = 1, **fields: Any) -> Change:
    """A pending change that sets the member named by its id."""
    ops = [{"op": "replace", "path": f"/{change_id}", "value": rev}]
    fields = {"ops": ops, "created_at": 1_000, **fields}
    return Change(id=change_id, base_rev=base_rev, rev=rev, **fields)


def committed(rev: int, **fields: Any) -> Change:
    """A committed change that sets `/r<rev>`; the first one makes the document."""
    ops = [{"op": "replace", "path": f"/r{rev}", "value": rev}]
    if rev == 1:
        ops = [{"op": "replace", "path": "", "value": {"r1": 1}}]
    fields = {"ops": ops, "base_rev": rev - 1, "created_at": 1_000, **fields}
    return Change(id=f"s{rev}", rev=rev, committed_at=2_000, **fields)


def state_at(rev: int) -> dict[str, int]:
    """The state after `committed(1)` to `committed(rev)`."""
    return {f"r{number}": number for number in range(1, rev + 1)}


def ids(changes: Sequence[Change]) -> list[tuple[str, int]]:
    """Ids and revisions."""
    return [(change.id, change.rev) for change in changes]


async def save(store: OTClientStore, *changes: Change, doc_id: str = DOC) -> list[Change]:
    """Append one edit's changes to the queue as it is now."""
    saved = await store.save_pending_edits(doc_id, [changes], await store.load_position(doc_id))
    assert saved != CONFLICT
    return saved[0]


async def queued(store: OTClientStore, doc_id: str = DOC) -> list[Change]:
    """The pending changes."""
    return (await store.load_queue(doc_id)).pending


async def kept(store: OTClientStore, *, after: int = -1) -> list[Change]:
    """The committed changes that are kept."""
    return (await store.load_queue(DOC, committed_after=after)).committed


async def committed_rev(store: OTClientStore, doc_id: str = DOC) -> int:
    """The last committed revision."""
    return (await store.load_position(doc_id)).committed_rev


async def commit(store: OTClientStore, *revs: int) -> None:
    """Store `committed(rev)` for each, keeping what is pending."""
    await receive(store, [committed(rev) for rev in revs], await queued(store))


async def receive(
    store: OTClientStore,
    changes: Sequence[Change],
    pending: Sequence[Change],
    *,
    doc_id: str = DOC,
) -> None:
    """Store committed changes, and `pending` as the queue."""
    queue = await store.load_queue(doc_id)
    assert await store.apply_server_changes(doc_id, changes, pending, queue) is None


async def drop(store: OTClientStore, *change_ids: str, doc_id: str = DOC) -> None:
    """Take changes out of the queue."""
    left = [change for change in await queued(store, doc_id) if change.id not in change_ids]
    await receive(store, [], left, doc_id=doc_id)


async def install(
    store: OTClientStore, snapshot: Snapshot, pending: Sequence[Change] = (), *, doc_id: str = DOC
) -> None:
    """Replace the committed part and the queue."""
    queue = await store.load_queue(doc_id)
    assert await store.install_doc(doc_id, snapshot, pending, queue) is None


async def quarantine(store: OTClientStore, change: Change, *left: Change) -> Any:
    """Move a change into quarantine; `left` is the queue without it."""
    queue = await store.load_queue(DOC)
    return await store.quarantine_pending_change(DOC, change, "why", left, queue)


async def requeue(store: OTClientStore, change_id: str, *changes: Change) -> Any:
    """Put `changes` into the queue in the place of a quarantined change."""
    position = await store.load_position(DOC)
    return await store.requeue_quarantined_change(DOC, change_id, changes, position)
