"""What every OT server store does with rows of a log, as functions of their arguments."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Final

from patches.errors import DuplicateChangeIdsError, RevConflictError
from patches.model.change import Change
from patches_server.documents.measure import Bounds
from patches_server.ot.store import DocHead

#: What a document of this kind is recorded as.
ALGORITHM: Final = "ot"


def check_follows(changes: Sequence[Change], *, expected: DocHead, head: DocHead) -> None:
    """Raise `RevConflictError` unless `changes` go up from the expected head, which is the head."""
    if not same_head(head, expected):
        raise RevConflictError
    rev = expected.rev
    for change in changes:
        if change.rev <= rev:
            raise RevConflictError
        rev = change.rev


def check_ids_new(doc_id: str, changes: Iterable[Change], known: Collection[str]) -> None:
    """Raise `DuplicateChangeIdsError` naming the ids that are known or come twice."""
    seen: set[str] = set()
    taken: dict[str, None] = {}
    for change in changes:
        if change.id in seen or change.id in known:
            taken[change.id] = None
        seen.add(change.id)
    if taken:
        raise DuplicateChangeIdsError(doc_id, taken)


def same_head(head: DocHead, expected: DocHead) -> bool:
    """Whether two heads end the same log. A token that is not known is not compared."""
    if head.token != expected.token and head.token is not None and expected.token is not None:
        return False
    return (head.rev, head.change_id) == (expected.rev, expected.change_id)


def head_after(changes: Sequence[Change], bounds: Bounds, *, token: str | None = None) -> DocHead:
    """The head that `changes` make."""
    last = changes[-1]
    return DocHead(
        rev=last.rev, change_id=last.id, created_at=last.created_at, bounds=bounds, token=token
    )


def within(changes: Iterable[Change], max_bytes: int | None) -> list[Change]:
    """The first changes that fit into `max_bytes`, at least one."""
    if max_bytes is None:
        return list(changes)
    fitting: list[Change] = []
    size = 0
    for change in changes:
        size += len(change.encoded)
        if fitting and size > max_bytes:
            break
        fitting.append(change)
    return fitting


def stored(change: Change) -> Change:
    """The change as it comes from a store: its bytes, and what is read without decoding them."""
    return Change.from_encoded(
        change.encoded,
        id=change.id,
        rev=change.rev,
        created_at=change.created_at,
        batch_id=change.batch_id,
        client_id=change.client_id,
    )
