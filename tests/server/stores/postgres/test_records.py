"""Versions and branch records in PostgreSQL pass their contracts."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from patches.testing.contracts.branches import BranchStoreContract
from patches.testing.contracts.versions import VersionStoreContract

pytest.importorskip(
    "asyncpg", reason="asyncpg is not installed: pip install patches-sync[postgres]"
)
from patches_server.stores.postgres.backend import PostgresBackend
from patches_server.stores.postgres.branches import PostgresBranches
from patches_server.stores.postgres.versions import PostgresVersions


@pytest.fixture
async def backend(postgres_url: str) -> AsyncIterator[PostgresBackend]:
    backend = PostgresBackend(postgres_url, durability="relaxed")
    yield backend
    await backend.close()


class TestVersions(VersionStoreContract):
    @pytest.fixture
    def store(self, backend: PostgresBackend) -> PostgresVersions:
        return backend.versions


class TestBranches(BranchStoreContract):
    @pytest.fixture
    def store(self, backend: PostgresBackend) -> PostgresBranches:
        return backend.branches
