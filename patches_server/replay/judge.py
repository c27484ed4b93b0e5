"""Whether a submitted change may be run: its shape, its clock, its action and arguments. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from patches.algorithms.replay.actions import Actions
from patches.algorithms.replay.changes import (
    ACTION,
    CORRECTION,
    GROUP,
    RIGHTS,
    RUNNER,
    SHARED,
    call_of,
    clock_of,
)
from patches.algorithms.replay.clock import Clock
from patches.errors import (
    ChangeRefusedError,
    OtherHistoryError,
    StaleSubmissionError,
    UnavailableError,
)
from patches.model.change import Change, ChangeInput
from patches.model.json_values import Json
from patches.runtime import Millis
from patches_server.documents.history import (
    KnownHistory,
    require_same_change,
    require_same_history,
)
from patches_server.replay.live import Submitted
from patches_server.replay.logbook import Logbook
from patches_server.replay.views import HIDDEN, Viewer, parted_token

#: How far a client's clock may be ahead of the server's.
MAX_DRIFT_MS: Final = 60_000
#: What only a server says of a change.
_OF_THE_SERVER: Final = frozenset(
    (
        *("author", "error", "corrects", "failed", "kind", "action", "clock"),
        *(GROUP, CORRECTION, RUNNER, RIGHTS, SHARED),
    )
)

AnyChange = Change | ChangeInput


def judged(
    change: AnyChange,
    actions: Actions,
    *,
    now: Millis,
    author: str | None,
    rights: frozenset[str] | None,
    clients: Mapping[str, str | None],
) -> Submitted:
    """The action that a change asks for.

    Raises `ChangeRefusedError` (400, 403), and `UnavailableError` for an action that is not known
    here: another process of the server may know it already.
    """
    if change.metadata.get("kind") != ACTION:
        raise refused(change, "expected an action; what else is committed is the server's to make")
    (name, given), clock = called(change), judged_clock(change, now, author, clients)
    action = actions.find(name)
    if action is None:
        raise UnavailableError(
            f"action {name!r} is not known here", {"code": "UNKNOWN_ACTION", "action": name}
        )
    try:
        args = action.check_args(given)
    except TypeError as error:
        raise refused(change, str(error)) from error
    return Submitted(
        id=change.id,
        action=action,
        args=args,
        clock=clock,
        created_at=made_at(change, now),
        author=author,
        rights=rights,
        metadata=unclaimed(change),
    )


def called(change: AnyChange) -> tuple[str, dict[str, Json]]:
    """The name and the arguments of the action. Raises `ChangeRefusedError`."""
    call = call_of(change)
    if call is None:
        raise refused(change, "action: expected {name, args}")
    return call


def judged_clock(
    change: AnyChange, now: Millis, author: str | None, clients: Mapping[str, str | None]
) -> Clock:
    """The clock, which may not be ahead, nor another user's. Raises `ChangeRefusedError`."""
    clock = clock_of(change)
    if clock is None:
        raise refused(change, "clock: expected [ms, n, client]")
    if clock.ms > now + MAX_DRIFT_MS:
        ahead_s = (clock.ms - now) // 1000
        raise refused(
            change,
            f"its clock is {ahead_s} s ahead of the server's",
            more={"code": "CLOCK_AHEAD", "serverTime": now},
        )
    if clients.get(clock.client, author) != author:
        raise refused(change, f"the clock is {clock.client!r}'s, who is another user", code=403)
    return clock


def made_at(change: AnyChange, now: Millis) -> Millis:
    """When the action was first run; not far in the future."""
    return min(int(change.created_at or now), now + MAX_DRIFT_MS)


def unclaimed(change: AnyChange) -> dict[str, Json]:
    """What came with a change beside what only a server says."""
    return {name: value for name, value in change.metadata.items() if name not in _OF_THE_SERVER}


def refused(
    change: AnyChange | str,
    message: str,
    *,
    code: int = 400,
    more: Mapping[str, Any] | None = None,
) -> ChangeRefusedError:
    """The refusal of one change, or of the one with this id."""
    change_id = change if isinstance(change, str) else change.id
    error = ChangeRefusedError(change_id, f"change {change_id}: {message}", code=code)
    error.data = {**(error.data or {}), **(more or {})}
    return error


def require_kept(doc_id: str, live: Logbook, rev: int) -> None:
    """Raise if a copy at `rev` cannot follow on by changes: another history, or folded ones."""
    if rev > live.rev:
        raise OtherHistoryError(doc_id)
    if rev < live.floor:
        raise StaleSubmissionError(
            f"Document {doc_id}: revision {rev} is older than the changes that are kept "
            f"(from {live.floor} on). Reload the document."
        )


def require_history(
    doc_id: str, live: Logbook, known: KnownHistory, rev: int, viewer: Viewer
) -> None:
    """Raise `OtherHistoryError` for a copy at `rev` that is of another history, and
    `StaleSubmissionError` for one that was made when its user saw other rows.
    """
    token, mark = parted_token(known.token)
    known = replace(known, token=token)
    require_same_history(doc_id, known, token=live.token, head_rev=live.rev, rev=rev)
    if known.last_id is not None and not known.last_id.startswith(HIDDEN):
        require_same_change(doc_id, known, live.id_at(known.last_rev))
    if rev > 0 and mark != viewer.mark:
        raise StaleSubmissionError(
            f"Document {doc_id}: its user may see other rows now. Reload the document."
        )
