"""`create_server` and `create_app`: a server with its store, and as an aiohttp application.

The websocket is at `/ws`, what a load balancer asks at `/healthz` and `/readyz`, and, where it is
wanted, the page at `/`. The application holds its `PatchesServer` under the key `SERVER`.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Final, Self, TypedDict, Unpack, cast

from aiohttp import web

from patches.errors import InvalidRequestError, PatchesError
from patches.limits import Limits
from patches.model.settings import check_bool, check_one_of, instance_or
from patches.runtime import Runtime
from patches.stores.sqlite.database import Durability
from patches_server.algorithms import services_on
from patches_server.auth.access import Auth
from patches_server.bus.bus import HintBus
from patches_server.bus.url import open_bus
from patches_server.demo.content import add_demo_documents
from patches_server.documents.backend import Backend
from patches_server.documents.listing import ListsDocuments
from patches_server.documents.services import ServedAlgorithm, Services
from patches_server.http.asgi import AsgiApp
from patches_server.http.metrics import add_metrics
from patches_server.http.page import add_page
from patches_server.http.routes import HttpRoutes
from patches_server.service.admission import (
    Entrance,
    checked_origins,
)
from patches_server.service.fanout.follower import POLL_S
from patches_server.service.router import Routes
from patches_server.service.server import PatchesServer
from patches_server.service.templates import Template
from patches_server.service.validation import Validate, ValidateState
from patches_server.stores.sqlite.backend import SqliteBackend
from patches_server.stores.url import open_backend

_log = logging.getLogger("patches_server.http.app")

#: Where an application finds its server: `app[SERVER].revoke(...)`.
SERVER: Final = web.AppKey("patches_server", PatchesServer)

#: How long the store may take to say that it can be read.
_READY_S: Final = 2.0


class ServerOptions(TypedDict, total=False):
    """The arguments of `create_server`, and of `create_app`, which has the same."""

    auth: Auth | None
    routes: Routes | None
    limits: Limits | None
    runtime: Runtime | None
    services: Mapping[str, Services] | None
    algorithms: Iterable[ServedAlgorithm]
    allowed_origins: str | Collection[str]
    relay: bool
    page: bool
    durability: Durability
    reauth_s: float
    validate: Validate | None
    validate_state: ValidateState | None
    hide_existence: bool
    stamp_author: bool
    templates: Mapping[str, Template] | None
    drain_s: float
    metrics: bool
    bus: str | HintBus | None
    poll_s: float
    may_migrate: bool


class HostedServer(PatchesServer):
    """A server with the store that it opens, as `create_server` makes it.

    Run it as an async context manager, for a program of its own without a transport, or with one:
    `app()`.
    """

    def __init__(
        self,
        services: Mapping[str, Services],
        *,
        backend: Backend,
        owns_backend: bool,
        origins: Collection[str],
        page: bool,
        metrics: bool,
        **options: Any,
    ) -> None:
        super().__init__(
            services,
            algorithm_of=backend.algorithm_of,
            get_tombstone=backend.get_tombstone,
            lister=cast("ListsDocuments", backend) if hasattr(backend, "list_docs") else None,
            **options,
        )
        self.backend = backend
        #: The id of the storage; another epoch is another file. Empty before the start.
        self.epoch: str = ""
        #: Lets peers in, whatever their doors.
        self.entrance: Entrance = Entrance(self, origins)
        self._owns_backend = owns_backend
        self._has_page, self._has_metrics = page, metrics
        self._is_running = False

    async def __aenter__(self) -> Self:
        try:
            self.epoch = await self.backend.epoch()  # a file that cannot be used is an error now
            await super().__aenter__()
            if self._has_page:
                await add_demo_documents(self.router)
        except BaseException:
            await self._close_backend()
            raise
        self._is_running = True
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_running = False
        try:
            await super().__aexit__(exc_type, exc, traceback)
        finally:
            await self._close_backend()

    @property
    def is_running(self) -> bool:
        """Whether it was entered and not left."""
        return self._is_running

    @asynccontextmanager
    async def lifespan(self, _app: object) -> AsyncIterator[None]:
        """Runs it as long as an application lives: `FastAPI(lifespan=server.lifespan)`."""
        async with self:
            yield

    def asgi(self, *, idle_s: float | None = None) -> AsgiApp:
        """An ASGI application that serves this server at `/ws` below where it is mounted.

        It runs the server where it is the outermost application. `idle_s`: close a connection that
        has sent nothing for so long, under servers that do not ping.
        """
        return AsgiApp(self, idle_s=idle_s)

    async def readiness(self) -> str:
        """`"ok"` if new connections will be served; `"closing"`, or `"storage"` if that fails."""
        if self.closing:
            return "closing"
        try:
            async with asyncio.timeout(_READY_S):
                await self.backend.epoch()
        except (PatchesError, TimeoutError):
            return "storage"
        return "ok"

    async def _close_backend(self) -> None:
        if self._owns_backend:
            await self.backend.close()

    def app(self) -> web.Application:
        """An application that serves this server at `/ws`, and runs it unless it is running."""
        app = web.Application()
        app[SERVER] = self
        routes = HttpRoutes(self, self.entrance, lambda: self.epoch, self.readiness)

        async def lifetime(_app: web.Application) -> AsyncIterator[None]:
            if self._is_running:
                yield
                return
            async with self:
                yield

        async def going_away(_app: web.Application) -> None:
            await self.close()

        app.cleanup_ctx.append(lifetime)
        app.on_shutdown.append(going_away)  # before connections are waited for
        routes.add_to(app)
        if self._has_metrics:
            add_metrics(app, self)
        if self._has_page:
            add_page(app)
        return app


def create_server(
    store: str | os.PathLike[str] | Backend | None = None,
    *,
    auth: Auth | None = None,
    routes: Routes | None = None,
    limits: Limits | None = None,
    runtime: Runtime | None = None,
    services: Mapping[str, Services] | None = None,
    algorithms: Iterable[ServedAlgorithm] = (),
    allowed_origins: str | Collection[str] = (),
    relay: bool = True,
    page: bool = False,
    durability: Durability = "full",
    reauth_s: float = 300.0,
    validate: Validate | None = None,
    validate_state: ValidateState | None = None,
    hide_existence: bool = False,
    stamp_author: bool = True,
    templates: Mapping[str, Template] | None = None,
    drain_s: float = 10.0,
    metrics: bool = False,
    bus: str | HintBus | None = None,
    poll_s: float = POLL_S,
    may_migrate: bool = False,
) -> HostedServer:
    """A server of the documents in a store. Nothing is opened before it starts.

    Args:
        store: a URL (`memory:`, `sqlite:///path`), a `Path`, or a backend, which then stays open
            when the server ends; `None` keeps everything in memory.
        auth: who may do what. Without it every call is denied; `allow_all` allows every call.
        routes: the algorithm of a new document by its id, such as `{"board/*": "lww"}`; the first
            that matches counts. Ids that match none: `lww/*` are LWW, all others OT.
        limits: how much of everything is allowed.
        services: more algorithms, beside `"ot"` and `"lww"`.
        algorithms: the same, made on the backend that is opened here, such as `replay(actions)`.
        allowed_origins: origins of pages that may connect, beside the server's own. Where nobody
            signs in, pages of a server on a loopback address must have a loopback name, or be here.
        relay: whether connections may pass messages to each other (presence).
        page: serve the demonstration page at `/`.
        durability: of a SQLite file that is opened here: `"relaxed"` commits faster, and may lose
            the newest commits when the machine loses power.
        metrics: serve figures for Prometheus at `/metrics`; needs the extra `metrics`.
        validate: your own rules about changes: `validate(principal, doc_id, changes)`.
        validate_state: the same about what comes of each change:
            `validate_state(principal, doc_id, change, before, after)`.
        bus: what carries hints between processes that serve one PostgreSQL database: `"postgres"`
            (the default there), `"redis://host"`, or `"none"`: the database is polled.
        may_migrate: bring an older PostgreSQL schema up to date.
        reauth_s, hide_existence, stamp_author, drain_s, poll_s: see `PatchesServer`.

    Raises `InvalidRequestError` for an unknown store or route.
    """
    check_bool("page", page)
    check_bool("metrics", metrics)
    check_one_of("durability", durability, ("full", "relaxed"))
    if services is not None and not isinstance(services, Mapping):
        raise InvalidRequestError(f"services must map names to Services, not {services!r}")
    origins = checked_origins(allowed_origins)
    limits = instance_or(Limits, "limits", limits, Limits)
    runtime = instance_or(Runtime, "runtime", runtime, Runtime)
    backend, owns_backend = _backend(store, durability, runtime, may_migrate)
    server = HostedServer(
        {
            **services_on(backend, more=algorithms, limits=limits, runtime=runtime),
            **(services or {}),
        },
        backend=backend,
        owns_backend=owns_backend,
        origins=origins,
        page=page,
        metrics=metrics,
        auth=auth,
        routes=routes,
        limits=limits,
        runtime=runtime,
        relay=relay,
        reauth_s=reauth_s,
        validate=validate,
        validate_state=validate_state,
        hide_existence=hide_existence,
        stamp_author=stamp_author,
        templates=templates,
        drain_s=drain_s,
        poll_s=poll_s,
        **_sharing(backend, bus),
    )
    if "*" in origins and server.access.signs_in:
        _log.warning("pages of any origin may connect: with cookies, any site acts as its visitor")
    return server


def create_app(
    store: str | os.PathLike[str] | Backend | None = None, **options: Unpack[ServerOptions]
) -> web.Application:
    """An application that serves documents at `/ws`: `create_server(store, ...).app()`."""
    return create_server(store, **options).app()


def setup(app: web.Application, server: HostedServer, path: str = "/collab") -> None:
    """Serve a server below `path` of an aiohttp application, which runs it: `/collab/ws`."""
    app.add_subapp(path, server.app())


def _backend(
    store: str | os.PathLike[str] | Backend | None,
    durability: Durability,
    runtime: Runtime | None,
    may_migrate: bool,
) -> tuple[Backend, bool]:
    if store is None:
        return open_backend("memory:", runtime=runtime), True
    if isinstance(store, os.PathLike):
        return SqliteBackend(store, durability=durability, runtime=runtime), True
    if isinstance(store, str):
        opened = open_backend(
            store, durability=durability, may_migrate=may_migrate, runtime=runtime
        )
        return opened, True
    if not all(hasattr(store, name) for name in ("open_store", "algorithm_of", "get_tombstone")):
        raise InvalidRequestError(f"store= takes a URL, a Path or a backend, not {store!r}")
    return store, False


def _sharing(backend: Any, bus: str | HintBus | None) -> dict[str, Any]:
    """What a server needs to be one of several: for a backend that says what the others do."""
    if not hasattr(backend, "moved"):
        if bus is not None and bus != "none":
            raise InvalidRequestError("bus= needs a store that processes share, as PostgreSQL is")
        return {}
    if bus is None or isinstance(bus, str):
        bus = open_bus(bus, getattr(backend, "hint_bus", None))
    return {"bus": bus, "shared": backend}
