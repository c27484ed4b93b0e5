"""`LiveDocument`: one document while it is used: its connections, and the jobs on it, in order.

A job is a function that runs in one transaction, after what other programs have written since the
last one was numbered. What it commits is sent to the connections when it is on disk, in the order
of the jobs. `Job` is what it gets: the transaction, and the ways to make a change and to answer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from patches.algorithms.collections.declaration import Collections
from patches.errors import InvalidRequestError, StaleSubmissionError
from patches.model.change import Change
from patches.model.json_values import Json, Op
from patches.rows.row_ops import insert_op
from patches.runtime import Millis
from patches_server.collections.calls import Caller
from patches_server.collections.engines.engine import Commit, Touched, Transaction
from patches_server.collections.interests import Interests, Subscription, View
from patches_server.collections.parts import Window
from patches_server.collections.statement import MAX_SUBSETS, Statement, Subset

#: A copy that has missed more than this is fetched anew.
MAX_MISSED: Final = 50_000


@dataclass(frozen=True, slots=True)
class Delivery:
    """Changes for some connections; none of them: the connections have to fetch."""

    connection_ids: frozenset[str]
    changes: Sequence[Change]


@dataclass(frozen=True, slots=True)
class Step:
    """What one revision did, for the handlers of `server.on`."""

    rev: int
    touched: Touched
    commit: Commit | None


class LiveDocument:
    """One document. Everything but `left` and `jobs` belongs to the thread of its transactions."""

    def __init__(self, doc_id: str, declared: Collections, *, max_eager_rows: int) -> None:
        self.doc_id: Final = doc_id
        self.interests: Final = Interests(declared, max_eager_rows=max_eager_rows)
        #: Jobs that have begun and are not on disk yet; the event loop's.
        self.jobs = 0
        #: Connections that have ended; the event loop adds them.
        self.left: deque[str] = deque()


class Job:
    """One job, while it runs. `deliveries` and `steps` are for when it is on disk."""

    def __init__(self, tx: Transaction, live: LiveDocument, now: Millis) -> None:
        self.tx: Transaction = tx
        self._live = live
        self.now: Millis = now
        self.interests: Final = live.interests
        self.deliveries: list[Delivery] = []
        self.steps: list[Step] = []

    def begin(self) -> None:
        """Take in what happened since the last job."""
        interests, tx = self.interests, self.tx
        while self._live.left:
            interests.leave([self._live.left.popleft()])
        known = interests.rev
        if known > tx.rev:  # what was sent was not stored after all
            self.look_again(interests.clear())
            known = tx.rev
        elif known < tx.rev and len(interests):  # another process has committed
            missed = tx.changed(known, tx.rev, limit=MAX_MISSED)
            if missed is None:
                self.look_again(interests.clear())
            else:
                self._notify(missed, None, "")
        interests.rev = tx.rev
        touched = tx.number(self.now)
        if touched.rows:
            self._committed(touched, None, f"rev-{tx.epoch}-{tx.rev}")

    def commit(
        self,
        change_id: str,
        caller: Caller,
        work: Callable[[], object],
        *,
        origin: str | None = None,
    ) -> View | None:
        """Make one change: run `work`, number and broadcast what it wrote. What `origin` gets.

        If `work` raises, nothing is left of the change. Raises what it raises.
        """

        def attempt() -> tuple[Touched, Commit]:
            work()
            touched = self.tx.number(self.now)
            if not touched.rows:
                self.tx.next_rev()
            commit = Commit(change_id, self.tx.rev, caller.user_id)
            self.tx.put_commit(commit, self.now)
            return touched, commit

        touched, commit = self.tx.attempt(attempt)
        return self._committed(touched, commit, change_id, origin)

    def hold(self, caller: Caller, statement: Statement) -> Subscription:
        """What a connection holds; it says so now if it has not yet, and is up to date then."""
        held = self.interests.get(caller.connection_id)
        if held is None or not held.is_stated or held.claims != caller.known_claims():
            held, _ = self.interests.state(self.tx, caller, statement)
            held.sent_rev = self.tx.rev
        return held

    def require_in_reach(self, rev: int) -> None:
        """Raise `StaleSubmissionError` for a copy that cannot be brought up to date from `rev`."""
        if rev > self.tx.rev or rev < self.tx.floor:
            raise StaleSubmissionError(
                f"Document {self._live.doc_id} cannot be followed from revision {rev}: it is at "
                f"{self.tx.rev}, and deletions up to {self.tx.floor} are forgotten. Reload it."
            )

    def missed(
        self, held: Subscription, since: int, upto: int
    ) -> tuple[list[Op], dict[str, list[str]]]:
        """What a copy at `since` needs of what was touched last up to `upto`."""
        touched = self.tx.changed(since, upto, limit=MAX_MISSED) if upto > since else Touched()
        if touched is None:
            raise StaleSubmissionError(
                f"Document {self._live.doc_id}: more than {MAX_MISSED} rows since revision {since}."
                " Reload it."
            )
        return self.interests.missed(held, self.tx, touched)

    def load_subset(self, caller: Caller, statement: Statement, subset: Subset) -> Json:
        """A connection holds a subset from now on; the answer."""
        held = self.interests.get(caller.connection_id)
        if held is None or held.claims != caller.known_claims():
            held = self.hold(caller, statement)
            held.is_stated = False
        name = ("subset", subset.id)
        if (
            name not in held.parts
            and sum(kind == "subset" for kind, _ in held.parts) >= MAX_SUBSETS
        ):
            raise InvalidRequestError(f"INVALID_REQUEST: at most {MAX_SUBSETS} subsets")
        rows = self.interests.load(self.tx, held, subset)
        key, part = subset.table.key, held.parts[name]
        keys: list[Json] = [str(row[key]) for row in rows]
        ops: list[Json] = [insert_op(subset.table.name, str(row[key]), row) for row in rows]
        more = isinstance(part, Window) and part.has_more
        return {"rev": self.tx.rev, "ops": ops, "keys": keys, "more": more}

    def look_again(self, connection_ids: Sequence[str]) -> None:
        """Tell connections to ask for what they have missed."""
        if connection_ids:
            self.deliveries.append(Delivery(frozenset(connection_ids), ()))

    def change_of(
        self,
        change_id: str,
        base_rev: int,
        rev: int,
        ops: list[Op],
        *,
        created_at: Millis | None = None,
        author: str | None = None,
        windows: dict[str, list[str]] | None = None,
    ) -> Change:
        """A change as it is sent."""
        extra: dict[str, Json] = {}
        if author is not None:
            extra["author"] = author
        if windows:
            extra["windows"] = dict(windows)
        return Change(
            id=change_id,
            ops=ops,
            base_rev=base_rev,
            rev=rev,
            created_at=self.now if created_at is None else created_at,
            committed_at=self.now,
            metadata=extra,
        )

    def _committed(
        self, touched: Touched, commit: Commit | None, change_id: str, origin: str | None = None
    ) -> View | None:
        self.steps.append(Step(self.tx.rev, touched, commit))
        return self._notify(touched, commit, change_id, origin)

    def _notify(
        self, touched: Touched, commit: Commit | None, change_id: str, origin: str | None = None
    ) -> View | None:
        views, own = self.interests.absorb(self.tx, touched, commit, origin=origin)
        for view in views:
            change = self.change_of(
                change_id or f"rev-{self.tx.epoch}-{self.tx.rev}",
                view.base_rev,
                self.tx.rev,
                view.ops,
                author=view.author,
                windows=view.windows,
            )
            self.deliveries.append(Delivery(view.connection_ids, [change]))
        return own
