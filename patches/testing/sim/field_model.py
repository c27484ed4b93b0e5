"""`FieldModel`: what a field of an LWW document must be, worked out again from what was sent.

The later of two writes wins; of two at one time the one that is committed later. A time that is
ahead of the server's is lowered to the server's, but not below that of the write it replaces:
servers on one disk have clocks of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from patches.model.change import Change
from patches.model.json_values import Json, Op
from patches.runtime import Millis

#: Fields that are only ever written whole, and whose parents nobody writes.
WATCHED: Final = ("/f0", "/f1")


@dataclass(frozen=True, slots=True)
class Field:
    """What a field holds, and since when."""

    ts: Millis
    value: Json


def after_commit(
    fields: Mapping[str, Field], sent: Iterable[Sequence[Op]], now: Millis
) -> dict[str, Field]:
    """The watched fields after the operations of a commit, change by change."""
    result = dict(fields)
    for ops in sent:
        for op in ops:
            if op["path"] not in WATCHED or op["op"] != "replace" or op.get("soft"):
                continue
            before = result.get(op["path"])
            ts = min(op.get("ts", now), max(now, before.ts if before else now))
            if before is None or ts >= before.ts:
                result[op["path"]] = Field(ts, op["value"])
    return result


def last_sent(batches: Sequence[Sequence[Change]], change_id: str) -> Sequence[Op]:
    """The operations that a change was sent with last."""
    return next(
        change.ops for batch in reversed(batches) for change in batch if change.id == change_id
    )
