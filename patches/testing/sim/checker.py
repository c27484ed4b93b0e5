"""`Checker`: what must hold in every run (`docs/internals/reliability.md` 6.5).

It keeps a log of its own of what reached the server's disk, and compares what clients store and are
told with it, after every call of a store. The comparison of whole documents is in `final.py`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from patches.algorithms.ot import rebase_changes
from patches.algorithms.ot.store import PendingQueue
from patches.model.change import Change
from patches.model.json_values import json_equal
from patches.net.connection import CommitAnswer
from patches.testing.sim.field_model import WATCHED, Field, after_commit, last_sent
from patches.testing.sim.journal import Write
from patches.testing.sim.loop import Life

#: An LWW server knows the id of a change for 30 days, by a clock that may be a day off.
RETENTION_DAYS: Final = 28
_RETENTION_S: Final = RETENTION_DAYS * 86_400.0


@dataclass(slots=True)
class Made:
    """An edit whose effect stays for good, as its user made it.

    `stored`: `flush` has returned, so it must be there in the end, exactly once; else it may be
    missing, and never be there twice.
    """

    doc_id: str
    client: str
    mark: str
    kind: str
    stored: bool = False
    given_up: bool = False
    field: str = ""  # of a "flat" edit, and what its author saw there
    seen: str = ""


@dataclass(slots=True)
class Log:
    """What reached the server's disk of one document since it was made."""

    changes: list[Change] = field(default_factory=list)  # OT
    ids: set[str] = field(default_factory=set)
    rev: int = 0
    fields: dict[str, Field] = field(default_factory=dict)  # LWW: those that are watched
    rows_at: dict[str, float] = field(default_factory=dict)  # LWW: when each change came
    deleted: bool = False

    def copied(self) -> Log:
        """A log of its own, equal to this one."""
        return replace(
            self,
            changes=list(self.changes),
            ids=set(self.ids),
            fields=dict(self.fields),
            rows_at=dict(self.rows_at),
        )


class Checker:
    """Told of everything that takes effect; calls `fail(invariant, message)`."""

    def __init__(
        self,
        fail: Callable[[str, str], None],
        disk_of: Mapping[str, str],
        *,
        servers: int = 1,
        elsewhere: Sequence[str] = (),
    ) -> None:
        self._fail, self._disk_of, self._servers = fail, disk_of, servers
        self._elsewhere = frozenset(elsewhere)  # documents that their family checks
        self.logs: dict[str, Log] = {}
        #: How often each document was deleted, and after which deletion by whom it must be gone.
        self.lives: Counter[str] = Counter()
        self.deletions: list[tuple[str, str, int]] = []
        self.edits: list[Made] = []
        self.acks: int = 0
        self.commits: int = 0
        #: Documents that have lost transactions: clients may be on a history that is no more.
        self.forked: dict[str, None] = {}
        self._synced: dict[str, Log] = {}
        self._revs: dict[tuple[str, str], int] = {}  # (client, document): committed on its disk
        #: By document and change id: the batches it was sent in. An early one may arrive after a
        #: late one, and a merge commits the changes of a branch under their ids.
        self._sent: dict[tuple[str, str], list[Sequence[Change]]] = {}
        #: By disk, document and change id: the upload that a pending change is a part of.
        self._uploads: dict[tuple[str, str, str], str] = {}
        self._set_aside: dict[str, None] = {}

    def log(self, doc_id: str) -> Log:
        """The log of a document."""
        return self.logs.setdefault(doc_id, Log())

    def made(self, edit: Made) -> None:
        """A user made an edit."""
        self.edits.append(edit)

    def given_up(self, client: str, doc_id: str) -> None:
        """A client forgets what it has not sent of a document."""
        for edit in self.edits:
            if edit.client == client and edit.doc_id == doc_id:
                edit.given_up = True

    def set_aside(self, change_id: str) -> None:
        """A user takes a pending change out of the queue: put back, it is of no upload."""
        self._set_aside[change_id] = None

    def sent(self, doc_id: str, changes: Sequence[Change]) -> None:
        """A client sends changes to the server."""
        for change in changes:
            self._sent.setdefault((doc_id, change.id), []).append(changes)

    def deleted(self, doc_id: str, client: str, life: int) -> None:
        """A client is about to store that its user deletes the `life`th document of this id."""
        self.deletions.append((doc_id, client, life))

    def forget_deletion(self, doc_id: str, client: str) -> None:
        """The server has refused a client's deletion, or it may not have been stored."""
        self.deletions = [each for each in self.deletions if each[:2] != (doc_id, client)]

    def undone_deletions(self) -> list[str]:
        """What was deleted by a user, and never was on the server (I10)."""
        return [
            f"{doc_id} was deleted by {client} and is still there"
            for doc_id, client, life in self.deletions
            if self.lives[doc_id] <= life and not self.log(doc_id).deleted and self.log(doc_id).rev
        ]

    def acknowledged(self, doc_id: str, sent: Sequence[Change], answer: CommitAnswer) -> None:
        """A client was told that changes are committed (I3)."""
        self.acks += 1
        if doc_id in self._elsewhere:
            return
        log = self.log(doc_id)
        if doc_id.startswith("lww/"):
            # Of several servers, each lowers a time from the future to that of its own clock.
            if self._servers == 1 and not self.has_older_lives(doc_id):
                self._check_losers(doc_id, log, sent)
            return
        mine = {change.id for change in sent}
        for change in answer.changes:
            if change.id not in mine or log.deleted or doc_id in self.forked:
                continue
            if change.id not in log.ids:
                self._fail("I3", f"{doc_id}: {change.id} was acknowledged and is not on disk")

    def _check_losers(self, doc_id: str, log: Log, sent: Sequence[Change]) -> None:
        """A write of which nothing was stored is older than what is there (I11)."""
        for change in sent:
            for op in change.ops if change.id not in log.rows_at else ():
                there = log.fields.get(op["path"])
                if there is not None and op["op"] == "replace" and op.get("ts", 0) >= there.ts:
                    self._fail("I11", f"{doc_id}: {op} has lost against {there}")

    def effect(self, life: Life, write: Write) -> None:
        """A call of a store has taken effect."""
        handlers = _ON_SERVER if life.name.startswith("server") else _ON_CLIENT
        handler = handlers.get((write.store, write.name))
        if handler is not None:
            node = self._disk_of.get(life.name, life.name)
            handler(self, node, write.args, write.options, write.result)

    def copied(self) -> dict[str, Log]:
        """The logs as they are now, for `set_back`."""
        return {doc_id: log.copied() for doc_id, log in self.logs.items()}

    def set_back(self, logs: Mapping[str, Log]) -> None:
        """An older copy has taken the place of the server's disk."""
        ids = dict.fromkeys((*self.logs, *logs))
        lost = [each for each in ids if self.log(each) != logs.get(each, Log())]
        self.logs = {doc_id: log.copied() for doc_id, log in logs.items()}
        self.synced()
        for doc_id in lost:
            self._lost(doc_id)

    def _lost(self, doc_id: str) -> None:
        self.forked[doc_id] = None
        self.deletions = [each for each in self.deletions if each[0] != doc_id]
        for edit in self.edits:
            if edit.doc_id == doc_id:
                edit.given_up = True

    def synced(self) -> None:
        """What is on the server's disk now survives a loss of power."""
        self._synced = {doc_id: log.copied() for doc_id, log in self.logs.items()}

    def power_lost(self, kept: Sequence[Write], lost: Sequence[Write]) -> None:
        """The server's disk has lost its latest transactions.

        Nothing acknowledged before the last sync is among them. What is gone may come back from a
        client that still holds it, or not.
        """
        self.logs = {doc_id: log.copied() for doc_id, log in self._synced.items()}
        for write in kept:
            handler = _ON_SERVER.get((write.store, write.name))
            if handler is not None:
                handler(self, "server", write.args, write.options, write.result)
        gone = [write.args[0] for write in lost if (write.store, write.name) in _ON_SERVER]
        for doc_id in dict.fromkeys(gone):  # no set: its order differs between two processes
            self._lost(doc_id)

    # ---- the server's disk -----------------------------------------------------------------------

    def _server_saved(self, _node: str, args: Any, options: Any, _result: Any) -> None:
        doc_id, changes = args
        log = self.log(doc_id)
        if log.deleted:
            self._fail("I6", f"{doc_id}: a commit under a tombstone")
        self._check_rebase(doc_id, log, changes)
        for change in changes:
            if change.rev != log.rev + 1:
                self._fail("I1", f"{doc_id}: revision {change.rev} after {log.rev}")
            if change.id in log.ids:
                self._fail("I2", f"{doc_id}: {change.id} was committed twice")
            log.changes.append(Change.from_wire(change.to_wire()))
            log.ids.add(change.id)
            log.rev = change.rev
        self.commits += 1

    def _check_rebase(self, doc_id: str, log: Log, stored: Sequence[Change]) -> None:
        """What the server stores is what the sender's own rebase makes of what it sent (I11)."""
        sent = self._sent.get((doc_id, stored[0].id))
        if sent is None or self.has_older_lives(doc_id):
            return  # the server's own, or made for an older life of the document
        if not any(_is_rebase(stored, log, batch) for batch in sent):
            message = f"{[change.to_wire() for change in stored]} from {sent[-1]}"
            self._fail("I11", f"{doc_id}: what is stored is no rebase of what was sent: {message}")

    def has_older_lives(self, doc_id: str) -> bool:
        """Whether what is under way may belong to a document that is no more."""
        return "mortal" in doc_id or doc_id in self.forked

    def _server_saved_rows(self, _node: str, args: Any, options: Any, _result: Any) -> None:
        doc_id, rows = args
        log = self.log(doc_id)
        if log.deleted:
            self._fail("I6", f"{doc_id}: a commit under a tombstone")
        if any(row.rev != log.rev + 1 for row in rows):
            self._fail("I1", f"{doc_id}: revisions {[row.rev for row in rows]} after {log.rev}")
        now = asyncio.get_running_loop().time()
        for change_id in options.get("change_ids", ()):
            if now - log.rows_at.get(change_id, -_RETENTION_S) < _RETENTION_S:
                self._fail("I2", f"{doc_id}: {change_id} was committed twice")
            log.rows_at[change_id] = now
        self._check_fields(doc_id, log, rows, options)
        log.rev += 1
        self.commits += 1

    def _check_fields(self, doc_id: str, log: Log, rows: Any, options: Any) -> None:
        """The watched fields are what the rules make of the writes that were sent (I11)."""
        watched = [row for row in rows if row.path in WATCHED]
        stored = {row.path: Field(row.ts, row.op.get("value")) for row in watched}
        sent = [
            last_sent(self._sent[doc_id, change_id], change_id)
            for change_id in options.get("change_ids", ())
            if (doc_id, change_id) in self._sent
        ]
        if len(sent) == len(options.get("change_ids", ())):  # else it is the server's own
            expected = after_commit(log.fields, sent, options["now"])
            for path, field_ in expected.items():
                got = stored.get(path, log.fields.get(path))
                if got is None or got.value != field_.value:
                    message = f"{path} is {got} after {sent}, and was {log.fields.get(path)}"
                    self._fail("I11", f"{doc_id}: {message}")
        log.fields |= stored

    def _server_deleted(self, _node: str, args: Any, options: Any, _result: Any) -> None:
        doc_id, tombstone = args
        was_deleted = self.log(doc_id).deleted
        self.lives[doc_id] += 1
        self.logs[doc_id] = Log(deleted=tombstone is not None or was_deleted)
        self._revs = {key: rev for key, rev in self._revs.items() if key[1] != doc_id}

    def _server_undeleted(self, _node: str, args: Any, _options: Any, _result: Any) -> None:
        self.log(args[0]).deleted = False

    # ---- the clients' disks ----------------------------------------------------------------------

    def _client_applied(self, node: str, args: Any, _options: Any, result: Any) -> None:
        doc_id, changes = args[0], args[1]
        if result is not None:
            return  # a conflict: nothing was stored
        self._check_queue(node, doc_id, changes, args[2], args[3] if len(args) > 3 else None)
        self._check_uploads(node, doc_id, args[2])
        log, known = self.log(doc_id), self._revs.get((node, doc_id), 0)
        for change in changes:
            if change.rev <= known:
                continue
            if change.rev != known + 1 and known:
                self._fail("I7", f"{node}, {doc_id}: revision {change.rev} stored after {known}")
            known = change.rev
            if self.has_older_lives(doc_id):
                continue
            if change.rev > log.rev or log.changes[change.rev - 1].id != change.id:
                self._fail("I7", f"{node}, {doc_id}: stored {change.id}, which is not in the log")
            elif not json_equal(change.ops, log.changes[change.rev - 1].ops):
                there = log.changes[change.rev - 1].ops
                message = f"stored {change.id} as {change.ops}, in the log it is {there}"
                self._fail("I7", f"{node}, {doc_id}: {message}")
        self._revs[node, doc_id] = known

    def _check_queue(
        self,
        node: str,
        doc_id: str,
        changes: Sequence[Change],
        stored: Sequence[Change],
        queue: PendingQueue | None,
    ) -> None:
        """What a client keeps pending is the rebase of what it had (I11)."""
        if queue is None:
            return
        new = [change for change in changes if change.rev > queue.committed_rev]
        if not new or any(change.base_rev != queue.committed_rev for change in queue.pending):
            return
        expected = {change.id: change.ops for change in rebase_changes(new, queue.pending)}
        for change in stored:
            if change.id in expected and not json_equal(change.ops, expected[change.id]):
                self._fail(
                    "I11",
                    f"{node}, {doc_id}: {change.id} is pending as {change.ops}, its rebase is "
                    f"{expected[change.id]}",
                )

    def _check_uploads(self, node: str, doc_id: str, pending: Sequence[Change]) -> None:
        """A change stays a part of the upload that it was first sent in a part of (I11)."""
        for change in pending:
            if change.id in self._set_aside:
                continue
            if change.batch_id is not None or (node, doc_id, change.id) in self._uploads:
                known = self._uploads.setdefault((node, doc_id, change.id), change.batch_id or "")
                if known != change.batch_id:
                    message = f"{change.id} was of the upload {known}, is of {change.batch_id}"
                    self._fail("I11", f"{node}, {doc_id}: {message}")

    def _client_reloaded(self, node: str, args: Any, _options: Any, result: Any) -> None:
        if result is None:
            self._revs[node, args[0]] = args[1].head

    def _client_forgot(self, node: str, args: Any, _options: Any, _result: Any) -> None:
        for doc_id in [args[0]] if isinstance(args[0], str) else args[0]:
            self._revs.pop((node, doc_id), None)


def _is_rebase(stored: Sequence[Change], log: Log, batch: Sequence[Change]) -> bool:
    since = log.changes[batch[0].base_rev :]
    if {change.id for change in batch} & {change.id for change in since}:
        return True  # a part of it was stored before: not judged
    expected: Sequence[Change] = batch
    if batch[0].base_rev > 0:  # else it was made on nothing, and goes onto the head as it is
        expected = rebase_changes(since, batch)
    return [change.id for change in expected] == [change.id for change in stored] and all(
        json_equal(one.ops, other.ops) for one, other in zip(expected, stored, strict=True)
    )


_ON_SERVER: dict[tuple[str, str], Callable[..., None]] = {
    ("ot", "save_changes"): Checker._server_saved,
    ("lww", "save_rows"): Checker._server_saved_rows,
    ("ot", "delete_doc"): Checker._server_deleted,
    ("lww", "delete_doc"): Checker._server_deleted,
    ("ot", "remove_tombstone"): Checker._server_undeleted,
    ("lww", "remove_tombstone"): Checker._server_undeleted,
}
_ON_CLIENT: dict[tuple[str, str], Callable[..., None]] = {
    ("ot", "apply_server_changes"): Checker._client_applied,
    ("ot", "install_doc"): Checker._client_reloaded,
    ("ot", "untrack_docs"): Checker._client_forgot,
    ("ot", "delete_doc"): Checker._client_forgot,
    ("ot", "confirm_delete_doc"): Checker._client_forgot,
}
