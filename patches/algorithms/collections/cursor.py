"""The cursor rule: which committed changes a copy at a revision takes. Pure.

A change says the revision that it follows, `base_rev`, and the one it leads to, `rev`. They may be
far apart: what a client may not see, or catches up with in one, is not sent one by one.

- `rev` at or below the cursor: known already, its operations are skipped.
- `base_rev` at or below the cursor, `rev` above: it is applied, and the cursor moves to `rev`.
- `base_rev` above the cursor: something was missed, and nothing of the list is applied.
"""

from __future__ import annotations

from collections.abc import Sequence

from patches.errors import MissingChangesError
from patches.model.change import Change


def following(changes: Sequence[Change], cursor: int) -> list[Change]:
    """The changes to apply, in order. Raises `MissingChangesError` for a gap."""
    accepted: list[Change] = []
    at = cursor
    for change in changes:
        if change.rev <= at:
            continue
        if change.base_rev > at:
            raise MissingChangesError(
                expected_rev=at + 1, got_rev=change.base_rev + 1, since_rev=cursor
            )
        accepted.append(change)
        at = change.rev
    return accepted
