"""`MeetingIndex`: which programs of a queue an operation can possibly meet.

Most pairs of a long queue and a long history have nothing to do with each other: they write to
different places. Two operations can change each other in a transform only if a place of one is the
place of the other, above it or below it, where the place of an edit that shifts its neighbours is
the whole list (`docs/internals/json-patch.md` 7, 8). So the queue is kept in a prefix table of its
places, and a history operation visits the entries it may meet and no others. Meeting is a guess on
the safe side: a pair that meets may still leave both as they are.

Edits that are in a run (`edit_runs.py`) are kept apart, because an edit of the same text or list
does not visit them one by one.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from typing import Final, TypeAlias

from patches.algorithms.ot.edit_runs import RunKind
from patches.model.json_values import Op

_Table: TypeAlias = dict[str, list[int]]

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


def _prefixes(place: str) -> list[str]:
    """Every pointer above a place, the root first, without the place itself."""
    if not place:
        return []
    found = [""]
    at = place.find("/", 1)
    while at != -1:
        found.append(place[:at])
        at = place.find("/", at + 1)
    return found


class MeetingIndex:
    """The places of a queue's programs, by prefix. Positions are those in the queue."""

    def __init__(self) -> None:
        self._places: dict[int, tuple[str, ...]] = {}
        self._at: _Table = {}  # programs with this very place
        self._below: _Table = {}  # programs with a place at or below this one; of runs, only below
        self._runs: dict[RunKind, _Table] = {"text": {}, "list": {}, "counter": {}}

    def put(self, position: int, ops: list[Op]) -> None:
        """Enter or replace the program at a position; one without operations meets nothing."""
        new = places(ops)
        old = self._places.get(position, ())
        if new == old:
            return
        for place in old:
            _take_out(self._at[place], position)
            self._remove_below(position, place, itself=True)
        self._places[position] = new
        for place in new:
            _put_in(self._at.setdefault(place, []), position)
            self._add_below(position, place, itself=True)

    def put_in_run(self, position: int, kind: RunKind, place: str) -> None:
        """Enter a program that is in the run of its kind and place."""
        _put_in(self._runs[kind].setdefault(place, []), position)
        self._add_below(position, place, itself=False)

    def remove_from_run(self, position: int, kind: RunKind, place: str) -> None:
        """Forget a program that was in a run."""
        _take_out(self._runs[kind][place], position)
        self._remove_below(position, place, itself=False)

    def first_meeting(
        self, at_places: tuple[str, ...], start: int, *, but: RunKind | None = None
    ) -> int | None:
        """The first position from `start` on whose program may meet one with these places.

        `but`: leave out the run of that kind at the place.
        """
        best: int | None = None
        for place in at_places:
            for positions in self._candidates(place, but):
                if positions[-1] < start:
                    continue
                found = positions[0] if positions[0] >= start else _next(positions, start)
                if best is None or found < best:
                    best = found
        return best

    def _candidates(self, place: str, but: RunKind | None) -> Iterator[list[int]]:
        if below := self._below.get(place):
            yield below
        for kind, runs in self._runs.items():
            if not runs:
                continue
            if kind != but and (run := runs.get(place)):
                yield run
            for prefix in _prefixes(place):
                if run := runs.get(prefix):
                    yield run
        for prefix in _prefixes(place):
            if at := self._at.get(prefix):
                yield at

    def _add_below(self, position: int, place: str, *, itself: bool) -> None:
        if itself:
            _put_in(self._below.setdefault(place, []), position)
        for prefix in _prefixes(place):
            _put_in(self._below.setdefault(prefix, []), position)

    def _remove_below(self, position: int, place: str, *, itself: bool) -> None:
        if itself:
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
