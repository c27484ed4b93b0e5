"""What each operation does to a document (`docs/internals/json-patch.md` 4).

A handler returns nothing, or the message of what failed; then the document is as it was, except
that a failed `move` may have removed its source. It raises `PatchError` for a write below a scalar.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from patches.errors import PatchError
from patches.json_patch import javascript
from patches.json_patch.bitmask import apply_bitmask
from patches.json_patch.javascript import ABSENT, json_text
from patches.json_patch.kinds import CustomOp
from patches.json_patch.working_copy import (
    Place,
    WorkingCopy,
    below_scalar,
    list_index,
)
from patches.model.json_values import Json, json_equal
from patches.text import apply_to_text, is_delta


@dataclass(frozen=True, slots=True)
class TextRules:
    """How a text behaves where a change runs past its end."""

    legacy_overrun_padding: bool = False
    on_overrun: Callable[[int], None] | None = None


#: As texts behave today.
PLAIN_TEXT: Final = TextRules()
Handler: TypeAlias = Callable[[WorkingCopy, str, Json, TextRules], str | None]


def _add(doc: WorkingCopy, path: str, value: Json, rules: TextRules) -> str | None:
    if value is ABSENT:
        return "[op:add] require value, but got undefined"
    place = doc.place(path)
    container = place.chain[-1]
    if not place.found:
        doc.set_below(place, value, lists=True)
    elif isinstance(container, dict):
        _set_member(doc, place, value)
    elif isinstance(container, list):
        index = list_index(place.keys[-1], len(container))
        if not 0 <= index <= len(container):
            return f"[op:add] invalid array index: {path}"
        doc.writable(place).insert(index, value)
    else:
        raise below_scalar(place.last, container)
    return None


def _set_member(doc: WorkingCopy, place: Place, value: Json) -> None:
    """Set a member of an object, unless it is equal already."""
    key = place.keys[-1]
    if key not in place.chain[-1] or not json_equal(place.chain[-1][key], value):
        doc.writable(place)[key] = value


def _remove(doc: WorkingCopy, path: str, value: Json, rules: TextRules) -> str | None:
    place = doc.place(path)
    container, key = place.container, place.last
    if isinstance(container, dict):
        if key in container:
            del doc.writable(place, removes=True)[key]
    elif isinstance(container, list):
        index = list_index(key, len(container))
        if not 0 <= index < len(container):
            return f"[op:remove] invalid array index: {path}"
        del doc.writable(place)[index]
    elif isinstance(container, str) and key.isdigit() and list_index(key, 0) < len(container):
        raise below_scalar(key, container)
    return None


def _replace(doc: WorkingCopy, path: str, value: Json, rules: TextRules) -> str | None:
    if value is ABSENT:
        return "[op:replace] require value, but got undefined"
    return _put(doc, doc.place(path), path, value)


def _put(doc: WorkingCopy, place: Place, path: str, value: Json) -> str | None:
    """Set a member or overwrite an element; missing containers are made, as objects."""
    container = place.chain[-1]
    if not place.found:
        doc.set_below(place, value, lists=False)
    elif isinstance(container, dict):
        _set_member(doc, place, value)
    elif isinstance(container, list):
        index = list_index(place.keys[-1], len(container))
        if not 0 <= index < len(container):
            return f"[op:replace] invalid array index: {path}"
        if not json_equal(container[index], value):
            doc.writable(place)[index] = value
    else:
        raise below_scalar(place.last, container)
    return None


def _source(value: Json) -> str:
    """The source pointer of a `move` or `copy`."""
    if not isinstance(value, str):
        raise PatchError("Cannot read properties of undefined (reading 'split')")
    return value


def _move(doc: WorkingCopy, path: str, value: Json, rules: TextRules) -> str | None:
    source = _source(value)
    if path == source:
        return None
    place = doc.place(source)
    container, key = place.container, place.last
    if not place.found:
        return f"[op:move] path not found: {source}"
    moved: Json = ABSENT
    if isinstance(container, dict):
        moved = container.get(key, ABSENT)
        if moved is not ABSENT:
            del doc.writable(place, removes=True)[key]
    elif isinstance(container, list):
        index = list_index(key, len(container))
        if not 0 <= index < len(container):
            return f"[op:move] invalid array index: {path}"
        moved = doc.writable(place).pop(index)
    return _add(doc, path, moved, rules)


def _copy(doc: WorkingCopy, path: str, value: Json, rules: TextRules) -> str | None:
    source = _source(value)
    place = doc.place(source)
    if not place.found:
        return f"[op:copy] path not found: {source}"
    copied = place.read()
    if isinstance(copied, (dict, list)):
        copied = doc.copy(copied)
    return _add(doc, path, copied, rules)


def _test(doc: WorkingCopy, path: str, value: Json, rules: TextRules) -> str | None:
    place = doc.place(path)
    if not place.found:
        return f"[op:test] path not found: {path}"
    found = place.read()
    if found is value or json_equal(found, value):
        return None
    return f"[op:test] not matched: {json_text(found)} {json_text(value)}"


def _inc(doc: WorkingCopy, path: str, value: Json, rules: TextRules) -> str | None:
    place = doc.place(path)
    try:
        total = javascript.add(place.read(), value)
    except ValueError as error:
        return f"[op:@inc] {error}: {path}"
    return _put(doc, place, path, total)


def _bit(doc: WorkingCopy, path: str, value: Json, rules: TextRules) -> str | None:
    place = doc.place(path)
    return _put(doc, place, path, apply_bitmask(place.read(), value))


def _max(doc: WorkingCopy, path: str, value: Json, rules: TextRules) -> str | None:
    place = doc.place(path)
    current = place.read()
    return _put_if(
        current is None or current is ABSENT or javascript.is_greater(value, current),
        doc, place, path, value,
    )  # fmt: skip


def _min(doc: WorkingCopy, path: str, value: Json, rules: TextRules) -> str | None:
    place = doc.place(path)
    current = place.read()
    return _put_if(
        current is None or current is ABSENT or javascript.is_greater(current, value),
        doc, place, path, value,
    )  # fmt: skip


def _put_if(wins: bool, doc: WorkingCopy, place: Place, path: str, value: Json) -> str | None:
    if not wins:
        return None
    if value is ABSENT:
        return "[op:replace] require value, but got undefined"
    return _put(doc, place, path, value)


def delta_of(value: Json) -> list[dict[str, Json]] | None:
    """The ops of a `@txt` value, a list or the older `{"ops": [...]}`; `None` for anything else."""
    if isinstance(value, dict):
        value = value.get("ops")
    return value if is_delta(value) else None


def _txt(doc: WorkingCopy, path: str, value: Json, rules: TextRules) -> str | None:
    change: Json = value.get("ops") if isinstance(value, dict) else value
    if not is_delta(change):
        return "Invalid delta"
    place = doc.place(path)
    ops, overrun = apply_to_text(
        place.read(), change, legacy_overrun_padding=rules.legacy_overrun_padding
    )
    if overrun and rules.on_overrun is not None and not rules.legacy_overrun_padding:
        rules.on_overrun(overrun)
    return _put(doc, place, path, {"ops": ops})


def custom_handler(custom: CustomOp) -> Handler:
    """The handler of a custom operation."""

    def handle(doc: WorkingCopy, path: str, value: Json, rules: TextRules) -> str | None:
        place = doc.place(path)
        try:
            result = custom.apply(place.read(), value)
        except PatchError as error:
            return str(error)
        if custom.like == "test" or result is ABSENT:
            return None
        return _put(doc, place, path, result)

    return handle


HANDLERS: Final[Mapping[str, Handler]] = {
    "add": _add,
    "remove": _remove,
    "replace": _replace,
    "move": _move,
    "copy": _copy,
    "test": _test,
    "@inc": _inc,
    "@bit": _bit,
    "@max": _max,
    "@min": _min,
    "@txt": _txt,
}
