"""Operations as RFC 6902 has them, for libraries that know no others."""

from __future__ import annotations

from patches.documents.draft import ops_to_reach
from patches.json_patch import ABSENT, apply_patch, pointer
from patches.model.json_values import Json, Op


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
