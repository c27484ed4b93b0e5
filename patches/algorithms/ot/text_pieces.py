"""Pieces of texts: parts of a delta, runs of UTF-16, texts inside a value."""

from __future__ import annotations

from collections.abc import Iterator

from patches.algorithms.ot.sizes import json_byte_size
from patches.json_patch.object_keys import with_mark
from patches.model.change import Change
from patches.model.json_values import Json, Op
from patches.text.utf16 import utf16_length


class TextPath(str):
    """The path of a text that was taken out of a value, written without escapes.

    The peers that invented the split never escaped it, and cut by sizes that it has without. Ours
    cut the same pieces, and escape it when they are done: they would edit another place.
    """

    __slots__ = ("escaped",)
    escaped: str


def delta_parts(value: Json) -> list[Op]:
    """The parts of a text edit's value, in whichever of its shapes."""
    if isinstance(value, list):
        return value
    if isinstance(value, dict):
        parts = value.get("ops")
        return parts if isinstance(parts, list) else [value]
    return []


def text_op(op: Op, start: int, parts: list[Op]) -> Op:
    """A text edit with other parts, which begin at a position."""
    return {**op, "value": [{"retain": start}, *parts] if start else parts}


def retain_size(start: int) -> int:
    """Bytes of the part that leads to a position."""
    return json_byte_size({"retain": start}) if start else 0


def insert_part(text: str, attributes: Json) -> Op:
    """A part that inserts text."""
    return {"insert": text, "attributes": attributes} if attributes else {"insert": text}


def part_width(part: Op) -> int:
    """How far a part of a delta moves the position in the resulting text."""
    inserted = part.get("insert")
    if isinstance(inserted, str):
        return utf16_length(inserted)
    if inserted is not None:
        return 1
    return int(part.get("retain", 0))


def chunks(text: bytes, units: int) -> Iterator[bytes]:
    """UTF-16 text in runs of at most `units`."""
    start = 0
    while start < len(text):
        end = cut_at(text, start, units)
        yield text[start:end]
        start = end


def cut_at(text: bytes, start: int, units: int) -> int:
    """Where a run of `units` from `start` ends, never inside a surrogate pair.

    A pair is taken whole where `units` is 1.
    """
    end = min(start + 2 * units, len(text))
    if end < len(text) and _splits_pair(text, end):
        end += -2 if units > 1 else 2
    return end


def _splits_pair(text: bytes, at: int) -> bool:
    return 0xD8 <= text[at - 1] <= 0xDB and 0xDC <= text[at + 1] <= 0xDF


def without_texts(value: Json, path: TextPath, texts: list[Op], *, is_member: bool = False) -> Json:
    """A copy of an object with the contents of its texts taken out, as edits in `texts`.

    `is_member`: the value is known to be a member of an object, as all those inside of it are; that
    is marked where its key looks like an index.
    """
    if not isinstance(value, dict):
        return value
    parts = value.get("ops")
    if isinstance(parts, list) and any(
        isinstance(part, dict) and "insert" in part for part in parts
    ):
        texts.append(with_mark({"op": "@txt", "path": path, "value": parts}, path=is_member))
        return {key: member for key, member in value.items() if key != "ops"}
    return {
        key: without_texts(member, _below(path, key), texts, is_member=True)
        for key, member in value.items()
    }


def without_last_newline(parts: list[Op]) -> list[Op]:
    """The parts that make a text out of an empty one, which has its last newline already.

    A formatted newline is there already too, and is formatted.
    """
    *others, last = parts
    inserted, attributes = last.get("insert"), last.get("attributes")
    if not isinstance(inserted, str) or not inserted.endswith("\n"):
        return parts
    if inserted != "\n":
        others.append(insert_part(inserted[:-1], attributes))
    if attributes:
        others.append({"retain": 1, "attributes": attributes})
    return others


def text_path(path: str) -> TextPath:
    """The path of a value whose texts are taken out, as an operation has it."""
    at = TextPath(path)
    at.escaped = path.escaped if isinstance(path, TextPath) else path
    return at


def _below(path: TextPath, key: str) -> TextPath:
    below = TextPath(f"{path}/{key}")
    below.escaped = f"{path.escaped}/{key.replace('~', '~0').replace('/', '~1')}"
    return below


def with_escaped_paths(piece: Change) -> Change:
    """A piece with its `TextPath`s as they must be written."""
    if not any(isinstance(op.get("path"), TextPath) for op in piece.ops):
        return piece
    return piece.replace(
        ops=[
            {**op, "path": op["path"].escaped} if isinstance(op.get("path"), TextPath) else op
            for op in piece.ops
        ]
    )
