"""Units: writes that reach the server together or not at all.

The writes of one edit are a unit: half of a `move` loses a value. In the stored tables each write
carries the number of its unit in a member of its own, which is taken off before anybody else sees
the write (`bare`). Writes without a number, as older files have them, are one unit.

Pending writes of several edits are folded: one write for each path. An edit that replaces a part of
an earlier unit cannot be separated from it any more, so both become one, under the earlier number.
Units are sent in the order of their numbers, in which nothing comes before a write above it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from patches.algorithms.lww.field_table import Rows, ancestor_paths
from patches.model.change import Change
from patches.model.json_values import Op

_MEMBER: Final = "unit"
#: The unit of writes that carry no number.
NO_UNIT: Final = 0


def unit_of(op: Op) -> int:
    """The number of a stored write's unit."""
    number: int = op.get(_MEMBER, NO_UNIT)
    return number


def in_unit(op: Op, unit: int) -> Op:
    """A write, to be stored as part of a unit."""
    return bare(op) if unit == NO_UNIT else {**op, _MEMBER: unit}


def bare(op: Op) -> Op:
    """A stored write without the number of its unit."""
    if _MEMBER not in op:
        return op
    return {key: value for key, value in op.items() if key != _MEMBER}


def bare_change(change: Change) -> Change:
    """A stored piece as it is sent and shown."""
    for op in change.ops:
        if _MEMBER in op:
            break
    else:
        return change
    return change.replace(ops=[bare(op) for op in change.ops])


def grouped(ops: Iterable[Op]) -> list[list[Op]]:
    """Stored writes by unit, in the order in which they are sent."""
    units: dict[int, list[Op]] = {}
    for op in ops:
        units.setdefault(unit_of(op), []).append(op)
    return [units[number] for number in sorted(units)]


def halves(ops: Sequence[Op]) -> tuple[list[Op], list[Op]] | None:
    """Stored writes in two parts, between units; `None` if they are one unit."""
    units = grouped(ops)
    if len(units) < 2:
        return None
    first: list[Op] = []
    for unit in units[:-1]:
        if first and 2 * len(first) + len(unit) > len(ops):
            break
        first += unit
    return first, [op for unit in units for op in unit][len(first) :]


def as_parts(pieces: Sequence[Change], unit: int) -> list[Change]:
    """Pieces that one was cut into. If it was a unit without a number, they are parts of `unit`."""
    if len(pieces) < 2 or any(unit_of(op) != NO_UNIT for piece in pieces for op in piece.ops):
        return list(pieces)
    return [piece.replace(ops=[in_unit(op, unit) for op in piece.ops]) for piece in pieces]


def as_stored(pieces: Sequence[Change]) -> list[Change]:
    """Pieces without redundant unit numbers: those of a unit that is a piece of its own."""
    held = [{unit_of(op) for op in piece.ops} for piece in pieces]
    parts = Counter(unit for units in held for unit in units)
    return [
        bare_change(piece) if len(units) == 1 and parts[min(units)] == 1 else piece
        for piece, units in zip(pieces, held, strict=True)
    ]


def join(
    pending: Rows, saved: Sequence[Op], replaced: Sequence[Op], number: int
) -> tuple[int, list[Op]]:
    """The unit of an edit's writes, and the pending writes that move into it from other units.

    `saved` are the edit's writes, `replaced` the pending ones that they take the place of, `number`
    is the unit of an edit that replaces nothing.
    """
    units = {unit_of(op) for op in replaced}
    if not units:
        return number, []
    unit = min(units)
    kept = {op["path"] for op in replaced if unit_of(op) == unit}
    # These are sent in the place of the earliest of them, so what stands above them moves along.
    units |= _later_above(pending, (op for op in saved if op["path"] not in kept), unit)
    units.discard(unit)
    if not units:
        return unit, []
    gone = {op["path"] for op in (*replaced, *saved)}
    waiting = pending.ops()
    moved: list[Op] = []
    taken: set[int] = set()
    while units != taken:
        more = [op for op in waiting if unit_of(op) in units - taken and op["path"] not in gone]
        taken |= units
        moved += more
        units |= _later_above(pending, more, unit)
    return unit, moved


def _later_above(pending: Rows, ops: Iterable[Op], unit: int) -> set[int]:
    found = set()
    for op in ops:
        for above in (*ancestor_paths(op["path"]), ""):
            held = pending.get(above)
            if held is not None and unit_of(held) > unit:
                found.add(unit_of(held))
    return found
