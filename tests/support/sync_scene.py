"""`SyncScene`: a client whose server is the test, with everything it says written down."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from patches.client.patches import Patches
from patches.documents.document import Document
from patches.model.change import Change, Snapshot
from patches.model.json_values import Json
from patches.net.connection import CommitAnswer
from patches.runtime import Runtime
from patches.sync import PatchesSync, SyncedDoc, SyncState
from patches.testing.fake_connection import Call, FakeConnection
from patches.testing.virtual_time import idle
from tests.support.small_algorithm import SmallAlgorithm


class NoJitter(random.Random):
    """Ids are random, waits are not shortened."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._ids = random.Random(seed)

    def random(self) -> float:
        return 0.0

    def choices(self, *args: Any, **options: Any) -> list[Any]:
        return self._ids.choices(*args, **options)


#: The algorithm of the documents of `sync_scene`: `"small"`, `"ot"` or `"lww"`.
SCENE_ALGORITHM: ContextVar[str] = ContextVar("scene_algorithm", default="small")


def with_rows(change: Change) -> Change:
    """A change as a server of last-write-wins documents commits it: each op has a time and a
    revision.
    """
    ops = [{"ts": change.rev, **op, "rev": change.rev} for op in change.ops]
    return change.replace(ops=ops)


@dataclass
class SyncScene:
    """A `PatchesSync` over a `FakeConnection`, and what it has said so far."""

    patches: Patches
    sync: PatchesSync
    connection: FakeConnection
    algorithm: SmallAlgorithm
    errors: list[tuple[Exception, str | None]] = field(default_factory=list)
    states: list[SyncState] = field(default_factory=list)
    maps: list[Mapping[str, SyncedDoc]] = field(default_factory=list)
    deleted: list[tuple[str, list[str]]] = field(default_factory=list)
    committed: list[tuple[str, list[int]]] = field(default_factory=list)
    name: str = "small"  # of the documents' algorithm
    quarantined: list[str] = field(default_factory=list)

    def listen(self) -> None:
        """Write down what is said from now on."""
        self.sync.on_error(lambda error, context: self.errors.append((error, context.doc_id)))
        self.sync.on_state_change(self.states.append)
        self.sync.on_synced_change(self.maps.append)
        self.sync.on_remote_doc_deleted(self._note_deletion)
        self.patches.on_server_commit(self._note_commit)
        self.patches.on_change_quarantined(
            lambda _doc_id, entry: self.quarantined.append(entry.change_id)
        )

    async def open(self, doc_id: str = "d") -> Document:
        """Open a document of the scene's algorithm."""
        return await self.patches.open_doc(doc_id, algorithm=self.name)

    async def opened_at(self, rev: int, doc_id: str = "d", state: Json = None) -> Document:
        """A document that is open and in sync at a revision."""
        doc = await self.open(doc_id)
        call = await self.connection.next_call("getDoc")
        call.answer(Snapshot(state=state or {}, rev=rev))
        await idle()
        return doc

    async def edit(self, doc: Document, **values: Json) -> None:
        """Set members of a document and store the edit."""
        doc.apply(
            [
                {"op": "replace", "path": f"/{name}", "value": value}
                for name, value in values.items()
            ]
        )
        await doc.flush()
        await idle()

    def broadcast(self, *changes: Change, doc_id: str = "d") -> None:
        """Let others commit."""
        committed = list(map(self.connection.as_committed, changes))
        self.connection.on_changes_committed.emit(doc_id, committed)

    def statuses(self, doc_id: str = "d") -> list[str]:
        """The statuses that were shown for a document, without repeats."""
        shown: list[str] = []
        for entries in self.maps:
            if doc_id in entries and shown[-1:] != [entries[doc_id].status]:
                shown.append(entries[doc_id].status)
        return shown

    def entry(self, doc_id: str = "d") -> SyncedDoc:
        """What is shown for a document now."""
        return self.sync.synced[doc_id]

    def _note_deletion(self, doc_id: str, pending: Sequence[Change]) -> None:
        self.deleted.append((doc_id, [change.id for change in pending]))

    def _note_commit(self, doc_id: str, changes: Sequence[Change]) -> None:
        self.committed.append((doc_id, [change.rev for change in changes]))


@asynccontextmanager
async def sync_scene(
    connection: FakeConnection | None = None,
    *,
    connect: bool = True,
    algorithm: SmallAlgorithm | None = None,
    **options: Any,
) -> AsyncIterator[SyncScene]:
    """A scene, connected unless told otherwise. `options` are those of `PatchesSync`."""
    connection = connection or FakeConnection()
    name = "small" if algorithm is not None else SCENE_ALGORITHM.get()
    algorithm = algorithm or SmallAlgorithm()
    if name == "lww":
        connection.as_committed = with_rows
    runtime = Runtime(random=NoJitter(1), wall_ms=lambda: 1_000_000)
    async with Patches(algorithms=[algorithm], default_algorithm=name, runtime=runtime) as patches:
        sync = PatchesSync(patches, connection, **options)
        scene = SyncScene(patches, sync, connection, algorithm, name=name)
        scene.listen()
        if connect:
            await sync.connect()
            await idle()
        try:
            yield scene
        finally:
            await sync.disconnect()


class LogServer:
    """Replies like an honest server that appends what it gets: one log per document."""

    def __init__(self) -> None:
        self.logs: dict[str, list[Change]] = {}

    def replies(self) -> dict[str, Any]:
        """For `FakeConnection(**server.replies())`."""
        return {
            "getDoc": self._get_doc,
            "getChangesSince": self._get_changes_since,
            "commitChanges": self._commit_changes,
            "deleteDoc": self._delete_doc,
        }

    def append(self, change: Change, doc_id: str = "d") -> None:
        """Somebody else commits."""
        self.logs.setdefault(doc_id, []).append(change)

    def _get_doc(self, call: Call) -> Snapshot:
        return Snapshot(state={}, rev=0, changes=list(self.logs.get(call.doc_id, [])))

    def _get_changes_since(self, call: Call) -> list[Change]:
        return [change for change in self.logs.get(call.doc_id, []) if change.rev > call.args[1]]

    def _commit_changes(self, call: Call) -> CommitAnswer:
        log = self.logs.setdefault(call.doc_id, [])
        base = call.changes[0].base_rev
        known = {change.id for change in log}
        for change in call.changes:
            if change.id not in known:
                rev = len(log) + 1
                log.append(change.replace(rev=rev, base_rev=rev - 1, committed_at=1))
        return CommitAnswer([change for change in log if change.rev > base])

    def _delete_doc(self, call: Call) -> None:
        self.logs.pop(call.doc_id, None)
