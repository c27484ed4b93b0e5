"""What an LWW commit stores and what it answers, from what was read: pure.

The rules: `docs/internals/lww.md` 7.3.

`decide` merges the ops of a submission into the rows that were read; `answer_rows` picks the rows
that the sender gets back. Text edits (`@txt`) are merged in the order of commits: there is no
history here to transform them over, so each is applied to the text as it is now, and its row is the
whole text.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from patches.algorithms.lww import FieldTable, consolidate_into, convert_delta_ops
from patches.algorithms.lww.consolidate import value_inside
from patches.algorithms.lww.field_table import ancestor_paths, is_below
from patches.errors import OpsRefusedError, PatchError
from patches.json_patch import apply_patch
from patches.model import codec
from patches.model.change import Change, ChangeInput
from patches.model.json_values import Json, Op
from patches.runtime import Millis
from patches_server.lww.holdings import after_removal, after_write
from patches_server.lww.rows import Row, RowTable, commit_order, holds
from patches_server.lww.store import LoadedRows

#: The operations that a client may send; `move`, `copy` and `test` become writes first.
LWW_OPS: Final = frozenset(
    {"replace", "remove", "add", "@inc", "@bit", "@max", "@min", "@txt", "move", "copy", "test"}
)

AnyChange = Change | ChangeInput


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What a submission comes to: ops to store as rows, removals to hide, rows that beat it."""

    ops: Sequence[Op] = ()
    hide: Sequence[str] = ()
    corrections: Sequence[Op] = ()


@dataclass(slots=True)
class _Outcome:
    to_save: dict[str, Op] = field(default_factory=dict)
    to_delete: dict[str, None] = field(default_factory=dict)
    to_return: dict[str, Op] = field(default_factory=dict)


def client_rev_of(change: AnyChange) -> int | None:
    """The revision that the sender says it has, `None` if it does not say."""
    if change.base_rev is not None:
        return change.base_rev
    return None if change.rev is None else max(0, change.rev - 1)


def fresh_changes(changes: Iterable[AnyChange], seen: frozenset[str]) -> list[AnyChange]:
    """The changes that are not committed yet, each id once."""
    fresh: dict[str, AnyChange] = {}
    for change in changes:
        if change.id not in seen:
            fresh.setdefault(change.id, change)
    return list(fresh.values())


def sent_paths(changes: Iterable[AnyChange]) -> list[str]:
    """The paths that changes write or take from, each once: what becomes of them is answered."""
    paths: dict[str, None] = {}
    for change in changes:
        for op in change.ops:
            paths[op["path"]] = None
            if op["op"] in ("move", "copy"):  # on others `from` means nothing, and is not checked
                paths[op["from"]] = None
    return list(paths)


def timed_ops(change: AnyChange, now: Millis, table: RowTable | None = None) -> list[Op]:
    """The change's ops, each with the time that it counts with: never later than the server's.

    With `table`, a time in the future is not lowered below that of a row that the op would write
    over. The clock of another process on this store may have been ahead when that row was stored:
    whoever has seen the row and writes later must not lose to it.
    """
    created_at = now if change.created_at is None else change.created_at
    timed = []
    for op in change.ops:
        ts = created_at if op.get("ts") is None else op["ts"]
        if ts > now:
            newest = now if table is None else max(now, _newest_time(table, op["path"]))
            ts = min(ts, newest)
        timed.append({**op, "ts": ts})
    return timed


def check_lww_ops(change: AnyChange) -> None:
    """Refuse operations that fields have not. Raises `OpsRefusedError`."""
    for index, op in enumerate(change.ops):
        if op["op"] not in LWW_OPS:
            raise OpsRefusedError(
                f"ops[{index}]: [op:{op['op']}] is not an operation of last-write-wins documents "
                f"(they have {', '.join(sorted(LWW_OPS))})"
            )


def decide(table: RowTable, changes: Sequence[AnyChange], now: Millis) -> Decision:
    """Fold `changes` into the rows that were read."""
    timed = [(change, timed_ops(change, now, table)) for change in changes]
    if _edits_text(timed):
        outcome = _in_steps(table, timed)
    else:
        result = consolidate_into(table, [op for _, ops in timed for op in ops])
        outcome = _Outcome(
            {op["path"]: op for op in result.ops_to_save},
            dict.fromkeys(result.paths_to_delete),
            {op["path"]: op for op in result.ops_to_return},
        )
    return _decision(table, outcome)


def answer_rows(
    loaded: LoadedRows,
    stored: Sequence[Row],
    decision: Decision,
    paths: Iterable[str],
    client_rev: int | None,
) -> list[Row]:
    """The sender's answer in commit order: corrections, what it wrote as it is now, what it missed.

    `loaded` was read before the commit, `stored` are its own rows. `client_rev` is what the sender
    has, `None` if it did not say, 0 if it is to get everything.
    """
    sent, written, hidden = set(paths), {row.path for row in stored}, set(decision.hide)
    answer = {op["path"]: _correction(op) for op in decision.corrections}
    for row in loaded.rows:
        if row.path in written or _is_under(row.path, written):
            continue
        shown = not row.hidden and row.path not in hidden
        missed = client_rev is not None and row.rev > client_rev
        if shown:
            if missed or row.path in sent or _is_under(row.path, sent):
                answer[row.path] = row
        elif (missed and row.concerns(client_rev or 0)) or (
            row.pinned and _is_under(row.path, answer.keys())
        ):  # the latter: what it takes away comes back with a row above, which comes before it
            answer[row.path] = row
    for row in stored:
        answer[row.path] = row
    return commit_order(answer.values())


def new_rows(loaded: LoadedRows, decision: Decision, author: str | None = None) -> list[Row]:
    """The rows of the next revision, with what they know of the past of their paths."""
    rev, table = loaded.rev + 1, RowTable(loaded.rows, with_hidden=True)
    written = {op["path"]: op for op in decision.ops}
    rows = []
    for pos, op in enumerate(decision.ops):
        path = op["path"]
        replaced = []
        for name in (path, *table.below(path)):
            row = table.row(name)
            if row is not None:
                replaced.append(row.held)
        if op["op"] != "remove":
            held = after_write(replaced, rev)
            rows.append(Row.from_op(op, rev=rev, pos=pos, held=held, author=author))
            continue
        # what a row above or the snapshot holds here, it gives to every reader that gets it
        above = (written.get(name) or table.get(name) for name in ("", *ancestor_paths(path)))
        pinned = loaded.snapshot is not None or any(row and holds(row, path) for row in above)
        held = after_removal(replaced, rev, held_since=[0] if pinned else [])
        rows.append(Row.from_op(op, rev=rev, pos=pos, held=held, pinned=pinned, author=author))
    return rows


def seed_rows(source: LoadedRows) -> list[Row]:
    """The rows of a copy at its first revision: with hidden removals of what rows above still hold.

    The copy's snapshot holds what all rows come to: every removal in it is pinned.
    """
    copied = [row for row in source.rows if row.pinned or not row.hidden]
    rows = []
    for pos, row in enumerate(copied):
        held = after_removal((), 1, held_since=[0]) if row.is_removal else ((0, None),)
        pinned = row.is_removal
        new = Row.from_op(row.op, rev=1, pos=pos, held=held, pinned=pinned, author=row.author)
        rows.append(new.as_hidden() if row.hidden else new)
    return rows


def _correction(op: Op) -> Row:
    """A row that beat an op; one of the same submission has no revision yet."""
    rev = op.get("rev", 0)
    return Row(
        op["path"],
        rev=rev,
        pos=0,
        ts=op["ts"],
        encoded=codec.encode(op),
        held=(),
        op=op,
    )


def _decision(table: RowTable, outcome: _Outcome) -> Decision:
    if not outcome.to_save:  # only dead rows would go: then nothing is stored
        return Decision(corrections=list(outcome.to_return.values()))
    return Decision(
        ops=convert_delta_ops(list(outcome.to_save.values())),
        hide=[
            path
            for path in outcome.to_delete
            if path not in outcome.to_save and _is_removal(table.get(path))
        ],
        corrections=list(outcome.to_return.values()),
    )


def _edits_text(timed: Sequence[tuple[AnyChange, list[Op]]]) -> bool:
    for _, ops in timed:
        for op in ops:
            if op["op"] == "@txt":
                return True
    return False


def _in_steps(table: RowTable, timed: Sequence[tuple[AnyChange, list[Op]]]) -> _Outcome:
    """The same as one consolidation, op by op: a text edit needs the text that it meets."""
    outcome = _Outcome()
    fields = FieldTable(row.op for row in table.rows())
    for _, ops in timed:
        for op in ops:
            step = op
            if op["op"] == "@txt":
                text = _edited_text(fields, op)
                if text is None:  # not a text: the sender gets what is there
                    continue
                step = text
            _fold(outcome, fields, step)
    return outcome


def _fold(outcome: _Outcome, fields: FieldTable, op: Op) -> None:
    result = consolidate_into(fields, (op,))
    outcome.to_delete.update(dict.fromkeys(result.paths_to_delete))
    for returned in result.ops_to_return:
        outcome.to_return.setdefault(returned["path"], returned)
    for saved in result.ops_to_save:
        path = saved["path"]
        for below in fields.below(path):
            outcome.to_save.pop(below, None)
            fields.discard(below)
        outcome.to_delete.pop(path, None)
        outcome.to_save[path] = saved
        fields.put(saved)


def _edited_text(fields: FieldTable, op: Op) -> Op | None:
    """A text edit as the write of the whole text, `None` if there is no text that it can edit."""
    path, ts = op["path"], op["ts"]
    row = fields.get(path)
    if row is not None:
        ts = max(ts, row["ts"])  # edits merge: they do not compete by time
    elif fields.has_below(path):
        return None
    base = _as_text(_value_at(fields, path, row))
    if base is None:
        return None
    edit = {"op": "@txt", "path": "/text", "value": op["value"]}
    try:
        text = apply_patch({"text": base}, [edit], strict=True)["text"]
    except PatchError:
        return None
    written = {**op, "op": "replace", "value": text, "ts": ts}
    written.pop("soft", None)
    return written


def _as_text(value: Json) -> Json | None:
    """A value as the text that an edit starts from; a plain string keeps its characters."""
    if value is None or value == "":
        return {"ops": []}
    if isinstance(value, str):
        return {"ops": [{"insert": value if value.endswith("\n") else value + "\n"}]}
    if isinstance(value, dict):
        return value if isinstance(value.get("ops"), list) else None
    if isinstance(value, list) and value and isinstance(value[0], dict) and value[0].get("insert"):
        return value
    return None


def _value_at(fields: FieldTable, path: str, row: Op | None) -> Json:
    if row is not None:
        return None if row["op"] == "remove" else row.get("value")
    for above in ancestor_paths(path):
        row = fields.get(above)
        if row is not None:
            if row["op"] == "remove":
                return None
            return value_inside(row.get("value"), path[len(above) + 1 :].split("/"))[1]
    return None


def _newest_time(table: RowTable, path: str) -> Millis:
    """The latest time of the rows at, above and below a path; 0 if there are none."""
    rows = (table.get(name) for name in ("", *ancestor_paths(path), path, *table.below(path)))
    return max((row["ts"] for row in rows if row is not None), default=0)


def _is_removal(op: Op | None) -> bool:
    return op is not None and op["op"] == "remove"


def _is_under(path: str, parents: Collection[str]) -> bool:
    if not parents:
        return False
    return any(above in parents for above in ancestor_paths(path)) or (
        "" in parents and is_below(path, "")
    )
