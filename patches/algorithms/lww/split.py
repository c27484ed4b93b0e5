"""Dividing what is to be sent, so that each piece fits (`docs/internals/lww.md` 14).

Between units, where that is enough; a unit that alone is too large is divided by ops.
"""

from __future__ import annotations

from collections.abc import Sequence

from patches.algorithms.lww.units import grouped, halves
from patches.errors import UnsplittableChangeError
from patches.model.change import Change
from patches.model.codec import json_size
from patches.model.ids import IdSource
from patches.model.json_values import Op
from patches.options import DocOptions

_LIST_BYTES = 2  # a commit sends a list of changes


def split_change(
    change: Change,
    options: DocOptions,
    *,
    new_id: IdSource,
    doc_id: str,
    max_ops: int | None = None,
) -> list[Change]:
    """The pieces of a change that fit the payload and the storage limit; `[change]` if it fits.

    None has more than `max_ops` ops.
    The first piece keeps the id. An op that alone is too large makes a piece of its own. Raises
    `UnsplittableChangeError` if it is larger than `max_unsplittable_bytes`.
    """
    most = len(change.ops) if max_ops is None else max_ops
    if len(change.ops) <= most and _fits(change, options):
        return [change]
    pieces = [
        piece
        for group in _groups(change, _json_limit(options), most)
        for piece in _halved(change.replace(ops=group), options)
    ]
    for piece in pieces:
        if len(piece.ops) == 1 and not _fits(piece, options):
            _check_ceiling(piece, options, doc_id)
    return [
        piece if index == 0 else piece.replace(id=new_id(piece.rev))
        for index, piece in enumerate(pieces)
    ]


def _json_limit(options: DocOptions) -> float:
    limits = [float("inf")]
    if options.max_payload_bytes is not None:
        limits.append(options.max_payload_bytes - _LIST_BYTES)
    if options.max_storage_bytes is not None and options.size_calculator is None:
        limits.append(options.max_storage_bytes)
    return min(limits)


def _fits(change: Change, options: DocOptions) -> bool:
    if len(change.encoded) > _json_limit(options):
        return False
    if options.max_storage_bytes is None or options.size_calculator is None:
        return True
    return options.size_calculator(change.to_wire()) <= options.max_storage_bytes


def _groups(change: Change, limit: float, max_ops: int) -> list[list[Op]]:
    envelope = len(change.replace(ops=[]).encoded)
    groups: list[list[Op]] = []
    size = 0
    for unit in grouped(change.ops):
        sizes = [json_size(op) + 1 for op in unit]
        fits = groups and size + sum(sizes) <= limit and len(groups[-1]) + len(unit) <= max_ops
        if not fits:
            groups.append([])
            size = envelope
        for op, bytes_more in zip(unit, sizes, strict=True):
            if groups[-1] and (size + bytes_more > limit or len(groups[-1]) >= max_ops):
                groups.append([])
                size = envelope
            groups[-1].append(op)
            size += bytes_more
    return groups


def _halved(change: Change, options: DocOptions) -> Sequence[Change]:
    """By measuring, for a size calculator that only knows whole changes."""
    if len(change.ops) < 2 or _fits(change, options):
        return [change]
    middle = len(change.ops) // 2
    parts = halves(change.ops) or (change.ops[:middle], change.ops[middle:])
    return [piece for ops in parts for piece in _halved(change.replace(ops=ops), options)]


def _check_ceiling(piece: Change, options: DocOptions, doc_id: str) -> None:
    ceiling, size = options.max_unsplittable_bytes, len(piece.encoded)
    if ceiling is not None and size > ceiling:
        op = piece.ops[0]
        raise UnsplittableChangeError(
            op["op"], op["path"], size=size, limit=ceiling, doc_id=doc_id, change_id=piece.id
        )
