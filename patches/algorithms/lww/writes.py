"""From recorded operations to the writes of an LWW document.

The rules: `docs/internals/lww.md` 15, `docs/decisions.md`.

A row holds one value per path, so what depends on a position becomes a write of the whole that it
changes: a list edit a `replace` of that list, `move` and `copy` the writes that they amount to,
`test` is checked and left out. The same goes where the server would lose the write:

- below `null`, `0`, `""` or `false`, which becomes an object: the server lets no write pass under a
  value that is none, so that value itself is replaced;
- a delta on a number that only a pending object holds, one after an unsent delta of another kind,
  and `@max` or `@min` of a `null`: rows would combine to something else, so the result is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

from patches.algorithms.lww.deltas import apply_delta, fresh_value, is_delta
from patches.algorithms.lww.field_table import ancestor_paths, is_below
from patches.errors import UnsupportedOperationError
from patches.json_patch import ABSENT, apply_patch
from patches.model.json_values import Json, Op

_TEXT: Final = (
    "[op:@txt] at {path!r}: an LWW document keeps the last write of a field and cannot merge"
    " typing; set the whole text, or keep text that people type together in an OT document"
)
_SOFT_DELTA: Final = (
    "[op:{name}] at {path!r}: a change of a number cannot be soft; leave 'soft' out"
)


class WaitingOps(Protocol):
    """What was written before and is not being sent yet."""

    def waiting_at(self, path: str) -> Op | None: ...


def as_writes(state: Json, ops: Sequence[Op], unsent: WaitingOps) -> list[Op]:
    """The writes for operations that were made for `state`, after `unsent` ones that it shows.

    Raises `UnsupportedOperationError` for what cannot be written so, `PatchError` for what cannot
    be applied.
    """
    writer = _Writer(state, unsent)
    for op in ops:
        writer.add(op)
    return writer.writes


class _Writer:
    def __init__(self, state: Json, unsent: WaitingOps) -> None:
        self.writes: list[Op] = []
        self._state = state
        self._unsent = unsent
        self._last: dict[str, Op] = {}  # the newest write of each path
        self._ahead: list[Op] = []  # writes that `_state` does not have yet
        self._ahead_at: set[str] = set()  # their paths, and those above

    def add(self, op: Op) -> None:
        name, path = op["op"], op["path"]
        if name == "@txt":
            raise UnsupportedOperationError(_TEXT.format(path=path))
        if is_delta(op):
            self._delta(op)
        elif name == "remove" and not path:
            self._plain({"op": "replace", "path": "", "value": {}})  # a document is never absent
        elif name == "test":
            apply_patch(self._now(), [op], strict=True)
        elif name == "move":
            self._move(op["from"], path)
        elif name == "copy":
            self._add_at(path, apply_patch(self._now(), [op], strict=True))
        else:
            self._plain(op)

    def _plain(self, op: Op) -> None:
        path = op["path"]
        makes_list = op["op"] == "add" and ("/0" in path or "/-" in path)
        if self._ahead and (makes_list or self._is_met(path)):
            self._now()
        whole = _whole(self._state, path, op["op"] == "add")
        if whole is None:
            self._write(op)
            self._ahead.append(op)
            self._ahead_at.update((path, *ancestor_paths(path)))
        elif op["op"] != "remove" or isinstance(_value_at(self._state, whole), list):
            self._replace(whole, apply_patch(self._now(), [op], strict=True))

    def _delta(self, op: Op) -> None:
        name, path = op["op"], op["path"]
        if op.get("soft"):
            raise UnsupportedOperationError(_SOFT_DELTA.format(name=name, path=path))
        state = self._now()
        current = _value_at(state, path)
        if current is ABSENT or (current is None and name in ("@max", "@min")):
            value = fresh_value(op)
        else:
            value = apply_delta(name, current, op["value"])
        if _whole(state, path, False) is not None or self._needs_value(op, current):
            self._plain({"op": "replace", "path": path, "value": value})
        else:
            self._plain(op)

    def _needs_value(self, op: Op, current: Json) -> bool:
        before = self._last.get(op["path"]) or self._unsent.waiting_at(op["path"])
        if before is not None:
            return is_delta(before) and before["op"] != op["op"]
        if current is None and op["op"] in ("@max", "@min"):
            return True
        return current is not ABSENT and any(
            above in self._last or self._unsent.waiting_at(above) is not None
            for above in (*ancestor_paths(op["path"]), "")
        )

    def _move(self, source: str, target: str) -> None:
        if source == target:
            return
        before = self._now()
        after = apply_patch(before, [{"op": "move", "from": source, "path": target}], strict=True)
        without = apply_patch(before, [{"op": "remove", "path": source}], strict=True)
        left, into = _whole(before, source, False), _whole(without, target, True)
        if into is None:
            into = target
        if left is None and not is_below(source, into):
            self._write({"op": "remove", "path": source})
        elif left is not None and not (left == into or is_below(left, into)):
            self._write({"op": "replace", "path": left, "value": _value_at(after, left)})
        if left is None or not is_below(into, left):
            self._write({"op": "replace", "path": into, "value": _value_at(after, into)})
        self._state = after

    def _add_at(self, path: str, after: Json) -> None:
        whole = _whole(self._state, path, True)
        self._replace(path if whole is None else whole, after)

    def _replace(self, path: str, after: Json) -> None:
        if after is not self._state:
            self._write({"op": "replace", "path": path, "value": _value_at(after, path)})
            self._state = after

    def _write(self, op: Op) -> None:
        # many edits of one list in a row need its last value only
        if self.writes and op["op"] == "replace" == self.writes[-1]["op"]:
            if self.writes[-1]["path"] == op["path"] and "soft" not in op:
                self.writes.pop()
        self.writes.append(op)
        self._last[op["path"]] = op

    def _now(self) -> Json:
        if self._ahead:
            self._state = apply_patch(self._state, self._ahead, strict=True)
            self._ahead, self._ahead_at = [], set()
        return self._state

    def _is_met(self, path: str) -> bool:
        """Whether a write that `_state` does not have yet changes what stands at or above."""
        return not self._ahead_at.isdisjoint((path, *ancestor_paths(path)))


def _whole(state: Json, path: str, adds: bool) -> str | None:
    """The path of the value that a write at `path` changes as a whole; `None`: the write itself.

    `adds`: the containers that it makes are lists where the next key looks like an index.
    """
    segments = path.split("/")[1:]
    above = ""
    for index, segment in enumerate(segments):
        last = index == len(segments) - 1
        if isinstance(state, list):
            item = _item(state, segment)
            if last or item is ABSENT:  # what pads a list is an edit of the list, too
                return above
            state = item
        elif isinstance(state, dict):
            state = state.get(_key(segment) if "~" in segment else segment, ABSENT)
        elif state is ABSENT:
            makes_list = adds and any(key in ("0", "-") for key in segments[index:])
            return above if makes_list else None
        else:
            return above  # null, 0, "" or false becomes an object; anything else will raise
        above = f"{above}/{segment}"
    return None


def _value_at(state: Json, path: str) -> Json:
    for segment in path.split("/")[1:]:
        if isinstance(state, list):
            state = _item(state, segment)
        else:
            state = state.get(_key(segment), ABSENT) if isinstance(state, dict) else ABSENT
    return state


def _item(items: list[Any], segment: str) -> Json:
    if segment == "-":
        return items[-1] if items else ABSENT
    is_index = segment.isascii() and segment.isdecimal()
    return items[int(segment)] if is_index and int(segment) < len(items) else ABSENT


def _key(segment: str) -> str:
    return segment.replace("~1", "/").replace("~0", "~") if "~" in segment else segment
