"""`MeetingIndex`: which programs of a queue an operation can possibly meet.

Most pairs of a long queue and a long history have nothing to do with each other: they write to
different places. Two operations can change each other in a transform only if a place of one is the
place of the other, above it or below it, where the place of an edit that shifts its neighbours is
the whole list (`spec/json-patch.md` 7, 8). So the queue is kept in a prefix table of its places,
and a history operation visits the entries it may meet and no others. Meeting is a guess on the safe
side: a pair that meets may still leave both as they are.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from typing import Final

from patches.json_values import Op

#: The operations that never move their neighbours in a list.
_STAY_IN_PLACE: Final = frozenset({"replace", "test", "@inc", "@bit", "@max", "@min", "@txt"})
_EVERYWHERE: Final = ("",)


def places(ops: list[Op]) -> tuple[str, ...]:
    """The pointers at, above or below which these operations can meet others."""
    if len(ops) == 1:
        return _places_of(ops[0])
    found: dict[str, None] = {}
    for op in ops:
        found.update(dict.fromkeys(_places_of(op)))
    return _EVERYWHERE if "" in found else tuple(found)


def _places_of(op: Op) -> tuple[str, ...]:
    path = op.get("path")
    source = op.get("from")
    if not isinstance(path, str) or source == path:
        return _EVERYWHERE  # such an op is dropped by whatever passes it, even from afar
    shifts = op.get("op") not in _STAY_IN_PLACE
    place = _list_of(path) if shifts else path
    if not isinstance(source, str):
        return (place,)
    source_place = _list_of(source) if shifts else source
    return (place,) if source_place == place else (place, source_place)


def _list_of(pointer: str) -> str:
    """The list that an edit at `pointer` shifts, or the pointer itself if it ends in no index."""
    above, slash, key = pointer.rpartition("/")
    return above if slash and key.isdigit() else pointer


def _prefixes(place: str) -> Iterator[str]:
    """Every pointer above a place, the root first, without the place itself."""
    if not place:
        return
    yield ""
    at = place.find("/", 1)
    while at != -1:
        yield place[:at]
        at = place.find("/", at + 1)


class MeetingIndex:
    """The places of a queue's programs, by prefix. Positions are those in the queue."""

    def __init__(self) -> None:
        self._places: dict[int, tuple[str, ...]] = {}
        self._at: dict[str, list[int]] = {}  # programs with this very place
        self._below: dict[str, list[int]] = {}  # programs with a place at or below this one

    def put(self, position: int, ops: list[Op]) -> None:
        """Enter or replace the program at a position; one without operations meets nothing."""
        new = places(ops)
        old = self._places.get(position, ())
        if new == old:
            return
        for place in old:
            self._remove(position, place)
        self._places[position] = new
        for place in new:
            self._add(position, place)

    def remove(self, position: int) -> None:
        """Forget the program at a position."""
        for place in self._places.pop(position, ()):
            self._remove(position, place)

    def first_meeting(self, at_places: tuple[str, ...], start: int) -> int | None:
        """The first position from `start` on whose program may meet one with these places."""
        best: int | None = None
        for place in at_places:
            for positions in self._candidates(place):
                if positions[-1] < start:
                    continue
                found = positions[0] if positions[0] >= start else _next(positions, start)
                if best is None or found < best:
                    best = found
        return best

    def _candidates(self, place: str) -> Iterator[list[int]]:
        below = self._below.get(place)
        if below:
            yield below
        for prefix in _prefixes(place):
            at = self._at.get(prefix)
            if at:
                yield at

    def _add(self, position: int, place: str) -> None:
        _put_in(self._at.setdefault(place, []), position)
        _put_in(self._below.setdefault(place, []), position)
        for prefix in _prefixes(place):
            _put_in(self._below.setdefault(prefix, []), position)

    def _remove(self, position: int, place: str) -> None:
        _take_out(self._at[place], position)
        _take_out(self._below[place], position)
        for prefix in _prefixes(place):
            _take_out(self._below[prefix], position)


def _next(positions: list[int], start: int) -> int:
    return positions[bisect_left(positions, start)]


def _put_in(positions: list[int], position: int) -> None:
    # A program may have several places below one prefix: it stands there once for each.
    if not positions or positions[-1] <= position:
        positions.append(position)
    else:
        insort(positions, position)


def _take_out(positions: list[int], position: int) -> None:
    del positions[bisect_left(positions, position)]
