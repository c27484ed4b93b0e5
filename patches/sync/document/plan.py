"""What to do next for one document, and what an event makes of it: pure functions over `DocSync`.

One task per document asks `next_step`, does that one thing, and folds the outcome back in
(`worker.py`). Everything else that happens (an edit, a frame from the server, a connection that
comes or goes) is folded in when it happens, also while a step is being carried out. So a step's
outcome is folded into the state as it is by then:

- What the server has to say is counted: `asked` grows with every reason to look, and the step that
  looks carries the count it saw. Ten reasons during one look make exactly one more.
- Edits are counted for the same reason: what the store said about unsent work is good only if no
  edit came after the question.
- Frames wait in `inbox` while a request is in flight and are applied after its answer. An answer
  holds all that was committed before it, so a frame that came first is stale by then, and one that
  came later follows on. Nothing of a document is ever applied while something else of it is.

    next_step, highest first:   Remove · Learn · Reload · Push at revision 0 · Receive · Wait ·
                                Push · Pull or Load · Idle
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final, Literal, TypeAlias

from patches.model.change import Change, DocSyncStatus
from patches.sync.document.failure import Trouble
from patches.sync.document.unappliable import Poison

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
    """The local history cannot be built on. `resolved`: sent changes known to be committed."""

    resolved: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DocSync:
    """All that the coordinator knows of one tracked document."""

    doc_id: str
    known: bool = False  # the store was read
    committed_rev: int = 0
    has_pending: bool = False
    link: int = 0  # the connection it may use, by number; 0: none
    asked: int = 0  # reasons to look at the server
    looked: int = 0  # those that have been looked into
    edits: int = 0  # local edits seen
    stalled_at: int = -1  # edits when a commit was answered and its changes stayed: no use in more
    sent: tuple[str, ...] = ()  # ids of the last commit that was answered
    reload: NeedsReload | None = None
    reloads: int = 0  # in a row, without a commit or a pull that worked
    inbox: tuple[Frame, ...] = ()
    gone: bool = False  # deleted on the server
    busy: bool = False  # a pass is under way: shown as "syncing"
    rested: Literal["unsynced", "synced"] = "unsynced"  # what is shown between passes
    settled_link: int = 0  # the last connection on which a pass has ended, well or not
    trouble: Trouble | None = None
    reported: bool = False  # the trouble was, on this connection and since all was well
    poison: Poison = field(default_factory=Poison)
    ejections: int = 0
    storage_budget: int | None = None  # smaller than configured, after a 413
    payload_budget: int | None = None  # smaller than configured, after a socket closed with 1009

    @property
    def caught_up(self) -> bool:
        """Whether every reason to look has been looked into."""
        return self.looked >= self.asked

    @property
    def sendable(self) -> bool:
        """Whether there is unsent work that another commit could make less."""
        return self.has_pending and self.stalled_at != self.edits

    @property
    def restless(self) -> bool:
        """Whether something is under way, waits, or is the matter."""
        return (
            self.busy
            or self.gone
            or self.trouble is not None
            or self.has_pending
            or not self.caught_up
            or self.reload is not None
            or bool(self.inbox)
            or not self.known
            or not self.settled_link  # tracked just now, and not compared with the server yet
        )

    @property
    def status(self) -> DocSyncStatus:
        """What is shown."""
        if self.busy:
            return "syncing"
        return "error" if self.error is not None else self.rested

    @property
    def error(self) -> Exception | None:
        """Why the status is `"error"`, if it is."""
        return self.trouble.error if self.trouble is not None and not self.busy else None


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
    """The document was deleted on the server: let go of it."""


@dataclass(frozen=True, slots=True)
class Learn:
    """Read the store, which could not be read when the document was tracked."""


@dataclass(frozen=True, slots=True)
class Receive:
    """Apply the first `frames` frames of the inbox."""

    frames: int


@dataclass(frozen=True, slots=True)
class Push:
    """Send the next batch of unsent work."""

    looks: int


@dataclass(frozen=True, slots=True)
class Pull:
    """Fetch what was committed after `since`."""

    since: int
    looks: int


@dataclass(frozen=True, slots=True)
class Load:
    """Fetch the document for the first time."""

    looks: int


@dataclass(frozen=True, slots=True)
class Reload:
    """Fetch the document whole and put it in the place of what is here."""

    looks: int
    resolved: tuple[Change, ...] = ()


Step: TypeAlias = Idle | Wait | Remove | Learn | Receive | Push | Pull | Load | Reload
#: Steps that ask the server something.
Request: TypeAlias = Push | Pull | Load | Reload


def next_step(doc: DocSync, now: float) -> Step:
    """Decide the one thing to do next. The same state at the same time gives the same step."""
    if doc.gone:
        return Remove()
    may_ask = doc.link > 0 and (doc.trouble is None or doc.trouble.is_over(now))
    if not doc.known:
        # Whoever tracks it reads the store before there may be a link; here it failed.
        return Learn() if may_ask else _rest(doc)
    if doc.reload is not None:
        # what waits in the inbox rests on what the reload will bring
        return Reload(doc.asked, doc.reload.resolved) if may_ask else _rest(doc)
    if doc.committed_rev == 0 and doc.sendable:
        # A new document's work goes out at its true base, 0, before anything is applied below it:
        # the server alone knows whether it may (`spec/ot.md` 13).
        return Push(doc.asked) if may_ask else _rest(doc)
    if doc.inbox:
        return Receive(_leading(doc.inbox))
    if not may_ask:
        return _rest(doc)
    if doc.sendable:
        return Push(doc.asked)
    if doc.caught_up:
        return Idle()
    return Pull(doc.committed_rev, doc.asked) if doc.committed_rev else Load(doc.asked)


def _rest(doc: DocSync) -> Idle | Wait:
    if doc.link == 0 or doc.trouble is None or doc.trouble.until is None:
        return Idle()
    return Wait(doc.trouble.until)


def _leading(inbox: Sequence[Frame]) -> int:
    """How many frames can be applied as one: a run of changes without a gap, or one notice."""
    for count, (frame, following) in enumerate(pairwise(inbox), start=1):
        if isinstance(frame, Notice) or isinstance(following, Notice):
            return count
        if following.changes[0].rev != frame.changes[-1].rev + 1:
            return count
    return len(inbox)
