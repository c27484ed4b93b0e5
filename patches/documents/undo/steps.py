"""`Steps`: a stack of undo steps, kept in step with what others do.

The newest reversal was made for the shown state, each older one for the state that the one above it
leads to. What others do happens to the shown state, so it has to pass down through the stack: each
reversal follows it, and it is carried over the reversal to the next. That is done for a reversal
when it is taken. Until then the work of others waits above the place where it happened.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from patches.documents.reversals import History, Refused, Reversal, UndoRules
from patches.errors import PatchError
from patches.json_patch import apply_patch
from patches.json_patch.handlers import delta_of
from patches.model.json_values import Json, Op, json_equal
from patches.text import compose

_NOTHING: Final[History] = []

#: So much of others waits above a reversal before it is composed to less.
_MAX_WAITING: Final = 64


@dataclass(frozen=True, slots=True)
class Step:
    """What one `undo()` takes back."""

    label: str = ""
    #: When its last edit was made, in milliseconds since 1970.
    at: int = 0
    #: The caller's own: a cursor before and after, for example.
    meta: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class EditRecord:
    """One edit, as long as it can be refused: its live operation list, what it was stored as."""

    ops: list[Op] | None
    change_ids: tuple[str, ...] = ()


@dataclass(slots=True, eq=False)
class _Entry:
    reversal: Reversal
    edit: EditRecord
    above: History  #: what others did since, newest last; replaced, never changed


@dataclass(slots=True, eq=False)
class _OpenStep:
    step: Step
    entries: list[_Entry] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Taken:
    """A step that was taken."""

    step: Step
    #: What takes it back, if that changes anything.
    ops: list[Op]
    #: Put the step back where it was, because the operations could not be applied.
    put_back: Callable[[], None]


class Steps:
    """Owned by one manager. The newest step is the last one."""

    def __init__(self, rules: UndoRules) -> None:
        self._rules = rules
        self._steps: list[_OpenStep] = []

    def __len__(self) -> int:
        return len(self._steps)

    def listed(self) -> tuple[Step, ...]:
        """The steps, newest last."""
        return tuple(opened.step for opened in self._steps)

    def newest(self) -> Step | None:
        """The step that would be taken next."""
        return self._steps[-1].step if self._steps else None

    def open(self, step: Step) -> None:
        """Put a step on the stack; `push` fills it."""
        self._steps.append(_OpenStep(step))

    def rename(self, step: Step) -> None:
        """Replace what is known of the newest step."""
        self._steps[-1].step = step

    def push(self, reversal: Reversal, edit: EditRecord) -> None:
        """Put a reversal, made for the shown state, on the newest step."""
        self._steps[-1].entries.append(_Entry(reversal, edit, _NOTHING))

    def record(
        self, step: Step, reversals: Sequence[Reversal], edit: EditRecord, *, joins: bool, most: int
    ) -> None:
        """Put an edit, made for the shown state, on the stack: as a step, or in the newest one.

        At most `most` steps are kept.
        """
        entries = [_Entry(back, edit, _NOTHING) for back in reversals if back.ops]
        if joins:
            opened = self._steps[-1]
            opened.step = step
            opened.entries += entries
        elif entries:
            self._steps.append(_OpenStep(step, entries))
            if len(self._steps) > most:
                del self._steps[: len(self._steps) - most]

    def close(self, most: int) -> None:
        """Drop the newest step if nothing came into it, and the oldest above so many."""
        if self._steps and not self._steps[-1].entries:
            self._steps.pop()
        if len(self._steps) > most:
            del self._steps[: len(self._steps) - most]

    def clear(self) -> None:
        """Drop all steps."""
        self._steps.clear()

    def follow(self, history: History) -> None:
        """Others have done this to the shown state."""
        self._wait_above(self._top(), history)

    def take(self, state: Json) -> Taken:
        """Take the newest step off the stack. `state` is the shown state.

        What others have written stays, and without it nothing may be left to take back.
        """
        opened, program, first = self._steps[-1], [], state
        entries, below = list(opened.entries), self._top_below()
        before = [(entry, entry.above) for entry in (*entries, *([below] if below else ()))]
        while opened.entries:
            entry = opened.entries.pop()
            reversal, passed = self._rules.follow(entry.reversal, entry.above)
            if reversal.ops and not self._rules.is_possible(reversal, state):
                passed = [*passed, *self._rules.skipped(reversal, state)]
            elif reversal.ops:
                try:
                    state = apply_patch(state, reversal.ops, strict=True)
                    program += reversal.ops
                except PatchError:  # what it leads through is gone
                    pass
            self._wait_above(self._top(), passed)
        self._steps.pop()

        def put_back() -> None:
            opened.entries = entries
            for entry, above in before:
                entry.above = above
            self._steps.append(opened)

        return Taken(opened.step, [] if json_equal(state, first) else program, put_back)

    def forget(self, refused: Sequence[Refused], history: History) -> None:
        """Drop what belongs to refused changes. `history` is what the refusal did to the shown
        state: to what was made after them. For what was made before them nothing has happened.
        """
        entries = [entry for opened in self._steps for entry in opened.entries]
        places = [at for at, entry in enumerate(entries) if self._is_of(entry, refused)]
        if not places:
            self.follow(history)
            return
        for place in range(len(entries) - 1, places[0] - 1, -1):  # what waits was there before
            entry = entries[place]
            entry.reversal, passed = self._rules.follow(entry.reversal, entry.above)
            entry.above = []
            self._wait_above(entries[place - 1] if place else None, passed)
        for entry in reversed(entries[places[-1] + 1 :]):
            entry.reversal, history = self._rules.follow(entry.reversal, history)
        for opened in self._steps:
            opened.entries = [e for e in opened.entries if not self._is_of(e, refused)]
        self._steps = [opened for opened in self._steps if opened.entries]

    def stored(self, ops: list[Op], change_ids: tuple[str, ...]) -> None:
        """An edit was given its change ids. Only the newest edits are checked: they wait."""
        for opened in reversed(self._steps):
            for entry in reversed(opened.entries):
                if entry.edit.ops is ops:
                    entry.edit.change_ids = change_ids
                    return

    # ---- inside ----------------------------------------------------------------------------------

    def _top(self) -> _Entry | None:
        for opened in reversed(self._steps):
            if opened.entries:
                return opened.entries[-1]
        return None

    def _top_below(self) -> _Entry | None:
        for opened in reversed(self._steps[:-1]):
            if opened.entries:
                return opened.entries[-1]
        return None

    def _wait_above(self, entry: _Entry | None, history: History) -> None:
        if entry is None or not history:
            return
        entry.above = [*entry.above, *history]  # not in place: `take` can be taken back
        if len(entry.above) > _MAX_WAITING:
            entry.above = _composed(entry.above)

    def _is_of(self, entry: _Entry, refused: Sequence[Refused]) -> bool:
        edit = entry.edit
        return any(
            edit.ops is each
            if isinstance(each, list)
            else self._rules.is_of(entry.reversal, edit.change_ids, each)
            for each in refused
        )


def _composed(history: History) -> History:
    """The same work with one operation for each run of edits of one text."""
    composed: History = []
    for ops in history:
        last = composed[-1][0] if composed and len(composed[-1]) == 1 else None
        if last is not None and len(ops) == 1 and _are_of_one_text(last, ops[0]):
            a, b = delta_of(last["value"]), delta_of(ops[0]["value"])
            if a is not None and b is not None:
                composed[-1] = [{**last, "value": compose(a, b)}]
                continue
        composed.append(ops)
    return composed


def _are_of_one_text(a: Op, b: Op) -> bool:
    return bool(a["op"] == "@txt" == b["op"] and a["path"] == b["path"])
