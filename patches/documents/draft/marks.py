"""Marks: attributes `mark:<id>` on runs of a rich text. Pure.

A mark is a place that lasts: it is a part of the text, so it is stored, merged and undone with it.
Text that is typed inside takes it, text at its edges does not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from patches.errors import PatchError
from patches.model.json_values import Json, json_equal
from patches.text import DeltaOp, op_length

MARK: Final = "mark:"
_MAX_LENGTH: Final = 200


def mark_attributes(mark_id: object, value: object) -> dict[str, Json]:
    """The attributes of a mark. Raises `PatchError` for an id or a value that is no short string.

    A `None` as value takes the mark off.
    """
    for name, each in (("id", mark_id), ("value", value if value is not None else "1")):
        if not isinstance(each, str) or not 0 < len(each) <= _MAX_LENGTH:
            raise PatchError(
                f"the {name} of a mark is a string of 1 to {_MAX_LENGTH} characters, not {each!r}"
            )
    return {f"{MARK}{mark_id}": value}


def has_marks(ops: Sequence[DeltaOp]) -> bool:
    """Whether a text has any mark."""
    return any(key.startswith(MARK) for op in ops for key in op.get("attributes") or ())


def marks_between(ops: Sequence[DeltaOp], start: int, end: int) -> dict[str, Json]:
    """The marks that text takes which is inserted in place of the units from `start` to `end`.

    Those of the character before it that the character after it has, too.
    """
    before = _attributes_at(ops, start - 1)
    after = _attributes_at(ops, end)
    return {
        key: value
        for key, value in before.items()
        if key.startswith(MARK) and key in after and json_equal(after[key], value)
    }


def marked_runs(ops: Sequence[DeltaOp]) -> dict[str, list[tuple[int, int]]]:
    """For each id of a mark the runs that have it, as UTF-16 positions, in order."""
    runs: dict[str, list[tuple[int, int]]] = {}
    for start, end, attributes in _spans(ops):
        for key in attributes:
            if not key.startswith(MARK):
                continue
            known = runs.setdefault(key.removeprefix(MARK), [])
            if known and known[-1][1] == start:
                start_of_run, _ = known.pop()
                known.append((start_of_run, end))
            else:
                known.append((start, end))
    return runs


def _attributes_at(ops: Sequence[DeltaOp], unit: int) -> Mapping[str, Json]:
    for start, end, attributes in _spans(ops):
        if start <= unit < end:
            return attributes
    return {}


def _spans(ops: Sequence[DeltaOp]) -> Iterator[tuple[int, int, Mapping[str, Any]]]:
    at = 0
    for op in ops:
        length = op_length(op)
        yield at, at + length, op.get("attributes") or {}
        at += length
