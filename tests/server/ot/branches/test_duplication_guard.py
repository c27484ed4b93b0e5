"""The guard against doubling a text."""

from __future__ import annotations

from typing import Any

import pytest

from patches.model.change import Change
from patches.model.json_values import Op
from patches_server.ot.branches.duplication_guard import Duplication, find_duplication

OLD = "The quick brown fox jumps over the lazy dog.\n"
OTHER = "Entirely different words stand in this line.\n"


def text(*parts: Op, path: str = "/t") -> Op:
    return {"op": "@txt", "path": path, "value": list(parts)}


def found(*ops: Op, state: Any = None, least: int = 20) -> Duplication | None:
    changes = [
        Change(id=str(n), ops=[op], base_rev=0, rev=n, created_at=1)
        for n, op in enumerate(ops, start=1)
    ]
    document = {"t": {"ops": [{"insert": OLD}]}} if state is None else state
    return find_duplication(document, changes, least)


@pytest.mark.parametrize(
    ("ops", "chars"),
    [
        ([text({"insert": OLD})], len(OLD)),
        ([text({"insert": OLD[:-1]})], len(OLD) - 1),
        ([text({"insert": OTHER + OLD})], len(OLD)),
        ([text({"insert": OLD[:30]})], 30),
        ([text({"retain": 10}, {"insert": OLD[10:40]})], 30),
        ([text({"insert": OLD[:25]}), text({"retain": 25}, {"insert": OLD[25:]})], len(OLD)),
        ([{"op": "replace", "path": "/t", "value": {"ops": [{"insert": OLD + OLD}]}}], len(OLD)),
    ],
    ids=["whole", "all but the end", "with more", "beginning", "what follows", "in parts", "set"],
)
def test_a_copy_is_found(ops: list[Op], chars: int) -> None:
    assert found(*ops) == Duplication("/t", chars)


@pytest.mark.parametrize(
    "ops",
    [
        [text({"insert": OTHER})],
        [text({"insert": OLD[:10]})],
        [text({"delete": len(OLD)}, {"insert": OLD})],
        [text({"delete": len(OLD)}), text({"insert": OLD})],
        [text({"retain": len(OLD)}, {"insert": OTHER})],
        [{"op": "remove", "path": "/t"}, text({"insert": OLD})],
        [{"op": "replace", "path": "/t", "value": {"ops": [{"insert": OLD + OTHER}]}}],
        [{"op": "replace", "path": "/x", "value": OLD + OLD}],
        [text({"insert": OLD}, path="/u")],
    ],
    ids=[
        "other words",
        "too short",
        "replaced by itself",
        "replaced in two steps",
        "at the end",
        "removed before",
        "set once",
        "no text field",
        "a text that is not there",
    ],
)
def test_honest_edits_pass(ops: list[Op]) -> None:
    assert found(*ops) is None


def test_a_copy_beside_other_new_text_is_found() -> None:
    ops = [text({"insert": OTHER}), text({"retain": len(OTHER)}, {"insert": OLD[:30]})]
    assert found(*ops) == Duplication("/t", 30)


def test_a_copy_typed_in_short_pieces_is_found() -> None:
    pieces = [OLD[at : at + 10] for at in range(0, 40, 10)]
    typed = [text({"retain": 10 * n}, {"insert": piece}) for n, piece in enumerate(pieces) if n]
    armed = text({"insert": OTHER}, path="/u")
    assert found(armed, text({"insert": pieces[0]}), *typed) == Duplication("/t", 40)


def test_positions_are_utf_16_units() -> None:
    old = "😀" * 15 + OLD
    state = {"t": {"ops": [{"insert": old}]}}
    ops = [text({"retain": 30}, {"insert": OLD[:25]})]
    assert found(*ops, state=state) == Duplication("/t", 25)


def test_embeds_count_one_and_paths_may_be_nested() -> None:
    old = [{"insert": {"image": "x"}}, {"insert": OLD}]
    state = {"list": [{"a/b": {"ops": old}}]}
    op = text({"retain": 1}, {"insert": OLD[:25]}, path="/list/0/a~1b")
    assert found(op, state=state) == Duplication("/list/0/a~1b", 25)
    beyond = text({"insert": OLD}, path="/list/7/a~1b")
    assert found(beyond, state=state) is None
