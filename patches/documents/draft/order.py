"""Which moves bring a list into another order: the fewest, each of one element."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence


def moves_to_order(order: Sequence[int], *, most: int) -> list[tuple[int, int]] | None:
    """Moves `(from, to)`, made in turn, after which the element that was at `order[i]` is at `i`.

    `to` counts after the removal. Elements of a longest increasing run stay; the others move once.
    `None` if that takes more than `most` moves.
    """
    staying = _longest_increasing(order)
    if len(order) - len(staying) > most:
        return None
    now = list(range(len(order)))
    moves: list[tuple[int, int]] = []
    for target, element in enumerate(order):
        # The first `target` places are as they should be, but for elements that still have to
        # leave.
        if element in staying:
            continue
        source = now.index(element)
        del now[source]
        place = now.index(order[target - 1]) + 1 if target else 0
        now.insert(place, element)
        if place != source:
            moves.append((source, place))
    return moves


def _longest_increasing(order: Sequence[int]) -> set[int]:
    """The elements of one longest increasing subsequence of a permutation."""
    tails: list[int] = []
    before: dict[int, int | None] = {}
    for element in order:
        place = bisect_left(tails, element)
        before[element] = tails[place - 1] if place else None
        tails[place : place + 1] = [element]
    chosen: set[int] = set()
    element_or_none = tails[-1] if tails else None
    while element_or_none is not None:
        chosen.add(element_or_none)
        element_or_none = before[element_or_none]
    return chosen
