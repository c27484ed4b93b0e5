"""What each event makes of a `DocSync`: pure functions, one per event (see `plan.py`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from patches.errors import PatchesError
from patches.model.change import Change
from patches.net.backoff import jittered
from patches.sync.document.failure import Trouble
from patches.sync.document.failures import (
    LADDER_FIRST_S,
    LEAST_PAYLOAD_BYTES,
    LEAST_STORAGE_BYTES,
    REPROBE_S,
    REPROBE_TERMINAL_S,
    Attempt,
    Kind,
    halved,
    is_interruption,
    ladder_wait,
    least_wait,
)
from patches.sync.document.plan import INBOX_FRAMES, DocSync, Frame, NeedsReload, Request
from patches.sync.document.unappliable import reloaded

# ---- what happens around the document ------------------------------------------------------------


def learned(doc: DocSync, *, committed_rev: int, has_pending: bool, edits: int) -> DocSync:
    """The store was read. `edits`: the count when it was asked."""
    if doc.known:
        return doc
    rev = max(committed_rev, doc.committed_rev)
    return replace(
        doc,
        known=True,
        committed_rev=rev,
        has_pending=has_pending or doc.edits != edits,
        rested="synced" if rev > 0 else "unsynced",
    )


def connected(doc: DocSync, link: int) -> DocSync:
    """A connection may be used, the `link`th one. Every wait and every mark starts over."""
    return replace(
        doc,
        link=link,
        asked=doc.asked + 1,
        trouble=None,
        reported=False,
        stalled_at=-1,
        sent=(),
        reloads=0,
    )


def disconnected(doc: DocSync) -> DocSync:
    """No connection may be used. What is shown falls back, an error stays."""
    if doc.link == 0:
        return doc
    return _interrupted(doc) if doc.busy else replace(doc, link=0)


def edited(doc: DocSync) -> DocSync:
    """A local edit was stored."""
    return replace(doc, edits=doc.edits + 1, has_pending=True, trouble=hastened(doc.trouble))


def asked(doc: DocSync) -> DocSync:
    """There may be something new on the server."""
    return replace(doc, asked=doc.asked + 1, trouble=hastened(doc.trouble))


def framed(doc: DocSync, frame: Frame) -> DocSync:
    """A frame came. A full inbox is dropped: what was in it is fetched by revision."""
    if len(doc.inbox) >= INBOX_FRAMES:
        return replace(asked(doc), inbox=())
    return replace(doc, inbox=(*doc.inbox, frame))


def deleted(doc: DocSync) -> DocSync:
    """The server has deleted the document."""
    return replace(doc, gone=True, inbox=())


# ---- what the steps come to ----------------------------------------------------------------------


def begun(doc: DocSync, step: Request) -> DocSync:
    """A request to the server starts."""
    return doc if doc.busy else replace(doc, busy=True)


def rested(doc: DocSync) -> DocSync:
    """There is nothing more to do: the pass is over, and went well if nothing is the matter."""
    if not doc.busy:
        return doc
    if doc.trouble is not None:
        return replace(doc, busy=False, settled_link=doc.link)
    return replace(doc, busy=False, rested="synced", settled_link=doc.link, reported=False)


def taken(doc: DocSync, frames: int) -> DocSync:
    """The first frames of the inbox are being applied."""
    return replace(doc, inbox=doc.inbox[frames:])


def received(doc: DocSync, rev: int) -> DocSync:
    """Changes up to `rev` were applied."""
    return replace(doc, committed_rev=max(doc.committed_rev, rev), reloads=0)


def found_work(doc: DocSync) -> DocSync:
    """There is unsent work below a first fetch. What was fetched is not used, so nothing has been
    looked into: should the work come to nothing, the document is fetched again.
    """
    return replace(doc, has_pending=True, trouble=None)


def worked(doc: DocSync, step: Request, *, rev: int, has_pending: bool, edits: int) -> DocSync:
    """A request was answered and its answer applied, up to `rev`.

    `has_pending` is what the store said when `edits` edits had been seen.
    """
    return replace(
        doc,
        looked=max(doc.looked, step.looks),
        committed_rev=max(doc.committed_rev, rev),
        has_pending=has_pending or doc.edits != edits,
        trouble=None,
        reloads=0,
    )


def committed(doc: DocSync, ids: tuple[str, ...]) -> DocSync:
    """Besides having `worked`, a commit has gone through with these changes: no use in sending them
    again. None: they are worth another commit.
    """
    return replace(doc, sent=ids, storage_budget=None, payload_budget=None)


def nothing_to_send(doc: DocSync, *, has_pending: bool, edits: int) -> DocSync:
    """There was no batch. Work that is in the store all the same is not for sending now."""
    doc = replace(doc, has_pending=has_pending or doc.edits != edits)
    return replace(doc, stalled_at=edits) if has_pending and doc.edits == edits else doc


def stalled(doc: DocSync, edits: int) -> DocSync:
    """The next batch is the one that was just answered: sending it again would not end."""
    return replace(doc, stalled_at=edits)


def must_reload(doc: DocSync, resolved: Sequence[Change]) -> DocSync:
    """The server wants the document fetched whole; `resolved` it has committed."""
    known = doc.reload.resolved if doc.reload is not None else ()
    return replace(doc, reload=NeedsReload((*known, *resolved)), reloads=doc.reloads + 1)


def installed(doc: DocSync, step: Request, *, head: int, has_pending: bool, edits: int) -> DocSync:
    """The server's snapshot has taken the place of what was here."""
    return replace(
        doc,
        looked=max(doc.looked, step.looks),
        committed_rev=head,
        has_pending=has_pending or doc.edits != edits,
        reload=None,
        trouble=None,
        poison=reloaded(doc.poison),
    )


def ejected(doc: DocSync, *, has_pending: bool, edits: int) -> DocSync:
    """The change that the server named is in quarantine."""
    return replace(
        doc,
        ejections=doc.ejections + 1,
        has_pending=has_pending or doc.edits != edits,
        trouble=None,
    )


# ---- failures ------------------------------------------------------------------------------------


def failed(
    doc: DocSync,
    error: BaseException,
    kind: Kind,
    attempt: Attempt,
    *,
    link: int,
    now: float,
    chance: float,
    resolved: Sequence[Change] = (),
) -> tuple[DocSync, Exception | None]:
    """A step failed on connection `link`. The new state, and what is to be reported, if anything.

    `resolved`: changes that are known to be committed all the same.
    `Kind.QUARANTINE` is not for here: it is settled before, one way or the other.
    """
    match kind:
        case Kind.DELETED:
            return deleted(doc), None
        case Kind.RECOVER:
            return must_reload(doc, resolved), _exception(error)
        case Kind.RELOAD:
            return must_reload(doc, resolved), None
        case Kind.LOOK:
            return asked(doc), None
        case Kind.SMALLER_CHANGES:
            assert attempt.storage_budget is not None
            budget = halved(attempt.storage_budget, LEAST_STORAGE_BYTES)
            return replace(doc, storage_budget=budget), None
        case Kind.SMALLER_BATCHES:
            budget = halved(attempt.batch_bytes, LEAST_PAYLOAD_BYTES)
            return replace(doc, payload_budget=budget), None
        case Kind.INTERRUPTED:
            return _interruption(doc, error, link=link, now=now, chance=chance)
        case _ if attempt.step == "Receive" and kind is not Kind.TERMINAL:
            return _not_applied(doc, error, now=now, chance=chance)
        case _:
            return _failure(doc, error, kind, now=now, chance=chance)


def hastened(trouble: Trouble | None) -> Trouble | None:
    """Something new happened: a far-off re-probe comes now, though not in quick succession. The
    ladder's waits stay, they are short and meant.
    """
    if trouble is None or not (trouble.used_up or trouble.until is None):
        return trouble
    soon = trouble.failed_at + max(LADDER_FIRST_S, trouble.least_wait)
    if trouble.until is not None and trouble.until <= soon:
        return trouble
    return replace(trouble, until=soon)


def _interruption(
    doc: DocSync, error: BaseException, *, link: int, now: float, chance: float
) -> tuple[DocSync, Exception | None]:
    if doc.link != link:
        # lost with its connection; a newer one has asked for a look already
        return (_interrupted(doc) if doc.link == 0 else doc), None
    count, wait_s = _ladder(doc.trouble, error, chance)
    used_up = wait_s is None
    until = now + (jittered(REPROBE_S, chance) if wait_s is None else wait_s)
    report = used_up and not isinstance(error, PatchesError | TimeoutError) and not doc.reported
    trouble = Trouble(
        error=None,
        failed_at=now,
        until=until,
        attempt=count,
        used_up=used_up,
        least_wait=least_wait(error),
    )
    doc = replace(
        _interrupted(doc), link=doc.link, trouble=trouble, settled_link=doc.link,
        reported=doc.reported or report,
    )  # fmt: skip
    return doc, _exception(error) if report else None


def _failure(
    doc: DocSync, error: BaseException, kind: Kind, *, now: float, chance: float
) -> tuple[DocSync, Exception | None]:
    terminal = kind is Kind.TERMINAL
    count, wait_s = (0, None) if terminal else _ladder(doc.trouble, error, chance)
    until = None if wait_s is None else now + wait_s
    if wait_s is None and (doc.has_pending or not doc.known):
        until = now + jittered(REPROBE_TERMINAL_S if terminal else REPROBE_S, chance)
    report = wait_s is None and not doc.reported and (terminal or doc.link > 0)
    shown = _exception(error)
    trouble = Trouble(
        error=shown,
        failed_at=now,
        until=until,
        attempt=count,
        used_up=wait_s is None,
        terminal=terminal,
        least_wait=least_wait(error),
    )
    doc = replace(
        doc,
        busy=False,
        trouble=trouble,
        settled_link=doc.link,
        reported=doc.reported or report,
    )
    return doc, shown if report else None


def _not_applied(
    doc: DocSync, error: BaseException, *, now: float, chance: float
) -> tuple[DocSync, Exception | None]:
    """A broadcast could not be applied, for no reason that lies in it: fetch it in a while."""
    count, wait_s = _ladder(doc.trouble, error, chance)
    trouble = Trouble(
        error=None,
        failed_at=now,
        until=now + (jittered(REPROBE_S, chance) if wait_s is None else wait_s),
        attempt=count,
        used_up=wait_s is None,
    )
    return replace(doc, asked=doc.asked + 1, trouble=trouble), _exception(error)


def _ladder(
    trouble: Trouble | None, error: BaseException, chance: float
) -> tuple[int, float | None]:
    """The number of this failure in its ladder, and the wait after it. A re-probe starts anew."""
    count = 0 if trouble is None or trouble.used_up else trouble.attempt + 1
    return count, ladder_wait(count, error, chance)


def _interrupted(doc: DocSync) -> DocSync:
    """Back to what is shown at rest, with nothing said about the server."""
    here = doc.committed_rev > 0 or doc.has_pending
    return replace(doc, link=0, busy=False, rested="synced" if here else "unsynced")


def _exception(error: BaseException) -> Exception:
    if isinstance(error, Exception):
        return error
    assert is_interruption(error)
    return PatchesError("a request or a storage transaction was cancelled")
