"""`ReplayServer`: documents of rows, changed by actions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from patches.aio.keyed_locks import KeyedLocks
from patches.algorithms.replay.actions import Actions
from patches.algorithms.replay.changes import AUDIENCES_CHANGED
from patches.algorithms.replay.clock import Time
from patches.errors import (
    ChangeRefusedError,
    PatchesError,
    StatusError,
    VersionError,
)
from patches.limits import Limits
from patches.model.change import Change, ChangeInput, Snapshot
from patches.model.ids import SortableIds, change_ids
from patches.model.json_values import Json
from patches.model.settings import check_integer, instance_or
from patches.rows.row_ops import State
from patches.runtime import Runtime
from patches_server.documents.backend import store_in
from patches_server.documents.clock import ServerClock
from patches_server.documents.context import CallContext, current_context
from patches_server.documents.document_server import DocumentServer
from patches_server.documents.history import (
    HistoryMark,
    KnownHistory,
    known_history,
)
from patches_server.documents.records import (
    CommitOptions,
    CommitResult,
    Version,
    check_version_metadata,
)
from patches_server.documents.tombstones import new_tombstone
from patches_server.replay.judge import (
    AnyChange,
    require_history,
    require_kept,
)
from patches_server.replay.live import Submitted
from patches_server.replay.loaded import LoadedDocs
from patches_server.replay.logbook import Logbook
from patches_server.replay.permission import Authorize, require_allowed, require_single
from patches_server.replay.runner import ClientRunner, Runner, ServerRunner
from patches_server.replay.store import Logged, ReplayServerStore
from patches_server.replay.stores.factory import REPLAY_STORES
from patches_server.replay.views import Viewer, view_of_state, views_of

#: The audiences that a caller belongs to.
Audiences = Callable[[CallContext], set[str] | frozenset[str]]

_SERVER_CLIENT: Final = "server"


class ReplayServer(DocumentServer):
    """A `DocumentServer` that runs the actions of its documents, each at the place of its clock.

    Without `actions` it is a gate and a log: who commits an action has run it, and is trusted with
    what it did.

    Args:
        store: a backend, or a `ReplayServerStore`.
        actions: the actions of all its documents, if they are to be run here.
        audiences: the audiences of a caller, such as `{"*", "user:7"}`; by default everybody sees
            every row.
        authorize: called for each change before it is run; may be async.
        author_of: the user id of a caller; by default the `id` of its principal.
        retention: changes older than this are folded into a snapshot by `compact`.
        max_entries: and those beyond so many.
        max_action_s: an action that computes for longer is refused.
    """

    name = "replay"
    has_views = True

    def __init__(
        self,
        store: Any,
        actions: Actions | None = None,
        *,
        audiences: Audiences | None = None,
        authorize: Authorize | None = None,
        author_of: Callable[[CallContext], str | None] | None = None,
        retention: timedelta = timedelta(days=14),
        max_entries: int = 10_000,
        max_action_s: float = 1.0,
        limits: Limits | None = None,
        runtime: Runtime | None = None,
    ) -> None:
        super().__init__()
        check_integer("max_entries", max_entries, least=1)
        self.actions: Final = actions
        self.store: ReplayServerStore = store_in(store, REPLAY_STORES)
        self._audiences, self._authorize = audiences, authorize
        self._author_of = author_of or author_of_principal
        self._retention_ms = int(retention.total_seconds() * 1000)
        self._max_entries = max_entries
        self._limits = instance_or(Limits, "limits", limits, Limits)
        self._runtime = instance_or(Runtime, "runtime", runtime, Runtime)
        self.clock: ServerClock = ServerClock(self.store, self._runtime)
        self._new_id = change_ids(self._runtime.random)
        self._version_ids = SortableIds(self._runtime.random)
        self._locks = KeyedLocks()
        self._runner: Runner[Any, Any] = (
            ClientRunner(self._new_sync_id)
            if actions is None
            else ServerRunner(actions, self._runtime, self._new_sync_id, max_action_s)
        )
        self._docs: LoadedDocs[Logbook] = LoadedDocs(
            self.store, self._runner.load, locks=self._locks, clock=self.clock
        )

    @property
    def clock_jumps(self) -> int:
        """Leaps forward of the wall clock that were noticed."""
        return self.clock.jumps

    # ---- reading ---------------------------------------------------------------------------------

    async def get_doc(self, doc_id: str, *, rev: int | None = None) -> Snapshot:
        """The rows at the head that the caller may see.

        Raises `PatchesError` for a `rev`: there are versions for that.
        """
        if rev is not None:
            raise PatchesError("replay documents are read at the head, or as a saved version")
        viewer = self._viewer(current_context())
        async with self._locks(doc_id):
            live = await self._docs.load(doc_id)
            state, head, clock = live.state, live.rev, live.clock
        return Snapshot(
            state=view_of_state(state, viewer),
            rev=head,
            metadata={
                "runner": self._runner.name,
                "view": "full" if viewer.rights is None else "partial",
                "clock": list(clock),
                "schema": self._runner.schema(),
                "serverTime": await self.clock.now(),
            },
        )

    async def state(self, doc_id: str) -> State:
        """All rows at the head, whoever may see them."""
        async with self._locks(doc_id):
            return (await self._docs.load(doc_id)).state

    async def get_changes_since(self, doc_id: str, rev: int) -> list[Change]:
        """The changes after `rev`, as the caller may see them.

        Raises `StaleSubmissionError` if some of them were folded into a snapshot.
        """
        viewer = self._viewer(current_context())
        async with self._locks(doc_id):
            live = await self._docs.load(doc_id)
            require_kept(doc_id, live, rev)
            return views_of(live.since(rev), viewer, self._runner.shares_args)

    async def history_of(
        self, doc_id: str, known: KnownHistory | None = None, rev: int = 0
    ) -> HistoryMark:
        """The document's history. Raises `OtherHistoryError` if a copy at `rev` is of another,
        `StaleSubmissionError` if it was made when its user saw other rows.
        """
        viewer = self._viewer(current_context())
        async with self._locks(doc_id):
            live = await self._docs.load(doc_id)
            if known is not None:
                require_history(doc_id, live, known, rev, viewer)
            return HistoryMark(viewer.token(live.token), live.rev, live.last_id)

    async def view(
        self, doc_id: str, changes: Sequence[Change], context: CallContext
    ) -> Sequence[Change]:
        return views_of(changes, self._viewer(context), self._runner.shares_args)

    def access_changed(self) -> None:
        """The audiences of somebody are others now: clients that follow a document find out
        whether they are theirs, and then fetch what they may see.
        """
        for doc_id in self._docs.loaded():
            self.on_notification.emit(doc_id, AUDIENCES_CHANGED, {}, None)

    # ---- committing ------------------------------------------------------------------------------

    async def commit_changes(
        self,
        doc_id: str,
        changes: Sequence[Change | ChangeInput],
        options: CommitOptions | None = None,
    ) -> CommitResult:
        """Run and commit the actions that are new, each at the place of its clock.

        The answer is what was committed since the sender's revision, its own changes among it. The
        first change that is refused ends the commit: those before it stay committed, and
        `ChangeRefusedError` names it.
        """
        return await self._commit(current_context(), doc_id, changes, options)

    async def run(
        self,
        doc_id: str,
        action: Callable[..., Any] | str,
        /,
        *,
        author: str | None = None,
        **args: Json,
    ) -> Change:
        """Run an action as `author`, with all rows in sight; the change that it was committed as.

        An action that raises is committed without effect, as a client's is, and named by the
        change's `error`.
        """
        if self.actions is None:
            raise PatchesError("this server has no actions; whoever commits one runs it")
        found = self.actions.action_of(action)
        plain = found.check_args(args)
        async with self._locks(doc_id):
            live, now = await self._docs.load(doc_id), await self.clock.now()
            clock = Time(*live.clock).tick(now).clock(_SERVER_CLIENT)
            change_id = self._new_id(live.rev + 1)
            submitted = Submitted(
                id=change_id,
                action=found,
                args=plain,
                clock=clock,
                created_at=now,
                author=author,
                rights=None,
            )
            made, refusal = await self._stored(doc_id, live, [submitted], now)
            if refusal is not None:
                raise refusal
        await self._notify(doc_id, made, None, None)
        return made[0].change

    async def _commit(
        self,
        caller: CallContext,
        doc_id: str,
        changes: Sequence[AnyChange],
        options: CommitOptions | None,
    ) -> CommitResult:
        if not changes:
            return CommitResult(changes=())
        viewer = self._viewer(caller)
        made: list[Logged] = []
        refusal: StatusError | None = None
        async with self._locks(doc_id):
            caller.require_waiting()
            live, now = await self._docs.load(doc_id), await self.clock.now()
            base_rev = changes[0].base_rev or 0
            known = known_history(caller.options)
            if known is not None:
                require_history(doc_id, live, known, base_rev, viewer)
            require_kept(doc_id, live, base_rev)
            is_behind = self._runner.at_head_only and base_rev != live.rev
            accepted: list[Any] = []
            try:
                for change in () if is_behind else changes:
                    if change.id not in live.revs:
                        await require_allowed(self._authorize, caller, change)
                        require_single(change, accepted)
                        accepted.append(self._runner.judge(change, live, viewer, now))
            except StatusError as error:
                if self._runner.at_head_only:
                    raise  # the others were run with this one
                refusal = error
            if accepted:
                made, slow = await self._stored(doc_id, live, accepted, now)
                refusal = slow or refusal
            answer = self._answer(live, changes, base_rev)
            token = viewer.token(live.token) if known is not None else None
        if made:
            await self._notify(doc_id, made, options, caller.connection_id)
        else:
            self.on_nothing_stored.emit(doc_id, caller.connection_id)
        if refusal is not None:
            raise refusal
        return CommitResult(changes=views_of(answer, viewer, self._runner.shares_args), token=token)

    async def _stored(
        self, doc_id: str, live: Logbook, judged: Sequence[Any], now: int
    ) -> tuple[list[Logged], StatusError | None]:
        """Commit changes and store what they become; the refusal of the first that is left out."""
        expected = live.rev
        made: list[Logged] = []
        try:
            made, refusal = await self._runner.commit(live, judged, now)
            if made:
                live.token = await self.store.append(doc_id, made, expected_rev=expected, now=now)
        except ChangeRefusedError:
            raise  # nothing is left of it
        except BaseException:
            self._docs.forget(doc_id)  # the rows are ahead of the store
            raise
        return made, refusal

    def _answer(self, live: Logbook, changes: Sequence[AnyChange], base_rev: int) -> list[Change]:
        """What was committed since the sender's revision, and its own that were before."""
        revs = {live.revs[change.id] for change in changes if change.id in live.revs}
        early = [live.at(rev) for rev in sorted(revs) if rev <= base_rev]
        return [*early, *live.since(base_rev)]

    async def _notify(
        self,
        doc_id: str,
        made: Sequence[Logged],
        options: CommitOptions | None,
        origin: str | None,
    ) -> None:
        changes = [entry.change for entry in made]
        await self.on_changes_committed.emit_and_wait(doc_id, changes, options, origin)

    # ---- the document as a whole -----------------------------------------------------------------

    async def delete_doc(self, doc_id: str, *, skip_tombstone: bool = False) -> None:
        """Remove the document, leaving a tombstone. One that stands already is kept."""
        context = current_context()
        async with self._locks(doc_id):
            now, tombstone = await self.clock.now(), None
            if not skip_tombstone:
                tombstone = await new_tombstone(
                    self.store, doc_id, client_id=context.client_id, now=now
                )
            await self.store.delete_doc(doc_id, tombstone, now=now)
            self._docs.forget(doc_id)
        await self.on_doc_deleted.emit_and_wait(doc_id, context.connection_id)

    async def undelete_doc(self, doc_id: str) -> bool:
        """Remove the tombstone; whether there was one. The data does not come back."""
        return await self.store.remove_tombstone(doc_id)

    async def compact(self, doc_id: str) -> int:
        """Fold what is older than the retention, or beyond `max_entries`, into the snapshot.

        Returns how many changes. Actions and their sync change are never parted.
        """
        async with self._locks(doc_id):
            live, now = await self._docs.load(doc_id), await self.clock.now()
            oldest = now - self._retention_ms
            count = live.foldable(oldest, self._max_entries)
            if not count:
                return 0
            try:
                state, clock = live.fold(live.log[count - 1].change.rev)
                await self.store.fold(doc_id, live.floor, state, clock, now=now)
            except BaseException:
                self._docs.forget(doc_id)
                raise
            return count

    async def capture_current_version(
        self, doc_id: str, metadata: Mapping[str, Json] | None = None
    ) -> str | None:
        """Save the head with its state; its id, `None` for a document that does not exist."""
        check_version_metadata(metadata)
        if self.store.versions is None:
            raise VersionError("this store keeps no versions")
        async with self._locks(doc_id):
            live, now = await self._docs.load(doc_id), await self.clock.now()
            if not live.rev:
                return None
            state = Snapshot(state=live.state, rev=live.rev).encoded_state
            version = Version(
                id=self._version_ids(now),
                origin="main",
                start_rev=live.rev,
                end_rev=live.rev,
                started_at=now,
                ended_at=now,
                metadata=dict(metadata or {}),
            )
        await self.store.versions.create_version(doc_id, version, state)
        return version.id

    # ---- inside ----------------------------------------------------------------------------------

    def _viewer(self, context: CallContext) -> Viewer:
        rights = None if self._audiences is None else frozenset(self._audiences(context))
        return Viewer(self._author_of(context), rights)

    def _new_sync_id(self) -> str:
        return self._new_id(0)


def author_of_principal(context: CallContext) -> str | None:
    """The user id of a caller: the `id` of its principal, or the principal if it is a string."""
    principal = context.principal
    author = principal if isinstance(principal, str) else getattr(principal, "id", None)
    return author if isinstance(author, str) else None
