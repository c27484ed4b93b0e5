"""Running an action once: with its rights, within its bounds, recorded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from patches.algorithms.replay.actions import Action
from patches.algorithms.replay.tx import Tx
from patches.errors import ActionRefusedError, ActionTooSlowError, ImpureActionError
from patches.model.json_values import Json, Op
from patches.rows.journal import Journal
from patches.rows.working_copy import Rights, WorkingCopy
from patches.runtime import Millis

MAX_ROWS_WRITTEN: Final = 10_000

#: Says when an action has run for too long; made anew for each run.
Deadline = Callable[[], Callable[[], bool]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """An action with its arguments, and what is the same in every run of it."""

    change_id: str
    action: Action
    args: dict[str, Json]
    now: Millis
    author: str | None
    rights: Rights  # the author's when it was made


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run did."""

    ops: list[Op]
    inverse: list[Op]
    result: Json


def run(
    copy: WorkingCopy,
    invocation: Invocation,
    *,
    check_purity: bool = False,
    deadline: Deadline | None = None,
) -> Outcome:
    """Run an action. If it raises, nothing is left of it.

    Raises what the action raises, `ActionRefusedError` for one that writes too many rows,
    `ActionTooSlowError` for one that is not done when `deadline` says so,
    `ImpureActionError` if `check_purity` and a second run does something else.
    """
    if check_purity:
        first = _rolled_back(copy, invocation, deadline)
        with copy.record() as journal:
            result = _call(copy, invocation, journal, deadline)
            _compare(invocation, first, journal)
    else:
        with copy.record() as journal:
            result = _call(copy, invocation, journal, deadline)
    return Outcome(journal.ops(), journal.inverse(), result)


def message_of(error: Exception) -> str:
    """The message that is reported for an action that raised."""
    return str(error) or type(error).__name__


def _call(
    copy: WorkingCopy, invocation: Invocation, journal: Journal, deadline: Deadline | None
) -> Json:
    action = invocation.action
    tx = Tx(copy, change_id=invocation.change_id, now=invocation.now, author=invocation.author)
    rights = None if action.rights == "all" else invocation.rights
    is_late = None if deadline is None else deadline()
    try:
        with copy.limited(is_late), copy.run(rights):
            result = action.function(tx, **invocation.args)
    except Exception as error:
        if is_late is None or not is_late():
            raise
        raise ActionTooSlowError(action.name) from error
    if is_late is not None and is_late():
        raise ActionTooSlowError(action.name)
    action.check_result(result)
    if len(journal.rows) > MAX_ROWS_WRITTEN:
        raise ActionRefusedError(
            f"action {action.name!r} writes {len(journal.rows)} rows, at most {MAX_ROWS_WRITTEN}"
        )
    return result


class _RollBackError(Exception):
    pass


def _rolled_back(copy: WorkingCopy, invocation: Invocation, deadline: Deadline | None) -> Journal:
    try:
        with copy.record() as journal:
            _call(copy, invocation, journal, deadline)
            raise _RollBackError
    except _RollBackError:
        return journal


def _compare(invocation: Invocation, first: Journal, second: Journal) -> None:
    for place in sorted(first.rows.keys() | second.rows.keys()):
        before, after = first.after.get(place), second.after.get(place)
        if before != after:
            columns = [
                name
                for name in {**(before or {}), **(after or {})}
                if (before or {}).get(name) != (after or {}).get(name)
            ]
            raise ImpureActionError(
                invocation.action.name, table=place[0], key=place[1], columns=tuple(columns)
            )
