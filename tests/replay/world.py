"""A real server on a real socket, and named people with clients of their own."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from patches.algorithms.replay import Actions, ReplayAlgorithm, ReplayDoc
from patches.client.patches import Patches
from patches.model.json_values import Json
from patches.runtime import Runtime
from patches.sync.patches_sync import PatchesSync
from patches_server.documents.services import Services
from patches_server.http.app import SERVER, create_app
from patches_server.replay.server import ReplayServer
from patches_server.stores.sqlite.backend import SqliteBackend

DOC = "lists/home"
PATIENCE_S = 15.0


class WallClock:
    """The time of day, as a test sets it; the same for all but for their own errors."""

    def __init__(self) -> None:
        self.ms = 1_800_000_000_000

    def pass_s(self, seconds: float) -> None:
        self.ms += int(seconds * 1000)


class SignIn:
    """Takes the user from the address."""

    async def authenticate(self, request: web.Request) -> object:
        return request.query.get("user")

    async def can_access(self, *_: Any) -> bool:
        return True


class Person:
    """One person's client: a file of their own, a clock of their own."""

    def __init__(self, world: World, name: str, actions: Actions, device: str) -> None:
        self.world, self.name, self.actions, self.device = world, name, actions, device
        self.clock_error_ms = 0
        self.failed: list[tuple[str, str, str]] = []
        self.shown: list[Json] = []
        self._stack = contextlib.AsyncExitStack()

    async def start(self) -> None:
        """Start the process, offline."""
        self.runtime = Runtime(
            wall_ms=lambda: self.world.clock.ms + self.clock_error_ms,
            random=random.Random(f"{self.device}{self.world.clock.ms}"),
        )
        self.patches = await self._stack.enter_async_context(
            Patches(
                self.world.folder / f"{self.device}.db",
                algorithms=[ReplayAlgorithm(self.actions, author=self.name, runtime=self.runtime)],
                runtime=self.runtime,
            )
        )
        doc = await self.patches.open_doc(self.world.doc_id, algorithm="replay")
        assert isinstance(doc, ReplayDoc)
        self.doc = doc
        doc.on_action_failed(lambda *what: self.failed.append(what))
        doc.subscribe(self.shown.append)

    async def connect(self) -> None:
        """Go online, and be in sync."""
        await self.dial()
        await self.settled()

    async def dial(self) -> None:
        """Go online."""
        self.sync = await self._stack.enter_async_context(
            PatchesSync(self.patches, f"{self.world.url}?user={self.name}")
        )

    async def settled(self) -> None:
        """All is sent, and what the server has is here."""
        await self.sync.settled(PATIENCE_S)
        head = await self.world.rev()
        await wait_until(lambda: self.doc.committed_rev >= head)

    async def stop(self) -> None:
        """End the process."""
        await self.doc.flush()
        await self._stack.aclose()

    async def restart(self) -> None:
        """End it and start it again, offline."""
        await self.stop()
        await self.start()

    @property
    def rows(self) -> dict[str, Json]:
        """The todos by id."""
        rows: dict[str, Json] = self.doc.state["todos"]
        return rows

    @property
    def titles(self) -> list[str]:
        """The titles of the todos."""
        return sorted(row["title"] for row in self.rows.values())


class World:
    """`async with`: the server runs. Everything is closed at the end."""

    #: Who runs the actions: "server", or "client".
    runner = "server"

    def __init__(self, folder: Path, actions: Actions, **settings: Any) -> None:
        self.folder, self.actions, self.settings = folder, actions, settings
        self.doc_id = DOC
        self.clock = WallClock()
        self.people: list[Person] = []
        self._port = 0

    async def __aenter__(self) -> Self:
        await self.start_server()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for person in self.people:
            await person._stack.aclose()
        await self.stop_server()

    async def start_server(self, actions: Actions | None = None) -> None:
        """Start the server over the file, on the same port."""
        self.runtime = Runtime(wall_ms=lambda: self.clock.ms, random=random.Random(self.clock.ms))
        self.backend = SqliteBackend(self.folder / "server.db", runtime=self.runtime)
        run_here = (actions or self.actions) if self.runner == "server" else None
        self.server = ReplayServer(self.backend, run_here, runtime=self.runtime, **self.settings)
        app = create_app(
            self.backend,
            auth=SignIn(),
            routes={"lists/*": "replay"},
            services={"replay": Services(self.server)},
            runtime=self.runtime,
            drain_s=0.5,
        )
        self.app = app[SERVER]
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        self._port = self._runner.addresses[0][1]

    async def stop_server(self) -> None:
        """Stop the server."""
        await self._runner.cleanup()
        await self.backend.close()

    @property
    def url(self) -> str:
        """The server's address."""
        return f"ws://127.0.0.1:{self._port}/ws"

    async def person(
        self,
        name: str,
        *,
        online: bool = True,
        actions: Actions | None = None,
        device: str | None = None,
    ) -> Person:
        """Somebody's client."""
        person = Person(self, name, actions or self.actions, device or name)
        self.people.append(person)
        await person.start()
        if online:
            await person.connect()
        return person

    async def rev(self) -> int:
        """The server's head."""
        return await self.server.store.get_current_rev(self.doc_id)

    async def all_equal(self) -> Json:
        """Everybody is in sync and shows what the server has; that."""
        for person in self.people:
            await person.settled()
        for person in self.people:
            await person.settled()
        state = await self.server.state(self.doc_id)
        for person in self.people:
            assert as_stored(person.doc.state, state) == with_rows(state), person.name
            assert not person.doc.has_pending
            assert not person.doc.pending
        return state


def with_rows(state: Json) -> Json:
    """The tables that have rows: a server without a schema knows of no others."""
    return {name: rows for name, rows in state.items() if rows}


def as_stored(shown: Json, stored: Json) -> Json:
    """The rows with the columns that a server without a schema has of them."""
    return {
        name: {
            key: {column: row[column] for column in stored.get(name, {}).get(key, row)}
            for key, row in rows.items()
        }
        for name, rows in with_rows(shown).items()
    }


async def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 -- what holds is told by several objects
            await asyncio.sleep(0.005)
