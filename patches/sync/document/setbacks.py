"""What a failed step makes of a `DocSync`: pure functions beside `transitions.py`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from patches.errors import ApplyChangesError, MissingChangesError, OutdatedAnswerError, PatchesError
from patches.model.change import Change
from patches.net.backoff import jittered
from patches.sync.document import transitions
from patches.sync.document.failure import Failure
from patches.sync.document.failures import (
    LEAST_STORAGE_BYTES,
    REPROBE_FINAL_S,
    REPROBE_S,
    Attempt,
    Kind,
    halved,
    is_interruption,
    ladder_wait,
    least_wait,
)
from patches.sync.document.plan import DocSync, NeedsReload


def failed(
    doc: DocSync,
    error: BaseException,
    kind: Kind,
    attempt: Attempt,
    *,
    link: object | None,
    now: float,
    jitter: float,
    resolved: Sequence[Change] = (),
) -> tuple[DocSync, Exception | None]:
    """A step failed on a connection. The new state, and what is to be reported, if anything.

    `resolved`: changes that are known to be committed all the same. `Kind.REFUSED` is not for
    here: the worker searches the change and sets it aside.
    """
    match kind:
        case Kind.DELETED:
            return transitions.deleted(doc), None
        case Kind.RECOVER:
            return transitions.must_reload(doc, resolved), _exception(error)
        case Kind.NEW_HISTORY:
            return transitions.other_history(doc), None
        case Kind.RELOAD:
            return transitions.must_reload(doc, resolved), None
        case Kind.PULL:
            return transitions.pull_requested(doc), None
        case Kind.OUTDATED:
            assert isinstance(error, OutdatedAnswerError)
            if error.is_replaced:
                return transitions.replaced(doc, error.rev), None
            return transitions.pull_requested(replace(doc, committed_rev=error.rev)), None
        case Kind.SMALLER_CHANGES:
            assert attempt.storage_budget is not None
            budget = halved(attempt.storage_budget, LEAST_STORAGE_BYTES)
            return replace(doc, storage_budget=budget), None
        case Kind.SMALLER_BATCHES:
            return _after_reset(doc) if doc.link is not link else doc, None
        case Kind.INTERRUPTED:
            return _interruption(doc, error, link=link, now=now, jitter=jitter)
        case _ if attempt.step == "Receive" and kind is not Kind.FINAL:
            doc = _reload_later(doc, error, attempt, resolved)
            return _not_applied(doc, error, now=now, jitter=jitter)
        case _:
            doc = _reload_later(doc, error, attempt, resolved)
            return _failure(doc, error, kind, now=now, jitter=jitter)


def _reload_later(
    doc: DocSync, error: BaseException, attempt: Attempt, resolved: Sequence[Change]
) -> DocSync:
    """After many reloads in a row the next one waits as any retry does. It is a reload all the
    same: what cannot be applied now cannot be when it is fetched again either.
    """
    is_cured_by_it = isinstance(error, ApplyChangesError | MissingChangesError)
    if not is_cured_by_it or attempt.step == "Reload" or doc.reload is not None:
        return doc
    return replace(doc, reload=NeedsReload(tuple(resolved)))


def _interruption(
    doc: DocSync, error: BaseException, *, link: object | None, now: float, jitter: float
) -> tuple[DocSync, Exception | None]:
    if doc.link is not link:
        return _after_reset(doc), None
    count, wait_s = _ladder(doc.failure, error, jitter)
    used_up = wait_s is None
    until = now + (jittered(REPROBE_S, jitter) if wait_s is None else wait_s)
    report = used_up and not isinstance(error, PatchesError | TimeoutError) and not doc.is_reported
    failure = Failure(
        error=None,
        failed_at=now,
        until=until,
        attempt=count,
        used_up=used_up,
        least_wait=least_wait(error),
    )
    doc = replace(
        transitions.interrupted(doc), link=doc.link, failure=failure, passed_link=doc.link,
        is_reported=doc.is_reported or report,
    )  # fmt: skip
    return doc, _exception(error) if report else None


def _after_reset(doc: DocSync) -> DocSync:
    """A step was lost with its connection; a newer one has requested a pull already."""
    return transitions.interrupted(doc) if doc.link is None else doc


def _failure(
    doc: DocSync, error: BaseException, kind: Kind, *, now: float, jitter: float
) -> tuple[DocSync, Exception | None]:
    is_final = kind is Kind.FINAL
    count, wait_s = (0, None) if is_final else _ladder(doc.failure, error, jitter)
    until = None if wait_s is None else now + wait_s
    if wait_s is None and (doc.has_pending or not doc.known):
        until = now + jittered(REPROBE_FINAL_S if is_final else REPROBE_S, jitter)
    report = wait_s is None and not doc.is_reported and (is_final or doc.link is not None)
    shown = _exception(error)
    failure = Failure(
        error=shown,
        failed_at=now,
        until=until,
        attempt=count,
        used_up=wait_s is None,
        is_final=is_final,
        least_wait=least_wait(error),
    )
    doc = replace(
        doc,
        busy=False,
        failure=failure,
        passed_link=doc.link,
        is_reported=doc.is_reported or report,
        refusals=0,
        commit_limit=None,
    )
    return doc, shown if report else None


def _not_applied(
    doc: DocSync, error: BaseException, *, now: float, jitter: float
) -> tuple[DocSync, Exception | None]:
    """A broadcast could not be applied, for no reason that lies in it: fetch it in a while."""
    count, wait_s = _ladder(doc.failure, error, jitter)
    failure = Failure(
        error=None,
        failed_at=now,
        until=now + (jittered(REPROBE_S, jitter) if wait_s is None else wait_s),
        attempt=count,
        used_up=wait_s is None,
    )
    doc = replace(doc, pulls_requested=doc.pulls_requested + 1, failure=failure)
    return doc, _exception(error)


def _ladder(
    failure: Failure | None, error: BaseException, jitter: float
) -> tuple[int, float | None]:
    """The number of this failure in its ladder, and the wait after it. A re-probe starts anew."""
    count = 0 if failure is None or failure.used_up else failure.attempt + 1
    return count, ladder_wait(count, error, jitter)


def _exception(error: BaseException) -> Exception:
    if isinstance(error, Exception):
        return error
    assert is_interruption(error)
    return PatchesError("a request or a storage transaction was cancelled")
