"""Scenario 31 of collections: a condition means the same in Python and in PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from patches.errors import InvalidConditionError
from patches.model import codec
from patches.rows import F
from patches.rows.conditions import Condition
from patches.rows.row_ops import Row
from patches_server.collections.engines.postgres_conditions import Where
from tests.rows.test_conditions import CLAIMS, CONDITIONS, ROW, ROWS, TABLE
from tests.support.postgres import PostgresServer

asyncpg = pytest.importorskip(
    "asyncpg", reason="asyncpg is not installed: pip install patches-sync[postgres]"
)

_ITEMS = (
    "CREATE TABLE items (id text, name text, count bigint, weight float8, done bool, tags jsonb)"
)


class Database:
    """A connection, for tests that are plain functions."""

    def __init__(self, runner: asyncio.Runner, conn: Any) -> None:
        self._runner, self.conn = runner, conn

    def holds(self, condition: Condition, row: Row) -> bool:
        where = Where(TABLE, CLAIMS, [codec.encode_text(row)])
        query = (
            "SELECT count(*) FROM json_populate_record(NULL::items, $1::text::json) t "
            f"WHERE {where.text_of(condition)}"
        )
        found: int = self._runner.run(self.conn.fetchval(query, *where.params))
        return found == 1


@pytest.fixture(scope="module")
def database(postgres: PostgresServer) -> Iterator[Database]:
    with asyncio.Runner() as runner:
        url = runner.run(postgres.create_empty_database())
        conn = runner.run(asyncpg.connect(url))
        runner.run(conn.execute(_ITEMS))
        yield Database(runner, conn)
        runner.run(conn.close())


@settings(
    max_examples=600, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(condition=CONDITIONS, row=ROWS)
def test_scenario_31_python_and_postgresql_agree(
    database: Database, condition: Condition, row: Row
) -> None:
    name = row["name"]
    if isinstance(name, str):
        row = {**row, "name": name.replace("\0", "")}  # PostgreSQL has no such strings
    assert condition.matches(row, CLAIMS) == database.holds(condition, row)


NUL = [
    (F.name < "Ann\0", True),
    (F.name <= "Ann\0b", True),
    (F.name > "Ann\0", False),
    (F.name > "Anm\0", True),
    (F.name == "Ann\0", False),
    (F.name != "Ann\0", True),
    (F.weight > 1e30, False),
    (F.weight >= -(1e30), True),
]
NUMBERS = [
    (F.count < 1.5, 1, True),
    (F.count >= 1.5, 1, False),
    (F.count > -1.5, -1, True),
    (F.count <= -1.5, -2, True),
    (F.count < 1e300, 5, True),
    (F.count > 1e300, 5, False),
    (F.count > -1e300, 5, True),
    (F.count != 1e300, 5, True),
    (F.count == 10**20, 5, False),
    (F.weight > 2**53 - 1, 2.0**53, True),
]


@pytest.mark.parametrize(("condition", "is_met"), NUL, ids=str)
def test_values_that_no_column_holds_are_compared_exactly(
    database: Database, condition: Condition, is_met: bool
) -> None:
    assert condition.matches(ROW) == is_met
    assert database.holds(condition, ROW) == is_met


@pytest.mark.parametrize(("condition", "value", "is_met"), NUMBERS, ids=str)
def test_numbers_of_other_types_are_compared_exactly(
    database: Database, condition: Condition, value: float, is_met: bool
) -> None:
    row = {**ROW, "weight": float(value), "count": int(value)}
    assert condition.matches(row) == is_met
    assert database.holds(condition, row) == is_met


def test_a_column_that_is_not_there_is_refused() -> None:
    with pytest.raises(InvalidConditionError, match="'colour'"):
        Where(TABLE, {}, []).text_of(F.colour == "red")
