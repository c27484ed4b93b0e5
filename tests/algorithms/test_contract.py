"""OT, LWW and the algorithm of the coordinator's tests keep the contract of every algorithm."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from patches.algorithms.base import Algorithm
from patches.algorithms.collections import Collections, CollectionsAlgorithm
from patches.algorithms.collections.stores.memory import CollectionsMemoryStore
from patches.algorithms.collections.stores.sqlite import CollectionsSqliteStore
from patches.algorithms.lww import LWWAlgorithm
from patches.algorithms.lww.stores.memory import LWWMemoryStore
from patches.algorithms.ot import OTAlgorithm
from patches.algorithms.ot.stores.memory import OTMemoryStore
from patches.algorithms.replay import Actions, ReplayAlgorithm, Tx
from patches.algorithms.replay.changes import ActionOps
from patches.algorithms.replay.stores.memory import ReplayMemoryStore
from patches.algorithms.replay.stores.sqlite import ReplaySqliteStore
from patches.model.json_values import Json, Op
from patches.rows import Schema
from patches.runtime import Runtime
from patches.stores.sqlite.database import SqliteDatabase
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


MEMBERS = Collections("members")


@MEMBERS.table("members")
class Member:
    id: str
    value: int


class CollectionsContract(AlgorithmContract):
    """A member is a row."""

    def ops_of(self, name: str, value: Json) -> list[Op]:
        row = {"id": name, "value": value}
        return [{"op": "add", "path": f"/members/{name}", "value": row}]

    def state_of(self, **values: Json) -> Json:
        return {"members": {name: {"id": name, "value": value} for name, value in values.items()}}


class TestCollectionsAlgorithm(CollectionsContract):
    @pytest.fixture
    def algorithm(self) -> Algorithm:
        return CollectionsAlgorithm(MEMBERS, CollectionsMemoryStore(), runtime=RUNTIME)


class TestCollectionsAlgorithmInSqlite(CollectionsContract):
    @pytest.fixture
    async def algorithm(self, tmp_path: Path) -> AsyncIterator[Algorithm]:
        database = SqliteDatabase(tmp_path / "client.db")
        yield CollectionsAlgorithm(MEMBERS, CollectionsSqliteStore(database), runtime=RUNTIME)
        await database.close()


def members() -> Actions:
    schema = Schema("members")
    schema.table("members")(Member)
    actions = Actions(schema, check_purity=True)

    @actions.define("put")
    def put(tx: Tx, *, id: str, value: int) -> None:
        if not tx.members.update(id, value=value):
            tx.members.insert(id=id, value=value)

    return actions


class ReplayContract(AlgorithmContract):
    """A member is a row, and an edit an action that puts it."""

    def ops_of(self, name: str, value: Json) -> list[Op]:
        row = {"id": name, "value": value}
        ops: list[Op] = [{"op": "add", "path": f"/members/{name}", "value": row}]
        return ActionOps(ops, call=("put@1", row))

    def state_of(self, **values: Json) -> Json:
        return {"members": {name: {"id": name, "value": value} for name, value in values.items()}}


class TestReplayInMemory(ReplayContract):
    @pytest.fixture
    def algorithm(self) -> Algorithm:
        return ReplayAlgorithm(members(), ReplayMemoryStore(), runtime=RUNTIME)


class TestReplayInSqlite(ReplayContract):
    @pytest.fixture
    async def algorithm(self, tmp_path: Path) -> AsyncIterator[Algorithm]:
        database = SqliteDatabase(tmp_path / "client.db", runtime=RUNTIME)
        yield ReplayAlgorithm(members(), ReplaySqliteStore(database), runtime=RUNTIME)
        await database.close()
