"""What was committed and not run here: as much of it is taken back as a late action needs."""

from __future__ import annotations

from typing import Any

import pytest

from patches.algorithms.replay.past import Past
from patches.algorithms.replay.running import Invocation, run
from patches.algorithms.replay.timeline import Entry, Timeline
from patches.rows import parse_row_ops
from patches.rows.working_copy import WorkingCopy
from tests.algorithms.replay.a_board import a_board

BOARD = a_board()


def entry(ms: int, name: str = "put_setting", change_id: str | None = None, **args: Any) -> Entry:
    change_id = change_id or f"c{ms}"
    action = BOARD.action_of(f"{name}@1")
    invocation = Invocation(
        change_id=change_id,
        action=action,
        args=args or {"id": f"s{ms}", "value": ms},
        now=ms,
        author=None,
        rights=None,
    )
    return Entry(id=change_id, key=(ms, 0, "a", change_id), invocation=invocation)


def a_timeline() -> Timeline:
    return Timeline(WorkingCopy(BOARD.schema))


def committed(*times: int) -> list[Entry]:
    """Actions with the effect that they had where they were run."""
    found = [entry(ms) for ms in times]
    a_timeline().place_all(found)
    return found


def test_only_units_that_lie_after_are_taken() -> None:
    past = Past()
    assert past.highest < (0, 0, "", "")
    for ms in (10, 20, 30, 40):
        past.append([entry(ms)], [])
    past.append([], [])
    assert past.highest == entry(40).key
    taken = past.take_from(entry(35, change_id="late").key)
    assert [[each.key[0] for each in unit.entries] for unit in taken] == [[40], []]
    assert past.highest == entry(30).key
    past.clear()
    assert past.take_from((0, 0, "", "")) == []


def test_one_that_came_late_before_takes_those_with_it_that_it_lies_before() -> None:
    past = Past()
    for ms in (10, 20, 30, 15, 40):
        past.append([entry(ms)], [])
    taken = past.take_from(entry(35, change_id="late").key)
    assert [unit.entries[0].key[0] for unit in taken] == [40]
    past.append([entry(40)], [])
    taken = past.take_from(entry(25, change_id="later still").key)
    assert [unit.entries[0].key[0] for unit in taken] == [20, 30, 15, 40]


def test_a_rollback_runs_what_lies_after_and_not_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    timeline = a_timeline()
    for each in committed(*range(10, 1_010)):
        timeline.commit([each], parse_row_ops(each.ops))
    runs = 0

    def counted(*given: Any, **more: Any) -> Any:
        nonlocal runs
        runs += 1
        return run(*given, **more)

    monkeypatch.setattr("patches.algorithms.replay.timeline.run", counted)
    placed = timeline.place(entry(1_000, "nothing", "late"))
    assert len(placed.corrected) == 9
    assert runs <= 20
    assert timeline.copy.count() == 1_000


def test_what_history_has_and_another_run_has_not_is_kept_and_reported() -> None:
    reported: list[Any] = []
    timeline = Timeline(WorkingCopy(BOARD.schema), diverged=reported.append)
    (known,) = committed(20)
    other = [{**known.ops[0], "value": {**known.ops[0]["value"], "value": 7}}]
    timeline.commit([known], parse_row_ops(other))
    timeline.place(entry(10, "nothing", "late"))
    assert timeline.copy.state["settings"]["s20"]["value"] == 7
    assert [[op["path"] for op in ops] for ops in reported] == [["/settings/s20/value"]]
    timeline.move_to_past(len(timeline.entries))
    timeline.place(entry(5, "nothing", "later"))
    assert timeline.copy.state["settings"]["s20"]["value"] == 7


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2), (2, 3, 1)])
def test_placing_together_is_placing_one_after_the_other(order: tuple[int, ...]) -> None:
    slots = [entry(ms, "add_todo", slot=f"s{ms}", title=f"t{ms}") for ms in (2, 4, 6)]
    late = [entry(ms, "add_todo", f"l{ms}", slot=f"l{ms}", title="late") for ms in order]
    together, single = a_timeline(), a_timeline()
    together.place_all(slots)
    before = together.copy.state
    placed = together.place_all(late)
    for ms in (2, 4, 6):
        single.place(entry(ms, "add_todo", slot=f"s{ms}", title=f"t{ms}"))
    for ms in order:
        single.place(entry(ms, "add_todo", f"l{ms}", slot=f"l{ms}", title="late"))
    assert together.copy.state == single.copy.state
    assert placed.is_late
    assert {each.id for each in placed.failed} <= {"c2", "c4", "c6"}
    ordered = [op for each in late for op in each.ops]
    assert placed.own == ordered
    copy = WorkingCopy(BOARD.schema)
    copy.load(before)
    with copy.record():
        copy.apply(parse_row_ops([*placed.own, *placed.sync]))
    assert copy.state == together.copy.state
