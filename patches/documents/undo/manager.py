"""`UndoManager`: undo and redo of the edits made through one open document."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

from patches.aio.signals import Signal, Unsubscribe
from patches.documents.reversals import History, Refused, Reversal
from patches.documents.undo.places import EditPlace, place_of
from patches.documents.undo.steps import EditRecord, Step, Steps
from patches.documents.watchers import EditGroup, EditPlan
from patches.errors import DocumentClosedError, PatchError
from patches.json_patch import pointer
from patches.model.change import Change
from patches.model.json_values import Json, Op
from patches.runtime import Runtime

if TYPE_CHECKING:
    from patches.documents.document import Document

_UNDO: Final[Mapping[str, Json]] = {"undo": True}


class UndoManager:
    """Takes back what was edited through one open document, and never what others did.

    `group_within`: seconds within which edits of one text, or of neighbouring places of one list,
    become one step. `limit`: how many steps are kept. `paths`: JSON Pointers; edits elsewhere are
    not taken back. Steps live in memory until `close()`, or until the document is closed.

    Raises `UnsupportedOperationError` for a document whose algorithm cannot take edits back.
    """

    def __init__(
        self,
        doc: Document,
        *,
        group_within: float = 0.5,
        limit: int = 200,
        paths: Sequence[str] = ("",),
        runtime: Runtime | None = None,
        only: EditGroup | None = None,
    ) -> None:
        """`only`: edits that do not belong to this group are not taken back."""
        if limit < 1 or group_within < 0:
            raise ValueError("UndoManager takes a limit of 1 or more, a group_within of 0 or more")
        if isinstance(paths, str):
            raise TypeError("UndoManager takes a list of paths")
        for path in paths:
            pointer.parse(path)
        self.doc: Final = doc
        self._group_within_ms = group_within * 1000
        self._limit = limit
        self._paths = tuple(paths)
        self._is_everywhere = "" in self._paths
        self._runtime = runtime or doc.runtime or Runtime()
        self._rules = doc.undo_rules()
        self._undo, self._redo = Steps(self._rules), Steps(self._rules)
        self._doing: Literal["undo", "redo"] | None = None
        self._doing_step = Step()
        self._untracked = 0
        self._only = only
        self._joined: EditGroup | None = None  # what the newest step is of
        self._groups: list[_Group] = []
        self._last: tuple[int, EditPlace | None] | None = None  # the newest edit, if it can grow
        self._on_change: Signal[[]] = Signal("on_change")
        doc.watch(self)

    # ---- what it does ----------------------------------------------------------------------------

    def undo(self) -> bool:
        """Take the newest step back, as one edit. `False` if there is none left.

        A step that would change nothing any more is dropped, and the one before it is taken. Raises
        `DocumentClosedError`, and `PatchError` inside of an edit of this document.
        """
        return self._step_back("undo", self._undo)

    def redo(self) -> bool:
        """Make the step that was undone last again. As `undo`."""
        return self._step_back("redo", self._redo)

    @contextmanager
    def group(self, label: str = "", *, meta: Mapping[str, Any] | None = None) -> Iterator[None]:
        """All edits of the block are one step, whenever they are made."""
        group = _Group(label, dict(meta or {}))
        self._groups.append(group)
        try:
            yield
        finally:
            self._groups.remove(group)
            self._last = None

    @contextmanager
    def untracked(self) -> Iterator[None]:
        """Edits of the block are not taken back."""
        self._untracked += 1
        try:
            yield
        finally:
            self._untracked -= 1

    def stop_grouping(self) -> None:
        """The next edit opens a new step."""
        self._last = self._joined = None
        for group in self._groups:
            group.is_open = False

    def clear(self) -> None:
        """Forget all steps."""
        had = self.can_undo or self.can_redo
        self._undo.clear()
        self._redo.clear()
        self._last = None
        if had:
            self._on_change.emit()

    def close(self) -> None:
        """Forget all steps and record no more."""
        self.doc.unwatch(self)
        self.clear()

    # ---- what it knows ---------------------------------------------------------------------------

    @property
    def can_undo(self) -> bool:
        """True if there is a step to undo."""
        return len(self._undo) > 0

    @property
    def can_redo(self) -> bool:
        """True if there is a step to redo."""
        return len(self._redo) > 0

    @property
    def steps(self) -> tuple[Step, ...]:
        """What can be undone, newest last."""
        return self._undo.listed()

    @property
    def doing(self) -> Literal["undo", "redo"] | None:
        """What it is doing, while it edits the document."""
        return self._doing

    def on_change(self, subscriber: Callable[[], object]) -> Unsubscribe:
        """Call `subscriber()` when steps come or go. Returns the unsubscriber."""
        return self._on_change(subscriber)

    # ---- the document's watcher ------------------------------------------------------------------

    def plan(self, before: Json, ops: list[Op], by: object) -> EditPlan:
        """The document is about to be edited here."""
        is_others = self._only is not None and self.doc.edit_group is not self._only
        if (self._untracked or by is not None or is_others) and by is not self:
            return EditPlan(lambda: self.moved([list(ops)], ()))
        reversals = self._rules.reversals(before, ops)
        record = self._record_undone if by is self else self._record
        return EditPlan(partial(record, ops, reversals), _keep_values(reversals))

    def moved(self, history: History, refused: Sequence[Refused]) -> None:
        """Others have changed the shown state, or changes of ours were refused."""
        if refused:
            self._undo.forget(refused, history)
            self._redo.forget(refused, history)
            self._last = None
            self._on_change.emit()
        else:
            self._undo.follow(history)
            self._redo.follow(history)

    def replaced(self, before: Json, after: Json, refused: Sequence[Refused]) -> None:
        """As `moved`, where the operations are not known."""
        self.moved(self._rules.moves(before, after), refused)

    def stored(self, ops: list[Op], changes: Sequence[Change]) -> None:
        """An edit is on its way to the store as these changes."""
        ids = tuple(change.id for change in changes)
        self._undo.stored(ops, ids)
        self._redo.stored(ops, ids)

    # ---- inside ----------------------------------------------------------------------------------

    def _step_back(self, what: Literal["undo", "redo"], steps: Steps) -> bool:
        if self.doc.is_closed:
            raise DocumentClosedError(f"document {self.doc.id!r} is closed; open it again")
        if self.doc.is_being_edited:
            raise PatchError(f"{what}() inside an edit of document {self.doc.id!r}")
        self.stop_grouping()
        done = False
        had = len(steps)
        while len(steps) and not done:
            taken = steps.take(self.doc.plain_state)
            if not taken.ops:
                continue
            self._doing, self._doing_step = what, taken.step
            try:
                self.doc.apply_as(self, taken.ops, _UNDO)
            except BaseException:
                taken.put_back()
                raise
            finally:
                self._doing = None
            done = True
        if had:
            self._on_change.emit()
        return done

    def _record_undone(self, ops: list[Op], reversals: list[Reversal]) -> None:
        """The edit of an `undo` or a `redo` goes onto the other stack."""
        onto = self._redo if self._doing == "undo" else self._undo
        onto.open(self._doing_step)
        self._push(onto, ops, reversals)
        onto.close(self._limit)

    def _record(self, ops: list[Op], reversals: list[Reversal]) -> None:
        if not self._is_everywhere and not any(map(self._is_tracked, ops)):
            self.moved([list(ops)], ())
            return
        if len(self._redo):
            self._redo.clear()
        step, joins = self._next_step(ops)
        if self._is_everywhere:
            self._undo.record(step, reversals, EditRecord(ops), joins=joins, most=self._limit)
        else:
            if joins:
                self._undo.rename(step)
            else:
                self._undo.open(step)
            self._push(self._undo, ops, reversals)
            self._undo.close(self._limit)
        if self._on_change:
            self._on_change.emit()

    def _push(self, steps: Steps, ops: list[Op], reversals: list[Reversal]) -> None:
        edit = EditRecord(ops)
        is_everywhere = self._is_everywhere or self._doing is not None
        for op, reversal in zip(ops, reversals, strict=True):
            if not is_everywhere and not self._is_tracked(op):
                steps.follow([[op]])
            elif reversal.ops:
                steps.push(reversal, edit)

    def _next_step(self, ops: Sequence[Op]) -> tuple[Step, bool]:
        """The step of an edit, and whether that is the newest one, which it joins."""
        at = self._runtime.wall_ms()
        newest = self._undo.newest()
        stream, joined = self.doc.edit_group, self._joined
        self._joined = stream
        if self._groups:
            group, self._last = self._groups[0], None
            joins, group.is_open = group.is_open, True
            fresh = Step(group.label, at, group.meta)
        elif stream is not None:
            joins, self._last = joined is stream, None
            fresh = Step(stream.label, at, {})
        else:
            place = place_of(ops) if self._group_within_ms else None
            joins = place is not None and self._joins(at, place)
            fresh = Step("", at, {})
            self._last = at, place
        if newest is None or not joins:
            return fresh, False
        return Step(newest.label, at, newest.meta), True

    def _joins(self, at: int, place: EditPlace) -> bool:
        if self._last is None:
            return False
        then, last = self._last
        return at - then < self._group_within_ms and last is not None and last.is_beside(place)

    def _is_tracked(self, op: Op) -> bool:
        return any(op["path"] == path or pointer.is_under(op["path"], path) for path in self._paths)


class _Group:
    def __init__(self, label: str, meta: dict[str, Any]) -> None:
        self.label = label
        self.meta = meta
        self.is_open = False  # its step is on the stack


def _keep_values(reversals: Sequence[Reversal]) -> bool:
    """Whether they hold lists or objects that were in the document."""
    for reversal in reversals:
        if isinstance(reversal.guard, (dict, list)):
            return True
        for op in reversal.ops:
            if op["op"] != "@txt" and isinstance(op.get("value"), (dict, list)):
                return True
    return False
