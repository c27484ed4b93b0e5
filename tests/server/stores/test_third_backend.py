"""A backend that nobody here has heard of: it passes the contracts and serves, as it is."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

import pytest

from patches import Patches, PatchesSync
from patches.errors import InvalidRequestError
from patches.runtime import Runtime
from patches.stores.backend import StoreFactory
from patches.testing.contracts.lww_server import LWWServerStoreContract
from patches.testing.contracts.ot_server import OTServerStoreContract
from patches.testing.local_server import LocalServer
from patches_server.algorithms import services_on
from patches_server.documents.backend import Backend
from patches_server.documents.records import Tombstone
from patches_server.lww.store import LWWServerStore
from patches_server.lww.stores.factory import LWW_STORES
from patches_server.ot.store import OTServerStore
from patches_server.ot.stores.factory import OT_STORES
from patches_server.stores.memory import MemoryBackend
from patches_server.stores.sqlite import SqliteBackend

T = TypeVar("T")


class ElsewhereBackend:
    """Keeps everything somewhere else: in another backend's memory."""

    def __init__(self, *, runtime: Runtime | None = None) -> None:
        self._elsewhere = MemoryBackend(runtime=runtime)

    async def epoch(self) -> str:
        return await self._elsewhere.epoch()

    async def algorithm_of(self, doc_id: str) -> str | None:
        return await self._elsewhere.algorithm_of(doc_id)

    async def get_tombstone(self, doc_id: str) -> Tombstone | None:
        return await self._elsewhere.get_tombstone(doc_id)

    def open_store(self, factory: StoreFactory[T]) -> T:
        away: Any = Away(self._elsewhere.open_store(factory))
        store: T = away
        return store

    async def close(self) -> None:
        await self._elsewhere.close()


class Away:
    """A store whose every call takes a turn of the loop, as over a network."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if not asyncio.iscoroutinefunction(found):
            return found

        async def call(*args: Any, **options: Any) -> Any:
            await asyncio.sleep(0)
            return await found(*args, **options)

        return call


RUNTIME = Runtime(wall_ms=lambda: 1_700_000_000_500)


class TestOT(OTServerStoreContract):
    @pytest.fixture
    def store(self) -> OTServerStore:
        return ElsewhereBackend(runtime=RUNTIME).open_store(OT_STORES)


class TestLWW(LWWServerStoreContract):
    @pytest.fixture
    def store(self) -> LWWServerStore:
        return ElsewhereBackend(runtime=RUNTIME).open_store(LWW_STORES)


@pytest.mark.parametrize("algorithm", ["ot", "lww"])
async def test_it_serves(algorithm: str) -> None:
    backend: Backend = ElsewhereBackend()
    async with (
        LocalServer(backend, routes={"*": algorithm}) as server,
        Patches() as anns,
        Patches() as bobs,
        PatchesSync(anns, server.connection()) as ann_sync,
        PatchesSync(bobs, server.connection()) as bob_sync,
    ):
        ann = await anns.open_doc("d", algorithm=algorithm)
        ann.change(lambda draft: draft.update(title="Hello"))
        await ann_sync.settled(10)
        bob = await bobs.open_doc("d", algorithm=algorithm)
        await bob_sync.settled(10)
        assert bob.state == {"title": "Hello"}
        assert await backend.algorithm_of("d") == algorithm
        assert services_on(backend).keys() == {"ot", "lww"}


@pytest.mark.parametrize("backend", [MemoryBackend(), SqliteBackend(":memory:")])
async def test_an_algorithm_brings_its_own_store(backend: Backend) -> None:
    made: list[object] = []

    def make(given: object, _runtime: Runtime) -> dict[str, object]:
        made.append(given)
        return {"in": given}

    mine = StoreFactory("mine", {"memory": make, "sqlite": make})
    store = backend.open_store(mine)
    assert backend.open_store(mine) is store
    assert made == [backend]
    with pytest.raises(InvalidRequestError, match="'other' has no store"):
        backend.open_store(StoreFactory("other", {"postgres": make}))
    await backend.close()
