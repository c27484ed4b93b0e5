"""`SmallServer`: the server's side of `SmallAlgorithm`, and all that a document server may have.

A document is a list of changes in the order of their arrival, as they came. Beyond what every
document server has: snapshots and calls carry a token, and a stale one is answered with 409; each
subscriber gets its own view of a commit; it has a remote method and a notification of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from patches.errors import StatusError
from patches.json_patch import apply_patch
from patches.model.change import Change, ChangeInput, Snapshot
from patches.model.json_values import Json
from patches_server.documents.context import CallContext, current_context
from patches_server.documents.document_server import DocumentServer
from patches_server.documents.records import CommitOptions, CommitResult


class SmallServer(DocumentServer):
    """Documents of the algorithm `"small"`, in memory."""

    name = "small"
    has_views = True

    def __init__(self, *, token: str = "first") -> None:
        super().__init__()
        self.remote_methods = {"countChanges": ("read", self._count)}
        self.token = token
        #: What `view` asks: which of a commit's changes somebody sees.
        self.sight: Callable[[Any, Sequence[Change]], Sequence[Change] | None] = _everything
        #: `(method, options)` of the calls so far.
        self.calls: list[tuple[str, Mapping[str, Json]]] = []
        #: The connections that have ended.
        self.ended: list[str] = []
        self._logs: dict[str, list[Change]] = {}

    async def get_doc(self, doc_id: str, *, rev: int | None = None) -> Snapshot:
        """The state, and the token to be sent with the calls that rest on it."""
        self._note("getDoc")
        log = await self.load(doc_id)
        seen = self.sight(current_context().principal, log) or []
        state: Json = {}
        for change in seen:
            state = apply_patch(state, change.ops)
        return Snapshot(state=state, rev=len(log), metadata={"token": self.token})

    async def get_changes_since(self, doc_id: str, rev: int) -> Sequence[Change]:
        """What the caller may see of the changes after `rev`. Raises 409 for a stale token."""
        options = self._note("getChangesSince")
        self._check_token(options)
        return self.sight(current_context().principal, (await self.load(doc_id))[rev:]) or []

    async def commit_changes(
        self,
        doc_id: str,
        changes: Sequence[Change | ChangeInput],
        options: CommitOptions | None = None,
    ) -> CommitResult:
        """Put changes at the end. The answer is what the caller missed, and these."""
        self._check_token(self._note("commitChanges"))
        log = await self.load(doc_id)
        known = {change.id for change in log}
        base_rev = changes[0].base_rev
        missed = len(log) if base_rev is None else base_rev
        new = [
            Change(
                id=change.id,
                ops=change.ops,
                base_rev=len(log) + place,
                rev=len(log) + place + 1,
                created_at=1,
                committed_at=1,
            )
            for place, change in enumerate(each for each in changes if each.id not in known)
        ]
        if new:
            await self.append(doc_id, new)
            self.on_changes_committed.emit(doc_id, new, None, current_context().connection_id)
        return CommitResult(changes=[*log, *new][missed:])

    async def view(
        self, doc_id: str, changes: Sequence[Change], context: CallContext
    ) -> Sequence[Change] | None:
        """What one subscriber is told of a commit; the hub asks."""
        return self.sight(context.principal, changes)

    def connection_ended(self, connection_id: str) -> None:
        """What was kept for a connection can be forgotten."""
        self.ended.append(connection_id)

    async def delete_doc(self, doc_id: str, *, skip_tombstone: bool = False) -> None:
        await self.remove(doc_id)
        self.on_doc_deleted.emit(doc_id, current_context().connection_id)

    async def undelete_doc(self, doc_id: str) -> bool:
        return False

    # ---- where it is kept: another server brings a store -----------------------------------------

    async def load(self, doc_id: str) -> list[Change]:
        """The changes of a document."""
        return list(self._logs.get(doc_id, []))

    async def append(self, doc_id: str, new: Sequence[Change]) -> None:
        """Store changes behind those that there are."""
        self._logs.setdefault(doc_id, []).extend(new)

    async def remove(self, doc_id: str) -> None:
        """Forget a document."""
        self._logs.pop(doc_id, None)

    # ---- inside ----------------------------------------------------------------------------------

    async def _count(self, doc_id: str, *kinds: Json) -> Json:
        return {"changes": len(await self.load(doc_id)), "kinds": list(kinds)}

    def _note(self, method: str) -> Mapping[str, Json]:
        options = current_context().options
        self.calls.append((method, options))
        return options

    def _check_token(self, options: Mapping[str, Json]) -> None:
        if options.get("token") != self.token:
            raise StatusError(409, "the token is stale", {"scope": "doc"})


def _everything(_principal: object, changes: Sequence[Change]) -> Sequence[Change]:
    return changes
