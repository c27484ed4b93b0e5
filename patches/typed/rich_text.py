"""`RichText`: a field that holds a text which several people edit at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from patches.errors import PatchError, StateReadOnlyError
from patches.json_patch import ABSENT
from patches.model.json_values import Json, json_equal
from patches.text import Delta, DeltaOp, apply_to_text, text_ops_of
from patches.typed.converter import Before, Converter, Kind
from patches.typed.misfit import Misfit, described

_EMBED = "\ufffc"


class RichText:
    """A text with formatting. `RichText("Dear all")` makes one, for a default or a whole state.

    In a draft it is the text itself, and `insert`, `append`, `delete`, `replace`, `format`, `set`
    and `mark` edit it; elsewhere they raise `StateReadOnlyError`.
    """

    __slots__ = ("_ops",)

    def __init__(self, text: str | Delta = "") -> None:
        content = Delta().insert(text) if isinstance(text, str) and text else text
        self._ops: Sequence[DeltaOp] = (
            apply_to_text(None, content.ops)[0]
            if isinstance(content, Delta)
            else apply_to_text(None, [])[0]
        )

    @classmethod
    def of(cls, ops: Sequence[DeltaOp]) -> RichText:
        """The text of a document's state."""
        text = cls.__new__(cls)
        text._ops = ops
        return text

    def __str__(self) -> str:
        pieces = (op["insert"] for op in self._ops)
        return "".join(piece if isinstance(piece, str) else _EMBED for piece in pieces)

    def __len__(self) -> int:
        return len(str(self))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RichText):
            return NotImplemented
        return json_equal(list(self._ops), list(other._ops))

    def __hash__(self) -> int:
        return hash(str(self))

    def __repr__(self) -> str:
        return f"RichText({str(self)!r})"

    @property
    def delta(self) -> Delta:
        """The text with its formatting, as a delta of its own."""
        return Delta([dict(op) for op in self._ops])

    def insert(
        self,
        index: int,
        content: str | Mapping[str, Json],
        attributes: Mapping[str, Json] | None = None,
    ) -> None:
        """Insert before the character at `index`."""
        _refuse()

    def append(
        self, content: str | Mapping[str, Json], attributes: Mapping[str, Json] | None = None
    ) -> None:
        """Insert at the end, before the final newline."""
        _refuse()

    def delete(self, index: int, length: int = 1) -> None:
        """Remove `length` characters from `index` on."""
        _refuse()

    def replace(
        self,
        index: int,
        length: int,
        content: str | Mapping[str, Json],
        attributes: Mapping[str, Json] | None = None,
    ) -> None:
        """Remove `length` characters from `index` on and insert something there."""
        _refuse()

    def format(self, index: int, length: int, attributes: Mapping[str, Json]) -> None:
        """Set attributes of `length` characters; a `None` value takes one off."""
        _refuse()

    def mark(self, index: int, length: int, mark_id: str, value: str = "1") -> None:
        """Mark `length` characters from `index` on."""
        _refuse()

    def unmark(self, mark_id: str) -> None:
        """Take a mark off wherever it is."""
        _refuse()

    def set(self, text: str | Delta) -> None:
        """Make this the text by the smallest edit."""
        _refuse()

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema  # the extra `typed`

        return core_schema.no_info_plain_validator_function(_validated)


def _validated(value: Any) -> RichText:
    """For pydantic: a text as it is, or from its JSON."""
    return value if isinstance(value, RichText) else TEXT.decode(value)


def _refuse() -> NoReturn:
    raise StateReadOnlyError(
        "this text is read-only; edit it in a draft: with doc.edit() as draft: draft.body.append("
        '"...")'
    )


class TextConverter(Converter[RichText]):
    """The converter of `RichText`."""

    name = "RichText"
    kinds: frozenset[Kind] = frozenset({"object"})
    is_text = True

    def decode(self, value: Json, before: Before = None) -> RichText:
        if before is not None and before[0] is value:
            kept: RichText = before[1]
            return kept
        try:
            ops = text_ops_of(value)
        except PatchError:
            ops = None
        if ops is None:
            raise Misfit(self.name, described(value))
        return RichText.of(ops)

    def encode(self, value: object, current: Json = ABSENT) -> Json:
        if not isinstance(value, RichText):
            raise Misfit(self.name, described(value))
        return {"ops": [dict(op) for op in value._ops]}


TEXT = TextConverter()
