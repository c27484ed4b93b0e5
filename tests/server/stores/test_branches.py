"""The branch stores, in memory and in SQLite, pass their contract."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from patches.testing.contracts.branches import BranchStoreContract
from patches_server.documents.branch_store import BranchStore, MemoryBranches
from patches_server.stores.sqlite.backend import SqliteBackend


class TestMemory(BranchStoreContract):
    @pytest.fixture
    def store(self) -> BranchStore:
        return MemoryBranches()


class TestSqlite(BranchStoreContract):
    @pytest.fixture
    async def store(self) -> AsyncIterator[BranchStore]:
        backend = SqliteBackend(":memory:")
        yield backend.branches
        await backend.close()
