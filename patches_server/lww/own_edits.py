"""`OwnEdits`: edits that the server itself makes, each for the state that it follows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from patches.limits import Limits
from patches.model.change import Change
from patches.model.json_values import Json
from patches_server.documents.clock import ServerClock
from patches_server.documents.context import Reviewer
from patches_server.documents.document_server import MakeOps
from patches_server.lww.committer import LWWCommitter
from patches_server.lww.decided import CommitCall, Committed, check
from patches_server.lww.structural import writes_of


class OwnEdit(NamedTuple):
    """An edit that was committed."""

    call: CommitCall
    change: Change
    done: Committed


class OwnEdits:
    """Makes edits with a committer. Its owner holds the lock of the document."""

    def __init__(
        self,
        committer: LWWCommitter,
        clock: ServerClock,
        limits: Limits,
        new_id: Callable[[int], str],
    ) -> None:
        self._committer, self._clock = committer, clock
        self._limits, self._new_id = limits, new_id

    async def commit(
        self,
        doc_id: str,
        make_ops: MakeOps,
        metadata: Mapping[str, Json] | None,
        review: Reviewer | None,
    ) -> OwnEdit | None:
        """Commit what `make_ops` says for the state as it is; `None`: it says nothing.

        Raises `RevConflictError` when another process has written meanwhile.
        """
        now = await self._clock.now()
        state, rev = await self._committer.current(doc_id, now)
        ops = make_ops(state, rev)
        if not ops:
            return None
        writes = writes_of(state if rev else {}, ops)
        if not writes:
            return None
        change = Change(
            id=self._new_id(rev + 1),
            ops=[{**op, "ts": now} for op in writes],
            base_rev=rev,
            rev=rev + 1,
            created_at=now,
            metadata=metadata,
        )
        check([change], self._limits)
        call = CommitCall(doc_id, [change], now, None, review, rev)
        return OwnEdit(call, change, await self._committer.commit(call))
