"""OT, LWW and the algorithm of the coordinator's tests keep the contract of every algorithm."""

from __future__ import annotations

import random

import pytest

from patches.algorithms.base import Algorithm
from patches.algorithms.lww import LWWAlgorithm
from patches.algorithms.lww.stores.memory import LWWMemoryStore
from patches.algorithms.ot import OTAlgorithm
from patches.algorithms.ot.stores.memory import OTMemoryStore
from patches.model.json_values import Op
from patches.runtime import Runtime
from patches.testing.contracts.algorithm import AlgorithmContract
from tests.support.small_algorithm import SmallAlgorithm

RUNTIME = Runtime(wall_ms=lambda: 5_000, random=random.Random(1))


class TestOTAlgorithm(AlgorithmContract):
    @pytest.fixture
    def algorithm(self) -> Algorithm:
        return OTAlgorithm(OTMemoryStore(runtime=RUNTIME), runtime=RUNTIME)


class TestLWWAlgorithm(AlgorithmContract):
    @pytest.fixture
    def algorithm(self) -> Algorithm:
        return LWWAlgorithm(LWWMemoryStore(runtime=RUNTIME), runtime=RUNTIME)

    def ops(self, *ops: Op, rev: int) -> list[Op]:
        return [{**op, "ts": op.get("ts", rev), "rev": rev} for op in ops]


class TestSmallAlgorithm(AlgorithmContract):
    @pytest.fixture
    def algorithm(self) -> Algorithm:
        return SmallAlgorithm()
