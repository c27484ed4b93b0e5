"""The dict of a draft: it behaves like `dict` and writes operations.

It holds only what differs from the state below it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, Final

from patches.documents.draft.container import KINDS, Container, detach, is_in_place
from patches.documents.draft.methods import explained
from patches.documents.draft.node import Node, Recorder, own_copy, plain, plain_value, put, taken
from patches.errors import InvalidValueError
from patches.json_patch import ABSENT
from patches.model.json_values import Json


@explained
class DraftDict(Container, MutableMapping[str, Any]):
    """A draft of an object. Members are items, and attributes where the name is free."""

    __slots__ = ("_added", "_base", "_changed", "_hidden")

    _base: dict[str, Any]
    _changed: dict[str, Any]  # members of the base that are another value or a node now
    _hidden: set[str]  # members of the base that were removed, though maybe added again
    _added: dict[str, Any]  # members that come after those of the base

    def __init__(
        self, base: dict[str, Json], recorder: Recorder, parent: Any, key: str | int
    ) -> None:
        self._place(recorder, parent, key)
        put(self, "_base", base)
        put(self, "_changed", {})
        put(self, "_hidden", _NOTHING)
        put(self, "_added", {})

    # ---- items -----------------------------------------------------------------------------------

    def __getitem__(self, key: str) -> Any:
        self._recorder.check_open()
        slot = self._slot(key)
        if slot is ABSENT:
            raise KeyError(key)
        return self._shown(key, slot)

    def __setitem__(self, key: str, value: Any) -> None:
        key = self._existing(key)
        path = self._pointer(key)
        if isinstance(value, Node) and is_in_place(value, self._slot(key)):
            return
        value = taken(value, self._recorder, path)
        self._recorder.ops.append({"op": "replace", "path": path, "value": value})
        slot = self._slot(key)  # again: taking a value may have read this member
        if isinstance(slot, Node):
            slot._detach()
        self._set_slot(key, value)

    def __delitem__(self, key: str) -> None:
        path = self._pointer(key)
        if self._slot(key) is ABSENT:
            raise KeyError(key)
        self._recorder.ops.append({"op": "remove", "path": path})
        detach(self._take_slot(key))

    def __contains__(self, key: object) -> bool:
        self._recorder.check_open()
        return self._slot(key) is not ABSENT

    def __iter__(self) -> Iterator[str]:
        self._recorder.check_open()
        return iter(self._keys())

    def __len__(self) -> int:
        self._recorder.check_open()
        return len(self._base) - len(self._hidden) + len(self._added)

    def __reversed__(self) -> Iterator[str]:
        return reversed(self._keys())

    # ---- attributes ------------------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        # Reached only for a name that is no attribute of the class.
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the draft has no member {name!r}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        if hasattr(type(self), name):
            raise AttributeError(f"{name!r} is an attribute of drafts: write draft[{name!r}] = ...")
        self[name] = value

    def __delattr__(self, name: str) -> None:
        if hasattr(type(self), name):
            raise AttributeError(f"{name!r} is an attribute of drafts: write del draft[{name!r}]")
        try:
            del self[name]
        except KeyError:
            raise AttributeError(f"the draft has no member {name!r}") from None

    # ---- dict methods ----------------------------------------------------------------------------

    def setdefault(self, key: str, default: Any = None) -> Any:
        """The member, set to `default` if it is missing: a soft write.

        It yields to one that another replica made first, and edits below it apply to that one.
        """
        key = self._existing(key)
        if self._slot(key) is ABSENT:
            path = self._pointer(key)
            value = taken(default, self._recorder, path)
            if value == {} or value == []:
                # Committed, it leaves alone what others wrote below; at a number it would shift.
                if not key.isdecimal():
                    self._recorder.ops.append({"op": "add", "path": path, "value": value})
                    self._set_slot(key, value)
                    return self[key]
            self._recorder.ops.append({"op": "replace", "path": path, "value": value, "soft": True})
            self._set_slot(key, value)
        return self[key]

    def pop(self, key: str, default: Any = ABSENT) -> Any:
        """Remove a member and return its value, a plain copy; `default` if it is missing."""
        self._recorder.check_open()
        slot = self._slot(key)
        if slot is ABSENT:
            if default is ABSENT:
                raise KeyError(key)
            return default
        value = own_copy(plain(slot))
        del self[key]
        return value

    def popitem(self) -> tuple[str, Any]:
        """Remove and return the last member."""
        for key in reversed(self):
            return key, self.pop(key)
        raise KeyError("popitem(): the draft is empty")

    def clear(self) -> None:
        """Remove every member."""
        path = self._path()
        if path and len(self) > 1:
            self._recorder.ops.append({"op": "replace", "path": path, "value": {}})
            for key in self._keys():
                detach(self._take_slot(key))
            return
        for key in self._keys():
            del self[key]

    def __or__(self, other: Mapping[str, Any]) -> dict[str, Any]:
        if not isinstance(other, Mapping):
            return NotImplemented
        return {**own_copy(self._plain()), **_plain_members(other)}

    def __ror__(self, other: Mapping[str, Any]) -> dict[str, Any]:
        if not isinstance(other, Mapping):
            return NotImplemented
        return {**_plain_members(other), **own_copy(self._plain())}

    def __ior__(self, other: Any) -> DraftDict:  # type: ignore[misc]  # as dict has it
        self.update(other)
        return self

    # ---- inside ----------------------------------------------------------------------------------

    def _plain(self) -> dict[str, Json]:
        if not (self._changed or self._hidden or self._added):
            return self._base
        return {key: plain(self._slot(key)) for key in self._keys()}

    def _keys(self) -> list[str]:
        if self._hidden:
            return [*(key for key in self._base if key not in self._hidden), *self._added]
        return [*self._base, *self._added]

    def _existing(self, key: Any) -> str:
        if type(key) is not str:
            if not isinstance(key, str):
                path = self._path()
                raise InvalidValueError(
                    f"value at {path!r}: the key {key!r} is {type(key).__name__}, not text",
                    path=path,
                )
            return str.__str__(key)
        return key

    def _insertable(self, key: Any, *, one_less: bool = False) -> str:
        return self._existing(key)

    def _slot(self, key: Any) -> Any:
        if key in self._changed:
            return self._changed[key]
        if key in self._added:
            return self._added[key]
        return ABSENT if key in self._hidden else self._base.get(key, ABSENT)

    def _set_slot(self, key: Any, slot: Any) -> None:
        if key in self._base and key not in self._hidden:
            self._changed[key] = slot
        else:
            self._added[key] = slot

    def _insert_slot(self, key: Any, slot: Any) -> None:
        before = self._slot(key)
        if before is not slot:
            detach(before)
        self._set_slot(key, slot)

    def _record_put(self, path: str, value: Json) -> None:
        self._recorder.ops.append({"op": "replace", "path": path, "value": value})

    def _take_slot(self, key: Any) -> Any:
        slot = self._slot(key)
        if key in self._added:
            del self._added[key]
        else:
            self._changed.pop(key, None)
            if self._hidden is _NOTHING:
                put(self, "_hidden", set())
            self._hidden.add(key)
        return slot

    def _key_of(self, node: Node) -> str | int:
        return node._key

    def _key_part(self, key: str | int) -> Any:
        return str(key) if isinstance(key, int) and not isinstance(key, bool) else key


_NOTHING: Final[set[str]] = set()  # shared by all dicts that nothing was removed from


def _plain_members(other: Mapping[str, Any]) -> dict[str, Any]:
    return {key: plain_value(value) for key, value in other.items()}


KINDS[dict] = DraftDict
