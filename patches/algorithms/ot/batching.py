"""Packing changes into the commits that carry them to the server (`docs/internals/ot.md` 7.7)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import compress, count
from operator import attrgetter
from typing import Final

from patches.algorithms.ot.sizes import change_byte_size, list_byte_size
from patches.algorithms.ot.splitting import OversizedOp, break_changes
from patches.model.change import Change
from patches.model.ids import IdSource
from patches.options import DocOptions

#: How much a stored piece may grow (revisions and positions get more digits) and still go out as it
#: is. Were it cut again, a server that has it already would get the rest of it a second time.
_GROWTH: Final = 32


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """The next commit, and what the store must hold for it."""

    #: What takes the place of the run that the plan was made for; the run itself if it fits.
    pieces: list[Change]
    #: The leading pieces that are sent now.
    batch: list[Change]


_upload_of: Final = attrgetter("base_rev", "batch_id")


def leading_run(pending: Sequence[Change]) -> list[Change]:
    """The first changes of a queue that can go into one upload: one `base_rev`, one `batch_id`."""
    if not pending:
        return []
    first = _upload_of(pending[0])
    uploads = map(_upload_of, pending)  # in C: a queue may be long
    end = next(compress(count(), map(first.__ne__, uploads)), len(pending))
    return list(pending[:end])


def plan_batch(
    run: Sequence[Change],
    options: DocOptions,
    *,
    new_id: IdSource,
    max_changes: int | None = None,
    doc_id: str | None = None,
    on_oversized: Callable[[OversizedOp], object] | None = None,
) -> BatchPlan:
    """The next commit of an upload (`docs/internals/ot.md` 7.7, decided anew for every commit).

    A run that needs several commits gets the id of its first change as `batch_id`. Planning again
    for the pieces that a plan gave leaves them as they are. Raises `UnsplittableChangeError`.
    """
    pieces = list(run)
    storage = options.max_storage_bytes
    if storage:
        measure = options.size_calculator or change_byte_size
        pieces = [
            piece
            for change in pieces
            for piece in (
                break_changes(
                    [change],
                    storage,
                    options.size_calculator,
                    new_id=new_id,
                    max_unsplittable_bytes=options.max_unsplittable_bytes,
                    doc_id=doc_id,
                    on_oversized=on_oversized,
                    is_exact=True,
                )
                if measure(change) > storage + _GROWTH
                else [change]
            )
        ]
    limit = options.max_payload_bytes
    if not limit or list_byte_size(map(change_byte_size, pieces)) < limit:
        return BatchPlan(pieces, pieces[:max_changes])
    pieces = _cut_to_payload(pieces, limit, new_id, doc_id, on_oversized)
    return BatchPlan(pieces, _packed(pieces, limit)[0][:max_changes])


def _cut_to_payload(
    changes: Sequence[Change],
    limit: int,
    new_id: IdSource,
    doc_id: str | None,
    on_oversized: Callable[[OversizedOp], object] | None,
) -> list[Change]:
    batch_id = changes[0].batch_id or changes[0].id
    budget = limit - _GROWTH if limit > 10 * _GROWTH else limit
    pieces: list[Change] = []
    for change in changes:
        named = change if change.batch_id == batch_id else change.replace(batch_id=batch_id)
        if change_byte_size(named) + 2 <= limit:
            pieces.append(named)
            continue
        pieces.extend(
            break_changes(
                [named],
                budget,
                new_id=new_id,
                doc_id=doc_id,
                budget="payload",
                on_oversized=on_oversized,
                is_exact=True,
            )
        )
    return pieces


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
