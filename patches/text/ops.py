"""The ops of a delta: what each is, how long, and how a list of them is built and read.

A delta is a list of `{"insert": text or embed}`, `{"retain": n}` and `{"delete": n}`, inserts and
retains with optional `attributes` (`docs/internals/json-patch.md` 6). Ops are never mutated, so
lists may share them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

from patches.errors import PatchError
from patches.model.json_values import Json, json_equal
from patches.text.attributes import Attributes
from patches.text.utf16 import cut, join, utf16_length

#: One op of a delta.
DeltaOp: TypeAlias = dict[str, Any]

INSERT: Final = "insert"
RETAIN: Final = "retain"
DELETE: Final = "delete"


def is_length(value: object) -> bool:
    """Whether a value can be an op's length: a whole number that is not negative."""
    if isinstance(value, bool):
        return False
    if isinstance(value, float):
        return value >= 0 and value.is_integer()
    return isinstance(value, int) and value >= 0


def is_delta(value: Json) -> bool:
    """Whether a value is a list of delta ops."""
    if not isinstance(value, list):
        return False
    for op in value:
        if not isinstance(op, dict):
            return False
        if DELETE in op or RETAIN in op:
            length = op[DELETE] if DELETE in op else op[RETAIN]
            # nearly all lengths are plain numbers: no call for each
            if (type(length) is not int or length < 0) and not is_length(length):
                return False
        elif not isinstance(op.get(INSERT), (str, dict)):
            return False
    return True


def checked_ops(value: Json) -> list[DeltaOp]:
    """`value` if it is a list of delta ops. Raises `PatchError` for anything else."""
    if not is_delta(value):
        raise PatchError("Invalid delta")
    ops: list[DeltaOp] = value
    return ops


def op_type(op: DeltaOp) -> str:
    """`"insert"`, `"retain"` or `"delete"`."""
    if DELETE in op:
        return DELETE
    return RETAIN if RETAIN in op else INSERT


def op_length(op: DeltaOp) -> int:
    """The length of an op in UTF-16 code units; an embed counts 1."""
    if DELETE in op:
        return int(op[DELETE])
    if RETAIN in op:
        return int(op[RETAIN])
    inserted = op.get(INSERT)
    return utf16_length(inserted) if isinstance(inserted, str) else 1


def with_attributes(op: DeltaOp, attributes: Attributes | None) -> DeltaOp:
    """`op` formatted with `attributes`, which may be an empty map; `None` leaves the field off."""
    if attributes is not None:
        op["attributes"] = attributes
    return op


def push(ops: list[DeltaOp], op: DeltaOp) -> None:
    """Append `op` in normal form: neighbours merge, and inserts go before deletes (6.3)."""
    at = len(ops)
    if at and DELETE in ops[-1]:
        if DELETE in op:
            ops[-1] = {DELETE: int(ops[-1][DELETE] + op[DELETE])}
            return
        if RETAIN not in op:
            at -= 1
    if at and DELETE not in op:
        merged = _merged(ops[at - 1], op)
        if merged is not None:
            ops[at - 1] = merged
            return
    ops.insert(at, op)


def _merged(last: DeltaOp, op: DeltaOp) -> DeltaOp | None:
    attributes = op.get("attributes")
    if attributes is not last.get("attributes") and not json_equal(
        attributes, last.get("attributes")
    ):
        return None
    if RETAIN in op:
        if RETAIN in last:
            return with_attributes({RETAIN: int(last[RETAIN] + op[RETAIN])}, attributes)
        return None
    text, before = op.get(INSERT), last.get(INSERT)
    if isinstance(text, str) and isinstance(before, str) and RETAIN not in last:
        return with_attributes({INSERT: join(before, text)}, attributes)
    return None


def chop(ops: list[DeltaOp]) -> list[DeltaOp]:
    """`ops` without a last retain that changes nothing."""
    if ops and RETAIN in ops[-1] and "attributes" not in ops[-1]:
        ops.pop()
    return ops


class Cursor:
    """Reads a list of ops piece by piece. Past the end is an endless plain retain."""

    __slots__ = ("_half", "_index", "_offset", "_ops", "after_nothing", "op", "type")

    #: The op that is being read, `None` past the end, and its type.
    op: DeltaOp | None
    type: str
    #: Whether a retain or delete of length 0 stands before it: malformed, but a place of its own.
    after_nothing: bool

    def __init__(self, ops: Sequence[DeltaOp]) -> None:
        self._ops = ops
        self._index = -1
        self._advance()

    def _advance(self) -> None:
        """Go to the next op that has a length."""
        self._offset = 0
        self._half = ""
        self.after_nothing = False
        for index in range(self._index + 1, len(self._ops)):
            op = self._ops[index]
            kind = op_type(op)
            if kind == INSERT or op[kind]:
                if kind == INSERT and op.get(INSERT) == "":
                    continue
                self._index, self.op, self.type = index, op, kind
                return
            self.after_nothing = True
        self._index, self.op, self.type = len(self._ops), None, RETAIN

    def at_end(self) -> bool:
        """Whether nothing is left."""
        return self.op is None

    def remaining(self) -> int | None:
        """How much of a retain or delete is left; `None` past the end."""
        return None if self.op is None else int(self.op[self.type]) - self._offset

    def take_number(self, units: int | None) -> DeltaOp:
        """At a retain or delete: the next `units`, which it has, as an op; `None`: the rest."""
        op, kind = self.op, self.type
        assert op is not None
        length = int(op[kind])
        if units is None:
            units = length - self._offset
        self._offset += units
        if self._offset >= length:
            self._advance()
        if units == length:
            return op
        return with_attributes({kind: units}, op.get("attributes"))

    def take_insert(self, units: int | None) -> tuple[DeltaOp, int | None]:
        """At an insert: the next at most `units` of it (`None`: the rest) as an op, and its length.

        The length is `None` where the rest is wanted: measuring it costs time.
        """
        op = self.op
        assert op is not None
        text = op.get(INSERT)
        if not isinstance(text, str):
            self._advance()
            return op, 1
        if units is None:
            return self._rest_of_text(op, text), None
        if not self._offset and len(text) <= units:
            length = utf16_length(text)
            if length <= units:
                self._advance()
                return op, length
        return self._part_of_text(op, text, units)

    def take_whole_texts(self, ops: list[DeltaOp], limit: int) -> int:
        """At the start of an insert: move the texts that fit into `limit` units to `ops`, as they
        are. Returns their units. A formatted text is many of them, and this passes over most.
        """
        index = self._index
        units = 0
        for op in self._ops[index:] if index else self._ops:
            text = op.get(INSERT)
            if not isinstance(text, str) or not text or DELETE in op or RETAIN in op:
                break
            length = len(text) if text.isascii() else utf16_length(text)
            if units + length > limit:
                break
            units += length
            index += 1
        if index > self._index:
            ops.extend(self._ops[self._index : index])
            self._index = index - 1
            self._advance()
        return units

    def _rest_of_text(self, op: DeltaOp, text: str) -> DeltaOp:
        rest = op
        if self._offset:
            left = self._half + text[self._offset :]
            rest = with_attributes({INSERT: left}, op.get("attributes"))
        self._advance()
        return rest

    def _part_of_text(self, op: DeltaOp, text: str, units: int) -> tuple[DeltaOp, int]:
        head = self._half
        piece, self._offset, self._half = cut(text, self._offset, units - len(head))
        piece = head + piece
        length = len(piece) if len(piece) == units else utf16_length(piece)
        if not self._half and self._offset >= len(text):
            self._advance()
        return with_attributes({INSERT: piece}, op.get("attributes")), length

    def rest(self) -> list[DeltaOp]:
        """What is left, from inside the op that is being read."""
        if self.op is None:
            return []
        index = self._index
        if self._offset:
            first = self.take_insert(None)[0] if self.type == INSERT else self.take_number(None)
            return [first, *self._ops[index + 1 :]]
        return list(self._ops[index:])
