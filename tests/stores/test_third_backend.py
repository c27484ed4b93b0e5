"""A backend of one's own: it works without an edit elsewhere, and passes the same contracts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest

from patches import Patches, PatchesSync
from patches.algorithms.lww.stores.factory import LWW_STORES
from patches.algorithms.lww.tables import LWWStore
from patches.algorithms.ot import OTClientStore
from patches.algorithms.ot.stores.factory import OT_STORES
from patches.errors import InvalidRequestError
from patches.runtime import Runtime
from patches.stores.backend import Backend, StoreFactory
from patches.stores.memory.backend import MemoryBackend
from patches.testing.contracts.lww_client import LWWClientStoreContract
from patches.testing.contracts.ot_client import OTClientStoreContract
from patches.testing.local_server import LocalServer

T = TypeVar("T")


class CountingBackend:
    """Keeps documents in another backend, and counts the calls of its stores."""

    def __init__(self) -> None:
        self._inner = MemoryBackend()
        self.calls: dict[str, int] = {}

    def open_store(self, factory: StoreFactory[T]) -> T:
        counted: Any = _Counted(self._inner.open_store(factory), factory.name, self.calls)
        store: T = counted
        return store

    async def close(self) -> None:
        await self._inner.close()


class _Counted:
    def __init__(self, inner: Any, name: str, calls: dict[str, int]) -> None:
        self._inner, self._name, self._calls = inner, name, calls

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        self._calls[self._name] = self._calls.get(self._name, 0) + 1
        method: Callable[..., Awaitable[Any]] = getattr(self._inner, name)
        return method


class TestOTStoreOfAThirdBackend(OTClientStoreContract):
    @pytest.fixture
    def store(self) -> OTClientStore:
        return CountingBackend().open_store(OT_STORES)


class TestLWWStoreOfAThirdBackend(LWWClientStoreContract):
    @pytest.fixture
    def store(self) -> LWWStore:
        return CountingBackend().open_store(LWW_STORES)


async def test_a_client_on_a_third_backend_syncs() -> None:
    backend = CountingBackend()
    checked: Backend = backend
    async with LocalServer() as server:
        async with Patches(store=checked) as patches:
            async with PatchesSync(patches, server.connection()) as sync:
                plan = await patches.open_doc("plan")
                board = await patches.open_doc("lww/board", algorithm="lww")
                plan.change(lambda draft: draft.update(title="Plan"))
                board.change(lambda draft: draft.update(title="Board"))
                await sync.settled(10)
        async with Patches(store=backend) as again:
            assert (await again.open_doc("plan")).state == {"title": "Plan"}
            assert (await again.open_doc("lww/board")).state == {"title": "Board"}
    assert set(backend.calls) == {"ot", "lww"}


def test_an_algorithm_without_a_store_for_a_place_says_so() -> None:
    factory: StoreFactory[None] = StoreFactory("mine", {"sqlite": lambda offer, runtime: None})
    with pytest.raises(InvalidRequestError, match=r"'mine' has no store for 'memory', only for sq"):
        MemoryBackend(runtime=Runtime()).open_store(factory)
