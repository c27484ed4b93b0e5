"""What to do next for one document: pure functions over `DocSync`, all that is known of it.

One task per document asks `next_step`, does that one thing, and takes the outcome into the state
(`worker.py`). Everything else that happens (an edit, a frame from the server, a connection that
comes or goes) changes the state when it happens, also while a step is being carried out. So the
outcome of a step is taken into the state as it is by then (`transitions.py`):

- Reasons to ask the server are counted: `pulls_requested` grows with each of them, and a step that
  asks carries the count it saw. Ten reasons during one request make exactly one more.
- Edits are counted for the same reason: what the store said about unsent work is good only if no
  edit came after the question.
- Frames wait in `inbox` while a request is in flight and are applied after its answer. An answer
  holds all that was committed before it, so a frame that came first is stale by then, and one that
  came later follows on. Nothing of a document is ever applied while something else of it is.

    next_step, highest first:   Remove · ReadStore · Reload · Push at revision 0 · Receive · Wait ·
                                Push · Pull or Load · Idle
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final, Literal, TypeAlias

from patches.model.change import Change, DocSyncStatus
from patches.sync.document.failure import Failure
from patches.sync.document.unappliable import Unappliable

#: Frames that may wait for one document; more, and they are dropped and fetched instead.
INBOX_FRAMES: Final = 10_000


@dataclass(frozen=True, slots=True)
class Committed:
    """Changes that the server broadcast, at least one."""

    changes: Sequence[Change]


@dataclass(frozen=True, slots=True)
class Notice:
    """A notification that means something to the document's algorithm alone."""

    method: str
    params: Mapping[str, Any]


Frame: TypeAlias = Committed | Notice


@dataclass(frozen=True, slots=True)
class NeedsReload:
    """The local history cannot be built on. `resolved`: sent changes known to be committed.

    `is_new_history`: the server has another history of the document than the one here.
    """

    resolved: tuple[Change, ...] = ()
    is_new_history: bool = False


@dataclass(frozen=True, kw_only=True)
class DocSync:
    """All that the coordinator knows of one tracked document.

    Without slots: each keystroke makes eight of it, which `transitions.evolve` does quickly.
    """

    doc_id: str
    known: bool = False  # the store was read
    committed_rev: int = 0
    has_pending: bool = False
    link: object | None = None  # the connection it may use, by identity
    pulls_requested: int = 0  # reasons to ask the server what is new
    pulls_done: int = 0  # those that an answer has covered
    edits: int = 0  # local edits seen
    stalled_at: int = -1  # edits when a commit was answered and its changes stayed: no use in more
    sent: tuple[str, ...] = ()  # ids of the last commit that was answered
    reload: NeedsReload | None = None
    reloads: int = 0  # in a row, without a commit or a pull that worked
    inbox: tuple[Frame, ...] = ()
    is_checked: bool = True  # on this connection: the server's history is the one here
    gone: bool = False  # deleted on the server
    busy: bool = False  # a pass is under way: shown as "syncing"
    idle_status: Literal["unsynced", "synced"] = "unsynced"  # what is shown between passes
    passed_link: object | None = None  # the last connection on which a pass has ended
    failure: Failure | None = None
    is_reported: bool = False  # the failure was, on this connection and since all was well
    unappliable: Unappliable = field(default_factory=Unappliable)
    refusals: int = 0  # changes refused in a row, without a commit or a pull that worked
    commit_limit: int | None = None  # most changes in a commit, while a refused one is searched
    resets: tuple[tuple[str, ...], int] = ((), 0)  # connections lost in a row over one commit
    storage_budget: int | None = None  # smaller than configured, after a 413

    @property
    def caught_up(self) -> bool:
        """Whether an answer has covered every reason to ask the server."""
        return self.pulls_done >= self.pulls_requested

    @property
    def sendable(self) -> bool:
        """Whether there is unsent work that another commit could make less."""
        return self.has_pending and self.stalled_at != self.edits

    @property
    def has_work(self) -> bool:
        """True if the document is busy, failed, or not known to be in sync with the server."""
        return (
            self.busy
            or self.gone
            or self.failure is not None
            or self.has_pending
            or self.pulls_done < self.pulls_requested
            or self.reload is not None
            or bool(self.inbox)
            or not self.known
            or self.passed_link is None  # tracked just now, and not compared with the server yet
        )

    @property
    def shown(self) -> tuple[DocSyncStatus, Exception | None]:
        """The status that is shown, and why it is `"error"`, if it is."""
        if self.busy:
            return "syncing", None
        if self.failure is not None and self.failure.error is not None:
            return "error", self.failure.error
        return self.idle_status, None


# ---- steps ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Idle:
    """Nothing to do until something happens."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do until then, by the event loop's clock, or until something happens."""

    until: float


@dataclass(frozen=True, slots=True)
class Remove:
    """The document was deleted on the server: forget it here."""


@dataclass(frozen=True, slots=True)
class ReadStore:
    """Read the store, which could not be read when the document was tracked."""


@dataclass(frozen=True, slots=True)
class Receive:
    """Apply the first `frames` frames of the inbox."""

    frames: int


@dataclass(frozen=True, slots=True)
class Push:
    """Send the next batch of unsent work."""

    pulls: int


@dataclass(frozen=True, slots=True)
class Pull:
    """Fetch what was committed after `since`."""

    since: int
    pulls: int


@dataclass(frozen=True, slots=True)
class Load:
    """Fetch the document for the first time."""

    pulls: int


@dataclass(frozen=True, slots=True)
class Reload:
    """Fetch the document whole and put it in the place of what is here."""

    pulls: int
    resolved: tuple[Change, ...] = ()
    is_new_history: bool = False


Step: TypeAlias = Idle | Wait | Remove | ReadStore | Receive | Push | Pull | Load | Reload
#: Steps that ask the server something.
Request: TypeAlias = Push | Pull | Load | Reload


def next_step(doc: DocSync, now: float) -> Step:
    """Decide the one thing to do next. The same state at the same time gives the same step."""
    if doc.gone:
        return Remove()
    may_ask = doc.link is not None and (doc.failure is None or doc.failure.is_over(now))
    if not doc.known:
        # Whoever tracks it reads the store before there may be a link; here it failed.
        return ReadStore() if may_ask else _at_rest(doc)
    if doc.reload is not None:
        # what waits in the inbox rests on what the reload will bring
        if not may_ask:
            return _at_rest(doc)
        return Reload(doc.pulls_requested, doc.reload.resolved, doc.reload.is_new_history)
    if doc.committed_rev == 0 and doc.sendable:
        # A new document's work goes out at its true base, 0, before anything is applied below it:
        # the server alone knows whether it may (`docs/internals/ot.md` 13).
        return Push(doc.pulls_requested) if may_ask else _at_rest(doc)
    if doc.inbox and (doc.is_checked or not doc.committed_rev):
        # Not before: on a copy of another history the next revision is another change's.
        return Receive(_leading(doc.inbox))
    if not may_ask:
        return _at_rest(doc)
    if doc.sendable:
        return Push(doc.pulls_requested)
    if doc.caught_up:
        return Idle()
    return (
        Pull(doc.committed_rev, doc.pulls_requested)
        if doc.committed_rev
        else Load(doc.pulls_requested)
    )


def _at_rest(doc: DocSync) -> Idle | Wait:
    if doc.link is None or doc.failure is None or doc.failure.until is None:
        return Idle()
    return Wait(doc.failure.until)


def _leading(inbox: Sequence[Frame]) -> int:
    """How many frames can be applied as one: a run of changes without a gap, or one notice."""
    for count, (frame, following) in enumerate(pairwise(inbox), start=1):
        if isinstance(frame, Notice) or isinstance(following, Notice):
            return count
        if following.changes[0].rev != frame.changes[-1].rev + 1:
            return count
    return len(inbox)
