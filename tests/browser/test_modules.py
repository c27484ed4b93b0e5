"""The page's own modules, against the library's: they have to agree."""

from __future__ import annotations

import random
from typing import Any

import pytest

from patches import text

pytestmark = pytest.mark.asyncio(loop_scope="session")

COMPUTE = """async (cases) => {
  const delta = await import('/delta.js');
  return cases.map(([before, a, b, c]) => ({
    applied: delta.apply(before, a),
    composed: delta.compose(a, c),
    inverted: delta.apply(delta.apply(before, a), delta.invert(a, before)),
    first: delta.transform(a, b, true),
    second: delta.transform(a, b, false),
    oneWay: delta.apply(delta.apply(before, a), delta.transform(a, b, true)),
    otherWay: delta.apply(delta.apply(before, b), delta.transform(b, a, false)),
  }));
}"""

KEYS = """async (count) => {
  const { keyBetween } = await import('/order.js');
  const keys = [keyBetween()];
  let state = 1;
  for (let i = 0; i < count; i += 1) {
    state = (state * 48271) % 2147483647;
    const at = state % (keys.length + 1);
    keys.splice(at, 0, keyBetween(keys[at - 1], keys[at]));
  }
  return keys;
}"""


def a_delta(source: random.Random, length: int) -> list[dict[str, Any]]:
    ops: list[dict[str, Any]] = []
    left = length
    while left > 0:
        count = min(left, source.randint(1, 4))
        kind = source.choice(["retain", "delete", "insert"])
        if kind == "insert":
            ops.append({"insert": source.choice(["x", "yz", "😀"])})
        else:
            ops.append({kind: count})
            left -= count
    return merged(text.compose(ops, []))


def merged(ops: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """In one form: neighbours of one kind together, inserts before deletes at the same place. The
    library leaves some apart, as the original does."""
    result: list[dict[str, Any]] = []
    for op in ops:
        at = len(result)
        if "insert" in op and result and "delete" in result[-1]:
            at -= 1
        before = result[at - 1] if at else {}
        if before.keys() == op.keys():
            result[at - 1] = {kind: value + op[kind] for kind, value in before.items()}
        else:
            result.insert(at, op)
    return result


def length_after(length: int, ops: list[dict[str, Any]]) -> int:
    inserted = sum(len(op["insert"].encode("utf-16-le")) // 2 for op in ops if "insert" in op)
    deleted = sum(int(op["delete"]) for op in ops if "delete" in op)
    return length + inserted - deleted


async def test_its_text_deltas_agree_with_the_librarys(window: Any) -> None:
    source = random.Random(7)
    cases: list[tuple[str, list[Any], list[Any], list[Any]]] = []
    for _ in range(400):
        before = "".join(source.choices("abc\n", k=source.randint(1, 10)))
        a, b = (a_delta(source, len(before)) for _ in range(2))
        cases.append((before, a, b, a_delta(source, length_after(len(before), a))))
    page = (await window()).page
    for (before, a, b, c), got in zip(cases, await page.evaluate(COMPUTE, cases), strict=True):
        assert got["composed"] == merged(text.compose(a, c))
        assert got["first"] == merged(text.transform(a, b, priority=True))
        assert got["second"] == merged(text.transform(a, b, priority=False))
        assert got["inverted"] == before
        assert got["oneWay"] == got["otherWay"]


async def test_its_order_keys_stay_sorted_and_distinct(window: Any) -> None:
    keys = await (await window()).page.evaluate(KEYS, 500)
    assert keys == sorted(set(keys))
    assert not any(key.endswith("0") for key in keys)
