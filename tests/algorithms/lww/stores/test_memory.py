"""`LWWMemoryStore` keeps the contract."""

from __future__ import annotations

import pytest

from patches.algorithms.lww.stores.memory import LWWMemoryStore
from patches.algorithms.lww.tables import LWWStore
from patches.testing.contracts.lww_client import LWWClientStoreContract


class TestLWWMemoryStore(LWWClientStoreContract):
    @pytest.fixture
    def store(self) -> LWWStore:
        return LWWMemoryStore()
