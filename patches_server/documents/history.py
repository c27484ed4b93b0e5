"""Which history of a document a caller's copy belongs to.

A document's *token* names its history: the epoch of the storage, a random id made with it, and the
document's life, a number that is new each time a document is made under its id. A client that asks
for the token gets it with each answer and sends it with the next call, together with the revision
and the id of the newest change that it has. A copy whose token is another, or whose newest change
is not in this history, must be fetched anew: its revisions number other changes.

The id matters because an older copy of a file has the epoch of the file it was copied from. Once
others have committed to it, its revisions are as high as those that were lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from patches.errors import OtherHistoryError
from patches.model.json_values import Json

#: The members of an options object that say it.
HISTORY_OPTIONS: Final = ("token", "last")


@dataclass(frozen=True, slots=True)
class KnownHistory:
    """What a caller says of its copy. `last_rev` is 0 where it names no change."""

    token: str | None = None
    last_rev: int = 0
    last_id: str | None = None


@dataclass(frozen=True, slots=True)
class HistoryMark:
    """A document's history as it stands: its token, and its newest change if that is known.

    The token is `None` for a document that does not exist.
    """

    token: str | None
    rev: int = 0
    change_id: str | None = None


def known_history(options: Mapping[str, Json]) -> KnownHistory | None:
    """What the options of a call hold, `None` if they do not request the token."""
    if "token" not in options:
        return None
    token, last = options["token"], options.get("last")
    if isinstance(last, list) and len(last) == 2:
        rev, change_id = last
        if isinstance(rev, int) and not isinstance(rev, bool) and isinstance(change_id, str):
            return KnownHistory(_string(token), rev, change_id)
    return KnownHistory(_string(token))


def token_of(epoch: str, life: int) -> str:
    """The token of a document."""
    return f"{epoch}.{life}"


def require_same_history(
    doc_id: str, known: KnownHistory, *, token: str | None, head_rev: int, rev: int
) -> None:
    """Raise `OtherHistoryError` if a copy at `rev` cannot be of the history at hand.

    `token` is `None` for a document that does not exist.
    """
    ahead = max(rev, known.last_rev) > head_rev
    if ahead or (known.token is not None and known.token != token):
        raise OtherHistoryError(doc_id)


def require_same_change(doc_id: str, known: KnownHistory, change_id: str | None) -> None:
    """Raise `OtherHistoryError` unless this is the id of the caller's newest change.

    `change_id` is that of the change at `known.last_rev`, `None` where it is not known any more.
    """
    if change_id is not None and change_id != known.last_id:
        raise OtherHistoryError(doc_id)


def _string(value: Json) -> str | None:
    return value if isinstance(value, str) else None
