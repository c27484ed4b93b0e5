"""`DocRoom`: keeps a document within `max_doc_bytes` and `max_doc_depth`, as the server does.

Measuring takes as long as encoding the document, so it is done only when the edits since the last
measurement may have used up a quarter of the remaining space. Weakness: what others write in the
meantime is not counted. If they fill the rest, the server refuses the edit.
"""

from __future__ import annotations

from collections.abc import Sequence

from patches.errors import OpsRefusedError
from patches.limits import Limits
from patches.model.codec import json_size
from patches.model.json_values import Json, Op


class DocRoom:
    """How much an open document may still grow. Owned by the document."""

    __slots__ = ("_limits", "_measured", "_written")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._measured: int | None = None
        self._written = 0  # bytes of operations since

    def check(
        self, doc_id: str, ops: Sequence[Op], size: int, *, before: Json, after: Json
    ) -> None:
        """Refuse an edit that makes the document too large or too deep. `size`: of `ops`.

        A document that is beyond a limit already may shrink. Raises `OpsRefusedError`.
        """
        self._check_size(doc_id, ops, size, before, after)
        self._check_depth(doc_id, ops, before, after)

    def _check_size(
        self, doc_id: str, ops: Sequence[Op], size: int, before: Json, after: Json
    ) -> None:
        most = self._limits.max_doc_bytes
        if most is None:
            return
        self._written += size
        copies = any(op["op"] == "copy" for op in ops)  # a few bytes of it can double a document
        if not copies and 4 * self._written <= most - (self._measured or 0):
            return
        after_size = json_size(after)
        if after_size > most and after_size > json_size(before):
            self._written -= size
            raise OpsRefusedError(
                f"document {doc_id!r} would have {after_size} bytes, at most {most} are allowed",
                code=413,
            )
        self._measured, self._written = after_size, 0

    def _check_depth(self, doc_id: str, ops: Sequence[Op], before: Json, after: Json) -> None:
        most = self._limits.max_doc_depth
        deepens = any(op["op"] in ("move", "copy") and _goes_deeper(op) for op in ops)
        if deepens and depth_of(after) > max(most, depth_of(before)):
            raise OpsRefusedError(
                f"document {doc_id!r} would be nested {depth_of(after)} levels deep, at most "
                f"{most} are allowed"
            )


def depth_of(value: Json) -> int:
    """Levels of containers in a value: 0 for a scalar."""
    depth, level = 0, [value]
    while level := [item for item in level if isinstance(item, (dict, list))]:
        depth += 1
        level = [
            child for item in level for child in (item.values() if isinstance(item, dict) else item)
        ]
    return depth


def _goes_deeper(op: Op) -> bool:
    return bool(op["path"].count("/") > op["from"].count("/"))
