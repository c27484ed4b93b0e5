"""`OrdinaryCommit`: a commit that is decided inside its store's transaction.

Between reading and writing nothing can be waited for there, and nobody else can write. So a commit
is ordinary if nothing has to be asked, measured, compacted or refused, and what it rests on is
little. Any other one writes nothing, and is carried out by `LWWCommitter.commit`, which says why.
"""

from __future__ import annotations

from typing import Final

from patches.errors import PatchesError
from patches.limits import Limits
from patches.runtime import Millis
from patches_server.documents.history import KnownHistory, require_same_history
from patches_server.documents.offload import Offloader, steps_of, steps_of_encoded
from patches_server.lww.commit import client_rev_of, sent_paths
from patches_server.lww.decided import CommitCall, Committed, Decided, decided
from patches_server.lww.sizes import DocRoom, size_of
from patches_server.lww.store import LoadedRows, MadeBy, Revision

#: Old removals are dropped after every so many revisions of a document.
COMPACT_EVERY: Final = 256


class OrdinaryCommit:
    """One commit: call it with what was read, once; then it has `committed`."""

    def __init__(
        self,
        call: CommitCall,
        *,
        keeps_ids: bool,
        change_id_ttl: Millis,
        room: DocRoom,
        limits: Limits,
        offload: Offloader,
    ) -> None:
        self._call: Final = call
        self._room, self._limits, self._offload = room, limits, offload
        self._keeps_ids, self._change_id_ttl = keeps_ids, change_id_ttl
        self._steps = steps_of(call.changes)
        self.paths: Final = sent_paths(call.changes)
        self.client_rev: Final = client_rev_of(call.changes[0])
        self.change_ids: Final = [change.id for change in call.changes] if keeps_ids else []
        self._result: tuple[LoadedRows, Decided] | None = None

    def __call__(self, loaded: LoadedRows, made_by: MadeBy) -> Revision | None:
        """What to write; `None`: nothing, and the commit is no ordinary one."""
        call, rev = self._call, self.client_rev
        if not loaded.rev or (loaded.rev + 1) % COMPACT_EVERY == 0:
            return None
        if rev is not None and rev < loaded.floor:
            return None
        if not self._offload.is_small(2 * (self._steps + steps_of_encoded(loaded.rows))):
            return None
        try:
            if call.known is not None and not _is_of(call, call.known, loaded, rev or 0, made_by):
                return None
            made = decided(call, loaded, self.paths, rev, self._limits)
        except PatchesError:
            return None
        if not made.stored or not self._room.take(call.doc_id, size_of(made.stored)):
            return None
        self._result = loaded, made
        return Revision(
            rows=made.stored,
            hide=made.decision.hide,
            change_ids=[change.id for change in made.fresh] if self._keeps_ids else [],
            expires_at=call.now + self._change_id_ttl,
            head_id=call.changes[0].id,
        )

    @property
    def committed(self) -> Committed:
        """What it has come to, once it is stored."""
        assert self._result is not None
        loaded, made = self._result
        return Committed(
            rev=loaded.rev + 1,
            stored=made.stored,
            answer=made.answer,
            head_id=self._call.changes[0].id,
            token=None if self._call.known is None else loaded.token,
        )


def _is_of(
    call: CommitCall, known: KnownHistory, loaded: LoadedRows, rev: int, made_by: MadeBy
) -> bool:
    """Whether a copy is of the history that was read. Raises `OtherHistoryError`."""
    require_same_history(call.doc_id, known, token=loaded.token, head_rev=loaded.rev, rev=rev)
    if known.last_id is None or (known.last_rev, known.last_id) == (loaded.rev, loaded.head_id):
        return True
    return made_by(known.last_rev, known.last_id) is not False
