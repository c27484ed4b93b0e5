"""The list of a draft: it behaves like `list` and writes operations.

Once it is written to, or one of its containers is read, it holds a shallow copy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, MutableSequence
from typing import Any, Final, overload

from patches.documents.draft.container import KINDS, Container, detach, is_in_place
from patches.documents.draft.node import Node, Recorder, own_copy, plain, plain_value, put, taken
from patches.documents.draft.order import moves_to_order
from patches.errors import PatchError
from patches.model.json_values import Json, json_equal

#: More single moves than this are written as one new list.
_MAX_MOVES: Final = 256


class DraftList(Container, MutableSequence[Any]):
    """A draft of a list."""

    __slots__ = ("_base", "_items")

    _base: list[Any]
    _items: list[Any] | None  # the elements and nodes, once they differ from the base

    def __init__(self, base: list[Json], recorder: Recorder, parent: Any, key: str | int) -> None:
        self._place(recorder, parent, key)
        put(self, "_base", base)
        put(self, "_items", None)

    # ---- items -----------------------------------------------------------------------------------

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        self._recorder.check_open()
        if isinstance(index, slice):
            return [self[place] for place in range(len(self))[index]]
        index = self._existing(index)
        return self._shown(index, self._now()[index])

    def __setitem__(self, index: int | slice, value: Any) -> None:
        if isinstance(index, slice):
            self._set_slice(index, list(value))
            return
        index = self._existing(index)
        path = self._pointer(index)
        if is_in_place(value, self._now()[index]):
            return
        self._replace(index, path, taken(value, self._recorder, path))

    def __delitem__(self, index: int | slice) -> None:
        if isinstance(index, slice):
            # From the back, so that no removal shifts the next.
            for place in sorted(range(len(self))[index], reverse=True):
                del self[place]
            return
        index = self._existing(index)
        self._recorder.ops.append({"op": "remove", "path": self._pointer(index)})
        detach(self._own().pop(index))

    def __len__(self) -> int:
        self._recorder.check_open()
        return len(self._now())

    def __iter__(self) -> Iterator[Any]:
        place = 0
        while place < len(self):
            yield self[place]
            place += 1

    def __reversed__(self) -> Iterator[Any]:
        for place in range(len(self) - 1, -1, -1):
            if place < len(self):
                yield self[place]

    def __contains__(self, value: object) -> bool:
        self._recorder.check_open()
        value = plain_value(value)
        return any(json_equal(plain(item), value) for item in self._now())

    # ---- list methods ----------------------------------------------------------------------------

    def insert(self, index: int, value: Any) -> None:
        """Insert before `index`; beyond the ends, at the end that is nearer."""
        size = len(self)
        index = max(0, index + size) if index < 0 else min(index, size)
        path = self._pointer(index)
        self._put(index, path, taken(value, self._recorder, path))

    def append(self, value: Any) -> None:
        """Add at the end."""
        self.insert(len(self), value)

    def extend(self, values: Iterable[Any]) -> None:
        """Add several at the end; all of them or, if one is not JSON, none."""
        start, path = len(self), self._path()
        added = [
            taken(value, self._recorder, f"{path}/{start + index}")
            for index, value in enumerate(list(values))
        ]
        for index, value in enumerate(added):
            self._put(start + index, f"{path}/{start + index}", value)

    def pop(self, index: int = -1) -> Any:
        """Remove an element and return its value, a plain copy."""
        if not len(self):
            raise IndexError("pop from an empty list")
        index = self._existing(index)
        value = own_copy(plain(self._now()[index]))
        del self[index]
        return value

    def index(self, value: Any, start: int = 0, stop: int | None = None) -> int:
        """Where the first equal element stands, equal as JSON has it. Raises `ValueError`."""
        value = plain_value(value)
        for place in range(len(self))[start:stop]:
            if json_equal(plain(self._now()[place]), value):
                return place
        raise ValueError(f"{value!r} is not in the list")

    def remove(self, value: Any) -> None:
        """Remove the first equal element. Raises `ValueError`."""
        del self[self.index(value)]

    def count(self, value: Any) -> int:
        """How many elements are equal."""
        value = plain_value(value)
        return sum(json_equal(plain(item), value) for item in self._now())

    def clear(self) -> None:
        """Remove every element."""
        path = self._path()
        if path and len(self) > 1:
            self._recorder.ops.append({"op": "replace", "path": path, "value": []})
            for item in self._own():
                detach(item)
            self._own().clear()
        else:
            del self[:]

    def reverse(self) -> None:
        """Reverse the elements in place, by moves."""
        self._reorder(list(range(len(self)))[::-1])

    def sort(self, *, key: Callable[[Any], Any] | None = None, reverse: bool = False) -> None:
        """Sort in place, by as few moves as possible. Elements are given to `key` as drafts."""
        values = list(self)
        order = sorted(
            range(len(values)),
            key=lambda place: values[place] if key is None else key(values[place]),
            reverse=reverse,
        )
        self._reorder(order)

    def __add__(self, other: Iterable[Any]) -> list[Any]:
        if not isinstance(other, (list, DraftList)):
            return NotImplemented
        return [*own_copy(self._plain()), *map(plain_value, other)]

    def __radd__(self, other: Iterable[Any]) -> list[Any]:
        if not isinstance(other, list):
            return NotImplemented
        return [*other, *own_copy(self._plain())]

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"a list has no member {name!r}")

    # ---- inside ----------------------------------------------------------------------------------

    def _plain(self) -> list[Json]:
        return self._base if self._items is None else [plain(item) for item in self._items]

    def _now(self) -> list[Any]:
        return self._base if self._items is None else self._items

    def _own(self) -> list[Any]:
        if self._items is None:
            put(self, "_items", list(self._base))
        assert self._items is not None
        return self._items

    def _put(self, index: int, path: str, value: Json) -> None:
        """Insert a value that was taken."""
        self._record_put(path, value)
        self._own().insert(index, value)

    def _replace(self, index: int, path: str, value: Json) -> None:
        """Set an element to a value that was taken."""
        self._recorder.ops.append({"op": "replace", "path": path, "value": value})
        detach(self._now()[index])
        self._own()[index] = value

    def _set_slice(self, where: slice, values: list[Any]) -> None:
        places = range(len(self))[where]
        if where.step is None or where.step == 1:
            start, stop = places.start, max(places.start, places.stop)
            path = self._path()
            values = [taken(value, self._recorder, f"{path}/{start}") for value in values]
            common = min(stop - start, len(values))
            self._overwrite(range(start, start + common), values[:common])
            del self[start + common : stop]
            for place, value in enumerate(values[common:], start + common):
                self._put(place, f"{path}/{place}", value)
        elif len(values) != len(places):
            raise ValueError(
                f"an extended slice of {len(places)} cannot be set to {len(values)} elements"
            )
        else:
            path = self._path()
            self._overwrite(places, [taken(value, self._recorder, path) for value in values])

    def _overwrite(self, places: Iterable[int], values: list[Json]) -> None:
        """Set elements; one that is the same value already stays as it is (`l[:] = sorted(l)`)."""
        for place, value in zip(places, values, strict=True):
            if not json_equal(plain(self._now()[place]), value):
                self._replace(place, self._pointer(place), value)

    def _reorder(self, order: list[int]) -> None:
        """Bring the elements into `order`, a list of their places now."""
        path = self._path()
        items = [self._now()[place] for place in order]
        moves = moves_to_order(order, most=_MAX_MOVES)
        if moves is None:
            self._record_order(path, [plain(item) for item in items])
        else:
            self._recorder.ops.extend(
                {"op": "move", "from": f"{path}/{source}", "path": f"{path}/{target}"}
                for source, target in moves
            )
        self._own()[:] = items

    def _record_order(self, path: str, values: list[Json]) -> None:
        """Record a new order that takes too many moves."""
        if path:
            self._recorder.ops.append({"op": "replace", "path": path, "value": values})
            return
        # No server takes a write of the whole document, so each element that differs is set.
        self._recorder.ops.extend(
            {"op": "replace", "path": f"/{place}", "value": value}
            for place, (value, before) in enumerate(zip(values, self._plain(), strict=True))
            if not json_equal(value, before)
        )

    def _existing(self, key: Any) -> int:
        if not isinstance(key, int) or isinstance(key, bool):
            raise TypeError(f"list indices must be integers, not {type(key).__name__}")
        size = len(self._now())
        index = key + size if key < 0 else key
        if not 0 <= index < size:
            raise IndexError(f"list index {key} is out of range: the list has {size} elements")
        return index

    def _insertable(self, key: Any, *, one_less: bool = False) -> int:
        if not isinstance(key, int) or isinstance(key, bool):
            raise TypeError(f"list indices must be integers, not {type(key).__name__}")
        size = len(self._now()) - one_less
        index = key + size + one_less if key < 0 else key
        if not 0 <= index <= size:
            raise IndexError(f"list index {key} is out of range: the list has {size} elements")
        return index

    def _slot(self, key: Any) -> Any:
        return self._now()[key]

    def _set_slot(self, key: Any, slot: Any) -> None:
        self._own()[key] = slot

    def _insert_slot(self, key: Any, slot: Any) -> None:
        self._own().insert(key, slot)

    def _record_put(self, path: str, value: Json) -> None:
        if value == {} or value == []:
            # `add` of an empty container is soft, and skipped where something stands.
            self._recorder.ops.append({"op": "add", "path": path, "value": None})
            self._recorder.ops.append({"op": "replace", "path": path, "value": value})
        else:
            self._recorder.ops.append({"op": "add", "path": path, "value": value})

    def _take_slot(self, key: Any) -> Any:
        return self._own().pop(key)

    def _key_of(self, node: Node) -> str | int:
        items, place = self._now(), node._key
        if not (isinstance(place, int) and place < len(items) and items[place] is node):
            place = next(place for place, item in enumerate(items) if item is node)
            node._move_to(self, place)
        return place

    def _key_part(self, key: str | int) -> Any:
        if isinstance(key, str):
            if key == "-":
                return len(self._now())
            if not key.isdecimal():
                raise PatchError(f"{key!r} is not an index of a list")
            return int(key)
        return key


KINDS[list] = DraftList
