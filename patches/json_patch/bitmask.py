"""15 booleans in one number, and masks that switch some of them.

The rules: `docs/internals/json-patch.md` 12.

A mask has the bits to switch on in its lower 15 bits, the bits to switch off in the next 15.
"""

from __future__ import annotations

from typing import Final

from patches.errors import PatchError
from patches.json_patch.javascript import to_int32
from patches.model.json_values import Json

_BITS: Final = 15
_ALL: Final = (1 << _BITS) - 1


def bitmask(index: int, on: bool) -> int:
    """The mask that switches one bit, 0 to 14. Raises `PatchError` for another index."""
    if isinstance(index, bool) or not 0 <= index < _BITS:
        raise PatchError("Index must be between 0 and 14")
    return 1 << (index if on else index + _BITS)


def apply_bitmask(number: Json, mask: Json) -> int:
    """`number` after `mask`; its other bits stay. What is not a number counts as 0."""
    bits = to_int32(mask)
    return to_int32(to_int32(number) & ~((bits >> _BITS) & _ALL) | (bits & _ALL))


def combine_bitmasks(a: Json, b: Json) -> int:
    """The mask with the effect of `a`, then `b`."""
    first, second = to_int32(a), to_int32(b)
    a_on, a_off = first & _ALL, (first >> _BITS) & _ALL
    b_on, b_off = second & _ALL, (second >> _BITS) & _ALL
    on, off = (a_on & ~b_off) | b_on, (a_off & ~b_on) | b_off
    return on | (off << _BITS)
