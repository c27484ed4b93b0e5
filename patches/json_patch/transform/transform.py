"""Rewrite operations so that they apply after others (`docs/internals/json-patch.md` 7 and 8)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from patches.errors import PatchError
from patches.json_patch.kinds import CustomOps, is_empty_add, path_of
from patches.json_patch.object_keys import has_marks
from patches.json_patch.transform.moved import after_move
from patches.json_patch.transform.passes import overwrite, shift, soft_create, update
from patches.json_patch.transform.relations import Context, source_of
from patches.json_patch.transform.superseded import set_over
from patches.json_patch.transform.touched_paths import TouchedPaths
from patches.model.json_values import Json, Op


def transform_patch(
    state: Json,
    committed_ops: Sequence[Op],
    incoming_ops: Sequence[Op],
    *,
    other_ops_first: bool = False,
    custom_ops: CustomOps | None = None,
    checkpoint: Callable[[], object] | None = None,
) -> list[Op]:
    """`incoming_ops`, rewritten to apply after `committed_ops`; both were made against `state`.

    `state` may be `None`: then every number in a path counts as an index, on objects too. Client
    and server must make the same choice to agree. With `other_ops_first` it is the incoming ones
    that are older, and are carried across later ones. Nothing is mutated; the list of
    `incoming_ops` itself comes back if nothing changes. `checkpoint` is called before each
    committed operation that meets one of the others; what it raises ends a transform that takes
    too long. Raises `PatchError` for an operation without a path.
    """
    incoming = incoming_ops if isinstance(incoming_ops, list) else list(incoming_ops)
    if not incoming or not committed_ops:
        return incoming
    for op in incoming:
        path_of(op)
    ctx = Context(state, other_ops_first=other_ops_first, custom_ops=custom_ops)
    ctx.has_marks = has_marks(committed_ops) or has_marks(incoming)
    touched = TouchedPaths(incoming)
    for op in committed_ops:
        if not touched.meets(op, other_ops_first=other_ops_first) and not custom_ops:
            continue
        if checkpoint is not None:
            checkpoint()
        if ctx.has_marks:
            ctx.look_for_marks(op, incoming)
        left = pass_over(ctx, op, incoming)
        if left is not incoming:
            incoming = left
            if not incoming:
                break
            touched = TouchedPaths(incoming)
    return incoming


def pass_over(ctx: Context, op: Op, incoming: list[Op]) -> list[Op]:
    """`incoming` after the one committed operation `op`; the same list if nothing changes."""
    path, name = path_of(op), op.get("op")
    if ctx.custom_ops and isinstance(name, str) and name in ctx.custom_ops:
        custom = ctx.custom_ops[name]
        if custom.transform is not None:
            return custom.transform(ctx.state, op, incoming)
        return update(ctx, op, incoming) if custom.like == "replace" else incoming
    match name:
        case "replace":
            return set_over(ctx, op, incoming)
        case "@inc" | "@bit" | "@max" | "@min" | "@txt":
            return update(ctx, op, incoming)
        case "add" | "copy":
            if ctx.is_array_path(path):
                return shift(ctx, path, 1, incoming)
            if is_empty_add(op):
                return soft_create(op, incoming)
            return set_over(ctx, op, incoming)
        case "remove":
            if ctx.is_array_path(path):
                return shift(ctx, path, -1, incoming, follow=True)
            return overwrite(ctx, path, incoming)
        case "move":
            if source_of(op) is None:
                raise PatchError(f"[op:move] requires a source, but got {op.get('from')!r}")
            return after_move(ctx, op, incoming)
        case _:
            return incoming
