"""A server without a transport, and peers that talk to it frame by frame."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, TypeAlias

import pytest

from patches import codec
from patches.change import Change, ChangeInput, Snapshot
from patches.errors import DocDeletedError
from patches.json_patch import JSONPatch
from patches.json_values import Json
from patches.signals import Signal
from patches_server.auth import allow_all
from patches_server.context import current_context
from patches_server.document_server import ChangesCommitted, DocDeleted
from patches_server.records import CommitOptions, CommitResult, Tombstone
from patches_server.router import Services
from patches_server.server import PatchesServer
from patches_server.session import ServerSession


class SmallDocuments:
    """A document server that appends changes as they come: enough to see what reaches it."""

    def __init__(self, name: str = "ot") -> None:
        self.name = name
        self.on_changes_committed: ChangesCommitted = Signal("on_changes_committed")
        self.on_doc_deleted: DocDeleted = Signal("on_doc_deleted")
        self.logs: dict[str, list[Change]] = {}
        self.deleted: dict[str, Tombstone] = {}
        self.options: CommitOptions | None = None
        self.skipped_tombstone = False
        #: Commits wait for it: set it to hold them up.
        self.gate = asyncio.Event()
        self.gate.set()
        self.entered: list[str] = []

    async def get_doc(self, doc_id: str, *, rev: int | None = None) -> Snapshot:
        self._check(doc_id)
        return Snapshot(state=None, rev=0, changes=self.logs.get(doc_id, [])[:rev])

    async def get_changes_since(self, doc_id: str, rev: int) -> Sequence[Change]:
        self._check(doc_id)
        return [change for change in self.logs.get(doc_id, []) if change.rev > rev]

    async def commit_changes(
        self,
        doc_id: str,
        changes: Sequence[Change | ChangeInput],
        options: CommitOptions | None = None,
    ) -> CommitResult:
        self._check(doc_id)
        context = current_context()
        self.entered += [change.id for change in changes]
        await self.gate.wait()
        self.options = options
        log = self.logs.setdefault(doc_id, [])
        stored = [
            Change(
                id=change.id,
                ops=change.ops,
                base_rev=len(log) + index,
                rev=len(log) + index + 1,
                created_at=change.created_at or 1,
                committed_at=2,
                client_id=context.client_id,
            )
            for index, change in enumerate(changes)
        ]
        log += stored
        if stored:
            await self.on_changes_committed.emit_and_wait(
                doc_id, stored, options, context.connection_id
            )
        return CommitResult(changes=stored)

    async def change(
        self,
        doc_id: str,
        edit: Callable[[JSONPatch], object],
        metadata: Mapping[str, Json] | None = None,
    ) -> Change | None:
        raise NotImplementedError

    async def capture_current_version(
        self, doc_id: str, metadata: Mapping[str, Json] | None = None
    ) -> str | None:
        raise NotImplementedError

    async def delete_doc(self, doc_id: str, *, skip_tombstone: bool = False) -> None:
        origin = current_context().connection_id
        log = self.logs.pop(doc_id, [])
        self.skipped_tombstone = skip_tombstone
        self.deleted[doc_id] = Tombstone(doc_id=doc_id, deleted_at=9, last_rev=len(log))
        await self.on_doc_deleted.emit_and_wait(doc_id, origin)

    async def undelete_doc(self, doc_id: str) -> bool:
        return self.deleted.pop(doc_id, None) is not None

    async def get_tombstone(self, doc_id: str) -> Tombstone | None:
        return self.deleted.get(doc_id)

    def _check(self, doc_id: str) -> None:
        tombstone = self.deleted.get(doc_id)
        if tombstone is not None:
            raise DocDeletedError(
                doc_id, deleted_at=tombstone.deleted_at, last_rev=tombstone.last_rev
            )


class Talker:
    """A peer: sends frames to a session and reads what its outbox holds."""

    def __init__(self, session: ServerSession) -> None:
        self.session = session
        self._id = 0
        self._unread: list[Any] = []

    @property
    def id(self) -> str:
        return self.session.connection_id

    async def send(self, frame: Any) -> None:
        """Send a frame: bytes or text as they are, anything else as JSON."""
        await self.session.receive(
            frame if isinstance(frame, (bytes, str)) else codec.encode(frame)
        )

    async def start(self, method: str, *params: Any) -> int:
        """Send a request; its id."""
        self._id += 1
        frame: dict[str, Any] = {"jsonrpc": "2.0", "id": self._id, "method": method}
        if params:
            frame["params"] = list(params)
        await self.send(frame)
        return self._id

    async def call(self, method: str, *params: Any) -> Any:
        """The whole answer to a request."""
        return await self.answer(await self.start(method, *params))

    async def result(self, method: str, *params: Any) -> Any:
        answer = await self.call(method, *params)
        assert "error" not in answer, answer
        return answer.get("result")

    async def error(self, method: str, *params: Any) -> Any:
        return (await self.call(method, *params))["error"]

    async def answer(self, request_id: Any) -> Any:
        """The answer to a request; other frames stay unread."""
        return await self._first(lambda frame: frame.get("id", ...) == request_id)

    async def notification(self, method: str) -> Any:
        """The params of the next notification of this kind."""
        return (await self._first(lambda frame: frame.get("method") == method))["params"]

    async def next(self) -> Any:
        return await self._first(lambda _: True)

    async def next_bytes(self) -> bytes:
        async with asyncio.timeout(5):
            frame = await self.session.outbox.get()
        assert frame is not None, "closed"
        return frame

    async def _first(self, wanted: Callable[[Any], bool]) -> Any:
        while True:
            for index, frame in enumerate(self._unread):
                if wanted(frame):
                    return self._unread.pop(index)
            self._unread.append(codec.decode(await self.next_bytes()))

    def unread(self, method: str | None = None) -> list[Any]:
        """What has arrived and was not read."""
        while (frame := self.session.outbox.get_nowait()) is not None:
            self._unread.append(codec.decode(frame))
        return [item for item in self._unread if method in (None, item.get("method"))]


def wire_change(change_id: str, **fields: Any) -> dict[str, Any]:
    """A change as a client sends it."""
    op = {"op": "replace", "path": "/a", "value": change_id}
    return {"id": change_id, "ops": [op], "baseRev": 0, **fields}


@pytest.fixture
def documents() -> SmallDocuments:
    return SmallDocuments()


class Peers:
    """A running server, called to connect a peer to it."""

    def __init__(self, server: PatchesServer) -> None:
        self.server = server

    def __call__(self, principal: object = None) -> Talker:
        return Talker(self.server.connect(principal))


Serve: TypeAlias = Callable[..., Awaitable[Peers]]


@pytest.fixture
async def serve(documents: SmallDocuments) -> AsyncIterator[Serve]:
    """Makes a server with the options given, which lasts for the test."""
    async with AsyncExitStack() as servers:

        async def started(**options: Any) -> Peers:
            given: dict[str, Any] = {
                "services": {"ot": Services(documents)},
                "auth": allow_all,
                "get_tombstone": documents.get_tombstone,
                "relay": False,
                "drain_s": 1.0,
                **options,
            }
            return Peers(await servers.enter_async_context(PatchesServer(**given)))

        yield started


@pytest.fixture
async def connect(serve: Serve) -> Peers:
    """A server that allows everything."""
    return await serve()
