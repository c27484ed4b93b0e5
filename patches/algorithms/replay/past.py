"""`Past`: committed actions that a timeline does not hold, each with what undoes it. Pure.

A server commits in the order of arrival, so a unit of the past may hold an action that belongs
between those of earlier units. To place an action at its clock, the units from some point on are
taken back and their actions run again in the order of their clocks. That point is the latest one
before which every clock is smaller than all that come after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from patches.algorithms.replay.clock import Key
from patches.model.json_values import Op

if TYPE_CHECKING:
    from patches.algorithms.replay.timeline import Entry

_LOWEST: Final[Key] = (-1, 0, "", "")
#: Units that are kept; an action that is older than these runs first after what is before them.
MAX_UNITS: Final = 10_000
_SPARE: Final = 1_000


@dataclass(frozen=True, slots=True)
class PastUnit:
    """Actions that were committed together, and the operations that lead back before them."""

    entries: tuple[Entry, ...]
    back: list[Op]
    highest: Key  # of this unit and all before it


class Past:
    """Units in the order in which they were committed."""

    def __init__(self) -> None:
        self._units: list[PastUnit] = []

    @property
    def highest(self) -> Key:
        """The greatest key of all; less than any if there is none."""
        return self._units[-1].highest if self._units else _LOWEST

    def append(self, entries: Iterable[Entry], back: list[Op]) -> None:
        """What follows was committed after all that is here."""
        found = tuple(entries)
        highest = max((entry.key for entry in found), default=_LOWEST)
        self._units.append(PastUnit(found, back, max(highest, self.highest)))
        if len(self._units) > MAX_UNITS + _SPARE:
            del self._units[:_SPARE]

    def take_from(self, key: Key) -> Sequence[PastUnit]:
        """Take out the units that have to be run again if an action is placed at `key`."""
        place, lowest = len(self._units), key
        while place > 0 and self._units[place - 1].highest > lowest:
            place -= 1
            lowest = min((lowest, *(entry.key for entry in self._units[place].entries)))
        taken = self._units[place:]
        del self._units[place:]
        return taken

    def clear(self) -> None:
        """Forget all: it is part of the start."""
        self._units.clear()
