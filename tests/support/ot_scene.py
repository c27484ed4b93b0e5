"""One OT document without a network: a history as a server keeps it, and clients driven by hand."""

from __future__ import annotations

import random
from collections.abc import Sequence

from patches.algorithms.ot import (
    OTAlgorithm,
    OTClientStore,
    OTDoc,
    apply_changes,
    transform_incoming_changes,
)
from patches.algorithms.ot.stores.memory import OTMemoryStore
from patches.model.change import Change, Snapshot
from patches.model.json_values import Json, Op
from patches.options import DocOptions
from patches.runtime import Runtime

DOC = "doc"
OPTIONS = DocOptions(max_payload_bytes=1_000_000)


class Server:
    """The committed history of one document, transformed into by the server's own walk."""

    def __init__(self) -> None:
        self.log: list[Change] = []

    @property
    def rev(self) -> int:
        return len(self.log)

    @property
    def state(self) -> Json:
        return apply_changes(None, self.log)

    def since(self, rev: int) -> list[Change]:
        return self.log[rev:]

    def commit(self, changes: Sequence[Change]) -> list[Change]:
        """The answer to a commit: what the sender missed, then its own changes, committed."""
        base_rev = changes[0].base_rev
        assert all(change.base_rev == base_rev for change in changes)
        since = self.since(base_rev)
        sent = {change.id for change in changes}
        placed = transform_incoming_changes(
            changes, since, self.rev, is_own_committed=lambda change: change.id in sent
        )
        self.log += [change.replace(committed_at=1_000 + change.rev) for change in placed]
        return self.since(base_rev)

    def make(self, state: Json) -> Server:
        """With a first change that makes the document."""
        root: Op = {"op": "replace", "path": "", "value": state}
        self.commit([Change(id="root", ops=[root], base_rev=0, rev=1, created_at=1)])
        return self

    def edit(self, *ops: Op, change_id: str | None = None) -> Change:
        """Somebody else's change, committed."""
        name = change_id or f"theirs{self.rev + 1}"
        change = Change(id=name, ops=list(ops), base_rev=self.rev, rev=self.rev + 1, created_at=1)
        return self.commit([change])[-1]


def lose(store: OTClientStore, *change_ids: str, doc_id: str = DOC) -> None:
    """The store is as it was some writes ago, and does not hold these changes."""
    assert isinstance(store, OTMemoryStore)
    stored = store._docs[doc_id]
    tail_rev = stored.position.tail_rev
    stored.pending = [change for change in stored.pending if change.id not in change_ids]
    if stored.position.tail_rev == tail_rev:  # more than appending was lost
        stored.version -= 1


class Client:
    """An algorithm, its store, and one open document, driven by hand."""

    def __init__(
        self,
        name: str = "me",
        store: OTClientStore | None = None,
        *,
        max_storage_bytes: int | None = None,
    ) -> None:
        runtime = Runtime(wall_ms=lambda: 5_000, random=random.Random(name))
        self.name = name
        self.store = store or OTMemoryStore(runtime=runtime)
        options = DocOptions(max_storage_bytes=max_storage_bytes)
        self.algorithm = OTAlgorithm(self.store, options=options, runtime=runtime)
        self.doc = OTDoc(DOC)
        self.made = 0

    async def open(self) -> Client:
        """Track the document, and open it anew over what is stored."""
        await self.algorithm.track_docs([DOC])
        self.doc = self.algorithm.create_doc(DOC, await self.algorithm.load_doc(DOC))
        return self

    def write(self, *ops: Op) -> list[Op]:
        """An edit that is not stored yet."""
        self.doc.apply(list(ops))
        return self.doc.unsaved[-1]

    async def save(self, ops: list[Op]) -> list[Change]:
        """Store an edit that was written."""
        self.made += 1
        return await self.algorithm.handle_doc_change(
            DOC, ops, self.doc, {}, f"{self.name}{self.made}"
        )

    async def edit(self, *ops: Op) -> list[Change]:
        return await self.save(self.write(*ops))

    async def receive(self, *changes: Change) -> None:
        await self.algorithm.apply_server_changes(DOC, list(changes), self.doc)

    async def pull(self, server: Server) -> None:
        await self.receive(*server.since(self.doc.committed_rev))

    async def batch(self, options: DocOptions = OPTIONS) -> list[Change]:
        return await self.algorithm.next_batch(DOC, self.doc, options)

    async def push(self, server: Server, options: DocOptions = OPTIONS) -> int:
        """Send until nothing is left. Returns how many commits it took."""
        commits = 0
        while sent := await self.batch(options):
            answer = server.commit(sent)
            await self.algorithm.receive_answer(DOC, sent, answer, self.doc)
            commits += 1
        return commits

    async def stored(self) -> Snapshot:
        snapshot = await self.store.get_doc(DOC)
        assert snapshot is not None
        return snapshot
