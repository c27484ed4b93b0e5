"""Consolidation over an index says what looking at every path does, and leaves the index alone."""

from __future__ import annotations

import copy
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patches.algorithms.lww import (
    Consolidation,
    FieldTable,
    consolidate_field_op,
    consolidate_into,
    consolidate_ops,
    convert_delta_ops,
)
from patches.algorithms.lww.consolidate import value_inside
from patches.algorithms.lww.deltas import is_delta, is_soft
from patches.algorithms.lww.field_table import ancestor_paths, is_below
from patches.model.json_values import MAX_DOUBLE, Json, Op, json_equal

KEYS = ("a", "b", "ab")


def random_op(source: random.Random) -> Op:
    path = "".join(f"/{source.choice(KEYS)}" for _ in range(source.choice((0, 1, 1, 2, 2, 3))))
    kind = source.choice(("replace", "replace", "remove", "add", "@inc", "@max", "@bit"))
    op: Op = {"op": kind, "path": path, "ts": source.randrange(1, 6)}
    if kind != "remove":
        values: tuple[Json, ...] = (1, 5) if is_delta(op) else (1, None, {}, [], {"a": {"b": 1}})
        op["value"] = source.choice(values)
    if source.random() < 0.15:
        op["soft"] = True
    if source.random() < 0.1:
        del op["ts"]
    return op


def by_looking_at_every_path(existing: list[Op], new: list[Op]) -> Consolidation:
    """`docs/internals/lww.md` 4, word by word, with no index."""
    by_path = {op["path"]: op for op in existing}
    save: dict[str, Op] = {}
    delete: dict[str, None] = {}
    back: dict[str, Op] = {}

    def keep(op: Op) -> None:
        for path in [path for path in by_path if is_below(path, op["path"])]:
            delete[path] = None
            save.pop(path, None)
            del by_path[path]
        delete.pop(op["path"], None)
        save[op["path"]] = by_path[op["path"]] = op

    for op in new:
        path = op["path"]
        held = by_path.get(path)
        valueless, blocking = [], None
        for above in ancestor_paths(path):
            row = by_path.get(above)
            if row is None:
                continue
            if row["op"] == "remove" or "value" not in row:
                valueless.append(above)
            elif not isinstance(row["value"], (dict, list)):
                blocking = row
                break
        if blocking is not None:
            back.setdefault(blocking["path"], blocking)
            continue
        delete.update(dict.fromkeys(valueless))
        if held is not None:
            winner = consolidate_field_op(held, op)
            if winner is not None:
                keep(winner)
            elif not is_delta(op) and not is_soft(op):
                back.setdefault(path, held)
            continue
        inside = any(
            value_inside(by_path[above].get("value"), path[len(above) + 1 :].split("/"))[0]
            for above in ancestor_paths(path)
            if above in by_path
        )
        if is_soft(op) and (inside or any(is_below(name, path) for name in by_path)):
            continue
        keep(op)
    return Consolidation(list(save.values()), list(delete), list(back.values()))


@given(seed=st.integers(0, 2**32 - 1))
def test_the_index_finds_what_a_scan_finds(seed: int) -> None:
    source = random.Random(seed)
    existing = [random_op(source) for _ in range(source.randrange(8))]
    new = [random_op(source) for _ in range(source.randrange(8))]
    table = FieldTable(existing)
    held, before = table.ops(), copy.deepcopy((existing, new))
    result = consolidate_into(table, new)
    assert result == by_looking_at_every_path(existing, new)
    assert result == consolidate_ops(existing, new)
    assert table.ops() == held
    assert json_equal(list(before), [existing, new])


@given(seed=st.integers(0, 2**32 - 1))
def test_a_table_knows_its_children_after_any_changes(seed: int) -> None:
    source = random.Random(seed)
    table, plain = FieldTable(), dict[str, Op]()
    for _ in range(40):
        op = random_op(source)
        path = op["path"]
        match source.randrange(3):
            case 0:
                table.put(op)
                plain[path] = op
            case 1:
                table.write(op)
                plain.pop(path, None)
                plain[path] = op
            case _:
                table.discard(path)
                plain.pop(path, None)
        assert table.ops() == list(plain.values())
        for name in ("", "/a", "/b", "/ab", "/a/b", "/a/b/a"):
            below = [path for path in plain if is_below(path, name)]
            assert table.below(name) == below
            assert table.has_below(name) == bool(below)
            assert table.get(name) == plain.get(name)
    table.clear()
    assert not table.any()
    assert table.below("") == []


@pytest.mark.parametrize("value", [True, {"a": 1}, [1], "text"])
def test_a_delta_that_does_not_fit_changes_nothing(value: Json) -> None:
    held = {"op": "replace", "path": "/n", "value": value, "ts": 1}
    assert consolidate_field_op(held, {"op": "@inc", "path": "/n", "value": 1, "ts": 2}) is None


def test_a_sum_stays_at_the_largest_double() -> None:
    held = {"op": "replace", "path": "/n", "value": 1.7e308, "ts": 1}
    op = {"op": "@inc", "path": "/n", "value": 1.7e308, "ts": 2}
    assert consolidate_field_op(held, op) == {**held, "value": MAX_DOUBLE, "ts": 2}


def test_an_integral_sum_is_an_integer() -> None:
    held = {"op": "replace", "path": "/n", "value": 1.5, "ts": 1}
    result = consolidate_field_op(held, {"op": "@inc", "path": "/n", "value": 1.5, "ts": 2})
    assert result is not None
    assert (type(result["value"]), result["value"]) == (int, 3)


def test_a_winning_write_is_the_same_object() -> None:
    op = {"op": "replace", "path": "/n", "value": 2, "ts": 2}
    assert consolidate_field_op({"op": "replace", "path": "/n", "value": 1, "ts": 2}, op) is op
    assert convert_delta_ops([op])[0] is op


def test_a_batch_into_many_fields_looks_only_at_what_it_replaces() -> None:
    looked: list[str] = []

    class Counting(FieldTable):
        def get(self, path: str) -> Op | None:
            looked.append(path)
            return super().get(path)

    table = Counting(
        {"op": "replace", "path": f"/f/{i}", "value": i, "ts": 1} for i in range(5_000)
    )
    new = [{"op": "replace", "path": f"/f/{i}", "value": 0, "ts": 2} for i in range(50)]
    assert len(consolidate_into(table, new).ops_to_save) == 50
    assert len(looked) <= 50 * 6
