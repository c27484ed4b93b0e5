"""The server has another history than before: its storage was replaced or set back while it was
stopped, or the document was deleted and made again. No copy may stay on the old one.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from patches import Patches, PatchesSync
from patches.documents.document import Document
from patches.errors import HistoryChangedError
from patches.model.json_values import Json
from patches.net.connection import RpcConnection
from patches.testing.local_server import LocalServer
from patches.testing.streams import MemoryNetwork, MemoryStream, memory_transport
from patches_server.stores.memory import MemoryBackend
from patches_server.stores.sqlite import SqliteBackend

ALGORITHMS = ("ot", "lww")


class Site:
    """One address, behind which a server can be stopped and another one started."""

    def __init__(self, algorithm: str) -> None:
        self.algorithm = algorithm
        self.network = MemoryNetwork(self._accept)
        self.network.up = False
        self.server: LocalServer | None = None
        self._stack = AsyncExitStack()

    async def start(self, backend: Any) -> None:
        self.server = LocalServer(backend, routes={"*": self.algorithm}, drain_s=0.0)
        self._stack = AsyncExitStack()
        await self._stack.enter_async_context(self.server)
        self.network.up = True

    async def stop(self) -> None:
        self.network.up = False
        self.network.cut(1001)
        await self._stack.aclose()

    def _accept(self, stream: MemoryStream) -> None:
        assert self.server is not None
        self.server._accept(stream)


class User:
    """A client with one open document, and what it was told."""

    def __init__(self, patches: Patches, sync: PatchesSync, doc: Document) -> None:
        self.patches, self.sync, self.doc = patches, sync, doc
        self.told: list[HistoryChangedError] = []
        self.other_errors: list[Exception] = []
        sync.on_error(self._on_error)

    def _on_error(self, error: Exception, _context: Any) -> None:
        if isinstance(error, HistoryChangedError):
            self.told.append(error)
        elif "memory" not in str(error):
            self.other_errors.append(error)

    def put(self, key: str, value: Json = 1) -> None:
        self.doc.change(lambda draft: draft.update({key: value}))


@asynccontextmanager
async def user(site: Site, store: Path | None = None) -> AsyncIterator[User]:
    transport = memory_transport(site.network)
    async with Patches(store=store) as patches:
        sync = PatchesSync(patches, RpcConnection(transport, url="memory:"))
        await sync.connect(background=True)
        doc = await patches.open_doc("d", algorithm=site.algorithm)
        try:
            yield User(patches, sync, doc)
        finally:
            await sync.disconnect()


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not done():  # noqa: ASYNC110 -- two documents, and the server's, at any time
            await asyncio.sleep(0.02)


class Places:
    """Where a server keeps its documents, and how that is set back."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind, self._path = kind, folder / "server.db"
        self._copy = folder / "older.db"

    def open(self) -> Any:
        return MemoryBackend() if self.kind == "memory" else SqliteBackend(self._path)

    def keep_copy(self) -> None:
        if self.kind == "older copy":
            shutil.copy(self._path, self._copy)

    def set_back(self) -> None:
        if self.kind == "memory":
            return
        for path in self._path.parent.glob("server.db*"):
            path.unlink()
        if self.kind == "older copy":
            shutil.copy(self._copy, self._path)


@pytest.fixture(params=["memory", "file deleted", "older copy"])
def places(request: pytest.FixtureRequest, tmp_path: Path) -> Places:
    return Places(request.param, tmp_path)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_copies_of_a_server_that_was_set_back_become_equal(
    algorithm: str, places: Places
) -> None:
    site = Site(algorithm)
    await site.start(places.open())
    async with user(site) as ann, user(site) as bob:
        ann.put("first")
        await ann.sync.settled(10)
        await until(lambda: bob.doc.state == {"first": 1})
        await site.stop()
        places.keep_copy()
        await site.start(places.open() if places.kind != "memory" else None)
        if places.kind == "memory":  # that was a restart by itself
            ann.put("first")
            await ann.sync.settled(10)
        for number in range(3):
            ann.put(f"lost{number}")
        await ann.sync.settled(10)
        await until(lambda: "lost2" in bob.doc.state)
        ann.told.clear()
        bob.told.clear()
        shown = dict(ann.doc.state)
        await site.stop()
        places.set_back()
        for number in range(4):  # as many as were lost, so that the revisions look alike
            ann.put(f"kept{number}")
        await site.start(places.open())
        await ann.sync.settled(30)
        await bob.sync.settled(30)
        kept = {f"kept{number}" for number in range(4)}
        await until(lambda: bob.doc.state == ann.doc.state and kept <= set(ann.doc.state))
        assert bob.doc.committed_rev == ann.doc.committed_rev
        assert "lost0" not in ann.doc.state
        assert ("first" in ann.doc.state) == (places.kind == "older copy")
        assert [len(each.told) for each in (ann, bob)] == [1, 1]
        assert bob.told[0].old_state == shown
        assert bob.told[0].doc_id == "d"
        assert not ann.other_errors + bob.other_errors
        bob.put("later")
        await until(lambda: ann.doc.state == bob.doc.state and "later" in ann.doc.state)
        # A client that comes new sees the same.
        async with user(site) as eve:
            await until(lambda: eve.doc.state == ann.doc.state)
    await site.stop()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_a_copy_that_was_offline_while_the_document_was_made_again_notices(
    algorithm: str, tmp_path: Path
) -> None:
    site = Site(algorithm)
    await site.start(SqliteBackend(tmp_path / "server.db"))
    async with user(site) as ann:
        ann.put("old")
        await ann.sync.settled(10)
        async with user(site, tmp_path / "bob.db") as bob:
            await until(lambda: bob.doc.state == {"old": 1})
            await bob.sync.settled(10)
        await ann.patches.delete_doc("d")
        await until(lambda: "d" not in ann.sync.synced)
        assert await ann.sync.connection.undelete_doc("d")  # type: ignore[attr-defined]  # the real one
        ann.doc = await ann.patches.open_doc("d", algorithm=algorithm)
        for number in range(3):
            ann.put(f"new{number}")
        await ann.sync.settled(10)
        async with user(site, tmp_path / "bob.db") as bob:
            assert bob.doc.state == {"old": 1}
            bob.put("kept")
            await bob.sync.settled(10)
            await until(lambda: ann.doc.state == bob.doc.state)
            assert bob.doc.state == {"new0": 1, "new1": 1, "new2": 1, "kept": 1}
            assert len(bob.told) == 1
            assert bob.told[0].old_state == {"old": 1, "kept": 1}
        assert not ann.told
    await site.stop()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_a_restart_of_the_same_file_tells_nothing(algorithm: str, tmp_path: Path) -> None:
    site = Site(algorithm)
    await site.start(SqliteBackend(tmp_path / "server.db"))
    async with user(site) as ann, user(site, tmp_path / "bob.db") as bob:
        for number in range(3):
            ann.put(f"a{number}")
            bob.put(f"b{number}")
            await ann.sync.settled(10)
            await bob.sync.settled(10)
        for number in range(3):
            await site.stop()
            ann.put("a", number)
            await site.start(SqliteBackend(tmp_path / "server.db"))
            bob.put("b", number)
            await ann.sync.settled(30)
            await bob.sync.settled(30)
            await until(lambda: ann.doc.state == bob.doc.state)
        assert not ann.told + bob.told
    await site.stop()
