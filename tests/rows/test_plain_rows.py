"""Rows without SQLite say what operations did to them."""

from __future__ import annotations

from patches.rows import parse_row_ops
from patches.rows.plain_rows import PlainRows


def test_what_was_done_can_be_taken_back_and_a_state_stays() -> None:
    rows = PlainRows({"todos": {"a": {"id": "a", "title": "old"}, "b": {"id": "b", "title": "b"}}})
    before = rows.state
    journal = rows.apply(
        parse_row_ops(
            [
                {"op": "replace", "path": "/todos/a/title", "value": "new"},
                {"op": "replace", "path": "/todos/none/title", "value": "x"},
                {"op": "remove", "path": "/todos/none"},
                {"op": "add", "path": "/lists/l", "value": {"id": "l"}},
                {"op": "remove", "path": "/todos/b"},
            ]
        )
    )
    assert sorted(journal.rows) == [("lists", "l"), ("todos", "a"), ("todos", "b")]
    assert rows.state == {"todos": {"a": {"id": "a", "title": "new"}}, "lists": {"l": {"id": "l"}}}
    assert rows.row("todos", "b") is None
    assert before["todos"]["a"]["title"] == "old"
    rows.apply(parse_row_ops(journal.inverse()))
    assert rows.state == {**before, "lists": {}}
    assert not rows.apply(parse_row_ops([{"op": "add", "path": "/none", "value": {}}])).rows
    rows.apply(parse_row_ops([{"op": "add", "path": "/todos", "value": {}}]))
    assert rows.state == {"todos": {}, "lists": {}, "none": {}}
