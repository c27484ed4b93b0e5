"""`Delta`: a rich text, or a change to one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self, overload

from patches.errors import PatchError
from patches.model.json_values import Json, json_equal
from patches.text import algebra
from patches.text.diff import diff_ops
from patches.text.ops import (
    DELETE,
    INSERT,
    RETAIN,
    Cursor,
    DeltaOp,
    checked_ops,
    op_length,
    push,
    with_attributes,
)
from patches.text.utf16 import joined


class Delta:
    """A list of inserts, retains and deletes, in `ops`.

    A *document* has inserts only; a *change* walks over a document from its start. All lengths and
    positions are UTF-16 code units: `"😀"` is 2. `insert`, `retain` and `delete` append to this
    delta and return it, so that calls chain; every other method leaves it as it is.

    Takes a list of ops, the wire's older `{"ops": [...]}`, or another delta. Raises `PatchError`
    for anything else.
    """

    __slots__ = ("ops",)

    ops: list[DeltaOp]

    def __init__(self, ops: Delta | Mapping[str, Json] | Sequence[Mapping[str, Json]] = ()) -> None:
        self.ops = list(ops_of(ops))

    def insert(
        self, content: str | Mapping[str, Json], attributes: Mapping[str, Json] | None = None
    ) -> Self:
        """Append text or an embed (any JSON object). Empty text does nothing."""
        if isinstance(content, str):
            content = joined(content)
        elif not isinstance(content, Mapping):
            raise PatchError(f"insert takes text or an embed object, not {type(content).__name__}")
        if content != "":
            push(self.ops, with_attributes({INSERT: content}, _some(attributes)))
        return self

    def retain(self, length: int, attributes: Mapping[str, Json] | None = None) -> Self:
        """Append: keep the next `length` units. Attributes format them; `None` takes one off."""
        length = _length(length)
        if length > 0:
            push(self.ops, with_attributes({RETAIN: length}, _some(attributes)))
        return self

    def delete(self, length: int) -> Self:
        """Append: remove the next `length` units."""
        length = _length(length)
        if length > 0:
            push(self.ops, {DELETE: length})
        return self

    def length(self) -> int:
        """The sum of the lengths of all ops."""
        return sum(map(op_length, self.ops))

    def slice(self, start: int = 0, end: int | None = None) -> Delta:
        """The part from `start` to `end`, as if the ops stood one after the other."""
        cursor = Cursor(self.ops)
        algebra.skip(cursor, start)
        units = None if end is None else max(end - start, 0)
        return _wrap([op for op, _ in algebra.pieces(cursor, units)])

    def compose(self, other: Delta | Sequence[DeltaOp]) -> Delta:
        """One delta with the effect of this one, then `other`."""
        return _wrap(algebra.compose(self.ops, ops_of(other)))

    @overload
    def transform(self, other: int, priority: bool = ...) -> int: ...
    @overload
    def transform(self, other: Delta | Sequence[DeltaOp], priority: bool = ...) -> Delta: ...
    def transform(
        self, other: Delta | Sequence[DeltaOp] | int, priority: bool = False
    ) -> Delta | int:
        """`other`, made beside this delta, as it applies after it.

        With `priority` this delta's inserts come first where both insert at one place, and its
        formatting stays where both format.
        """
        if isinstance(other, int):
            return self.transform_position(other, priority)
        return _wrap(algebra.transform(self.ops, ops_of(other), priority=priority))

    def transform_position(self, index: int, priority: bool = False) -> int:
        """Where a cursor at `index` is afterwards; with `priority`, before what is inserted."""
        return algebra.transform_position(self.ops, index, priority=priority)

    def invert(self, base: Delta | Sequence[DeltaOp]) -> Delta:
        """The change that undoes this one, which was made to the document `base`."""
        return _wrap(algebra.invert(self.ops, ops_of(base)))

    def diff(self, other: Delta | Sequence[DeltaOp] | str) -> Delta:
        """A small change that makes the document `other` of this document.

        Plain text stands for a document without formatting. Raises `PatchError` if either is a
        change instead of a document.
        """
        if isinstance(other, str):
            other = Delta().insert(other)
        return _wrap(diff_ops(self.ops, ops_of(other)))

    def text(self) -> str:
        """The text of a document, without its embeds."""
        return text_of(self.ops)

    def to_json(self) -> dict[str, Json]:
        """As a document holds it: `{"ops": [...]}`."""
        return {"ops": list(self.ops)}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Delta) and json_equal(self.ops, other.ops)

    __hash__: ClassVar[None] = None  # type: ignore[assignment]  # deltas can grow

    def __repr__(self) -> str:
        return f"Delta({self.ops!r})"


def ops_of(value: Any) -> list[DeltaOp]:
    """The ops of a delta in any of its shapes. Raises `PatchError` for what is none."""
    if isinstance(value, Delta):
        return value.ops
    if isinstance(value, Mapping):
        value = value.get("ops")
    if isinstance(value, Sequence) and not isinstance(value, (str, list)):
        value = list(value)
    return checked_ops(value)


def text_of(text: Mapping[str, Any] | Iterable[Mapping[str, Json]]) -> str:
    """The characters of a text as a document holds it (`{"ops": [...]}`), or of its ops.

    Embeds are left out; the final newline is there.
    """
    ops: Iterable[Mapping[str, Json]] = text["ops"] if isinstance(text, Mapping) else text
    return joined("".join(op[INSERT] for op in ops if isinstance(op.get(INSERT), str)))


def _wrap(ops: list[DeltaOp]) -> Delta:
    delta = Delta()
    delta.ops = ops
    return delta


def _some(attributes: Mapping[str, Json] | None) -> Mapping[str, Json] | None:
    return attributes or None


def _length(length: object) -> int:
    if isinstance(length, bool) or not isinstance(length, (int, float)) or length % 1:
        raise PatchError(f"a length is a whole number of UTF-16 units, not {length!r}")
    return int(length)
