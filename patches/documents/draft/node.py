"""What all parts of a draft share: who records, where a part stands, values worked out on demand.

A draft is a tree of nodes over the untouched state. A node is made when its container is first
read, keeps what was written below it, and knows its parent, so that it stays the same element when
a list around it shifts. Nothing of the state is copied but the lists on the way to what is
touched. The operations go to the one `Recorder`; the new state itself is made from them by
`apply_patch`, so what is read here is a view that must agree with it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from patches.errors import PatchError
from patches.json_patch import ABSENT, apply_patch, pointer
from patches.model.json_values import MAX_SAFE_INTEGER, Json, Op, checked_copy

put: Callable[[object, str, object], None] = object.__setattr__


class DraftTyping(Protocol):
    """How a draft takes and shows values of other classes than JSON's."""

    def encode(self, value: object, path: str) -> Json:
        """What is stored for a value that is written at a path; a JSON value may stay as it is."""
        ...

    def shown(self, root: Any) -> Any:
        """What the draft's function gets for the root of the draft."""
        ...


class Recorder:
    """One draft: its `root` to be edited, the `ops` so far, in order, and whether it is open."""

    __slots__ = ("ended", "max_depth", "nodes", "ops", "root", "typing")

    def __init__(self, *, max_depth: int, typing: DraftTyping | None = None) -> None:
        self.typing: DraftTyping | None = typing
        self.ops: list[Op] = []
        self.ended: bool = False
        self.max_depth: int = max_depth
        self.root: Node | None = None
        self.nodes: list[Node] = []

    def end(self) -> None:
        """Close the draft: all parts of it raise from now on."""
        self.ended = True
        # The parts refer to each other in circles, and would keep the old state until the
        # collector comes.
        self.root = None
        for node in self.nodes:
            put(node, "_parent", None)
        self.nodes.clear()

    def shown_root(self) -> Any:
        """What the caller edits."""
        return self.root if self.typing is None else self.typing.shown(self.root)

    def has_written_near(self, path: str) -> bool:
        """Whether an operation so far wrote below `path`, or moved or copied something near it.

        Indexes are not compared: a list may have shifted since.
        """
        keys = _without_indexes(path)
        for op in self.ops:
            written = _without_indexes(op["path"])
            if written[: len(keys)] == keys and len(written) > len(keys):
                return True
            if "from" in op and written == keys[: len(written)]:
                return True
        return False

    def check_open(self) -> None:
        """Raise `PatchError` when the draft's function has returned."""
        if self.ended:
            raise PatchError(
                "this draft is finished: it is valid only during the call that it was given to"
            )


def _without_indexes(path: str) -> list[str]:
    return ["*" if pointer.is_index(key) else key for key in pointer.holder_keys(path)]


class Node:
    """A part of a draft. Its slots are set with `put`: plain setting writes to the document."""

    __slots__ = ("_key", "_parent", "_recorder")

    _recorder: Recorder
    _parent: Any  # the container it stands in, None for the root and for what was taken out
    _key: str | int  # in a list only where it stood last

    def _place(self, recorder: Recorder, parent: Any, key: str | int) -> None:
        recorder.nodes.append(self)
        put(self, "_recorder", recorder)
        put(self, "_parent", parent)
        put(self, "_key", key)

    def _move_to(self, parent: Any, key: str | int) -> None:
        put(self, "_parent", parent)
        put(self, "_key", key)

    def _detach(self) -> None:
        put(self, "_parent", None)

    def _path(self) -> str:
        """The JSON Pointer of this node. Raises `PatchError` if it left the document."""
        recorder = self._recorder
        if recorder.ended:
            recorder.check_open()  # which raises
        if self is recorder.root:
            return ""
        parts: list[str] = []
        node: Node = self
        while node._parent is not None:
            parts.append(pointer.escape(node._parent._key_of(node)))
            node = node._parent
        if node is not recorder.root:
            raise PatchError(
                "this part of the draft was removed from the document, or replaced; read it again"
            )
        parts.reverse()
        return "/" + "/".join(parts)

    def _plain(self) -> Json:
        """The value as plain JSON, sharing what is untouched."""
        raise NotImplementedError


class Computed:
    """A value that operations like `@inc` lead to, worked out when it is read."""

    __slots__ = ("_base", "_ops")

    def __init__(self, base: Json) -> None:
        self._base = base
        self._ops: list[Op] = []

    def then(self, name: str, value: Json) -> None:
        """One more operation on the value."""
        self._ops.append({"op": name, "path": "/value", "value": value})

    def value(self) -> Json:
        """The value now; `ABSENT` if there never was one."""
        if self._ops:
            before = {} if self._base is ABSENT else {"value": self._base}
            self._base = apply_patch(before, self._ops, strict=True)["value"]
            self._ops = []
        return self._base


def plain(slot: Any) -> Json:
    """The plain value of what stands in a container: a plain value, a node, a computed value."""
    if isinstance(slot, Node):
        return slot._plain()
    return slot.value() if isinstance(slot, Computed) else slot


def taken(value: object, recorder: Recorder, path: str) -> Json:
    """`value` as it is stored: scalars as they are, containers copied, drafts as plain values.

    Raises `InvalidValueError`, naming where below `path` it is not JSON.
    """
    if recorder.typing is not None:
        value = recorder.typing.encode(value, path)
    kind = type(value)
    if kind is str or value is None or kind is bool:
        return value
    if kind is int and -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER:  # type: ignore[operator]
        return value
    if isinstance(value, Node):
        return value._plain()
    return checked_copy(value, path=path, max_depth=recorder.max_depth)


def plain_value(value: object) -> Json:
    """`value`, if it is a part of a draft as its plain value."""
    return value._plain() if isinstance(value, Node) else value


def own_copy(value: Json) -> Json:
    """A deep copy of plain JSON, for a caller who may change it."""
    if isinstance(value, dict):
        return {key: own_copy(member) for key, member in value.items()}
    if isinstance(value, list):
        return [own_copy(item) for item in value]
    return value
