"""Fold a list of operations (`docs/internals/json-patch.md` 9)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from patches.errors import PatchError
from patches.json_patch import javascript
from patches.json_patch.bitmask import combine_bitmasks
from patches.json_patch.handlers import delta_of
from patches.json_patch.kinds import CustomOps, path_of
from patches.json_patch.object_keys import is_member_path, with_mark
from patches.json_patch.transform.relations import source_of
from patches.model.json_values import MAX_DOUBLE, Json, Op
from patches.text import DeltaOp, compose


def compose_patch(ops: Sequence[Op], *, custom_ops: CustomOps | None = None) -> list[Op]:
    """`ops` with later ones folded into earlier ones of the same name and path, in their order.

    `replace` and the `@` operations fold, others part what is before them from what is after. The
    list itself comes back if nothing changes. Raises `PatchError` where two `@txt` meet and one is
    no delta.
    """
    given = ops if isinstance(ops, list) else list(ops)
    table = _Table()
    composed: list[_Folded] = []
    for op in given:
        path = path_of(op)
        if path == source_of(op):
            continue
        combine = _combination(op, custom_ops)
        if combine is None:
            table.clear()
            composed.append(_Folded(op, None))
            continue
        earlier = table.get(path)
        if earlier is not None and earlier.op["op"] == op["op"] and earlier.takes(op):
            continue
        table.forget_around(path)
        folded = _Folded(op, combine)
        table.put(path, folded)
        composed.append(folded)
    if len(composed) == len(given):
        return given
    return [folded.result() for folded in composed]


Combine = Callable[[Json, Json], Json]


class _Folded:
    """An operation and the values of later ones that go into it."""

    __slots__ = ("_combine", "_deltas", "_is_member", "_value", "op")

    def __init__(self, op: Op, combine: Combine | None) -> None:
        self.op = op
        self._combine = combine
        self._is_member = is_member_path(op)
        self._value: Json = op.get("value", javascript.ABSENT)
        self._deltas: list[list[DeltaOp]] | None = None

    def takes(self, later: Op) -> bool:
        """Fold the value of a later operation in; false if the two have no combination.

        Both have the same path, so a mark of one that it leads into an object holds for both.
        """
        assert self._combine is not None
        value = later.get("value", javascript.ABSENT)
        self._is_member = self._is_member or is_member_path(later)
        if self._combine is _compose_texts:
            self._take_delta(value)
            return True
        try:
            self._value = self._combine(self._value, value)
        except ValueError:
            return False
        return True

    def _take_delta(self, value: Json) -> None:
        if self._deltas is None:
            self._deltas = [_delta(self._value, "first")]
        self._deltas.append(_delta(value, "second"))

    def result(self) -> Op:
        """The operation with everything that was folded into it."""
        return with_mark(self._combined(), path=True) if self._is_member else self._combined()

    def _combined(self) -> Op:
        if self._deltas is not None:
            return {**self.op, "value": compose_all(self._deltas)}
        if self._value is self.op.get("value", javascript.ABSENT):
            return self.op
        if self._value is javascript.ABSENT:
            return {key: value for key, value in self.op.items() if key != "value"}
        return {**self.op, "value": self._value}


def compose_all(deltas: Sequence[list[DeltaOp]]) -> list[DeltaOp]:
    """All deltas as one.

    Long runs are composed in halves, which takes time in proportion to their length instead of its
    square. That gives the same ops as one after the other does where all are in normal form and
    neither format nor embed; runs that do are composed in turn.
    """
    if len(deltas) > 8 and all(map(_is_plain, deltas)):
        while len(deltas) > 1:
            pairs = zip(deltas[::2], deltas[1::2], strict=False)
            odd = deltas[-1:] if len(deltas) % 2 else []
            deltas = [*(compose(a, b) for a, b in pairs), *odd]
        return deltas[0]
    composed = deltas[0]
    for delta in deltas[1:]:
        composed = compose(composed, delta)
    return composed


def _is_plain(delta: Sequence[DeltaOp]) -> bool:
    """Whether a delta is in normal form and neither formats nor embeds."""
    before = ""
    for op in delta:
        if len(op) != 1:
            return False
        ((kind, value),) = op.items()
        if kind == before or not value or (before == "delete" and kind == "insert"):
            return False
        if kind == "insert" and not isinstance(value, str):
            return False
        before = kind
    return True


def _delta(value: Json, which: str) -> list[DeltaOp]:
    delta = delta_of(value)
    if delta is None:
        raise PatchError(f"Cannot compose @txt ops: {which} value is not a Delta ops array")
    return delta


def _compose_texts(a: Json, b: Json) -> Json:
    return compose_all([_delta(a, "first"), _delta(b, "second")])


def _sum(a: Json, b: Json) -> Json:
    if a is javascript.ABSENT:
        raise ValueError("no number to add to")
    total = javascript.add(a, b)
    if isinstance(total, float) and abs(total) == MAX_DOUBLE:
        raise ValueError("a sum that was cut off does less than the two do in turn")
    return total


def _bits(a: Json, b: Json) -> Json:
    return combine_bitmasks(a, b)


def _second(a: Json, b: Json) -> Json:
    return b


def _greater(a: Json, b: Json) -> Json:
    return a if javascript.is_greater(a, b) else b


def _less(a: Json, b: Json) -> Json:
    return a if javascript.is_greater(b, a) else b


_COMBINATIONS: Final[Mapping[str, Combine]] = {
    "replace": _second,
    "@inc": _sum,
    "@bit": _bits,
    "@max": _greater,
    "@min": _less,
    "@txt": _compose_texts,
}


def _combination(op: Op, custom_ops: CustomOps | None) -> Combine | None:
    """How two values of an operation become one; `None` if it takes no part."""
    name = op.get("op")
    if not isinstance(name, str):
        return None
    if custom_ops and name in custom_ops:
        return custom_ops[name].compose
    return _COMBINATIONS.get(name)


class _Table:
    """The latest operation of each path that a later one may still fold into."""

    __slots__ = ("_below", "_by_path")

    def __init__(self) -> None:
        self._by_path: dict[str, _Folded] = {}
        self._below: dict[str, set[str]] = {}  # path -> the paths in the table that are under it

    def get(self, path: str) -> _Folded | None:
        return self._by_path.get(path)

    def put(self, path: str, folded: _Folded) -> None:
        if path not in self._by_path:
            for above in _above(path):
                self._below.setdefault(above, set()).add(path)
        self._by_path[path] = folded

    def forget_around(self, path: str) -> None:
        """Forget what is above or under `path`."""
        for other in [*_above(path), *self._below.get(path, ())]:
            if self._by_path.pop(other, None) is not None:
                for above in _above(other):
                    self._below[above].discard(other)

    def clear(self) -> None:
        self._by_path.clear()
        self._below.clear()


def _above(path: str) -> Iterator[str]:
    cut = path.rfind("/")
    while cut >= 0:
        yield path[:cut]
        cut = path.rfind("/", 0, cut)
