"""What each event makes of a `DocSync`: pure functions, one per event (see `plan.py`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from patches.model.change import Change
from patches.sync.document.failure import Failure
from patches.sync.document.failures import (
    LADDER_FIRST_S,
)
from patches.sync.document.plan import (
    INBOX_FRAMES,
    DocSync,
    Frame,
    NeedsReload,
    Notice,
    Request,
)
from patches.sync.document.unappliable import reloaded

if TYPE_CHECKING:
    from dataclasses import replace as evolve
else:

    def evolve(doc, /, **changes):
        """`dataclasses.replace` for a `DocSync`, at a fifth of its cost."""
        copy = object.__new__(DocSync)
        copy.__dict__.update(doc.__dict__)
        copy.__dict__.update(changes)
        return copy


# ---- what happens around the document ------------------------------------------------------------


def learned(doc: DocSync, *, committed_rev: int, has_pending: bool, edits: int) -> DocSync:
    """The store was read. `edits`: the count when it was asked."""
    if doc.known:
        return doc
    return evolve(
        doc,
        known=True,
        committed_rev=committed_rev,
        has_pending=has_pending or doc.edits != edits,
        idle_status="synced" if committed_rev > 0 else "unsynced",
    )


def connected(doc: DocSync, link: object) -> DocSync:
    """A connection may be used. Every wait and every mark starts over."""
    return evolve(
        doc,
        link=link,
        pulls_requested=doc.pulls_requested + 1,
        is_checked=False,
        failure=None,
        is_reported=False,
        stalled_at=-1,
        sent=(),
        reloads=0,
        refusals=0,
    )


def disconnected(doc: DocSync) -> DocSync:
    """No connection may be used. What is shown falls back, an error stays.

    Notices that wait were of this connection, and mean nothing after its end.
    """
    if any(isinstance(frame, Notice) for frame in doc.inbox):
        kept = tuple(frame for frame in doc.inbox if not isinstance(frame, Notice))
        doc = evolve(doc, inbox=kept)
    if doc.link is None:
        return doc
    return interrupted(doc) if doc.busy else evolve(doc, link=None)


def edited(doc: DocSync) -> DocSync:
    """A local edit was stored."""
    failure = None if doc.failure is None else hastened(doc.failure)
    return evolve(doc, edits=doc.edits + 1, has_pending=True, failure=failure)


def pull_requested(doc: DocSync) -> DocSync:
    """There may be something new on the server."""
    return evolve(doc, pulls_requested=doc.pulls_requested + 1, failure=hastened(doc.failure))


def framed(doc: DocSync, frame: Frame) -> DocSync:
    """A frame came. A full inbox is dropped: what was in it is fetched by revision."""
    if len(doc.inbox) >= INBOX_FRAMES:
        return evolve(pull_requested(doc), inbox=())
    return evolve(doc, inbox=(*doc.inbox, frame))


def deleted(doc: DocSync) -> DocSync:
    """The server has deleted the document."""
    return evolve(doc, gone=True, inbox=())


def replaced(doc: DocSync, rev: int) -> DocSync:
    """Another process that shares the store has replaced the copy, which is at `rev` now. What the
    server has said was about the one that is gone.
    """
    doc = evolve(pull_requested(doc), committed_rev=rev, inbox=(), sent=(), reload=None)
    return evolve(doc, is_checked=False, stalled_at=-1)


def work_set_aside(doc: DocSync) -> DocSync:
    """A pending change has gone into quarantine, or left it: what stood against it is over."""
    return evolve(doc, edits=doc.edits + 1, has_pending=True, failure=None, is_reported=False)


# ---- what the steps come to ----------------------------------------------------------------------


def pass_begun(doc: DocSync) -> DocSync:
    """A request to the server starts."""
    return doc if doc.busy else evolve(doc, busy=True)


def pass_ended(doc: DocSync) -> DocSync:
    """There is nothing more to do: the pass is over, and went well if there is no failure."""
    if not doc.busy:
        return doc
    if doc.failure is not None:
        return evolve(doc, busy=False, passed_link=doc.link)
    return evolve(doc, busy=False, idle_status="synced", passed_link=doc.link, is_reported=False)


def taken(doc: DocSync, frames: int) -> DocSync:
    """The first frames of the inbox are being applied."""
    return evolve(doc, inbox=doc.inbox[frames:])


def received(doc: DocSync, rev: int, *, has_pending: bool = False) -> DocSync:
    """Changes were applied; the copy is at `rev`. `has_pending`: there is unsent work for sure."""
    doc = _found_pending(doc, doc.has_pending or has_pending)
    return evolve(doc, committed_rev=rev, reloads=0)


def found_work(doc: DocSync) -> DocSync:
    """There is unsent work below a first fetch. What was fetched is not used, so the pull is not
    done: should the work come to nothing, the document is fetched again.
    """
    return evolve(doc, has_pending=True, failure=None)


def worked(doc: DocSync, step: Request, *, rev: int, has_pending: bool, edits: int) -> DocSync:
    """A request was answered and its answer applied; the copy is at `rev`.

    `has_pending` is what the store said when `edits` edits had been seen.
    """
    return evolve(
        _found_pending(doc, has_pending or doc.edits != edits),
        pulls_done=max(doc.pulls_done, step.pulls),
        committed_rev=rev,
        is_checked=True,
        failure=None,
        reloads=0,
        refusals=0,
    )


def committed(doc: DocSync, ids: tuple[str, ...]) -> DocSync:
    """Besides having `worked`, a commit has gone through with these changes: no use in sending them
    again. None: they are worth another commit.
    """
    limit = doc.commit_limit if doc.has_pending else None
    return evolve(doc, sent=ids, storage_budget=None, commit_limit=limit, resets=((), 0))


def nothing_to_send(doc: DocSync, *, rev: int, has_pending: bool, edits: int) -> DocSync:
    """There was no batch: the store may have received what a failed step was to receive, and is at
    `rev`. `has_pending` is what it said when `edits` edits had been seen.
    """
    return evolve(doc, committed_rev=rev, has_pending=has_pending or doc.edits != edits)


def stalled(doc: DocSync, edits: int) -> DocSync:
    """The work here is not for sending now, or is what was just answered: sending it again would
    not end. Only an edit after the first `edits` changes that.
    """
    return evolve(doc, stalled_at=edits)


def must_reload(doc: DocSync, resolved: Sequence[Change]) -> DocSync:
    """The server wants the document fetched whole; `resolved` it has committed."""
    if doc.reload is not None and doc.reload.is_new_history:
        return evolve(doc, reloads=doc.reloads + 1)
    known = doc.reload.resolved if doc.reload is not None else ()
    return evolve(doc, reload=NeedsReload((*known, *resolved)), reloads=doc.reloads + 1)


def other_history(doc: DocSync) -> DocSync:
    """The server has another history of the document. What waits in the inbox may be of either, and
    no sent change is known to be in the new one.
    """
    reload = NeedsReload(is_new_history=True)
    return evolve(doc, reload=reload, reloads=doc.reloads + 1, inbox=(), sent=())


def installed(doc: DocSync, step: Request, *, head: int, has_pending: bool, edits: int) -> DocSync:
    """The server's snapshot has taken the place of what was here."""
    return evolve(
        _found_pending(doc, has_pending or doc.edits != edits),
        pulls_done=max(doc.pulls_done, step.pulls),
        committed_rev=head,
        reload=None,
        is_checked=True,
        failure=None,
        unappliable=reloaded(doc.unappliable),
    )


def refused(doc: DocSync, *, has_pending: bool, edits: int) -> DocSync:
    """The change that the server refuses is in quarantine; the others go on."""
    return evolve(
        doc,
        refusals=doc.refusals + 1,
        commit_limit=None,
        has_pending=has_pending or doc.edits != edits,
        failure=None,
    )


def narrowed(doc: DocSync, limit: int | None) -> DocSync:
    """Something in the last commit is refused: the next ones are smaller, until it is found."""
    return evolve(doc, commit_limit=limit, failure=None)


def lost(doc: DocSync, batch: tuple[str, ...]) -> DocSync:
    """A connection broke while a commit of these changes was under way."""
    return evolve(doc, resets=(batch, resets_over(doc, batch) + 1))


def resets_over(doc: DocSync, batch: tuple[str, ...]) -> int:
    """How many connections were lost in a row over a commit of these changes."""
    ids, count = doc.resets
    return count if ids == batch else 0


def _found_pending(doc: DocSync, has_pending: bool) -> DocSync:
    """What the store says about unsent work. Where there was none, nothing has stalled: this is
    new, be it of another process that shares the store.
    """
    if has_pending and not doc.has_pending:
        return evolve(doc, has_pending=True, stalled_at=-1)
    return doc if has_pending == doc.has_pending else evolve(doc, has_pending=has_pending)


# ---- failures ------------------------------------------------------------------------------------


def hastened(failure: Failure | None) -> Failure | None:
    """Something new happened: a far-off re-probe comes now, though not in quick succession. The
    ladder's waits stay, they are short and meant.
    """
    if failure is None or not (failure.used_up or failure.until is None):
        return failure
    soon = failure.failed_at + max(LADDER_FIRST_S, failure.least_wait)
    if failure.until is not None and failure.until <= soon:
        return failure
    return replace(failure, until=soon)


def interrupted(doc: DocSync) -> DocSync:
    """Back to what is shown at rest, with nothing said about the server."""
    is_here = doc.committed_rev > 0 or doc.has_pending
    return evolve(doc, link=None, busy=False, idle_status="synced" if is_here else "unsynced")
