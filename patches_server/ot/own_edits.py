"""`OwnEdits`: edits that the server itself makes, each for the state that it follows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from patches.algorithms.ot.preparing import prepared
from patches.limits import Limits
from patches.model.change import Change
from patches.model.json_values import Json
from patches_server.documents.clock import ServerClock
from patches_server.documents.context import CallContext, Reviewer
from patches_server.documents.document_server import MakeOps
from patches_server.documents.offload import steps_of
from patches_server.ot.committer import Committer
from patches_server.ot.proposal import CommitCall
from patches_server.ot.saves import Done

_SERVER: Final = CallContext()


class OwnEdits:
    """Makes edits with a committer. Its owner holds the lock of the document."""

    def __init__(
        self,
        committer: Committer,
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
    ) -> Done | None:
        """Commit what `make_ops` says for the state as it is; `None`: it says nothing.

        Raises `RevConflictError` when another process has written meanwhile.
        """
        state, head = await self._committer.current(doc_id)
        ops = make_ops(state, head.rev)
        if not ops:
            return None
        shown: Json = {} if state is None and not head.rev else state
        ops = prepared(doc_id, shown, ops, self._limits, exists=head.rev > 0)
        if not ops:
            return None
        now = await self._clock.now()
        change = Change(
            id=self._new_id(head.rev + 1),
            ops=ops,
            base_rev=head.rev,
            rev=head.rev + 1,
            created_at=now,
            metadata=metadata,
        )
        call = CommitCall(
            _SERVER, doc_id, [change], None, now, steps_of([change]), review, head.rev
        )
        return await self._committer.commit(call)
