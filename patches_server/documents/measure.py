"""How large and how deeply nested a JSON value is, without building its JSON text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from patches.model import codec
from patches.model.json_values import Json


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a document's state does not exceed: bytes of JSON, and levels of nesting."""

    size: int = 0
    depth: int = 0


def measure(state: Json) -> Bounds:
    """The size and depth of a value. What a state holds several times is measured once."""
    known: dict[int, tuple[int, int]] = {}
    waiting: list[Any] = [state]
    while waiting:
        value = waiting[-1]
        inside = list(_containers_in(value))
        missing = [child for child in inside if id(child) not in known]
        if missing:
            waiting.extend(missing)
            continue
        waiting.pop()
        known[id(value)] = _measured(value, known)
    return Bounds(*known[id(state)])


def _measured(value: Json, known: dict[int, tuple[int, int]]) -> tuple[int, int]:
    if not isinstance(value, (dict, list)):
        return codec.json_size(value), 0
    shell: Any
    if isinstance(value, dict):
        shell = {key: 0 if isinstance(item, (dict, list)) else item for key, item in value.items()}
    else:
        shell = [0 if isinstance(item, (dict, list)) else item for item in value]
    size, depth = codec.json_size(shell), 0
    for child in _containers_in(value):
        child_size, child_depth = known[id(child)]
        size += child_size - 1  # in the place of a 0
        depth = max(depth, child_depth)
    return size, depth + 1


def _containers_in(value: Json) -> Iterable[Any]:
    if isinstance(value, dict):
        return (item for item in value.values() if isinstance(item, (dict, list)))
    if isinstance(value, list):
        return (item for item in value if isinstance(item, (dict, list)))
    return ()
