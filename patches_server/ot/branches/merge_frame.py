"""`MergeFrame`: how the source of a branch differs from the branch, as operations.

A branch is merged by moving its changes behind what the source has and the branch lacks. Those
*programs* stand right after some branch revision, and account for the source up to some revision;
whatever moves either position moves the programs along. So a merge can stop anywhere and go on
later: the rows that it has committed carry the branch's id as their batch, and `follow` passes
them, in the source's log, by their ids. A merge that crashed, one that lost its record and one
that only goes on are the same case. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Self

from patches.algorithms.ot import transform_incoming_changes_with_frame
from patches.model import codec
from patches.model.change import Change
from patches.model.json_values import Json, Op
from patches_server.documents.records import Branch

#: Larger ones are not kept; the next merge finds them again in the source's log.
_MAX_PROGRAMS_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeFrame:
    """What the source has at `source_rev`, and the branch has not at `branch_rev`."""

    source_rev: int
    branch_rev: int
    programs: list[list[Op]]

    @classmethod
    def of(cls, record: Branch, base_rev: int) -> Self:
        """The one that was kept with a branch, or where a first merge onto `base_rev` starts."""
        kept = record.merge_frame
        if kept is not None and kept["sourceRev"] >= base_rev:
            return cls(
                source_rev=kept["sourceRev"],
                branch_rev=kept["branchRev"],
                programs=codec.decode(kept["programs"]),
            )
        return cls(source_rev=base_rev, branch_rev=first_content_rev(record) - 1, programs=[])

    def to_record(self) -> Mapping[str, Json] | None:
        """What is kept with the branch; `None` if it is too large."""
        programs = codec.encode(self.programs)
        if len(programs) > _MAX_PROGRAMS_BYTES:
            return None
        return {
            "sourceRev": self.source_rev,
            "branchRev": self.branch_rev,
            "programs": programs.decode(),
        }


def first_content_rev(record: Branch) -> int:
    """The first branch revision that is not part of the seed."""
    return record.content_start_rev or 2


def lift(frame: MergeFrame, changes: Sequence[Change]) -> tuple[list[Change], MergeFrame]:
    """Branch changes right after the frame, ready to commit to the source, and the frame after.

    The changes stand on the frame's source revision. The new frame's source revision is still the
    old one: it is the commit's to move.
    """
    lifted = transform_incoming_changes_with_frame(
        changes, [_program(ops) for ops in frame.programs], frame.source_rev
    )
    after = replace(frame, branch_rev=changes[-1].rev, programs=lifted.advanced_foreign)
    return lifted.changes, after


def follow(
    frame: MergeFrame, rows: Sequence[Change], branch_id: str, branch_changes: Sequence[Change]
) -> MergeFrame:
    """The frame after more rows of the source.

    Rows of this branch take the frame through the branch's own changes, of which `branch_changes`
    are those right after it. All other rows are one program more.
    """
    places = {change.id: place for place, change in enumerate(branch_changes)}
    passed = reached = 0
    fresh: list[list[Op]] = []  # programs that are not in the frame yet: it is copied seldom
    for row in rows:
        place = places.get(row.id) if row.batch_id == branch_id else None
        if place is not None:
            reached = max(reached, place + 1)
            continue
        if passed < reached:
            frame = _through(_with(frame, fresh), branch_changes[passed:reached])
            fresh, passed = [], reached
        fresh.append(row.ops)
    frame = _through(_with(frame, fresh), branch_changes[passed:reached])
    return replace(frame, source_rev=rows[-1].rev) if rows else frame


def after_commit(
    frame: MergeFrame,
    lifted: MergeFrame,
    rows: Sequence[Change],
    branch_id: str,
    branch_changes: Sequence[Change],
) -> MergeFrame | None:
    """The frame after committing `branch_changes`, with the answered source rows in order.

    `lifted` is the one that `lift` gave. `None` if the answer leaves rows out: another merge of
    this branch is under way, and what it committed is to be found in the log.
    """
    if [row.rev for row in rows] != list(
        range(frame.source_rev + 1, frame.source_rev + 1 + len(rows))
    ):
        return None
    ids = {change.id for change in branch_changes}
    if all(row.batch_id == branch_id and row.id in ids for row in rows):
        return replace(lifted, source_rev=rows[-1].rev if rows else frame.source_rev)
    followed = follow(frame, rows, branch_id, branch_changes)
    left = [change for change in branch_changes if change.rev > followed.branch_rev]
    return _through(followed, left)


def _with(frame: MergeFrame, programs: Sequence[list[Op]]) -> MergeFrame:
    return replace(frame, programs=[*frame.programs, *programs]) if programs else frame


def _through(frame: MergeFrame, changes: Sequence[Change]) -> MergeFrame:
    return lift(frame, changes)[1] if changes else frame


def _program(ops: list[Op]) -> Change:
    return Change(id="", ops=ops, base_rev=0, rev=0, created_at=0)
