"""What differs between two states, in four forms."""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest

from patches.history import diff_states
from patches.json_patch import apply_patch


def fields(before: Any, after: Any, key: str | None = None) -> list[tuple[str, str, Any, Any]]:
    found = diff_states(before, after, key=key).fields
    return [(each.kind, each.path, each.before, each.after) for each in found]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({"a": 1}, {"a": 1.0}, []),
        ({"a": 1}, {"a": 2}, [("changed", "/a", 1, 2)]),
        ({"a": 1}, {"b/c": 1}, [("removed", "/a", 1, None), ("added", "/b~1c", None, 1)]),
        ({"a": [1, 2, 3]}, {"a": [1, 3]}, [("removed", "/a/1", 2, None)]),
        ({"a": [1, 3]}, {"a": [0, 1, 3]}, [("added", "/a/0", None, 0)]),
        ({"a": [{"x": 1}]}, {"a": [{"x": 2}]}, [("changed", "/a/0/x", 1, 2)]),
        ({"a": 1}, [], [("changed", "", {"a": 1}, [])]),
    ],
)
def test_fields(before: Any, after: Any, expected: Any) -> None:
    assert fields(before, after) == expected


def test_elements_with_keys_are_followed() -> None:
    before = [{"id": "a", "n": 1}, {"id": "b"}, {"id": "c"}]
    after = [{"id": "c"}, {"id": "a", "n": 2}, {"id": "d"}]
    assert fields(before, after, "id") == [
        ("removed", "/1", {"id": "b"}, None),
        ("moved", "/0", "/2", "/0"),
        ("changed", "/1/n", 1, 2),
        ("added", "/2", None, {"id": "d"}),
    ]


def test_texts_have_deltas() -> None:
    before = {"body": {"ops": [{"insert": "Hello\n"}]}}
    after = {"body": {"ops": [{"insert": "Hello Ada\n"}]}}
    diff = diff_states(before, after)
    (field,) = diff.fields
    assert (field.kind, field.path) == ("text", "/body")
    assert field.delta is not None
    assert field.delta.ops == [{"retain": 5}, {"insert": " Ada"}]
    assert "Hello<ins> Ada</ins>" in diff.to_html()
    assert diff.ops == [{"op": "@txt", "path": "/body", "value": field.delta.ops}]


def test_very_long_lists_are_compared_by_place() -> None:
    before = {"a": list(range(6_000))}
    diff = diff_states(before, {"a": [5, *range(1, 6_000)]})
    assert diff.is_coarse
    assert [each.path for each in diff.fields] == ["/a/0"]
    assert not diff_states({"a": [1]}, {"a": [2]}).is_coarse


def test_html_is_escaped() -> None:
    shown = diff_states({}, {"<b>": "<script>", "x": [1]}).to_html()
    assert "<script>" not in shown
    assert "<b>" not in shown


def test_as_text() -> None:
    diff = diff_states({"a": 1, "b": 2}, {"a": 1, "b": 3})
    assert "-  " in diff.to_text().replace('-  "b": 2', "-  ")
    assert '+  "b": 3' in diff.to_text(context=0)
    assert '"a": 1' not in diff.to_text(context=0)
    assert "\x1b[32m" in diff.to_text(color=True)
    assert diff_states({"a": 1}, {"a": 1}).to_text() == ""


def a_value(rng: random.Random, depth: int = 3) -> Any:
    kind = rng.randrange(8 if depth else 5)
    if kind < 5:
        return rng.choice([None, True, 0, 7, -2.5, "x", "é😀", ""])
    if kind == 5:
        return [a_value(rng, depth - 1) for _ in range(rng.randrange(4))]
    if kind == 6:
        return {"ops": [{"insert": rng.choice(["ab", "cd", "abc"]) + "\n"}]}
    return {rng.choice("abcd~/"): a_value(rng, depth - 1) for _ in range(rng.randrange(4))}


def changed(rng: random.Random, value: Any) -> Any:
    if rng.random() < 0.2:
        return a_value(rng)
    if isinstance(value, dict):
        return {key: changed(rng, each) for key, each in value.items() if rng.random() < 0.9}
    if isinstance(value, list):
        kept = [changed(rng, each) for each in value if rng.random() < 0.8]
        rng.shuffle(kept)
        return kept
    return value


def test_scenario_37_a_diff_as_rfc_6902_gives_the_later_state() -> None:
    rng = random.Random(37)
    for _ in range(1_000):
        before = a_value(rng)
        before = before if isinstance(before, (dict, list)) else {"a": before}
        after = changed(rng, copy.deepcopy(before))
        diff = diff_states(before, after)
        kept = copy.deepcopy(before)
        assert diff.to_jsonpatch().apply(before) == after
        assert apply_patch(before, diff.ops, strict=True) == after
        assert before == kept
