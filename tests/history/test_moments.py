"""Moments: changes as people remember them."""

from __future__ import annotations

from typing import Any

import pytest

from patches.history import Entry, Moment, moments_of
from patches.history.moments import BLOCK, PAUSE_MS, block_of, summary_of

TITLE = [{"op": "replace", "path": "/title", "value": "Plan"}]


def entry(rev: int, author: str | None = "ann", at: int | None = None, ops: Any = TITLE) -> Entry:
    return Entry(rev=rev, at=rev * 1_000 if at is None else at, author=author, ops=ops)


def ranges(moments: list[Moment]) -> list[tuple[int, int]]:
    return [(moment.from_rev, moment.to_rev) for moment in moments]


def test_a_moment_ends_with_its_author_a_pause_or_a_named_version() -> None:
    entries = [
        entry(1),
        entry(2),
        entry(3, "bob"),
        entry(4, at=3_000 + PAUSE_MS - 1),
        entry(5, at=3_000 + 2 * PAUSE_MS),
        entry(6, at=3_001 + 2 * PAUSE_MS),
    ]
    moments = moments_of(entries, {5: "draft"})
    assert ranges(moments) == [(1, 2), (3, 3), (4, 4), (5, 5), (6, 6)]
    assert moments[3].version == "draft"
    assert moments[0] == Moment(
        from_rev=1,
        to_rev=2,
        started_at=1_000,
        at=2_000,
        authors=("ann",),
        changes=2,
        summary="title changed",
    )
    assert Moment.from_wire(moments[3].to_wire()) == moments[3]


def test_a_moment_holds_no_more_than_a_block() -> None:
    moments = moments_of([entry(rev) for rev in range(1, 2 * BLOCK + 2)], {})
    assert ranges(moments) == [(1, BLOCK), (BLOCK + 1, 2 * BLOCK), (2 * BLOCK + 1, 2 * BLOCK + 1)]
    assert block_of(BLOCK) == (1, BLOCK)
    assert block_of(BLOCK + 1) == (BLOCK + 1, 2 * BLOCK)


@pytest.mark.parametrize(
    ("ops", "summary"),
    [
        (TITLE, "title changed"),
        ([{"op": "add", "path": f"/tasks/{n}", "value": 1} for n in range(3)], "3 tasks added"),
        ([{"op": "remove", "path": "/tasks/0"}], "tasks removed"),
        ([{"op": "remove", "path": "/due"}], "due removed"),
        ([{"op": "remove", "path": "/a/b"}], "a changed"),
        ([{"op": "@inc", "path": "/views", "value": 2}], "views changed"),
        (
            [{"op": "@txt", "path": "/body", "value": [{"retain": 2}, {"insert": "hey"}]}],
            "3 characters in body",
        ),
        ([{"op": "@txt", "path": "/body", "value": [{"delete": 2}]}], "body edited"),
        ([{"op": "replace", "path": "", "value": {}}], "the document replaced"),
        (
            [{"op": "replace", "path": f"/f{n}", "value": n} for n in range(5)],
            "f0 changed; f1 changed; f2 changed; 2 more",
        ),
    ],
)
def test_a_summary(ops: Any, summary: str) -> None:
    assert summary_of([entry(1, ops=ops)]) == summary


def test_a_restored_revision_is_said() -> None:
    restored = Entry(rev=5, at=1, author=None, ops=TITLE, restored=2)
    assert summary_of([restored]) == "revision 2 restored"
