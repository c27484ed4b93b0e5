"""`LWWBatcher`: many writes into one `ChangeInput`, for imports and scripts.

The rules: `docs/internals/lww.md` 13.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from patches.algorithms.lww.consolidate import consolidate_into
from patches.algorithms.lww.field_table import FieldTable, put_consolidated
from patches.json_patch import JSONPatch
from patches.model.change import ChangeInput
from patches.model.ids import random_id
from patches.model.json_values import Json, Op
from patches.runtime import Millis, Runtime

_ID_LENGTH = 8


class LWWBatcher:
    """Collects writes by path. Deltas of a path are combined, a write drops what is below it.

    A write below a number, text or `null` of the same batch is dropped.
    """

    def __init__(self, *, runtime: Runtime | None = None) -> None:
        self._runtime = runtime or Runtime()
        self._table = FieldTable()

    @property
    def size(self) -> int:
        """How many paths are written."""
        return len(self._table)

    def is_empty(self) -> bool:
        """Whether nothing is written."""
        return not len(self._table)

    def add(self, ops: Iterable[Op] | JSONPatch, timestamp: Millis | None = None) -> None:
        """Add operations; those without a `ts` get `timestamp`, or the time now if it is `None`.

        With a timestamp of 0 they stay as they are.
        """
        added = list(ops.ops if isinstance(ops, JSONPatch) else ops)
        if not added:
            return
        now = self._runtime.wall_ms() if timestamp is None else timestamp
        if now:
            added = [op if op.get("ts") else {**op, "ts": now} for op in added]
        result = consolidate_into(self._table, added)
        put_consolidated(self._table, result.ops_to_save, result.paths_to_delete)

    def change(
        self, fn: Callable[[JSONPatch, Any], object], timestamp: Millis | None = None
    ) -> None:
        """Add what `fn(patch, root)` writes; `root` names paths by attribute or item."""
        from patches.json_patch import create_json_patch

        self.add(create_json_patch(fn), timestamp)

    def flush(self, metadata: Mapping[str, Json] | None = None) -> ChangeInput:
        """The change with all writes; the batcher is empty after it."""
        change = ChangeInput(
            id=random_id(self._runtime.random, _ID_LENGTH),
            ops=self._table.ops(),
            created_at=self._runtime.wall_ms(),
            metadata=dict(metadata or {}),
        )
        self.clear()
        return change

    def clear(self) -> None:
        """Forget all writes."""
        self._table.clear()
