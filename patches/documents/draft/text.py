"""A rich text of a draft: edits become `@txt` operations, which merge with what others type.

Positions and lengths here are Python's: they index `str(text)`, where an embed is one U+FFFC. They
are turned into the UTF-16 units of the wire once, here. Only `apply` and `delta` speak the wire's
units.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from patches.documents.draft.marks import (
    has_marks,
    mark_attributes,
    marked_runs,
    marks_between,
)
from patches.documents.draft.node import Node, Recorder, own_copy
from patches.errors import PatchError
from patches.json_patch import ABSENT, pointer
from patches.model.json_values import Json, checked_copy
from patches.text import Delta, DeltaOp, apply_to_text, text_ops_of, utf16_length
from patches.text.utf16 import joined, utf16_offset

_EMBED: Final = "\ufffc"
_EMPTY: Final[Sequence[DeltaOp]] = ({"insert": "\n"},)


class DraftText(Node):
    """A text that can be edited. It always ends in a newline; an absent one is a newline alone."""

    __slots__ = ("_edits", "_flat", "_has_marks", "_ops", "_value")

    _value: Json  # as it stands in the document, without `_edits`
    _edits: list[list[DeltaOp]]  # recorded, and not yet in `_value`
    _flat: str | None

    def __init__(self, recorder: Recorder, parent: Any, key: str | int, value: Json) -> None:
        self._place(recorder, parent, key)
        _check_text(value, key)
        self._value = value
        self._edits = []
        self._flat = None
        self._has_marks = False  # known with `_flat`

    # ---- reading ---------------------------------------------------------------------------------

    def __str__(self) -> str:
        if self._recorder.ended:
            self._recorder.check_open()  # which raises
        if self._flat is None:
            current = self._current()
            inserted = [op["insert"] for op in current]
            self._has_marks = len(current) > 1 and has_marks(current)
            if len(inserted) != 1 or not isinstance(inserted[0], str):
                inserted = [item if isinstance(item, str) else _EMBED for item in inserted]
            self._flat = "".join(inserted)
        return self._flat

    def __len__(self) -> int:
        return len(str(self))

    def __repr__(self) -> str:
        return "<finished draft>" if self._recorder.ended else f"draft of the text {str(self)!r}"

    @property
    def delta(self) -> Delta:
        """The text with its formatting, as a delta of its own."""
        self._recorder.check_open()
        return Delta(own_copy(list(self._current())))

    # ---- editing ---------------------------------------------------------------------------------

    def insert(
        self,
        index: int,
        content: str | Mapping[str, Json],
        attributes: Mapping[str, Json] | None = None,
    ) -> None:
        """Insert text, or an embed (any JSON object), before the character at `index`."""
        start = self._units(index)
        if self._has_marks:
            attributes = {**marks_between(self._current(), start, start), **(attributes or {})}
        if type(content) is str and not attributes:  # typing: no builder for two parts
            parts: list[DeltaOp] = [{"retain": start}] if start else []
            self._record([*parts, {"insert": joined(content)}] if content else [])
            return
        self._write(Delta().retain(start).insert(_content(content), attributes))

    def append(
        self, content: str | Mapping[str, Json], attributes: Mapping[str, Json] | None = None
    ) -> None:
        """Insert at the end, before the final newline."""
        self.insert(len(self) - str(self).endswith("\n"), content, attributes)

    def delete(self, index: int, length: int = 1) -> None:
        """Remove `length` characters from `index` on. The text gets its final newline back."""
        start, units = self._span(index, length)
        self._write(Delta().retain(start).delete(units))

    def replace(
        self,
        index: int,
        length: int,
        content: str | Mapping[str, Json],
        attributes: Mapping[str, Json] | None = None,
    ) -> None:
        """Remove `length` characters from `index` on and insert something there."""
        start, units = self._span(index, length)
        if self._has_marks:
            marks = marks_between(self._current(), start, start + units)
            attributes = {**marks, **(attributes or {})}
        self._write(Delta().retain(start).insert(_content(content), attributes).delete(units))

    def format(self, index: int, length: int, attributes: Mapping[str, Json]) -> None:
        """Set attributes of `length` characters from `index` on; a `None` value takes one off."""
        start, units = self._span(index, length)
        self._write(Delta().retain(start).retain(units, checked_copy(attributes)))

    def mark(self, index: int, length: int, mark_id: str, value: str = "1") -> None:
        """Mark `length` characters from `index` on. Marks overlap; text typed inside takes them.

        `doc.marks(path)` finds them again.
        """
        if length < 1:
            raise IndexError("a mark is on one character or more")
        self.format(index, length, mark_attributes(mark_id, value))

    def unmark(self, mark_id: str) -> None:
        """Take a mark off wherever it is."""
        off = mark_attributes(mark_id, None)
        change, at = Delta(), 0
        for start, end in marked_runs(self._current()).get(mark_id, ()):
            change.retain(start - at).retain(end - start, off)
            at = end
        self._write(change)

    def set(self, text: str | Delta) -> None:
        """Make this the text by the smallest edit. A `str` leaves the formatting of what stays."""
        if isinstance(text, str):
            text = text if text.endswith("\n") else text + "\n"
            self._write(Delta().insert(str(self)).diff(text))
        else:
            whole, _ = apply_to_text({"ops": []}, checked_copy(Delta(text).ops))
            self._write(Delta(list(self._current())).diff(whole))

    def apply(self, delta: Delta | Sequence[Mapping[str, Json]] | Mapping[str, Json]) -> None:
        """Apply a change as the wire has it: lengths in UTF-16 units."""
        self._write(Delta(delta))

    # ---- inside ----------------------------------------------------------------------------------

    def _plain(self) -> Json:
        for edit in self._edits:
            value = None if self._value is ABSENT else self._value
            self._value = {"ops": apply_to_text(value, edit)[0]}
        self._edits = []
        return self._value

    def _current(self) -> Sequence[DeltaOp]:
        value = self._plain()
        ops = None if value is ABSENT else text_ops_of(value)
        return _EMPTY if ops is None else ops

    def _write(self, change: Delta) -> None:
        self._record(checked_copy(change.ops, path=self._target()) if change.ops else [])

    def _target(self) -> str:
        """The path of the next edit."""
        standing = self._value is not ABSENT or self._edits
        return self._path() if standing else self._free_path()

    def _record(self, ops: list[DeltaOp]) -> None:
        """Record an edit, whose parts are plain JSON of its own."""
        self._recorder.check_open()
        if not ops:
            return
        path = self._target()
        if self._value is ABSENT and not self._edits:
            self._parent._set_slot(self._key, self)
        self._edits.append(ops)
        self._flat = None
        self._recorder.ops.append({"op": "@txt", "path": path, "value": ops})

    def _free_path(self) -> str:
        """Where this text will stand, if the place is as empty as when the text was asked for."""
        path = f"{self._parent._path()}/{pointer.escape(self._key)}"
        if self._parent._slot(self._key) is not ABSENT:
            raise PatchError(f"{path!r} has been set since this text was read; read it again")
        return path

    def _units(self, index: int) -> int:
        """UTF-16 units before a position. Negative ones count from the end, as in Python."""
        text = str(self)
        place = index + len(text) if index < 0 else index
        if isinstance(index, bool) or not 0 <= place <= len(text):
            raise IndexError(f"position {index} is outside the text of {len(text)} characters")
        return utf16_offset(text, place)

    def _span(self, index: int, length: int) -> tuple[int, int]:
        start = self._units(index)
        place = index + len(self) if index < 0 else index
        if isinstance(length, bool) or not 0 <= length <= len(self) - place:
            raise IndexError(
                f"{length} characters from {index} on run past the text of {len(self)} characters"
            )
        return start, utf16_length(str(self)[place : place + length])


def _content(content: str | Mapping[str, Json]) -> str | Mapping[str, Json]:
    checked: str | Mapping[str, Json] = checked_copy(content)
    return checked


def _check_text(value: Json, key: str | int) -> None:
    if value is ABSENT or value is None or value == "" or value == [] or value == {}:
        return
    if text_ops_of(value) is None:
        raise PatchError(
            f"{key!r} holds {type(value).__name__}, not a rich text; remove it first, or keep text "
            f'that nobody types together as a plain value (draft["{key}"] = ...)'
        )
