"""What a commit comes to on the end of a log that is at hand: one pure function of call and log.

A live commit needs nothing else. What does needs the oldest change of the log, changes that are not
at hand, or a version to be made first, is `None` here and is decided on what the store has.

The records that are made for every commit are not frozen, which would treble their price. Nobody
changes them all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from patches.errors import ChangeRefusedError, OpsRefusedError
from patches.limits import Limits
from patches.model.change import Change, ChangeInput
from patches.model.checks import check_ops
from patches.runtime import Millis
from patches_server.documents.context import CallContext, Reviewer
from patches_server.documents.measure import Bounds
from patches_server.documents.offload import steps_of_encoded
from patches_server.documents.records import CommitOptions
from patches_server.ot.bounds import grown
from patches_server.ot.commit import Decision, decide
from patches_server.ot.recent import RecentLog
from patches_server.ot.store import DocHead
from patches_server.ot.submission import (
    Submission,
    admit,
    crosses_count,
    needs_first_change,
    session_gap,
)

AnyChange: TypeAlias = Change | ChangeInput


@dataclass(slots=True)
class CommitCall:
    """What a caller asks to commit, and when. `steps`: about how much there is to read.

    `expected_rev`: the only head that it may follow. `review` judges the states that it makes.
    """

    caller: CallContext
    doc_id: str
    changes: Sequence[AnyChange]
    options: CommitOptions | None
    now: Millis
    steps: int
    review: Reviewer | None = None
    expected_rev: int | None = None

    @property
    def base_rev(self) -> int:
        """The revision that the changes were made against, as their sender says; 0 if it does
        not."""
        return self.changes[0].base_rev or 0


@dataclass(frozen=True, slots=True)
class Rules:
    """What a server decides by. Versions end after `session_timeout`, or `version_step` changes."""

    session_timeout: Millis
    version_step: int
    limits: Limits


@dataclass(slots=True)
class Proposal:
    """What was submitted, what to store and to answer, and the bounds of the document then."""

    submission: Submission
    decision: Decision
    bounds: Bounds


def propose(
    call: CommitCall, log: RecentLog, rules: Rules, checkpoint: Callable[[], None] | None = None
) -> Proposal | None:
    """What to store; `None` if there is nothing to, or it takes more than the log at hand.

    Raises what `admit` and `decide` raise, and `ChangeRefusedError` for malformed operations.
    `checkpoint` is called now and then, and may end this by raising.
    """
    head = log.head
    check_changes(call.changes, rules.limits)
    if needs_first_change(call.changes, call.options, head.rev):
        return None
    submission = admit(
        call.doc_id,
        call.changes,
        call.options,
        initial_rev=head.rev,
        first_change=None,
        client_id=call.caller.client_id,
        now=call.now,
    )
    committed = log.since(submission.base_rev)
    if committed is None or version_is_due(head, submission, rules):
        return None
    proposal = decided(submission, committed, head, (), rules, checkpoint)
    return proposal if proposal.decision.to_store else None


def decided(
    submission: Submission,
    committed: Sequence[Change],
    head: DocHead,
    stored_ids: Collection[str],
    rules: Rules,
    checkpoint: Callable[[], None] | None = None,
) -> Proposal:
    """What to store and to answer, and the bounds then; `decide` says what is raised."""
    decision = decide(
        submission,
        committed,
        head.rev,
        stored_ids=stored_ids,
        session_timeout=rules.session_timeout,
        max_steps=rules.limits.max_transform_steps,
        checkpoint=checkpoint,
    )
    # This is where the changes are encoded.
    return Proposal(submission, decision, grown(head.bounds, decision.to_store, rules.limits))


def reaches(log: RecentLog, call: CommitCall) -> bool:
    """Whether a log at hand goes back to where the changes were made, as their sender says."""
    base_rev = call.changes[0].base_rev
    return base_rev is None or base_rev >= log.head.rev or log.since(base_rev) is not None


def steps_to_propose(call: CommitCall, log: RecentLog, steps: int) -> int:
    """About how many steps `propose` takes, for changes that take `steps` to read."""
    committed = log.since(call.base_rev) or () if call.base_rev < log.head.rev else ()
    return steps_to_decide(steps, committed)


def steps_to_decide(steps: int, committed: Sequence[Change]) -> int:
    """About how many steps it takes to transform changes over what was committed."""
    # An operation, of about four values, is transformed over one in a step or so; but one may be
    # the edit of a whole text.
    transforms = steps // 4 * (len(committed) + 4)
    return transforms + steps_of_encoded(committed) if committed else transforms


def version_is_due(head: DocHead, submission: Submission, rules: Rules) -> bool:
    """Whether a version of what was committed before has to be made first."""
    return head.rev > 0 and (
        session_gap(head.created_at, submission, rules.session_timeout)
        or crosses_count(submission, rules.version_step)
    )


def check_changes(changes: Sequence[AnyChange], limits: Limits) -> None:
    """Raise `ChangeRefusedError` naming a change whose operations are malformed."""
    for change in changes:
        try:
            check_ops(change.ops, limits)
        except OpsRefusedError as exc:
            message = f"change {change.id!r}: {exc}"
            raise ChangeRefusedError(change.id, message, code=exc.code) from exc
