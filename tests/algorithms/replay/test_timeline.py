"""The four properties of a timeline, over random actions in random orders."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patches.algorithms.replay import Actions
from patches.algorithms.replay.running import Invocation
from patches.algorithms.replay.timeline import Entry, Timeline
from patches.errors import ImpureActionError
from patches.rows import Schema, apply_row_ops, parse_row_ops
from patches.rows.working_copy import WorkingCopy
from tests.algorithms.replay.a_board import a_board

BOARD = a_board()
IDS = [f"00000000-0000-5000-8000-{number:012d}" for number in range(3)]


def entry(ms: int, name: str, change_id: str | None = None, **args: Any) -> Entry:
    change_id = change_id or f"c{ms}"
    action = BOARD.action_of(f"{name}@1")
    invocation = Invocation(
        change_id=change_id,
        action=action,
        args=action.check_args(args),
        now=ms,
        author="ann",
        rights=None,
    )
    return Entry(id=change_id, key=(ms, 0, "a", change_id), invocation=invocation)


def a_timeline(actions: Actions = BOARD) -> Timeline:
    return Timeline(WorkingCopy(actions.schema))


SLOTS = st.sampled_from("xyz")
CALLS = st.one_of(
    st.tuples(st.just("add_todo"), st.fixed_dictionaries({"slot": SLOTS, "title": SLOTS})),
    st.tuples(st.just("remove"), st.fixed_dictionaries({"id": st.integers(0, 9)})),
    st.tuples(st.just("rename"), st.fixed_dictionaries({"id": st.integers(0, 9), "title": SLOTS})),
    st.tuples(
        st.just("set_note"),
        st.fixed_dictionaries({"id": st.integers(0, 9), "note": st.none() | SLOTS}),
    ),
    st.tuples(st.just("finish_all"), st.just({})),
    st.tuples(st.just("number"), st.just({})),
    st.tuples(st.just("nothing"), st.just({})),
)
HISTORIES = st.lists(CALLS, min_size=1, max_size=8)


def entries(calls: list[tuple[str, dict[str, Any]]]) -> list[Entry]:
    """One entry a call, a millisecond apart; a number as an id is that call's own row, if any."""
    made = []
    for ms, (name, given_args) in enumerate(calls, 1):
        args = dict(given_args)
        if "id" in args:
            of = args["id"] % len(calls) + 1
            slot = calls[of - 1][1].get("slot", "x")
            args["id"] = row_of(f"c{of}", slot)
        made.append(entry(ms, name, **args))
    return made


def row_of(change_id: str, slot: str) -> str:
    from patches.algorithms.replay.ids import row_id

    return row_id(change_id, "todos", ["home", slot])


@settings(max_examples=200)
@given(HISTORIES, st.randoms(use_true_random=False))
def test_t2_any_order_of_placing_gives_the_same_state(calls: Any, random: Any) -> None:
    ordered = a_timeline()
    for each in entries(calls):
        ordered.place(each)
    shuffled_entries = entries(calls)
    random.shuffle(shuffled_entries)
    shuffled = a_timeline()
    for each in shuffled_entries:
        shuffled.place(each)
    assert shuffled.copy.state == ordered.copy.state
    assert [e.id for e in shuffled.entries] == [e.id for e in ordered.entries]
    assert [e.error for e in shuffled.entries] == [e.error for e in ordered.entries]
    assert len(ordered.copy.state["todos"]) <= 3


@settings(max_examples=200)
@given(HISTORIES, st.integers(0, 7), st.integers(0, 7))
def test_t1_removing_what_was_placed_gives_the_state_before(calls: Any, one: int, two: int) -> None:
    made = entries(calls)
    late = {one % len(made), two % len(made)}
    timeline = a_timeline()
    for place, each in enumerate(made):
        if place not in late:
            timeline.place(each)
    before = timeline.copy.state
    dumped = timeline.copy.query("SELECT * FROM todos ORDER BY id", ())
    for place in sorted(late):
        timeline.place(made[place])
    timeline.remove({made[place].id for place in late})
    assert timeline.copy.state == before
    assert timeline.copy.query("SELECT * FROM todos ORDER BY id", ()) == dumped


@settings(max_examples=200)
@given(HISTORIES, st.integers(0, 7))
def test_t3_own_and_sync_lead_from_before_to_after(calls: Any, late: int) -> None:
    made = entries(calls)
    last = made.pop(late % len(made))
    timeline = a_timeline()
    for each in made:
        timeline.place(each)
    before = timeline.copy.state
    placed = timeline.place(last)
    folded = apply_row_ops(before, parse_row_ops([*placed.own, *placed.sync]))
    assert folded == timeline.copy.state
    if last.key > max((each.key for each in made), default=(0, 0, "", "")):
        assert placed.sync == []


def test_t4_a_run_that_raises_leaves_no_trace() -> None:
    timeline = a_timeline()
    for ms, slot in enumerate("xyz", 1):
        timeline.place(entry(ms, "add_todo", slot=slot, title="t"))
    before = timeline.copy.state
    placed = timeline.place(entry(9, "add_todo", slot="w", title="t"))
    assert str(placed.failure) == "home is full"
    assert placed.own == placed.sync == []
    assert timeline.copy.state is before
    assert timeline.entries[-1].error == "home is full"


def test_a_late_arrival_takes_the_effect_of_one_that_the_rule_has_no_room_for() -> None:
    timeline = a_timeline(BOARD)
    for ms, slot in enumerate("xyz", 10):
        timeline.place(entry(ms, "add_todo", slot=slot, title="t"))
    placed = timeline.place(entry(1, "add_todo", slot="w", title="first"))
    assert placed.failure is None
    assert [op["op"] for op in placed.own] == ["add"]
    assert [op["op"] for op in placed.sync] == ["remove"]
    assert placed.corrected == ("c10", "c11", "c12")
    assert [each.id for each in placed.failed] == ["c12"]
    assert len(timeline.copy.state["todos"]) == 3
    timeline.remove({"c1"})
    assert timeline.entries[-1].error is None


def test_a_patch_stays_where_it_was_put() -> None:
    timeline = a_timeline()
    timeline.place(entry(1, "add_todo", slot="x", title="t"))
    (key,) = timeline.copy.state["todos"]
    timeline.patch("p", [{"op": "replace", "path": f"/todos/{key}/title", "value": "patched"}])
    timeline.place(entry(3, "finish_all"))
    timeline.place(entry(2, "rename", id=key, title="later"))
    assert [each.id for each in timeline.entries] == ["c1", "p", "c2", "c3"]
    assert timeline.copy.state["todos"][key]["title"] == "later"


def test_a_folded_timeline_places_after_its_start() -> None:
    timeline = a_timeline()
    for ms, slot in enumerate("xyz", 10):
        timeline.place(entry(ms, "add_todo", slot=slot, title="t"))
    timeline.fold(2)
    placed = timeline.place(entry(1, "number"))
    assert placed.corrected == ("c12",)
    assert sorted(row["title"] for row in timeline.copy.state["todos"].values()) == ["0", "1", "t"]


def test_work_is_in_proportion_to_what_lies_after() -> None:
    timeline = a_timeline(BOARD)
    for ms in range(10, 110):
        timeline.place(entry(ms, "put_setting", id=f"s{ms}", value=ms))
    placed = timeline.place(entry(100, "nothing", "late"))
    assert len(placed.corrected) == 9


def test_an_impure_action_is_told_of_with_row_and_column() -> None:
    schema = Schema("s")
    schema.table("settings")(Setting)
    actions = Actions(schema, check_purity=True)
    ticks = iter(range(100))

    @actions.define("bad")
    def bad(tx: Any) -> None:
        tx.settings.insert(id="a", value=next(ticks))

    timeline = Timeline(WorkingCopy(schema), check_purity=True)
    action = actions.action_of(bad)
    invocation = Invocation(change_id="c", action=action, args={}, now=1, author=None, rights=None)
    with pytest.raises(ImpureActionError, match="settings/a") as caught:
        timeline.place(Entry(id="c", key=(1, 0, "a", "c"), invocation=invocation))
    assert caught.value.columns == ("value",)
    assert timeline.copy.state == {"settings": {}}


class Setting:
    id: str
    value: int
