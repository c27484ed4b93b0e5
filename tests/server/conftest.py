"""A server without a transport, and peers that talk to it frame by frame."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any, TypeAlias

import pytest

from patches.errors import DocDeletedError
from patches.model.change import Change, ChangeInput, Snapshot
from patches_server.auth.access import allow_all
from patches_server.documents.context import current_context
from patches_server.documents.document_server import DocumentServer
from patches_server.documents.records import CommitOptions, CommitResult, Tombstone
from patches_server.documents.services import Services
from patches_server.service.server import PatchesServer
from tests.support.raw_peer import Peers


class SmallDocuments(DocumentServer):
    """A document server that appends changes as they come: enough to see what reaches it."""

    def __init__(self, name: str = "ot") -> None:
        self.name = name
        self.default_routes = ("*",) if name == "ot" else (f"{name}/*",)
        super().__init__()
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


@pytest.fixture
def documents() -> SmallDocuments:
    return SmallDocuments()


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
