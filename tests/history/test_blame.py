"""Who wrote which part of a text."""

from __future__ import annotations

import random
from itertools import groupby
from typing import Any

import pytest

from patches.errors import PatchError
from patches.history import Entry, Run, blame_of


def entries(*edits: tuple[str, list[dict[str, Any]]]) -> list[Entry]:
    return [
        Entry(rev=rev, at=rev, author=author, ops=ops)
        for rev, (author, ops) in enumerate(edits, start=1)
    ]


def txt(*delta: dict[str, Any], path: str = "/body") -> list[dict[str, Any]]:
    return [{"op": "@txt", "path": path, "value": list(delta)}]


def whole(text: str) -> list[dict[str, Any]]:
    return [{"op": "replace", "path": "/body", "value": {"ops": [{"insert": text}]}}]


def shown(runs: list[Run]) -> list[tuple[str | None, str]]:
    return [(run.author, run.text) for run in runs]


def test_inserted_text_belongs_to_its_author_and_formatting_changes_nothing() -> None:
    runs = blame_of(
        "/body",
        {},
        entries(
            ("ann", whole("Hello\n")),
            ("bob", txt({"retain": 5}, {"insert": " you"})),
            ("cid", txt({"retain": 5, "attributes": {"bold": True}})),
            ("ann", txt({"retain": 1}, {"delete": 2})),
        ),
    )
    assert shown(runs) == [("ann", "Hlo"), ("bob", " you"), ("ann", "\n")]
    assert [run.rev for run in runs] == [1, 2, 1]
    assert Run.from_wire(runs[0].to_wire()) == runs[0]


def test_older_text_has_no_author() -> None:
    base = {"body": {"ops": [{"insert": "old", "attributes": {"b": 1}}, {"insert": "\n"}]}}
    runs = blame_of("/body", base, entries(("ann", txt({"insert": "new "}))))
    assert shown(runs) == [("ann", "new "), (None, "old\n")]


def test_text_that_comes_back_belongs_to_who_brought_it() -> None:
    body = {"ops": [{"insert": "Hello\n"}]}
    runs = blame_of(
        "/body",
        {},
        entries(
            ("ann", [{"op": "replace", "path": "/body", "value": body}]),
            ("bob", [{"op": "remove", "path": "/body"}]),
            ("bob", [{"op": "replace", "path": "", "value": {"body": body}}]),
        ),
    )
    assert shown(runs) == [("bob", "Hello\n")]


def test_strings_are_compared() -> None:
    runs = blame_of(
        "/title",
        {},
        entries(
            ("ann", [{"op": "replace", "path": "/title", "value": "Plan"}]),
            ("bob", [{"op": "replace", "path": "/title", "value": "Plan B"}]),
        ),
    )
    assert shown(runs) == [("ann", "Plan"), ("bob", " B")]


def test_a_change_that_cannot_be_applied_is_left_out() -> None:
    broken = [*txt({"insert": "x"}), {"op": "test", "path": "/missing", "value": 1}]
    runs = blame_of("/body", {}, entries(("ann", whole("a\n")), ("bob", broken)))
    assert shown(runs) == [("ann", "a\n")]


def test_no_text() -> None:
    with pytest.raises(PatchError, match="no text at '/n'"):
        blame_of("/n", {"n": 5}, [])


@pytest.mark.parametrize("seed", range(20))
def test_scenario_35_each_author_has_exactly_a_models_characters(seed: int) -> None:
    """Deletions, undo and formatting by three authors, against a list of characters."""
    rng = random.Random(seed)
    model: list[tuple[str, str | None]] = [("\n", "ann")]
    edits: list[tuple[str, list[dict[str, Any]]]] = [("ann", whole("\n"))]
    deleted: list[tuple[int, str]] = []
    for number in range(120):
        author = rng.choice(["ann", "bob", "cid"])
        at = rng.randrange(len(model))
        kind = rng.choice(["insert", "insert", "delete", "format", "undo"])
        before = {"retain": sum(units(each) for each, _ in model[:at])}
        head = [before] if at else []
        if kind == "insert":
            text = rng.choice(["a", "bb", "😀", f"{number}"])
            model[at:at] = [(each, author) for each in text]
            edits.append((author, txt(*head, {"insert": text})))
        elif kind == "undo" and deleted:
            place, text = deleted.pop()
            at = min(place, len(model) - 1)
            before = {"retain": sum(units(each) for each, _ in model[:at])}
            model[at:at] = [(each, author) for each in text]
            edits.append((author, txt(*([before] if at else []), {"insert": text})))
        elif kind == "delete" and at < len(model) - 1:
            gone = model[at : min(at + rng.randint(1, 4), len(model) - 1)]
            del model[at : at + len(gone)]
            deleted.append((at, "".join(each for each, _ in gone)))
            size = sum(units(each) for each, _ in gone)
            edits.append((author, txt(*head, {"delete": size})))
        elif kind == "format":
            size = units(model[at][0])
            edits.append((author, txt(*head, {"retain": size, "attributes": {"b": number}})))
    runs = blame_of("/body", {}, entries(*edits))
    expected = [
        (author, "".join(each for each, _ in group))
        for author, group in groupby(model, key=lambda each: each[1])
    ]
    joined = [
        (author, "".join(run.text for run in group))
        for author, group in groupby(runs, key=lambda run: run.author)
    ]
    assert joined == expected


def units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2
