"""`PatchesServer`: document servers, rights, subscriptions and sessions, without a transport.

An application gets one from `create_app`; an in-memory transport and the simulation drive one
directly: `connect` gives a session, which takes frames and fills an outbox.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from types import TracebackType
from typing import Any, Self

from patches.aio.tasks import TaskScope
from patches.errors import InvalidRequestError, UnavailableError
from patches.limits import Limits
from patches.model.ids import random_id
from patches.model.settings import check_bool, check_function, check_number, instance_or
from patches.runtime import Runtime
from patches_server.auth.access import NO_AUTH, Access, Auth, principal_key
from patches_server.bus.bus import HintBus
from patches_server.bus.none import NoBus
from patches_server.documents.backend import SharedBackend
from patches_server.documents.listing import ListsDocuments
from patches_server.documents.offload import Offloader
from patches_server.documents.services import Services
from patches_server.service.access_watch import AccessWatch
from patches_server.service.announcing import Announcing
from patches_server.service.calls import Calls
from patches_server.service.cluster import PROCESS_ID, Cluster
from patches_server.service.document_calls import DocumentCalls
from patches_server.service.fanout.cluster_relay import ClusterRelay
from patches_server.service.fanout.follower import POLL_S
from patches_server.service.fanout.hub import GetTombstone, Hub
from patches_server.service.fanout.outbox import ANOTHER_HISTORY, GOING_AWAY, SIGNED_OUT, Outbox
from patches_server.service.fanout.relay import AwarenessRelay
from patches_server.service.fanout.subscriber import Subscriber
from patches_server.service.inside import InsideCalls
from patches_server.service.json_rpc import JsonRpcPeer, render
from patches_server.service.memory_budget import MemoryBudget
from patches_server.service.methods import Method, add_methods_of, connection_method, method_table
from patches_server.service.router import AlgorithmOf, Router, Routes
from patches_server.service.session import ServerSession
from patches_server.service.stats import ServerStats
from patches_server.service.templates import Template, Templates
from patches_server.service.validation import Validate, ValidateState, Validation

_log = logging.getLogger("patches_server")


class PatchesServer(DocumentCalls, InsideCalls, Announcing):
    """Serves the documents of `services` to sessions. Use it as an async context manager.

    Args:
        services: what serves the documents of each algorithm, by its name.
        auth: who may do what; nobody may do anything without it.
        routes: which algorithm a new document gets, by its id; the first match counts.
        algorithm_of: the recorded algorithm of a document, which wins over the routes.
        get_tombstone: the tombstone of a deleted document.
        relay: whether connections may pass messages to each other (presence).
        reauth_s: rights older than this are checked again before something is delivered.
        bus, shared: where other processes serve the same store: what carries hints between them,
            and the backend, which says what they did. Without a bus it is asked more often.
        poll_s: how often it is asked for what no hint has brought.
        validate, validate_state: your own rules about changes and about what comes of them; see
            `patches_server.service.validation`.
        hide_existence: refuse calls about branches that do not exist like those that are forbidden.
        stamp_author: write the `id` of the principal on each change as metadata `author`.
        drain_s: how long `close` waits for calls under way, and over how much time it spreads the
            closing of many connections.
        lister: a backend that can list its documents.
        templates: first states by patterns of ids, such as `{"plan/*": fn}`: `fn(doc_id)` is called
            when somebody who may write first subscribes.
    """

    def __init__(
        self,
        services: Mapping[str, Services],
        *,
        auth: Auth | None = None,
        routes: Routes | None = None,
        algorithm_of: AlgorithmOf | None = None,
        get_tombstone: GetTombstone | None = None,
        limits: Limits | None = None,
        runtime: Runtime | None = None,
        relay: bool = True,
        reauth_s: float = 300.0,
        validate: Validate | None = None,
        validate_state: ValidateState | None = None,
        hide_existence: bool = False,
        stamp_author: bool = True,
        drain_s: float = 10.0,
        bus: HintBus | None = None,
        shared: SharedBackend | None = None,
        poll_s: float = POLL_S,
        lister: ListsDocuments | None = None,
        templates: Mapping[str, Template] | None = None,
    ) -> None:
        check_bool("relay", relay)
        check_number("poll_s", poll_s)
        check_bool("hide_existence", hide_existence)
        check_bool("stamp_author", stamp_author)
        check_number("reauth_s", reauth_s)
        check_number("drain_s", drain_s)
        check_function("algorithm_of", algorithm_of)
        check_function("get_tombstone", get_tombstone)
        check_function("validate", validate)
        _check_services(services)
        limits = instance_or(Limits, "limits", limits, Limits)
        router = Router(services, routes=routes, algorithm_of=algorithm_of)
        super().__init__(router, limits, lister)
        self.runtime: Runtime = instance_or(Runtime, "runtime", runtime, Runtime)
        self.offload: Offloader = Offloader(self.runtime, self.limits)
        self.memory: MemoryBudget = MemoryBudget(self.limits.max_parsed_bytes)
        self.access: Any = Access(auth, timeout_s=self.limits.hook_timeout_s)
        self.sessions: dict[str, ServerSession] = {}
        self.stats: ServerStats = ServerStats()
        self.closing: bool = False
        self._tasks = TaskScope("patches server")
        Announcing.__init__(self, self._tasks.spawn)
        self._under_way = 0
        self._idle = asyncio.Event()
        self._drain_s = drain_s
        self.hub: Hub = Hub(
            self.access,
            limits=self.limits,
            tasks=self._tasks,
            get_tombstone=get_tombstone,
            reauth_s=reauth_s,
            stats=self.stats,
        )
        self.calls: Calls = Calls(
            self.router,
            self.access,
            Validation(validate, self.limits, self.offload, validate_state=validate_state)
            if validate is not None or validate_state is not None
            else None,
            limits=self.limits,
            offload=self.offload,
            stats=self.stats,
            hide_existence=hide_existence,
            stamp_author=stamp_author,
        )
        self.cluster: Cluster | None = None
        if shared is not None:
            self.cluster = Cluster(
                bus or NoBus(),
                shared,
                hub=self.hub,
                router=self.router,
                tasks=self._tasks,
                stats=self.stats,
                runtime=self.runtime,
                revoke=lambda principal, doc_id: self.revoke(principal=principal, doc_id=doc_id),
                close_all=self._close_for_another_history,
                poll_s=poll_s,
            )
        self.relay: AwarenessRelay | None = None
        if relay:
            self.relay = self._made_relay()
            self.hub.on_removed = self.relay.leave_room
        self.hub.on_first_open = self.on_first_open.emit
        self.hub.on_last_close = self.on_last_close.emit
        self.calls.on_refused = self.on_refused.emit
        self.methods: dict[str, Method] = method_table(has_relay=relay)
        self.access_watch: AccessWatch = AccessWatch(
            self.access, self.router, limits=self.limits, tasks=self._tasks
        )
        self.methods["getAccess"] = connection_method(self.access_watch.get_access)
        if templates:
            made = Templates(templates, access=self.access, limits=self.limits, ensure=self.ensure)
            self.methods["subscribe"] = made.before(self.methods["subscribe"])
        if lister is not None:
            self.methods["listDocs"] = connection_method(self.list_for)
        for each in services.values():
            add_methods_of(self.methods, each)
            self.announce(each.documents)
            is_followed = self.cluster is not None and each.documents.is_shared
            self.hub.attach(each.documents, delivers=not is_followed)
            if self.cluster is not None and is_followed:
                self.cluster.attach(each.documents)
            each.documents.on_doc_deleted(lambda doc_id, _origin: self.router.forget(doc_id))

    def _made_relay(self) -> AwarenessRelay:
        limits, is_open = self.limits, self.access.open
        if self.cluster is None:
            return AwarenessRelay(self.hub, limits=limits, is_open=is_open)
        relay = ClusterRelay(self.hub, limits=limits, is_open=is_open, send=self.cluster.send)
        self.cluster.relay = relay
        return relay

    async def __aenter__(self) -> Self:
        if self.access.refuses_all:
            _log.warning(NO_AUTH)
        self._tasks.start()
        for each in self.router.services.values():
            await each.documents.start()
        if self.cluster is not None:
            await self.cluster.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Finish the calls under way, close every connection with 1001, end."""
        self.closing = True
        for session in self.sessions.values():
            session.outbox.stop_waiting()  # a slow peer's calls are not begun any more
        if self._under_way:
            self._idle.clear()
            try:
                async with asyncio.timeout(self._drain_s):
                    await self._idle.wait()
            except TimeoutError:
                _log.warning("%d calls were still under way at the end", self._under_way)
        # Many clients that are cut off at one instant would all come back at one instant (T41).
        step_s = min(0.001, self._drain_s / max(1, len(self.sessions)))
        for session in list(self.sessions.values()):
            session.close(GOING_AWAY, "the server is going away")
            if len(self.sessions) > 100:
                await asyncio.sleep(step_s)
        for each in self.router.services.values():
            await each.documents.close()
        if self.cluster is not None:
            await self.cluster.close()
        await self._tasks.close()

    def connect(self, principal: object = None) -> JsonRpcPeer:
        """A peer that speaks JSON-RPC and has been let in. See `open_session`."""
        return JsonRpcPeer(self.open_session(principal, Outbox(self.limits, render)))

    def open_session(
        self, principal: object, outbox: Outbox, *, is_present: bool = True
    ) -> ServerSession:
        """A session for a peer that has been let in, of any door: `outbox` writes as the door does.

        One that is not `is_present` has no part in presence: it makes a call and is gone. Raises
        `UnavailableError` while closing.
        """
        if self.closing:
            raise UnavailableError("the server is going away", {"reason": "CLOSING"})
        connection_id = random_id(self.runtime.random, 14)
        if self.cluster is not None:
            connection_id = self.cluster.process + connection_id[PROCESS_ID:]
        session = ServerSession(
            self, connection_id=connection_id, principal=principal, outbox=outbox
        )
        self.sessions[connection_id] = session
        self.on_connect.emit(session)
        if self.relay is not None and is_present:
            self.relay.join(session)
        return session

    @property
    def unappliable(self) -> int:
        """Committed changes that were found to be impossible to apply."""
        return sum(each.documents.unappliable for each in self.router.services.values())

    @property
    def clock_jumps(self) -> int:
        """Leaps forward of the wall clock; each algorithm's clock sees the same ones."""
        services = self.router.services.values()
        return max((each.documents.clock_jumps for each in services), default=0)

    def revoke(self, *, principal: object = None, doc_id: str | None = None) -> None:
        """Rights have changed: nothing is delivered any more on the strength of the old ones.

        With a document, the rights of its subscribers (all of them, or one principal) are checked
        again: who may still read misses nothing, the others get `subscriptionEnded`.
        With a principal alone, its connections are closed with 4401. `principal` is what
        `authenticate` returned, or its `id`.
        """
        key = principal_key(principal)
        self.access_watch.revoke(principal=key, doc_id=doc_id)
        if doc_id is not None or key is None:
            self.hub.revoke(principal=key, doc_id=doc_id)
            return
        for session in list(self.sessions.values()):
            if principal_key(session.context.principal) == key:
                self.hub.leave(session)
                session.close(SIGNED_OUT, "access was revoked")

    async def revoke_everywhere(
        self, *, principal: object = None, doc_id: str | None = None
    ) -> None:
        """`revoke` in every process that serves the same store. Returns when it is stored: the
        others act on a hint, or else with their next poll.

        Raises `InvalidRequestError` for a principal whose `id` is neither a string nor an integer.
        """
        key = principal_key(principal)
        if self.cluster is None:
            self.revoke(principal=principal, doc_id=doc_id)
            return
        if key is not None and not isinstance(key, (str, int)):
            raise InvalidRequestError(
                f"a principal that other processes are to know needs an id that is a string or an "
                f"integer: {key!r}"
            )
        await self.cluster.revoke_everywhere(key, doc_id)

    def _close_for_another_history(self) -> None:
        """Let every client come back and check its token; forget what is at hand."""
        for session in list(self.sessions.values()):
            session.close(ANOTHER_HISTORY, "the storage has another history")

    def begin(self, serve: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a session's call as a task of the server."""
        self.call_begun()
        self._tasks.spawn(self._counted(serve), name="call")

    def call_begun(self) -> None:
        """A call goes on without a task; `close` waits for it all the same."""
        self._under_way += 1

    def call_ended(self) -> None:
        """A call is over."""
        self._under_way -= 1
        if not self._under_way:
            self._idle.set()

    def disconnected(self, session: Subscriber) -> None:
        """A session has ended; called by it."""
        self.sessions.pop(session.connection_id, None)
        if self.relay is not None:
            self.relay.leave(session)
        self.hub.ended(session)
        self.access_watch.ended(session)
        self.on_disconnect.emit(session)

    async def _counted(self, serve: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await serve()
        finally:
            self.call_ended()


def _check_services(services: object) -> None:
    if not isinstance(services, Mapping) or not services:
        raise InvalidRequestError(
            f"services must map names of algorithms to Services, such as "
            f'{{"ot": Services(OTServer(store))}}: {services!r}'
        )
    for name, each in services.items():
        if not isinstance(name, str) or not isinstance(each, Services):
            raise InvalidRequestError(f"services[{name!r}] must be a Services object: {each!r}")
        if not hasattr(each.documents, "on_changes_committed"):
            raise InvalidRequestError(
                f"services[{name!r}].documents must be a document server, such as "
                f"OTServer(store): {each.documents!r}"
            )
