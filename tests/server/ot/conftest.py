"""What the tests of the OT server share."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from patches.algorithms.ot import apply_changes
from patches.model.change import Change, ChangeInput
from patches.model.json_values import Json, Op
from patches.runtime import Runtime
from patches_server.documents.context import CallContext, call_context
from patches_server.documents.records import CommitOptions, CommitResult
from patches_server.ot import OTServer
from patches_server.stores.memory.backend import MemoryBackend
from patches_server.stores.sqlite.backend import SqliteBackend

MINUTE = 60_000


class OTWorld:
    """A server over a store, a wall clock that stands until it is moved, and what was told."""

    def __init__(self) -> None:
        self.now = 1_700_000_000_000
        self.runtime = Runtime(wall_ms=lambda: self.now, random=random.Random(1))
        self.backend: Any = MemoryBackend(runtime=self.runtime)
        self.told: list[tuple[str, list[str], str | None]] = []
        self.deleted: list[tuple[str, str | None]] = []
        self.server = self.another()

    def another(self, store: Any = None, **options: Any) -> OTServer:
        """One more server over the same store, as another process would have it."""
        server = OTServer(store or self.backend, runtime=self.runtime, **options)
        server.on_changes_committed(self._told)
        server.on_doc_deleted(lambda doc_id, origin: self.deleted.append((doc_id, origin)))
        return server

    def serve(self, **options: Any) -> OTServer:
        """Take another server, with these options."""
        self.server = self.another(**options)
        return self.server

    def _told(
        self,
        doc_id: str,
        changes: Sequence[Change],
        _options: CommitOptions | None,
        origin: str | None,
    ) -> None:
        self.told.append((doc_id, [change.id for change in changes], origin))

    def change(self, change_id: str, ops: list[Op] | None = None, **fields: Any) -> ChangeInput:
        """A change as a client sends it; without `ops` it writes its id to `/<id>`."""
        fields.setdefault("created_at", self.now)
        default = [{"op": "replace", "path": f"/{change_id}", "value": change_id}]
        return ChangeInput(id=change_id, ops=default if ops is None else ops, **fields)

    async def commit(
        self,
        *changes: ChangeInput,
        client: str | None = "u1",
        connection: str | None = None,
        doc_id: str = "d",
        server: OTServer | None = None,
        **options: Any,
    ) -> CommitResult:
        """Commit as a client, over a connection that is named as the client is."""
        context = CallContext(client_id=client, connection_id=connection or client)
        given = CommitOptions(**options) if options else None
        with call_context(context):
            return await (server or self.server).commit_changes(doc_id, changes, given)

    async def create(self, state: Json = None, doc_id: str = "d", **fields: Any) -> None:
        """Commit a document's first change, `root`."""
        root: list[Op] = [{"op": "replace", "path": "", "value": state or {}}]
        await self.commit(self.change("root", root, base_rev=0, rev=1, **fields), doc_id=doc_id)

    async def state(self, doc_id: str = "d") -> Json:
        """The document as a client that loads it shows it."""
        snapshot = await self.server.get_doc(doc_id)
        return apply_changes(snapshot.state, snapshot.changes)

    async def ids(self, doc_id: str = "d") -> list[str]:
        """The ids in the log."""
        return [change.id for change in await self.server.get_changes_since(doc_id, 0)]


@pytest.fixture
def world() -> OTWorld:
    return OTWorld()


@pytest.fixture
async def sqlite_world(tmp_path: Any) -> AsyncIterator[OTWorld]:
    world = OTWorld()
    path = tmp_path / "server.db"
    world.backend = SqliteBackend(path, durability="relaxed", runtime=world.runtime)
    world.server = world.another()
    yield world
    await world.backend.close()


@pytest.fixture
def ids() -> Callable[[CommitResult], list[tuple[str, int]]]:
    """The ids and revisions of an answer."""
    return lambda result: [(change.id, change.rev) for change in result.changes]
