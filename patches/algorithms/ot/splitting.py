"""Cutting changes that are too large into several that follow each other.

The rules: `docs/internals/ot.md` 7.

Operations are grouped while an estimate says that they fit, and an operation that is too large by
itself is cut: a text edit between its parts or inside an insert, a set of an object by taking the
texts out of it. What cannot be cut goes out as it is, or is refused above a ceiling.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias

from patches.algorithms.ot.sizes import change_byte_size, json_byte_size
from patches.algorithms.ot.text_pieces import (
    chunks,
    cut_at,
    delta_parts,
    insert_part,
    part_width,
    retain_size,
    text_op,
    text_path,
    with_escaped_paths,
    without_last_newline,
    without_texts,
)
from patches.errors import UnsplittableChangeError
from patches.json_patch.object_keys import is_member_path
from patches.model.change import Change
from patches.model.ids import IdSource
from patches.model.json_values import Json, Op
from patches.options import SizeCalculator

Budget: TypeAlias = Literal["storage", "payload"]
Reason: TypeAlias = Literal[
    "op-type", "delta-op", "insert-chunk", "value-not-object", "value-no-text"
]

#: How much a size calculator's result may lie above the estimate made from it.
_MARGIN: Final = 1.1
_VERIFY_LEVELS: Final = 3
#: `docs/internals/ot.md` 7.3 has 0.8; the recorded compressed splits need 0.714 to 0.746, and come
#: first.
_VERIFY_FACTOR: Final = 0.72
#: Room left in a piece of text for the digits of its position and the like.
_CHUNK_SLACK: Final = 20


@dataclass(frozen=True, slots=True)
class OversizedOp:
    """Report of an operation over the budget that cannot be cut. `emitted`: it goes out anyway."""

    op: str
    path: str
    bytes: float
    max_bytes: float
    budget: Budget
    change_id: str
    emitted: bool
    reason: Reason
    doc_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitRules:
    """What a split goes by."""

    max_bytes: float
    new_id: IdSource
    size_calculator: SizeCalculator | None = None
    max_unsplittable_bytes: float | None = None
    doc_id: str | None = None
    budget: Budget = "storage"
    on_oversized: Callable[[OversizedOp], object] | None = None
    #: Whether a text that is taken out of a value comes to the same text when it is put back.
    is_exact: bool = False
    #: Off while pieces are split again: what cannot be cut has been reported.
    reports: bool = True
    #: The id in reports: that of the change as it was given, also while its pieces are cut.
    reported_id: str | None = None


def break_changes(
    changes: Sequence[Change],
    max_bytes: float,
    size_calculator: SizeCalculator | None = None,
    *,
    new_id: IdSource,
    max_unsplittable_bytes: float | None = None,
    doc_id: str | None = None,
    budget: Budget = "storage",
    on_oversized: Callable[[OversizedOp], object] | None = None,
    is_exact: bool = False,
) -> list[Change]:
    """The changes, with each that is larger than `max_bytes` cut into several.

    `size_calculator` measures a change instead of its JSON bytes. The first piece keeps the id, the
    others get theirs from `new_id`; later changes are renumbered. An operation that cannot be cut
    is given to `on_oversized` and stays whole; above `max_unsplittable_bytes` it raises
    `UnsplittableChangeError`. A text edit without content disappears.

    A text that has to be taken out of a value gets a second newline at its end: that is how the
    original splits, and recorded. With `is_exact` it does not.
    """
    rules = SplitRules(
        max_bytes=max_bytes,
        new_id=new_id,
        size_calculator=size_calculator,
        max_unsplittable_bytes=max_unsplittable_bytes,
        doc_id=doc_id,
        budget=budget,
        on_oversized=on_oversized,
        is_exact=is_exact,
    )
    result: list[Change] = []
    extra = 0
    for change in changes:
        pieces = split_change(change.replace(rev=change.rev + extra) if extra else change, rules)
        extra += len(pieces) - 1
        result.extend(pieces)
    return result


def cut_by_ops(change: Change, max_ops: int | None, *, new_id: IdSource) -> list[Change]:
    """The change, cut into several of at most `max_ops` operations that follow each other.

    The first piece keeps the id.
    """
    if max_ops is None or len(change.ops) <= max_ops:
        return [change]
    return [
        change.replace(
            id=change.id if index == 0 else new_id(change.rev + index),
            rev=change.rev + index,
            ops=change.ops[start : start + max_ops],
        )
        for index, start in enumerate(range(0, len(change.ops), max_ops))
    ]


def split_change(change: Change, rules: SplitRules) -> list[Change]:
    """One change, cut to size if it has to be."""
    pieces = _Split(change, rules).pieces()
    if pieces == [change]:
        return pieces
    if rules.size_calculator is not None:
        verified = _verified(pieces, rules, levels=_VERIFY_LEVELS)
        if verified != pieces:
            numbered = [p.replace(rev=change.rev + place) for place, p in enumerate(verified)]
            pieces = _first_keeps_id(numbered, change)
    return [with_escaped_paths(piece) for piece in pieces]


def _verified(pieces: list[Change], rules: SplitRules, levels: int) -> list[Change]:
    """The pieces, those that the calculator finds too large split again for a smaller budget."""
    if levels == 0:
        return pieces
    assert rules.size_calculator is not None
    tighter = replace(rules, max_bytes=math.floor(rules.max_bytes * _VERIFY_FACTOR), reports=False)
    result: list[Change] = []
    for piece in pieces:
        if piece.ops and rules.size_calculator(piece) > rules.max_bytes:
            result.extend(_verified(_Split(piece, tighter).pieces(), tighter, levels - 1))
        else:
            result.append(piece)
    return result


def _first_keeps_id(pieces: list[Change], change: Change) -> list[Change]:
    if pieces:
        pieces[0] = pieces[0].replace(id=change.id)
    return pieces


class _Split:
    """One change being cut."""

    def __init__(self, change: Change, rules: SplitRules) -> None:
        self._change = change
        self._rules = rules
        self._pieces: list[Change] = []
        self._exact = self._measure(change)
        self._per_byte = 1.0
        if rules.size_calculator is not None:
            self._per_byte = self._exact / change_byte_size(change) * _MARGIN
        self._envelope = change_byte_size(change.replace(ops=[]))

    def pieces(self) -> list[Change]:
        """The change itself if it fits, else its pieces, the first with its id."""
        if self._exact <= self._rules.max_bytes:
            return [self._change]
        group: list[Op] = []
        content = 0
        for op in self._change.ops:
            size = json_byte_size(op)
            if group and not self._fits(content + size, len(group) + 1):
                self._emit(group)
                group, content = [], 0
            if not group and not self._fits(size, 1) and self._cut(op):
                continue
            group.append(op)
            content += size
        if group:
            self._emit(group)
        return _first_keeps_id(self._pieces, self._change)

    def _cut(self, op: Op) -> bool:
        """Emit the pieces of an operation that is too large by itself; false if it stays whole."""
        size = self._measure(self._change.replace(ops=[op]))
        if size <= self._rules.max_bytes:
            return False
        match op.get("op"):
            case "@txt" if isinstance(op.get("value"), (list, dict)):
                self._cut_text(op)
            case "replace" | "add":
                self._take_texts_out(op)
            case _:
                self._report(op, size, "op-type")
                return False
        return True

    # ---- text edits ------------------------------------------------------------------------------

    def _cut_text(self, op: Op) -> None:
        envelope = change_byte_size(self._change.replace(ops=[{**op, "value": []}]))
        position = 0  # in the text as it is once all pieces so far have been applied
        group: list[Op] = []
        content = retain_size(position)
        count = 0
        start = position

        def flush() -> None:
            nonlocal group, content, count, start
            if group:
                self._emit([text_op(op, start, group)])
            start = position
            group, count = [], 1 if start else 0
            content = retain_size(start)

        for part in delta_parts(op["value"]):
            size = json_byte_size(part)
            if group and not self._within(envelope + content + size + count):
                flush()
            if not group and not self._within(envelope + content + size + count):
                piece_size = self._measure(self._change.replace(ops=[text_op(op, start, [part])]))
                if piece_size > self._rules.max_bytes:
                    if isinstance(part.get("insert"), str):
                        self._cut_insert(op, part, position)
                    else:
                        self._report(op, piece_size, "delta-op")
                        self._emit([text_op(op, start, [part])])
                    position += part_width(part)
                    flush()
                    continue
            group.append(part)
            content += size
            count += 1
            position += part_width(part)
        flush()

    def _cut_insert(self, op: Op, part: Op, position: int) -> None:
        attributes = part.get("attributes")
        empty = insert_part("", attributes)
        overhead = change_byte_size(
            self._change.replace(ops=[{**op, "value": [{"retain": position or 1}, empty]}])
        )
        room = math.floor(self._rules.max_bytes / self._per_byte) - overhead - _CHUNK_SLACK
        text = part["insert"].encode("utf-16-le", "surrogatepass")
        for chunk in chunks(text, max(1, room)):
            position = self._emit_chunk(op, chunk, attributes, position)

    def _emit_chunk(self, op: Op, chunk: bytes, attributes: Json, position: int) -> int:
        """Emit a run of UTF-16 text, halved until it fits. Returns the position after it."""
        text = chunk.decode("utf-16-le", "surrogatepass")
        ops = [text_op(op, position, [insert_part(text, attributes)])]
        size = self._measure(self._change.replace(ops=ops))
        units = len(chunk) // 2
        if size > self._rules.max_bytes:
            middle = cut_at(chunk, 0, math.ceil(units / 2))
            if middle < len(chunk):
                position = self._emit_chunk(op, chunk[:middle], attributes, position)
                return self._emit_chunk(op, chunk[middle:], attributes, position)
            self._report(op, size, "insert-chunk")
        self._emit(ops)
        return position + units

    # ---- texts inside a value --------------------------------------------------------------------

    def _take_texts_out(self, op: Op) -> None:
        value = op.get("value")
        texts: list[Op] = []
        path, is_member = text_path(op["path"]), is_member_path(op)
        stripped = without_texts(value, path, texts, is_member=is_member)
        if self._rules.is_exact:
            texts = [{**text, "value": without_last_newline(text["value"])} for text in texts]
        if not texts:
            size = self._measure(self._piece([op]))
            is_object = isinstance(value, dict)
            self._report(op, size, "value-no-text" if is_object else "value-not-object")
            self._emit([op])
            return
        piece = self._piece([{**op, "value": stripped}, *texts])
        if self._measure(piece) <= self._rules.max_bytes:
            self._pieces.append(piece)
        else:
            rules = replace(self._rules, reported_id=self._rules.reported_id or self._change.id)
            self._pieces.extend(_Split(piece, rules).pieces())

    # ---- pieces ----------------------------------------------------------------------------------

    def _emit(self, ops: list[Op]) -> None:
        self._pieces.append(self._piece(ops))

    def _piece(self, ops: list[Op]) -> Change:
        rev = self._change.rev + len(self._pieces)
        return self._change.replace(id=self._rules.new_id(rev), rev=rev, ops=ops)

    def _measure(self, change: Change) -> float:
        if self._rules.size_calculator is not None:
            return self._rules.size_calculator(change)
        return change_byte_size(change)

    def _fits(self, content: int, count: int) -> bool:
        return self._within(self._envelope + content + max(0, count - 1))

    def _within(self, json_bytes: int) -> bool:
        return json_bytes * self._per_byte <= self._rules.max_bytes

    def _report(self, op: Op, size: float, reason: Reason) -> None:
        rules = self._rules
        if not rules.reports:
            return
        ceiling = rules.max_unsplittable_bytes
        emitted = ceiling is None or size <= ceiling
        name, path = str(op.get("op")), str(op.get("path"))
        if rules.on_oversized is not None:
            rules.on_oversized(
                OversizedOp(
                    op=name,
                    path=path,
                    bytes=size,
                    max_bytes=rules.max_bytes,
                    budget=rules.budget,
                    change_id=rules.reported_id or self._change.id,
                    emitted=emitted,
                    reason=reason,
                    doc_id=rules.doc_id,
                )
            )
        if not emitted:
            assert ceiling is not None
            raise UnsplittableChangeError(
                name,
                path,
                size=int(size),
                limit=int(ceiling),
                doc_id=rules.doc_id,
                change_id=rules.reported_id or self._change.id,
            )
