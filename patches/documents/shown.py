"""`ShownState`: the state that an open document shows, and how an edit is written into it.

A state that was handed out never changes. Handing out is rarer than editing, so containers are
copied once after the state was handed out, and written in place until it is handed out again
(`json_patch/working_copy.py`): an edit costs the same however many members an object has.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from patches.errors import OpsRefusedError
from patches.json_patch import ABSENT, apply_patch
from patches.json_patch.apply import apply_to_copy
from patches.json_patch.working_copy import WorkingCopy
from patches.limits import Limits
from patches.model.codec import json_size
from patches.model.json_values import Json, Op

#: Containers that a working copy keeps, at most: what an edit has removed is among them.
_MAX_OWNED: Final = 10_000


class ShownState:
    """Owned by the document. Keeps it within `max_doc_bytes` and `max_doc_depth`, as the server
    does.

    Measuring takes as long as encoding the document, so it is done only when the edits since the
    last measurement may have used up a quarter of the remaining space. Weakness: what others write
    in the meantime is not counted. If they fill the rest, the server refuses the edit.
    """

    __slots__ = (
        "_copy",
        "_limits",
        "_measured",
        "_written",
        "changes",
        "committed_rev",
        "drafts",
        "has_pending",
        "is_loaded",
        "state",
    )

    def __init__(self, state: Json, committed_rev: int, limits: Limits) -> None:
        #: The last server revision that the state contains.
        self.committed_rev: int = committed_rev
        #: Whether stored edits are not confirmed by the server.
        self.has_pending: bool = False
        #: Whether the state is that of the document, not only an empty start.
        self.is_loaded: bool = committed_rev > 0
        #: For reading only; whoever keeps it takes it by `handed_out`.
        self.state: Json = {} if state is None else state
        #: Drafts of it that are being written to.
        self.drafts: int = 0
        #: How often it changed.
        self.changes: int = 0
        self._copy: WorkingCopy | None = None  # of `state`, with what may be written in place
        self._limits = limits
        self._measured: int | None = None
        self._written = 0  # bytes of operations since

    def handed_out(self) -> Json:
        """The state, for somebody who keeps it: what is in it is not written any more."""
        self._copy = None
        return self.state

    def replace(self, state: Json) -> bool:
        """Show another state; whether it is another object."""
        self._copy = None
        state = {} if state is None else state
        if state is self.state:
            return False
        self.state = state
        self.changes += 1
        return True

    def apply(self, doc_id: str, ops: Sequence[Op], size: int) -> None:
        """Apply an edit, all or nothing. `size`: of its operations.

        Raises `PatchError` if it does not apply, `OpsRefusedError` if the document would be too
        large or too deep; one that is beyond a limit already may shrink.
        """
        if not self._has_room(ops, size):
            self._apply_measured(doc_id, ops, size)
            return
        copy = self._copy or WorkingCopy(self.state)
        is_changed = apply_to_copy(copy, ops)
        state = copy.state
        if is_changed:
            self.changes += 1
            self.state = {} if state is None or state is ABSENT else state
        is_kept = state is self.state and copy.owned_count <= _MAX_OWNED
        self._copy = copy if is_kept else None

    def _has_room(self, ops: Sequence[Op], size: int) -> bool:
        """Whether an edit surely stays within the limits, which is counted then."""
        for op in ops:
            if op["op"] == "copy":  # a few bytes of it can double a document
                return False
            if op["op"] == "move" and op["path"].count("/") > op["from"].count("/"):
                return False
        most = self._limits.max_doc_bytes
        if most is not None:
            if 4 * (self._written + size) > most - (self._measured or 0):
                return False
            self._written += size
        return True

    def _apply_measured(self, doc_id: str, ops: Sequence[Op], size: int) -> None:
        before = self.state
        after = apply_patch(before, ops, strict=True)
        after = {} if after is None or after is ABSENT else after
        most = self._limits.max_doc_bytes
        if most is not None:
            after_size = json_size(after)
            if after_size > most and after_size > json_size(before):
                raise OpsRefusedError(
                    f"document {doc_id!r} would have {after_size} bytes, at most {most} are "
                    f"allowed",
                    code=413,
                )
        deepest = self._limits.max_doc_depth
        deepens = any(op["op"] in ("move", "copy") for op in ops)
        if deepens and depth_of(after) > max(deepest, depth_of(before)):
            raise OpsRefusedError(
                f"document {doc_id!r} would be nested {depth_of(after)} levels deep, at most "
                f"{deepest} are allowed"
            )
        if most is not None:
            self._measured, self._written = after_size, 0
        self.replace(after)


def depth_of(value: Json) -> int:
    """Levels of containers in a value: 0 for a scalar."""
    depth, level = 0, [value]
    while level := [item for item in level if isinstance(item, (dict, list))]:
        depth += 1
        level = [
            child for item in level for child in (item.values() if isinstance(item, dict) else item)
        ]
    return depth
