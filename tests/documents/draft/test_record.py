"""The frame of an edit: what the function may be, and how long its draft lives."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest

from patches.documents.draft import draft_of, record
from patches.errors import PatchError


def test_an_async_function_is_refused_with_a_reason() -> None:
    async def edit(draft: Any) -> None:
        draft.a = 1

    with pytest.raises(PatchError, match="is async"):
        record({}, edit)


def test_a_function_that_returns_an_awaitable_is_refused() -> None:
    class Later:
        def __await__(self) -> Any:
            yield

    with pytest.raises(PatchError, match="awaitable"):
        record({}, lambda draft: Later())


def test_what_the_function_returns_does_not_matter_otherwise() -> None:
    assert record({}, lambda draft: draft.setdefault("a", [])) == [
        {"op": "add", "path": "/a", "value": []}
    ]


def test_what_the_function_raises_goes_out() -> None:
    state: dict[str, Any] = {"a": {"b": [1]}}

    def edit(draft: Any) -> None:
        draft.a.b.append(2)
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        record(state, edit)
    assert state == {"a": {"b": [1]}}


def test_a_finished_draft_takes_and_shows_nothing() -> None:
    kept: list[Any] = []

    def edit(draft: Any) -> None:
        kept.extend([draft, draft.l, draft.text("t")])

    record({"l": [1]}, edit)
    draft, items, text = kept
    uses: list[Callable[[], Any]] = [
        lambda: draft.l,
        lambda: draft.update(a=1),
        lambda: len(draft),
        lambda: list(draft),
        lambda: "a" in draft,
        lambda: draft.increment("n"),
        lambda: draft.pop("l"),
        lambda: draft.setdefault("x", 1),
        lambda: draft.move("l", "m"),
        lambda: draft.copy("l", "m"),
        lambda: items[0],
        lambda: items.append(1),
        lambda: items.sort(),
        lambda: list(items),
        lambda: 1 in items,
        lambda: str(text),
        lambda: text.append("x"),
        lambda: text.delta,
    ]
    for use in uses:
        with pytest.raises(PatchError, match="finished"):
            use()
    assert repr(draft) == repr(items) == repr(text) == "<finished draft>"


@pytest.mark.parametrize("state", [None, 1, "text", True])
def test_a_state_without_parts_has_no_draft(state: Any) -> None:
    with pytest.raises(PatchError, match="no parts"):
        draft_of(state)


def test_a_list_can_be_the_whole_document() -> None:
    assert record([1], lambda draft: draft.append(2)) == [{"op": "add", "path": "/1", "value": 2}]


def test_a_finished_draft_keeps_nothing_alive() -> None:
    state: dict[str, Any] = {"l": [{"a": 1}], "t": {"ops": [{"insert": "x\n"}]}}

    def edit(draft: Any) -> None:
        draft.l[0].a = 2
        draft.text("t").append("y")
        draft.update(new={"b": []})
        draft.new.b.append({})

    record(state, edit)
    gc.collect()
    gc.disable()
    try:
        record(state, edit)
        assert gc.collect() == 0, (
            "the draft was a circle, and held the state until it was collected"
        )
    finally:
        gc.enable()
