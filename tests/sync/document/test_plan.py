"""What to do next: the table of `next_step`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from patches.model.change import Change
from patches.sync.document.failure import Failure
from patches.sync.document.plan import (
    Committed,
    DocSync,
    Idle,
    Load,
    NeedsReload,
    Notice,
    Pull,
    Push,
    ReadStore,
    Receive,
    Reload,
    Remove,
    Step,
    Wait,
    next_step,
)
from patches.testing.fake_connection import committed

LINK = object()
NEW = DocSync(doc_id="d", known=True, link=LINK, pulls_requested=1)
OLD = replace(NEW, committed_rev=5)
FRAME = Committed([committed(6)])
LATER = Failure(error=None, failed_at=10.0, until=20.0)
NEVER = Failure(error=ValueError("x"), failed_at=10.0, until=None)


def frames(*revs: int) -> tuple[Committed, ...]:
    return tuple(Committed([committed(rev)]) for rev in revs)


CASES: dict[str, tuple[DocSync, Step]] = {
    "a new document is fetched": (NEW, Load(1)),
    "a known one is caught up": (OLD, Pull(5, 1)),
    "work goes out instead of a catch-up": (replace(OLD, has_pending=True), Push(1)),
    "caught up and nothing to send": (replace(OLD, pulls_done=1), Idle()),
    "caught up, with work": (replace(OLD, pulls_done=1, has_pending=True), Push(1)),
    "a frame is applied": (replace(OLD, pulls_done=1, inbox=(FRAME,)), Receive(1)),
    "a frame is applied before work is sent": (
        replace(OLD, has_pending=True, inbox=(FRAME,)),
        Receive(1),
    ),
    "a frame is applied without a connection": (
        replace(OLD, link=None, inbox=(FRAME,)),
        Receive(1),
    ),
    "nothing is applied before the server has taken the copy for its own": (
        replace(OLD, is_checked=False, inbox=(FRAME,)),
        Pull(5, 1),
    ),
    "nor before work has been sent": (
        replace(OLD, is_checked=False, has_pending=True, inbox=(FRAME,)),
        Push(1),
    ),
    "a copy of nothing needs no check": (
        replace(NEW, is_checked=False, inbox=(FRAME,)),
        Receive(1),
    ),
    "another history is fetched whole": (
        replace(OLD, reload=NeedsReload(is_new_history=True)),
        Reload(1, (), True),
    ),
    "work at revision 0 goes out before anything is applied below it": (
        replace(NEW, has_pending=True, inbox=(FRAME,)),
        Push(1),
    ),
    "work at revision 0 keeps frames waiting without a connection": (
        replace(NEW, link=None, has_pending=True, inbox=(FRAME,)),
        Idle(),
    ),
    "frames that follow on go together": (replace(OLD, inbox=frames(6, 7, 8, 10)), Receive(3)),
    "a repeated frame goes alone": (replace(OLD, inbox=frames(6, 6)), Receive(1)),
    "a notice goes alone": (replace(OLD, inbox=(Notice("n", {}), FRAME)), Receive(1)),
    "a notice ends a run": (replace(OLD, inbox=(*frames(6, 7), Notice("n", {}))), Receive(2)),
    "a reload comes before frames and work": (
        replace(OLD, reload=NeedsReload(), has_pending=True, inbox=(FRAME,)),
        Reload(1),
    ),
    "frames wait for a reload without a connection": (
        replace(OLD, link=None, reload=NeedsReload(), inbox=(FRAME,)),
        Idle(),
    ),
    "a deleted document is forgotten first": (replace(OLD, gone=True, inbox=(FRAME,)), Remove()),
    "nothing before the store was read": (
        replace(NEW, known=False, link=None, inbox=(FRAME,)),
        Idle(),
    ),
    "the store is read again when it could not be": (
        replace(NEW, known=False, inbox=(FRAME,)),
        ReadStore(),
    ),
    "the store is read again in a while": (replace(NEW, known=False, failure=LATER), Wait(20.0)),
    "nothing without a connection": (replace(OLD, link=None, has_pending=True), Idle()),
    "a failure waits": (replace(OLD, has_pending=True, failure=LATER), Wait(20.0)),
    "a failure waits to reload": (replace(OLD, reload=NeedsReload(), failure=LATER), Wait(20.0)),
    "frames are applied in a failure": (
        replace(OLD, inbox=(FRAME,), failure=LATER),
        Receive(1),
    ),
    "a failure without an end": (replace(OLD, has_pending=True, failure=NEVER), Idle()),
    "work that does not shrink is not sent again": (
        replace(OLD, pulls_done=1, has_pending=True, edits=3, stalled_at=3),
        Idle(),
    ),
    "after an edit it is": (
        replace(OLD, pulls_done=1, has_pending=True, edits=4, stalled_at=3),
        Push(1),
    ),
}


@pytest.mark.parametrize(("doc", "step"), CASES.values(), ids=CASES.keys())
def test_next_step(doc: DocSync, step: Step) -> None:
    assert next_step(doc, 15.0) == step


def test_a_failure_is_over_at_its_time() -> None:
    doc = replace(OLD, has_pending=True, failure=LATER)
    assert next_step(doc, 19.9) == Wait(20.0)
    assert next_step(doc, 20.0) == Push(1)


def test_a_reload_carries_what_is_known_to_be_committed() -> None:
    change: Change = committed(7)
    assert next_step(replace(OLD, reload=NeedsReload((change,))), 0) == Reload(1, (change,))
