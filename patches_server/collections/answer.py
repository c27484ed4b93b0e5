"""The answer to a commit, made piece by piece in the jobs that carry its changes out.

It leads its sender from the revision that it named to the newest one: what it has missed, then its
own changes with what they came to, in the order of revisions. A change that was committed before is
not carried out again: it is answered without operations, and the difference brings its effect.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from patches.model.change import Change
from patches.model.json_values import Op
from patches.runtime import Millis
from patches_server.collections.calls import Caller, RowWrite
from patches_server.collections.execute import Plan
from patches_server.collections.interests import Subscription
from patches_server.collections.live import Job
from patches_server.collections.statement import Statement


@dataclass(slots=True)
class Answering:
    """An answer that is being made, `None` for a caller who needs none.

    `since`: the sender's copy with the pieces holds everything up to there; `at`: the revision that
    the pieces lead to.
    """

    caller: Caller
    statement: Statement | None
    base_rev: int | None
    since: int = -1
    at: int = -1
    changes: list[Change] = field(default_factory=list)
    #: Some were committed before: the sender may lack what they did.
    needs_more: bool = False


def catch_up(job: Job, held: Subscription, since: int) -> list[Change]:
    """What a copy at `since` needs to be at the newest revision: one change, or none."""
    if job.tx.rev == since:
        return []
    ops, windows = job.missed(held, since, job.tx.rev)
    change_id = f"head-{job.tx.epoch}-{job.tx.rev}"
    return [job.change_of(change_id, since, job.tx.rev, ops, windows=windows)]


def commit_piece(
    answer: Answering,
    plan: Plan,
    carry_out: Callable[[Job, Plan, Caller], list[RowWrite]],
    created_at: Millis | None,
    job: Job,
) -> Sequence[RowWrite]:
    """Carry one change out, unless it was, and add to the answer what its sender gets."""
    caller = answer.caller
    held = None
    if answer.statement is not None:
        held = job.hold(caller, answer.statement)
        _start(answer, job)
    known = job.tx.commits([plan.change_id]).get(plan.change_id)
    if known is not None:
        base_rev = min(answer.at, known.rev - 1)
        change = job.change_of(plan.change_id, base_rev, known.rev, [], created_at=created_at)
        answer.changes.append(change)
        answer.needs_more = True
        answer.at = max(answer.at, known.rev)
        return []
    writes: list[RowWrite] = []
    view = job.commit(
        plan.change_id,
        caller,
        lambda: writes.extend(carry_out(job, plan, caller)),
        origin=caller.connection_id,
    )
    if held is None:
        return writes
    rev = job.tx.rev
    ops: list[Op] = []
    windows: dict[str, list[str]] = {}
    if answer.since == rev - 1:
        if view is not None:
            ops, windows = view.ops, view.windows
    else:
        # The log has one entry for a row: one that was touched meanwhile, and by this change again,
        # comes with the change. So the answer has the change as for a client that was away.
        ops, windows = job.missed(held, answer.since, rev - 1)
        own_ops, own_windows = job.missed(held, rev - 1, rev)
        if answer.at < rev - 1:
            change_id = f"head-{job.tx.epoch}-{rev - 1}"
            answer.changes.append(
                job.change_of(change_id, answer.at, rev - 1, ops, windows=windows)
            )
            ops, windows = [], {}
        ops, windows = [*ops, *own_ops], {**windows, **own_windows}
    own = job.change_of(
        plan.change_id,
        rev - 1,
        rev,
        ops,
        created_at=created_at,
        author=caller.user_id,
        windows=windows,
    )
    answer.changes.append(own)
    answer.since = answer.at = rev
    answer.needs_more = False
    return writes


def last_piece(answer: Answering, job: Job) -> None:
    """What was committed after the last own change, or beside changes that were there already."""
    assert answer.statement is not None, "nobody else asks for it"
    held = job.hold(answer.caller, answer.statement)
    _start(answer, job)
    head = job.tx.rev
    answer.changes.sort(key=lambda change: change.rev)
    if answer.since == head:
        return
    ops, windows = job.missed(held, answer.since, head)
    if answer.at < head:
        change_id = f"head-{job.tx.epoch}-{head}"
        answer.changes.append(job.change_of(change_id, answer.at, head, ops, windows=windows))
    else:
        last = answer.changes[-1]
        metadata = {**last.metadata, **({"windows": dict(windows)} if windows else {})}
        answer.changes[-1] = last.replace(ops=ops, metadata=metadata)
    answer.since = answer.at = head
    held.sent_rev = head


def _start(answer: Answering, job: Job) -> None:
    if answer.since >= 0:
        return
    if answer.base_rev is None:
        answer.since = answer.at = job.tx.rev
    else:
        job.require_in_reach(answer.base_rev)
        answer.since = answer.at = answer.base_rev
