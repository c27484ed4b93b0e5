"""What an answer to `loadSubset` brings beside the changes that travel with it."""

from __future__ import annotations

from patches.algorithms.collections.subsets import Interest, Subset
from patches.model.change import Change
from patches.model.json_values import Json, Op
from patches.rows.condition_syntax import F
from patches.rows.row_ops import Row, RowOp, delete_op, insert_op


def row(key: str, category: str = "a") -> Row:
    return {"id": key, "category": category}


def change(rev: int, *ops: Op, base_rev: int | None = None, **metadata: Json) -> Change:
    base_rev = rev - 1 if base_rev is None else base_rev
    return Change(
        id=f"c{rev}", ops=list(ops), base_rev=base_rev, rev=rev, created_at=1, metadata=metadata
    )


def answer(rev: int, *keys: str) -> dict[str, Json]:
    return {"rev": rev, "ops": [insert_op("items", key, row(key)) for key in keys], "keys": keys}


def interest_at(cursor: int, *subsets: Subset) -> Interest:
    interest = Interest(lambda table: table == "items")
    interest.cursor = cursor
    interest.subsets = {subset.id: subset for subset in subsets}
    return interest


def keys_of(ops: list[RowOp]) -> list[tuple[str, str | None]]:
    return [(op.kind, op.key) for op in ops]


def shelf(subset_id: str = "q1") -> Subset:
    return Subset(subset_id, "items", F.category == "a")


def test_an_answer_that_is_behind_leaves_what_changed_since() -> None:
    subset = shelf()
    interest = interest_at(5, subset)
    interest.begin_load(subset)
    interest.taken(change(6, insert_op("items", "x", row("x")), delete_op("items", "y")), {})
    taken = interest.finish_load(subset, answer(5, "x", "y", "z"), {"x": row("x")})
    assert taken is not None
    assert keys_of(taken[0]) == [("add", "z")]


def test_changes_that_come_after_a_newer_answer_are_skipped_row_by_row() -> None:
    subset = shelf()
    interest = interest_at(5, subset)
    interest.begin_load(subset)
    interest.finish_load(subset, answer(7, "x"), {})
    late = change(6, insert_op("items", "x", row("x", "old")), insert_op("items", "n", row("n")))
    assert keys_of(interest.taken(late, {})[0]) == [("add", "n")]
    assert keys_of(interest.taken(change(7, delete_op("items", "x")), {})[0]) == []
    assert keys_of(interest.taken(change(8, delete_op("items", "x")), {})[0]) == [("remove", "x")]


def test_a_subset_that_is_loaded_again_drops_what_is_not_in_it_any_more() -> None:
    subset, other = shelf(), Subset("q2", "items", F.category == "b")
    interest = interest_at(5, subset, other)
    held = {"x": row("x"), "gone": row("gone"), "b": row("b", "b")}
    interest.lost()
    interest.begin_load(subset)
    taken = interest.finish_load(subset, answer(9, "x"), held)
    assert taken is not None
    assert keys_of(taken[0]) == [("add", "x"), ("remove", "gone")]


def test_a_row_of_another_subset_is_left_to_its_changes() -> None:
    subset, other = shelf(), Subset("q2", "items", None, state="loaded")
    interest = interest_at(5, subset, other)
    interest.begin_load(subset)
    taken = interest.finish_load(subset, answer(9), {"moved": row("moved")})
    assert taken is not None
    assert taken[0] == []


def test_an_answer_from_before_a_reload_is_asked_for_again() -> None:
    subset = shelf()
    interest = interest_at(5, subset)
    interest.begin_load(subset)
    interest.installed(8, None)
    assert interest.finish_load(subset, answer(6, "x"), {}) is None


def test_the_keys_of_a_window_are_those_of_the_newest_revision() -> None:
    window = Subset("w", "items", None, (("category", False),), 2, state="loaded")
    interest = interest_at(5, window)
    interest.taken(change(6, windows={"w": ["x", "y"]}), {})
    _, left = interest.taken(change(7, windows={"w": ["y", "z"]}), {})
    assert left == [("items", "x")]
    assert [key for key in "xyz" if window.covers(key, row(key))] == ["y", "z"]


def test_a_subset_that_the_fetched_document_was_not_asked_for_is_loaded_again() -> None:
    window = Subset("w", "items", None, (("category", False),), 2)
    stated = Subset("s", "items", F.category == "b", state="loaded")
    interest = interest_at(0, window, stated)
    assert [each["id"] for each in interest.stated() if isinstance(each, dict)] == ["s"]
    interest.begin_load(window)
    interest.finish_load(window, answer(5, "x"), {})  # before the document, which comes now
    interest.installed(5, {})
    assert (window.state, stated.state) == ("wanted", "loaded")
    assert not window.covers("x", row("x"))
