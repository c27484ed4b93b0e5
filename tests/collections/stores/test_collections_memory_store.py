from __future__ import annotations

import pytest

from patches.algorithms.collections.stores.memory import CollectionsMemoryStore
from patches.algorithms.collections.tables import CollectionsStore
from patches.testing.contracts.collections_client import CollectionsClientStoreContract


class TestCollectionsMemoryStore(CollectionsClientStoreContract):
    @pytest.fixture
    def store(self) -> CollectionsStore:
        return CollectionsMemoryStore()
