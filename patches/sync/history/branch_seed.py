"""How a branch made offline gets its first state: edits that are small enough to be sent.

The edits are stored one by one, and how many revisions they took says where the branch's own
content begins. So no edit may be large enough to be split later, when it is sent.
"""

from __future__ import annotations

from collections.abc import Iterator

from patches.errors import BranchError
from patches.model.codec import json_size
from patches.model.json_values import Json, Op

#: Bytes of a change and its frame around the operations.
_FRAME_BYTES = 1_000


def seed_edits(state: Json, most: int | None) -> list[list[Op]]:
    """Edits that make `state` of nothing, each at most about `most` bytes.

    The first one replaces the whole document, which a server refuses where there is one already.
    Raises `BranchError` for a value that is larger and is no object.
    """
    whole: Op = {"op": "replace", "path": "", "value": state}
    if most is None or json_size(whole) + _FRAME_BYTES <= most:
        return [[whole]]
    room = most - _FRAME_BYTES
    edits: list[list[Op]] = []
    used = room + 1
    for op in _pieces("", state, room):
        size = json_size(op) + 1
        if used + size > room:
            edits.append([])
            used = 0
        edits[-1].append(op)
        used += size
    return edits


def _pieces(path: str, value: Json, room: int) -> Iterator[Op]:
    """Operations that write `value` at `path`, none larger than `room`."""
    op = {"op": "add" if path else "replace", "path": path, "value": value}
    if json_size(op) <= room:
        yield op
        return
    if not isinstance(value, dict):
        raise BranchError(
            f"a value of {json_size(value)} bytes at {path or 'the root'!r} is too large for the "
            f"first state of a branch, at most {room} fit; write it after the branch is made"
        )
    yield {**op, "value": {}}
    for key, member in value.items():
        escaped = key.replace("~", "~0").replace("/", "~1")
        yield from _pieces(f"{path}/{escaped}", member, room)
