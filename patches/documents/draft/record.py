"""From a function that edits to the operations of its edit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from patches.documents.draft.container import container_of
from patches.documents.draft.node import DraftTyping, Recorder
from patches.errors import PatchError
from patches.model.edit_functions import check_edits
from patches.model.json_values import Json, Op


def draft_of(state: Json, *, max_depth: int = 60, typing: DraftTyping | None = None) -> Recorder:
    """A draft of a state, which stays as it is. The caller ends it.

    `typing`: how values of other classes than JSON's are written, and parts are shown.

    Raises `PatchError` if the state is no dict or list.
    """
    if not isinstance(state, (dict, list)):
        raise PatchError(
            f"the state is {type(state).__name__}, which has no parts to edit; use set() or apply()"
        )
    recorder = Recorder(max_depth=max_depth, typing=typing)
    recorder.root = container_of(state, recorder, None, "")
    return recorder


def record(
    state: Json,
    fn: Callable[[Any], object],
    *,
    max_depth: int = 60,
    typing: DraftTyping | None = None,
) -> list[Op]:
    """The operations that `fn` makes on a draft of `state`. Raises what `fn` raises."""
    if not callable(fn):
        raise TypeError(
            "change takes a function: doc.change(lambda draft: draft.update({…})); to replace the "
            "whole state use doc.set({…})"
        )
    draft = draft_of(state, max_depth=max_depth, typing=typing)
    try:
        result = fn(draft.root if typing is None else typing.shown(draft.root))
    finally:
        draft.end()
    check_edits(result, "change()")
    return draft.ops
