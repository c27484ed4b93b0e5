"""A later set, and older operations that set the same value (`docs/internals/json-patch.md` 8.2).

The older set is superseded and drops out, but not always without a trace: a `move` has emptied its
source, and a later operation of the same list may take the value elsewhere before it is
overwritten. So the older set is remembered with the edits made to it, until it is known what of it
must remain.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from patches.json_patch.object_keys import is_member_path, is_member_source, with_mark
from patches.json_patch.pointer import is_under
from patches.json_patch.transform.passes import is_inside, overwrite, sets_at, without_source
from patches.json_patch.transform.relations import (
    Context,
    are_nested,
    is_marked_soft,
    redirected,
    source_of,
)
from patches.model.json_values import Json, Op


@dataclass(slots=True)
class _Pending:
    """A superseded set whose value may still go elsewhere."""

    op: Op
    source: str | None
    owes_removal: bool
    edits: list[Op] = field(default_factory=list)


def set_over(ctx: Context, queue_op: Op, ops: list[Op]) -> list[Op]:
    """`ops` after `queue_op` has set the value at its path, which is no array index there."""
    path: str = queue_op["path"]
    if ctx.other_ops_first and ctx.is_hard_set(queue_op, path):
        left = _Superseding(ctx, path).run(ops)
        unchanged = len(left) == len(ops) and all(map(_is, left, ops))
        return ops if unchanged else left
    return overwrite(ctx, path, ops)


def _is(a: Json, b: Json) -> bool:
    return a is b


class _Superseding:
    """One pass over a list. Owned by the call of `set_over`."""

    def __init__(self, ctx: Context, path: str) -> None:
        self.ctx = ctx
        self.path = path
        self.is_array_path = ctx.is_array_path(path)
        self.kept: list[Op] = []
        self.pending: _Pending | None = None

    def run(self, ops: list[Op]) -> list[Op]:
        soft_seen = False
        inside = f"{self.path}/"
        for index, op in enumerate(ops):
            at, source, like = op["path"], source_of(op), self.ctx.like(op)
            if at == source:
                continue
            escapes = source == self.path and like in ("move", "copy")
            if self._touches_source(op) and not escapes:
                self._forget_pending()
            if self.pending is not None:
                if escapes and self._escape(self.pending, op):
                    continue
                if at == self.path and like == "remove":
                    self._forget_pending()
                    continue
                if at.startswith(inside) and (source is None or source.startswith(inside)):
                    self.pending.edits.append(op)
                    continue
            if self.ctx.is_hard_set(op, self.path):
                self._supersede(op)
            elif at == self.path and sets_at(self.ctx, op):
                if like != "test":
                    self._forget_pending()
                    return self.kept + ops[index:]
                self.kept.append(op)
            elif escapes:
                self._forget_pending()
                return self.kept + without_source(self.ctx, self.path, op, ops[index + 1 :])
            elif at == self.path and is_marked_soft(op):
                soft_seen = True
            elif self.path in (at, source):
                pass
            elif is_inside(at, source, inside) and not soft_seen:
                self._forget_pending()
            else:
                self.kept.append(op)
        self._forget_pending()
        return self.kept

    def _touches_source(self, op: Op) -> bool:
        if self.pending is None or self.pending.source is None:
            return False
        origin, source = self.pending.source, source_of(op)
        return are_nested(op["path"], origin) or (source is not None and are_nested(source, origin))

    def _forget_pending(self) -> None:
        """Forget the pending set; what it moved here is gone from its source."""
        if self.pending is not None and self.pending.owes_removal:
            self.kept.append(_removal(self.pending.op))
        self.pending = None

    def _supersede(self, op: Op) -> None:
        self._forget_pending()
        source, like = source_of(op), self.ctx.like(op)
        if like in ("move", "copy") and source is not None:
            if not self.is_array_path and not are_nested(source, self.path):
                self.pending = _Pending(op, source, owes_removal=like == "move")
            elif like == "move":
                self.kept.append(_removal(op))
        elif not self.is_array_path and op.get("op") in ("add", "replace"):
            self.pending = _Pending(op, None, owes_removal=False)

    def _escape(self, pending: _Pending, op: Op) -> bool:
        """Put the superseded value where `op` takes it; false if that cannot be said."""
        target, like = op["path"], self.ctx.like(op)
        if pending.source is None:
            if are_nested(target, self.path):
                return False
            added: Op = {"op": "add", "path": target, "value": pending.op.get("value")}
            self.kept.append(with_mark(added, path=is_member_path(op)))
        elif target == pending.source:
            pending.owes_removal = False  # the value comes back to where it was
        elif are_nested(target, pending.source) or are_nested(target, self.path):
            return False
        else:
            name = "move" if pending.owes_removal and like == "move" else "copy"
            led: Op = {"op": name, "from": pending.source, "path": target}
            source_is_member = is_member_source(pending.op)
            self.kept.append(with_mark(led, path=is_member_path(op), source=source_is_member))
        self.kept += [self._rerooted(edit, target) for edit in pending.edits]
        if like == "move":
            self.pending = None
        return True

    def _rerooted(self, edit: Op, target: str) -> Op:
        source = source_of(edit)
        if source is not None and is_under(source, self.path):
            source = target + source[len(self.path) :]
        return redirected(edit, target + edit["path"][len(self.path) :], source)


def _removal(move: Op) -> Op:
    """The removal of what `move` took away from its source."""
    removal: Op = {"op": "remove", "path": move["from"]}
    return with_mark(removal, path=is_member_source(move))
