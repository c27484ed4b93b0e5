"""The rule "ties" of the READMEs: which recorded cases differ by it, and by nothing else.

Where a committed and a pending insertion stand at one place, @dabble/patches 0.28.1 moves each of
them behind the other. Ours keeps one order in both directions (docs/ot.md). A case that does not
hold is run a second time with the recorded answer to a tie: if it holds then, it is one of these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest

from patches.algorithms.ot import ejection, incoming, rebase, unsaved
from patches.json_patch.transform.relations import Context
from patches.json_patch.transform.transform import pass_over
from patches.model.change import Change
from patches.model.json_values import Json, Op
from tests.support.conformance import Case, ConformanceTally


def recorded_transform(
    state: Json, committed: Sequence[Op], incoming_ops: list[Op], *, other_ops_first: bool
) -> list[Op]:
    """`transform_patch` with the recorded answer to a tie."""
    ctx = Context(state, other_ops_first=other_ops_first, custom_ops=None)
    ctx.older_inserts_first = False
    for op in committed:
        incoming_ops = pass_over(ctx, op, incoming_ops)
    return incoming_ops


class RecordedWalk:
    """The walk, pair by pair, with the recorded answer to a tie."""

    def __init__(self, queue: Sequence[list[Op]]) -> None:
        self._programs: list[list[Op] | None] = list(queue)

    def programs(self) -> list[list[Op] | None]:
        return self._programs

    def remove(self, position: int) -> None:
        self._programs[position] = None

    def follow(self, ops: list[Op]) -> list[Op]:
        for position, entry in enumerate(self._programs):
            if entry is not None:
                behind = recorded_transform(None, ops, entry, other_ops_first=False)
                ops = recorded_transform(None, entry, ops, other_ops_first=True)
                self._programs[position] = behind
        return ops


def recorded_walk_changes(
    queue: Sequence[Change],
    history: Sequence[Change],
    is_echo: Callable[[Change], bool],
    *,
    checkpoint: object = None,
) -> tuple[list[tuple[Change, list[Op]]], list[list[Op]]]:
    """`walk_changes` with the recorded answer to a tie."""
    walk = RecordedWalk([change.ops for change in queue])
    positions = {change.id: position for position, change in enumerate(queue)}
    advanced = []
    for committed in history:
        if not is_echo(committed):
            advanced.append(walk.follow(committed.ops))
        elif committed.id in positions:
            walk.remove(positions[committed.id])
    left = zip(queue, walk.programs(), strict=True)
    return [(change, ops) for change, ops in left if ops is not None], advanced


@contextmanager
def recorded_ties() -> Iterator[None]:
    """Everything that moves changes behind others gives the recorded answer to a tie."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (rebase, incoming):
            patch.setattr(module, "walk_changes", recorded_walk_changes)
        for module in (unsaved, ejection):
            patch.setattr(module, "TransformWalk", RecordedWalk)
        yield


def check_with_ties(
    tally: ConformanceTally,
    suite: str,
    cases: Sequence[Case],
    run_case: Callable[[Case], None],
    run_recorded: Callable[[Case], None],
) -> None:
    """`tally.check`, in which a case may hold by `run_recorded` instead, and is counted apart."""
    differing = 0

    def run(case: Case) -> None:
        nonlocal differing
        try:
            run_case(case)
        except AssertionError as error:
            try:
                run_recorded(case)
            except AssertionError:
                raise error from None
            differing += 1

    tally.check(suite, cases, run)
    record_ties(tally, suite, differing)


def record_ties(tally: ConformanceTally, suite: str, differing: int) -> None:
    """Count the cases or traces that differ by the rule."""
    if differing:
        tally.record(f'{suite}, by the rule "ties"', differing)
