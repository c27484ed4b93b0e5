"""One document of an algorithm under test, driven as `Patches` and `PatchesSync` drive it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from patches.algorithms.base import Algorithm
from patches.documents.document import Document
from patches.model.change import Change, Snapshot
from patches.model.json_values import Json, Op
from patches.options import DocOptions

DOC = "contract/doc"
OPTIONS = DocOptions(max_payload_bytes=1_000_000)


class Suite(Protocol):
    """What the tests of an algorithm say about its operations."""

    def ops_of(self, name: str, value: Json) -> list[Op]:
        """Operations that set a member."""

    def state_of(self, **values: Json) -> Json:
        """The state of a document with these members."""

    def committed_from(self, sent: Sequence[Change], rev: int) -> list[Change]:
        """Sent changes as the server commits them, the first at `rev`."""


class Client:
    """One document of the algorithm under test, open or not."""

    def __init__(self, suite: Suite, algorithm: Algorithm, doc: Document | None) -> None:
        self.suite = suite
        self.algorithm = algorithm
        self.doc = doc
        self.made: int = 0

    async def edit(self, name: str, value: Json = 1) -> list[Change]:
        """Set a member, and store the edit."""
        self.made += 1
        ops = self.suite.ops_of(name, value)
        if self.doc is not None:
            ops = self.doc.take_ops(ops)
        return await self.algorithm.handle_doc_change(DOC, ops, self.doc, {}, f"mine{self.made}")

    async def receive(self, *changes: Change) -> list[Change]:
        """A broadcast, or the answer to `getChangesSince`."""
        return await self.algorithm.apply_server_changes(DOC, changes, self.doc)

    async def batch(self) -> list[Change]:
        """What is sent next."""
        return await self.algorithm.next_batch(DOC, self.doc, OPTIONS)

    async def answer(self, sent: Sequence[Change], committed: Sequence[Change]) -> list[Change]:
        """The answer to a commit."""
        return await self.algorithm.receive_answer(DOC, sent, committed, self.doc)

    async def push(self, rev: int) -> list[Change]:
        """Send the next batch and let the server commit it, its first change at `rev`."""
        sent = await self.batch()
        assert sent
        return await self.answer(sent, self.suite.committed_from(sent, rev))

    async def install(self, snapshot: Snapshot, **known: Any) -> None:
        """A reload."""
        await self.algorithm.install_snapshot(DOC, snapshot, self.doc, **known)

    async def rev(self) -> int:
        """The revision of the store, which is the document's too."""
        rev = await self.algorithm.get_committed_rev(DOC)
        if self.doc is not None:
            assert self.doc.committed_rev == rev, "the document is at another revision"
        return rev

    async def has_pending(self) -> bool:
        """Whether the store holds unsent work; the document says the same."""
        has_pending = await self.algorithm.has_pending(DOC)
        if self.doc is not None:
            assert self.doc.has_pending == has_pending
        return has_pending

    async def shown(self) -> Json:
        """What an application sees, or would see if it opened the document now."""
        loaded = self.algorithm.create_doc(DOC, await self.algorithm.load_doc(DOC)).state
        if self.doc is not None and not self.doc.unsaved:
            assert self.doc.state == loaded, "the document shows something else than the store"
        return loaded
