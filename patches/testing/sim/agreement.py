"""`Agreement`: what is said of a document's revision, in four places, is one thing (I13).

The coordinator (`PatchesSync.synced`), the open document, the client's store and the server's log.
At every step the first two are never ahead of the store, and the store never ahead of the log; at
rest all four are equal. And `on_server_commit` tells of each committed change once, and of nothing
else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from patches.client.patches import Patches
from patches.model.change import Change
from patches.sync import PatchesSync, SyncedDoc
from patches.testing.sim.checker import Checker
from patches.testing.sim.disk import docs_of
from patches.testing.sim.nodes import SimClient


class Agreement:
    """Compares revisions, from the start of the clients on. Calls `fail(invariant, message)`."""

    def __init__(
        self, checker: Checker, fail: Callable[[str, str], None], family_ids: Sequence[str]
    ) -> None:
        self._checker, self._fail, self._family_ids = checker, fail, family_ids

    def watch(self, client: SimClient, patches: Patches, sync: PatchesSync) -> None:
        """A process of a client has started."""
        told: dict[tuple[str, str], None] = {}
        before: dict[str, SyncedDoc] = {}

        def changed(synced: Mapping[str, SyncedDoc]) -> None:
            for doc_id, shown in synced.items():
                if before.get(doc_id) is not shown:
                    before[doc_id] = shown
                    self._check(client, patches, doc_id, shown)

        def committed(doc_id: str, changes: Sequence[Change]) -> None:
            if doc_id in self._family_ids or self._checker.has_older_lives(doc_id):
                return
            log = self._checker.log(doc_id)
            for change in changes:
                if change.rev > log.rev:
                    self._fail("I13", f"{client.name}, {doc_id}: told of {change}, not committed")
                if not doc_id.startswith("lww/") and (doc_id, change.id) in told:
                    self._fail("I13", f"{client.name}, {doc_id}: told of {change.id} twice")
                told[doc_id, change.id] = None

        sync.on_synced_change(changed)
        patches.on_server_commit(committed)

    def look(self, clients: Sequence[SimClient]) -> None:
        """Compare what everybody says, at any time."""
        for client in clients:
            if client.patches is not None and client.sync is not None:
                for doc_id, shown in client.sync.synced.items():
                    self._check(client, client.patches, doc_id, shown)

    def at_rest(self, clients: Sequence[SimClient], doc_ids: Sequence[str]) -> Iterator[str]:
        """Where two of the four differ, now that nobody has anything left to say."""
        for client in clients:
            assert client.sync is not None
            for doc_id in doc_ids:
                log, doc = self._checker.log(doc_id), client.doc(doc_id)
                shown = client.sync.synced.get(doc_id)
                if log.deleted:
                    continue
                said = {
                    "coordinator": shown.committed_rev if shown is not None else None,
                    "document": doc.committed_rev if doc is not None else None,
                    "store": stored_rev(client.node.disk.backend, doc_id),
                    "log": log.rev,
                }
                if len(set(said.values())) > 1:
                    yield f"{client.name}, {doc_id}: {said}"

    def _check(self, client: SimClient, patches: Patches, doc_id: str, shown: SyncedDoc) -> None:
        if self._checker.has_older_lives(doc_id) or doc_id not in self._checker.logs:
            return
        disk = client.node.disk.backend
        waiting = docs_of(disk, "ot").get(doc_id)
        ids = [change.id for change in waiting.pending] if waiting is not None else []
        if len(set(ids)) < len(ids):
            self._fail("I2", f"{client.name}, {doc_id}: a change is pending twice: {ids}")
        stored = stored_rev(disk, doc_id)
        if stored is None or doc_id not in patches.tracked_docs:
            return  # it is being forgotten
        log, doc = self._checker.log(doc_id), patches.get_open_doc(doc_id)
        shown_rev = doc.committed_rev if doc is not None else 0
        if shown.committed_rev > stored or shown_rev > stored or stored > log.rev:
            message = f"coordinator {shown.committed_rev}, document {shown_rev}"
            self._fail("I13", f"{client.name}, {doc_id}: {message}, store {stored}, log {log.rev}")


def stored_rev(backend: Any, doc_id: str) -> int | None:
    """The committed revision on a client's disk, `None` if the document is not there."""
    if doc_id.startswith("lww/"):
        tables = docs_of(backend, "lww").get(doc_id)
        head = tables.head() if tables is not None else None
        return head.committed_rev if head is not None and not head.deleted else None
    stored = docs_of(backend, "ot").get(doc_id)
    return stored.committed_rev if stored is not None and not stored.deleted else None
