"""What dicts and lists of a draft have in common: operations on a value, moves, texts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, TypeAlias

from patches.documents.draft.node import Computed, Node, Recorder, own_copy, plain
from patches.documents.draft.text import DraftText
from patches.errors import PatchError
from patches.json_patch import ABSENT, bitmask, pointer
from patches.model.json_values import MAX_SAFE_INTEGER, Json, json_equal

#: A place below a draft: a key or index of it, a JSON Pointer that starts with `/`, or a sequence
#: of keys.
Place: TypeAlias = "str | int | Sequence[str | int]"


class Container(Node):
    """A dict or a list of the draft. Reading gives scalars as they are and containers as drafts."""

    __slots__ = ()

    # ---- operations on the value at a key --------------------------------------------------------

    def increment(self, key: str | int, by: float = 1) -> None:
        """Add `by` to the number at `key` (nothing counts as 0). Concurrent increments add up."""
        key = self._existing(key)
        path = self._pointer(key)
        _check_number(by, "increment", path)
        self._check_current(key, (int, float), "a number", path)
        self._compute("@inc", key, path, by)

    def decrement(self, key: str | int, by: float = 1) -> None:
        """Subtract `by` from the number at `key`."""
        _check_number(by, "decrement", "by")
        self.increment(key, -by)

    def set_max(self, key: str | int, value: float | str) -> None:
        """Set `key` to `value` if that is greater. Of concurrent ones the greatest stays."""
        self._extreme("@max", key, value)

    def set_min(self, key: str | int, value: float | str) -> None:
        """Set `key` to `value` if that is smaller. Of concurrent ones the smallest stays."""
        self._extreme("@min", key, value)

    def set_bit(self, key: str | int, index: int, on: bool = True) -> None:
        """Switch bit `index` (0-14) of the number at `key`, whatever happens to the others."""
        mask = bitmask(index, on)
        key = self._existing(key)
        path = self._pointer(key)
        self._check_current(key, (int, float), "a number", path)
        self._compute("@bit", key, path, mask)

    def text(self, key: str | int) -> DraftText:
        """The rich text at `key`, to be edited. One that is not there begins empty."""
        key = self._existing(key)
        slot = self._slot(key)
        if not isinstance(slot, DraftText):
            text = DraftText(self._recorder, self, key, plain(slot))
            if slot is ABSENT:
                return text  # stands in the document from its first edit on
            detach(slot)
            slot = text
            self._set_slot(key, slot)
        return slot

    # ---- moving parts of the document ------------------------------------------------------------

    def move(self, source: Place, target: Place) -> None:
        """Move a value. Edits that others make to it at the same time follow it.

        Both ends are places below this draft. `target` is meant as it is after the removal, so in
        one list it is the index that the element gets. Raises `KeyError` or `IndexError`.
        """
        holder, key = self._walk(source)
        key = holder._existing(key)
        if holder._slot(key) is ABSENT:
            raise KeyError(key)
        into, place = self._walk(target, without=(holder, key))
        if _is_inside(into, holder._slot(key)):
            raise PatchError(f"cannot move {holder._pointer(key)!r} into itself")
        place = into._insertable(place, one_less=into is holder)
        if into is holder and place == key:
            return
        from_path = holder._pointer(key)
        slot = holder._take_slot(key)
        to_path = into._pointer(place)
        if isinstance(slot, Node):
            slot._move_to(into, place)
        into._insert_slot(place, slot)
        self._recorder.ops.append({"op": "move", "from": from_path, "path": to_path})

    def copy(self, source: Place, target: Place) -> None:
        """Copy a value to another place below this draft: set in a dict, insert in a list."""
        holder, key = self._walk(source)
        key = holder._existing(key)
        value = plain(holder._slot(key))
        if value is ABSENT:
            raise KeyError(key)
        into, place = self._walk(target)
        place = into._insertable(place)
        from_path, to_path = holder._pointer(key), into._pointer(place)
        if from_path == to_path and isinstance(into._plain(), dict):
            return
        into._insert_slot(place, value)
        is_container = isinstance(value, (dict, list))
        if from_path == to_path or (is_container and self._recorder.has_written_near(from_path)):
            # Every transform drops a copy of an element to its own index. And in
            # @dabble/patches 0.28.1 the two places share what this patch has made its own copy of,
            # so that a later write would show in both.
            into._record_put(to_path, own_copy(value))
        else:
            self._recorder.ops.append({"op": "copy", "from": from_path, "path": to_path})

    # ---- comparing and showing -------------------------------------------------------------------

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Node):
            other = other._plain()
        if not isinstance(other, (dict, list)):
            return NotImplemented
        return json_equal(self._plain(), other)

    def __copy__(self) -> Any:
        return self.__deepcopy__(None)

    def __deepcopy__(self, memo: object) -> Any:
        self._recorder.check_open()
        return own_copy(self._plain())

    __hash__: ClassVar[None] = None  # type: ignore[assignment]  # changes, and is compared by value

    def __repr__(self) -> str:
        return "<finished draft>" if self._recorder.ended else f"draft of {self._plain()!r}"

    # ---- for the two kinds to fill in: what stands at a key, without recording -------------------

    def _existing(self, key: Any) -> Any:
        """`key` as it is stored. Lists: the index of an element, counted from the front."""
        raise NotImplementedError

    def _insertable(self, key: Any, *, one_less: bool = False) -> Any:
        """`key` as a place to put something new; `one_less`: one element is about to leave."""
        raise NotImplementedError

    def _slot(self, key: Any) -> Any:
        """What stands at a stored key; `ABSENT` if nothing does."""
        raise NotImplementedError

    def _set_slot(self, key: Any, slot: Any) -> None:
        """Put something in place of what is there."""
        raise NotImplementedError

    def _insert_slot(self, key: Any, slot: Any) -> None:
        """Put something new: sets in a dict, shifts in a list."""
        raise NotImplementedError

    def _record_put(self, path: str, value: Json) -> None:
        """Record that a new value is put at a path of this container."""
        raise NotImplementedError

    def _take_slot(self, key: Any) -> Any:
        """Take out what stands at a stored key."""
        raise NotImplementedError

    def _key_of(self, node: Node) -> str | int:
        """The key that a node of this container stands at."""
        raise NotImplementedError

    # ---- inside ----------------------------------------------------------------------------------

    def _pointer(self, key: str | int) -> str:
        return f"{self._path()}/{pointer.escape(key)}"

    def _shown(self, key: Any, slot: Any) -> Any:
        """What a reader gets for what stands at `key`: containers become drafts on the way."""
        kind = type(slot)
        if kind is str:
            return slot
        if kind is dict or kind is list:
            node = self._recorder_node(slot, key)
            self._set_slot(key, node)
            return node
        if isinstance(slot, DraftText):
            return own_copy(slot._plain())
        return slot.value() if kind is Computed else slot

    def _recorder_node(self, value: Json, key: Any) -> Container:
        return container_of(value, self._recorder, self, key)

    def _compute(self, name: str, key: Any, path: str, value: Json) -> None:
        slot = self._slot(key)
        if not isinstance(slot, Computed):
            detach(slot)
            slot = Computed(plain(slot))
            self._set_slot(key, slot)
        slot.then(name, value)
        self._recorder.ops.append({"op": name, "path": path, "value": value})

    def _extreme(self, name: str, key: str | int, value: float | str) -> None:
        key = self._existing(key)
        path = self._pointer(key)
        if isinstance(value, str):
            value = str.__str__(value)
        else:
            _check_number(value, "set_max and set_min", path)
        self._check_current(key, (int, float, str), "a number or text", path)
        self._compute(name, key, path, value)

    def _check_current(self, key: Any, kinds: tuple[type, ...], wanted: str, path: str) -> None:
        slot = self._slot(key)
        value = plain(slot)
        if value is ABSENT or value is None:
            return
        if isinstance(value, bool) or not isinstance(value, kinds):
            raise PatchError(f"{path!r} is {type(value).__name__}, not {wanted}")

    def _walk(
        self, place: Place, *, without: tuple[Container, Any] | None = None
    ) -> tuple[Container, Any]:
        """The container and the last key, unchecked, of a place below this draft.

        `without`: an element that is about to be taken out, so that the places behind it count one
        less.
        """
        keys = _keys(place)
        holder: Container = self
        for key in keys[:-1]:
            index = holder._key_part(key)
            if without is not None and holder is without[0] and isinstance(index, int):
                index += index >= without[1]
            index = holder._existing(index)
            inner = holder._shown(index, holder._slot(index))
            if not isinstance(inner, Container):
                raise KeyError(key)
            holder = inner
        return holder, holder._key_part(keys[-1])

    def _key_part(self, key: str | int) -> Any:
        """A part of a place as a key of this container: in a list `"2"` is an index."""
        return key


def container_of(value: Json, recorder: Recorder, parent: Any, key: str | int) -> Container:
    """A draft of a plain dict or list."""
    # The two kinds register themselves: each holds the other.
    node: Container = KINDS[type(value)](value, recorder, parent, key)
    return node


KINDS: dict[type, Any] = {}


def _keys(place: Place) -> list[str | int]:
    if isinstance(place, str):
        if not place.startswith("/"):
            return [place]
        return [*pointer.parse(place)]
    if isinstance(place, int):
        return [place]
    keys = list(place)
    if not keys:
        raise PatchError("a place needs at least one key")
    return keys


def detach(slot: Any) -> None:
    """What stood in a container leaves it: if it is a part of the draft, it takes no more edits."""
    if isinstance(slot, Node):
        slot._detach()


def is_in_place(value: object, slot: Any) -> bool:
    """Whether a part of the draft is set to where it stands: the end of `draft["l"] += [1]`.

    Its edits are recorded; to replace it as well would undo what others do to it meanwhile.
    """
    return value is slot and isinstance(slot, Node)


def _is_inside(container: Container, slot: Any) -> bool:
    node: Any = container
    while node is not None:
        if node is slot:
            return True
        node = node._parent
    return False


def _check_number(value: object, name: str, where: str) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise PatchError(f"{name} needs a number, got {type(value).__name__} ({where})")
    if isinstance(value, float) and not math.isfinite(value):
        raise PatchError(f"{name} needs a finite number, got {value} ({where})")
    if isinstance(value, int) and abs(value) > MAX_SAFE_INTEGER:
        raise PatchError(f"{name} needs a number within ±(2^53-1), got {value} ({where})")
