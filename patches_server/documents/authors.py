"""Who made a change: metadata `author`, set by the server where sign-in names a principal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from patches.model.change import Change, ChangeInput

AUTHOR: Final = "author"


def author_of(change: Change | ChangeInput) -> str | None:
    """The author that a change names. Without a sign-in that is a claim of its sender."""
    author = change.metadata.get(AUTHOR)
    return author if isinstance(author, str) else None


def id_of(principal: object) -> str | None:
    """The id that sign-in gave a principal."""
    own = getattr(principal, "id", None)
    return own if isinstance(own, str) else None


def signed_by(author: str, changes: Sequence[ChangeInput]) -> list[ChangeInput]:
    """`changes` by an author, whatever their sender says."""
    return [
        ChangeInput(
            id=change.id,
            ops=change.ops,
            base_rev=change.base_rev,
            rev=change.rev,
            created_at=change.created_at,
            committed_at=change.committed_at,
            batch_id=change.batch_id,
            client_id=change.client_id,
            metadata={**change.metadata, AUTHOR: author},
        )
        for change in changes
    ]
