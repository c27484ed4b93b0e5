"""Operations as RFC 6902 has them, for libraries that know no others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from patches.documents.draft import ops_to_reach
from patches.json_patch import ABSENT, apply_patch, pointer
from patches.model.json_values import Json, Op

if TYPE_CHECKING:
    import jsonpatch


def jsonpatch_between(before: Json, after: Json) -> jsonpatch.JsonPatch:
    """`plain_ops_between` as the class of the library `jsonpatch`."""
    from jsonpatch import JsonPatch  # on first use: few programs need it

    return JsonPatch(plain_ops_between(before, after))


def jsonpatch_of(ops: list[Op], before: Json) -> jsonpatch.JsonPatch:
    """What operations of this toolkit do to `before`, as RFC 6902 has it.

    Raises `PatchError` if they do not apply to `before`.
    """
    return jsonpatch_between(before, apply_patch(before, ops, strict=True))


def plain_ops_between(before: Json, after: Json) -> list[Op]:
    """Operations of RFC 6902 that make `after` of `before`: texts are replaced as values."""
    plain: list[Op] = []
    state = before
    for op in ops_to_reach(before, after, text=False):
        if op["op"] == "replace" and pointer.value_at(state, op["path"]) is ABSENT:
            op = {**op, "op": "add"}
        plain.append({key: op[key] for key in ("op", "path", "from", "value") if key in op})
        state = apply_patch(state, [op], strict=True)
    return plain
