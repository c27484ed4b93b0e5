"""How many pending writes go into one commit. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from patches.errors import UnsplittableChangeError
from patches.limits import Limits
from patches.model.change import Change
from patches.options import DocOptions


def fitting(pending: Sequence[Change], options: DocOptions, limits: Limits) -> list[Change]:
    """The first changes that fit into one commit. Raises `UnsplittableChangeError`."""
    most_bytes, most = options.max_payload_bytes, limits.max_changes_per_commit
    batch: list[Change] = []
    size = 0
    for change in pending[:most]:
        own = len(change.encoded) + 1
        if not batch and most_bytes is not None and own > most_bytes:
            raise UnsplittableChangeError(
                "add", "", size=own, limit=most_bytes, doc_id=None, change_id=change.id
            )
        size += own
        if batch and most_bytes is not None and size > most_bytes:
            break
        batch.append(change)
    return batch
