"""`Reversal` and `UndoRules`: what an algorithm decides about taking an edit back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

from patches.model.change import Change
from patches.model.json_values import Json, Op

#: The operations of others, one list for each of their edits.
History: TypeAlias = list[list[Op]]

#: What was refused of ours: a change, or an edit that is not stored, by its live list.
Refused: TypeAlias = Change | list[Op]

#: A reversal that may be made whatever its place holds by now.
UNGUARDED: Final[Any] = object()


@dataclass(slots=True)
class Reversal:
    """What takes one operation of an edit back, made for the state after that operation.

    Two things stand in its way when it is to be made: `is_blocked`, others have written to what it
    would take away, and `guard`, its place no longer holds what the edit put there.
    """

    ops: list[Op]
    guard: Json = UNGUARDED
    is_blocked: bool = False


class UndoRules(Protocol):
    """Pure functions. States are shared and are not changed."""

    def reversals(self, before: Json, ops: Sequence[Op]) -> list[Reversal]:
        """One for each operation of an edit, in the order of the edit."""
        ...

    def moves(self, before: Json, after: Json) -> History:
        """What others did between two shown states, where their operations are not known."""
        ...

    def follow(self, reversal: Reversal, history: History) -> tuple[Reversal, History]:
        """A reversal behind what others did since, and that history over the reversal."""
        ...

    def is_possible(self, reversal: Reversal, state: Json) -> bool:
        """Whether it takes back only what its author did, of the `state` it is to be applied to."""
        ...

    def skipped(self, reversal: Reversal, state: Json) -> History:
        """What leads back to `state` from where an impossible reversal would have led.

        The older reversals were made for the state below this one, and follow these.
        """
        ...

    def is_of(self, reversal: Reversal, change_ids: Sequence[str], refused: Change) -> bool:
        """Whether a reversal belongs to a change that was refused. `change_ids`: what its edit was
        stored as."""
        ...
