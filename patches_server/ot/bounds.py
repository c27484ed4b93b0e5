"""How large and how deep a document can be at most, without reading its state.

A commit does not build the state, and a few hundred bytes of `copy` can double a document again and
again (`docs/internals/reliability.md` 3.3, T23). So the head carries two bounds that each commit
raises by what its changes can add. Only when a bound passes a limit is the state built and
measured.

What is weak: the size bound never falls by itself, so a document that has been written over many
times is measured now and then; the measuring resets it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from patches.errors import ChangeRefusedError, PatchError
from patches.json_patch import apply_patch
from patches.limits import Limits
from patches.model import codec
from patches.model.change import Change
from patches.model.json_values import Json, Op
from patches_server.documents.measure import Bounds, measure

#: No run of formatted text is shorter: `{"insert":"a"},`.
_SHORTEST_RUN: Final = 15
#: `{"ops":[...]}` around the parts of a text.
_TEXT_LEVELS: Final = 2


def grown(bounds: Bounds, changes: Iterable[Change], limits: Limits) -> Bounds:
    """The bounds after changes: what they write is added, a copy doubles the size."""
    size, depth = bounds.size, bounds.depth
    for change in changes:
        size += len(change.encoded)
        levels = _levels(change, limits)
        for op in change.ops:
            size, depth = _after(op, size, depth, levels=levels)
    return Bounds(size, depth)


def exceeded(bounds: Bounds, limits: Limits) -> bool:
    """Whether a document within these bounds could be over a limit."""
    over_size = limits.max_doc_bytes is not None and bounds.size > limits.max_doc_bytes
    return over_size or bounds.depth > limits.max_doc_depth


@dataclass(frozen=True, slots=True)
class Measured:
    """The true bounds of a state, and what changes make of them.

    `beyond` is the id of the first change that lets the document grow past a limit; `after` is
    then what it would have with that change.
    """

    before: Bounds
    after: Bounds
    beyond: str | None = None


def measured_after(state: Json, changes: Sequence[Change], limits: Limits) -> Measured:
    """Measure `state`, and apply `changes` for as long as they stay within `limits`.

    `after` is exact wherever that matters: the state is measured again as soon as a bound passes a
    limit, and no further than the first operation that really does. A state that was over a limit
    before may stay there, but not grow.
    """
    before = measure(state)
    ceiling = _ceiling(before, limits)
    bounds = before
    for change in changes:
        levels = _levels(change, limits)
        state_before, bounds_before = state, bounds
        for op in change.ops:
            # By operation, not by change: measuring in between forgets what was not applied yet.
            size = bounds.size + codec.json_size(op)
            bounds = Bounds(*_after(op, size, bounds.depth, levels=levels))
            try:
                state = apply_patch(state, [op], strict=True)
            except PatchError:  # every replica skips such a change as a whole
                state, bounds = state_before, bounds_before
                break
            if exceeded(bounds, ceiling):
                bounds = measure(state)
                if exceeded(bounds, ceiling):
                    return Measured(before, bounds, beyond=change.id)
    return Measured(before, bounds)


def refusal(doc_id: str, measured: Measured, change_id: str, limits: Limits) -> ChangeRefusedError:
    """The error for a change that exceeds a limit."""
    # Named and final: the author's client sets that change aside, and what comes after it, which
    # may be what makes the document smaller, gets through.
    before, after = measured.before, measured.after
    if limits.max_doc_bytes is not None and after.size > max(limits.max_doc_bytes, before.size):
        return ChangeRefusedError(
            change_id,
            f"Document {doc_id} would have {after.size} bytes, at most "
            f"{limits.max_doc_bytes} are allowed",
            code=413,
            limit="max_doc_bytes",
            final=True,
        )
    return ChangeRefusedError(
        change_id,
        f"Document {doc_id} would be nested {after.depth} levels deep, at most "
        f"{limits.max_doc_depth} are allowed",
        limit="max_doc_depth",
        final=True,
    )


def _ceiling(before: Bounds, limits: Limits) -> Limits:
    return replace(
        limits,
        max_doc_bytes=limits.max_doc_bytes and max(limits.max_doc_bytes, before.size),
        max_doc_depth=max(limits.max_doc_depth, before.depth),
    )


def _levels(change: Change, limits: Limits) -> int:
    """No value in the change, whose operations have been checked, is nested deeper."""
    brackets = change.encoded.count(b"{") + change.encoded.count(b"[")
    return min(brackets, limits.max_value_depth)


def _after(op: Op, size: int, depth: int, *, levels: int) -> tuple[int, int]:
    name, segments = op.get("op"), _segments(op.get("path"))
    if name == "copy" or name == "move":
        if name == "copy":
            size *= 2
        return size, max(depth, segments + max(0, depth - _segments(op.get("from"))))
    if name == "@txt":
        size += _formatting(op.get("value"), size)
        levels += _TEXT_LEVELS
    return size, max(depth, segments + levels)


def _formatting(value: Json, size: int) -> int:
    """What formatting adds: the attributes of a retain go onto each run that it spans."""
    parts = value.get("ops") if isinstance(value, dict) else value
    added = 0
    for part in parts if isinstance(parts, list) else ():
        attributes = part.get("attributes")
        if attributes and isinstance(part.get("retain"), int):
            runs = min(part["retain"], size // _SHORTEST_RUN + 1)
            added += codec.json_size(attributes) * runs
    return added


def _segments(pointer: object) -> int:
    return pointer.count("/") if isinstance(pointer, str) else 0
