"""The OT memory store keeps the contract."""

from __future__ import annotations

import pytest

from patches.algorithms.ot.stores.memory import OTMemoryStore
from patches.testing.contracts.ot_client import OTClientStoreContract


class TestOTMemoryStore(OTClientStoreContract):
    @pytest.fixture
    def store(self) -> OTMemoryStore:
        return OTMemoryStore()
