"""Cursors move as the text does."""

from __future__ import annotations

import pytest

from patches.model.json_values import Json
from patches.sync.presence.cursors import moved_cursor, text_change


def body(*inserts: Json) -> Json:
    return {"body": {"ops": [{"insert": each} for each in inserts]}, "title": "x"}


@pytest.mark.parametrize(
    ("before", "after", "cursor", "moved"),
    [
        (body("hello\n"), body("oh hello\n"), 2, 5),
        (body("hello\n"), body("hello there\n"), 2, 2),
        (body("oh hello\n"), body("hello\n"), 5, 2),
        (body("hello\n"), body("😀hello\n"), 1, 3),
        (body("ab\n"), body({"image": "u"}, "ab\n"), 1, 2),
        ({"body": "plain"}, {"body": "more plain"}, [0, 3], [5, 8]),
        ({}, body("new\n"), 0, 4),
        (body("hello\n"), {"body": 5}, 3, 0),
        (body("hello\n"), body("oh hello\n"), None, None),
        (body("hello\n"), body("oh hello\n"), [1, "x"], [1, "x"]),
        (body("hello\n"), body("oh hello\n"), True, True),
        (body("hello\n"), body("oh hello\n"), [], []),
    ],
    ids=str,
)
def test_a_cursor_keeps_its_place(before: Json, after: Json, cursor: Json, moved: Json) -> None:
    change = text_change(before, after, "/body")
    assert change is not None
    assert moved_cursor({"cursor": cursor, "name": "Ann"}, change) == {
        "cursor": moved,
        "name": "Ann",
    }


def test_what_does_not_change_the_text_moves_nothing() -> None:
    state = body("hello\n")
    assert isinstance(state, dict)
    assert text_change(state, {**state, "title": "y"}, "/body") is None
    assert text_change(state, body("hello\n"), "/body") is None
    assert text_change({"a": [1]}, {"a": [2]}, "/a/0") is None
    assert text_change({"a": ["x"]}, {"a": ["x"]}, "/a/1") is None
    assert text_change({"a": ["x"]}, {"a": ["x"]}, "/a/-") is None


def test_a_text_is_found_wherever_its_path_leads() -> None:
    assert text_change({"a": [0, "x"]}, {"a": [0, "yx"]}, "/a/1") is not None
    assert text_change({"a/b": "x"}, {"a/b": "yx"}, "/a~1b") is not None
