"""Frames of merges, without a store."""

from __future__ import annotations

from typing import Any

import pytest

from patches.model.change import Change
from patches_server.documents.records import Branch
from patches_server.ot.branches.merge_frame import (
    MergeFrame,
    after_commit,
    first_content_rev,
    follow,
    lift,
)


def add(rev: int, change_id: str, at: int, **fields: Any) -> Change:
    ops = [{"op": "add", "path": f"/l/{at}", "value": change_id}]
    values: dict[str, Any] = {"base_rev": rev - 1, "created_at": 1, **fields}
    return Change(id=change_id, ops=ops, rev=rev, **values)


def a_frame(*programs: Change, source_rev: int = 5, branch_rev: int = 1) -> MergeFrame:
    return MergeFrame(
        source_rev=source_rev,
        branch_rev=branch_rev,
        programs=[change.ops for change in programs],
    )


def at(frame: MergeFrame) -> list[str]:
    """The paths of a frame's programs."""
    return [op["path"] for program in frame.programs for op in program]


def a_branch(**fields: Any) -> Branch:
    values: dict[str, Any] = {
        "branched_at_rev": 4,
        "content_start_rev": 2,
        "created_at": 1,
        "modified_at": 1,
        **fields,
    }
    return Branch(id="b", doc_id="d", **values)


def test_a_first_merge_starts_where_the_branch_does() -> None:
    assert MergeFrame.of(a_branch(content_start_rev=7), 4) == a_frame(source_rev=4, branch_rev=6)
    assert first_content_rev(a_branch(content_start_rev=None)) == 2


def test_a_kept_frame_comes_back() -> None:
    frame = a_frame(add(5, "x", 3))
    record = a_branch(merge_frame=frame.to_record())
    assert MergeFrame.of(record, 4) == frame
    assert MergeFrame.of(record, 5) == frame
    assert MergeFrame.of(record, 6) == a_frame(source_rev=6)


def test_a_frame_that_is_too_large_is_not_kept() -> None:
    ops = [{"op": "add", "path": "/l/0", "value": "x" * 300_000}]
    assert MergeFrame(source_rev=5, branch_rev=1, programs=[ops]).to_record() is None


def test_lifting_moves_both_sides() -> None:
    frame = a_frame(add(5, "s", 1))
    lifted, after = lift(frame, [add(2, "b", 0), add(3, "c", 7)])
    assert [(c.rev, c.ops[0]["path"]) for c in lifted] == [(6, "/l/0"), (7, "/l/8")]
    assert at(after) == ["/l/2"]
    assert (after.source_rev, after.branch_rev) == (5, 3)


def test_following_is_the_same_as_lifting_and_committing() -> None:
    """A merge that lost its notes finds in the log what it would have noted."""
    frame = a_frame(add(5, "s", 0))
    branch = [add(2, "b", 0), add(3, "c", 1)]
    lifted, after = lift(frame, branch)
    rows = [change.replace(batch_id="b") for change in lifted]
    noted = after_commit(frame, after, rows, "b", branch)
    assert noted == follow(frame, rows, "b", branch)
    assert noted is not None
    assert noted.source_rev == 7


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_foreign_row_between_the_own_ones_becomes_a_program(place: int) -> None:
    frame = a_frame(add(5, "s", 9))
    branch = [add(2, "b", 0), add(3, "c", 0)]
    lifted, after = lift(frame, branch)
    rows = [change.replace(batch_id="b") for change in lifted]
    rows.insert(place, add(0, "f", 5))
    rows = [row.replace(rev=6 + n) for n, row in enumerate(rows)]
    noted = after_commit(frame, after, rows, "b", branch)
    assert noted is not None
    assert (noted.source_rev, noted.branch_rev) == (8, 3)
    # Moved by those of the own changes that came after it.
    assert at(noted) == ["/l/11", f"/l/{7 - place}"]


def test_rows_that_are_left_out_of_an_answer_end_the_frame() -> None:
    frame = a_frame()
    branch = [add(2, "b", 0)]
    lifted, after = lift(frame, branch)
    rows = [lifted[0].replace(batch_id="b", rev=8)]
    assert after_commit(frame, after, rows, "b", branch) is None


def test_a_row_of_the_batch_that_is_no_change_of_the_branch_is_foreign() -> None:
    frame = follow(a_frame(), [add(6, "stranger", 2, batch_id="b")], "b", [add(2, "b", 0)])
    assert at(frame) == ["/l/2"]
    assert (frame.source_rev, frame.branch_rev) == (6, 1)


def test_what_lifts_to_nothing_is_passed_all_the_same() -> None:
    gone = [{"op": "remove", "path": "/l"}]
    frame = MergeFrame(source_rev=5, branch_rev=1, programs=[gone])
    branch = [add(2, "b", 0)]
    lifted, after = lift(frame, branch)
    assert lifted == []
    noted = after_commit(frame, after, [], "b", branch)
    assert noted is not None
    assert (noted.source_rev, noted.branch_rev) == (5, 2)
