"""Packing changes into the commits that carry them to the server (`spec/ot.md` 7.7)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from patches.algorithms.ot.sizes import change_byte_size, list_byte_size
from patches.algorithms.ot.splitting import OversizedOp, break_changes
from patches.change import Change
from patches.ids import IdSource
from patches.options import DocOptions


def break_changes_into_batches(
    changes: Sequence[Change],
    options: DocOptions | int | None = None,
    *,
    new_id: IdSource,
    doc_id: str | None = None,
    on_oversized: Callable[[OversizedOp], object] | None = None,
) -> list[list[Change]]:
    """The changes in lists, each of which fits into one commit.

    `options`: sizes, or just the bytes of one commit. If everything fits into one, that is the
    result, without a `batch_id`; else changes are cut where needed and all get the id of the first
    as `batch_id`, which is the same at every retry. A change that cannot be cut goes out alone.
    """
    if not isinstance(options, DocOptions):
        options = DocOptions(max_payload_bytes=options)
    pieces = list(changes)
    if options.max_storage_bytes:
        pieces = break_changes(
            pieces,
            options.max_storage_bytes,
            options.size_calculator,
            new_id=new_id,
            max_unsplittable_bytes=options.max_unsplittable_bytes,
            doc_id=doc_id,
            on_oversized=on_oversized,
        )
    limit = options.max_payload_bytes
    if not limit or list_byte_size(map(change_byte_size, pieces)) < limit:
        return [pieces]
    batch_id = changes[0].id if changes else None
    pieces = break_changes(
        pieces,
        limit,
        new_id=new_id,
        doc_id=doc_id,
        budget="payload",
        on_oversized=on_oversized,
    )
    return _packed([piece.replace(batch_id=batch_id) for piece in pieces], limit)


def _packed(changes: Sequence[Change], limit: int) -> list[list[Change]]:
    batches: list[list[Change]] = []
    batch: list[Change] = []
    size = 2
    for change in changes:
        item = change_byte_size(change)
        if batch and size + item + 1 > limit:
            batches.append(batch)
            batch, size = [], 2
        size += item + (1 if batch else 0)
        batch.append(change)
    batches.append(batch)
    return batches
