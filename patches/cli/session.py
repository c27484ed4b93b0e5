"""The store and the connection of one command."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from patches.errors import DocNotTrackedError, NetworkError, NotFoundError, UnauthorizedError

if TYPE_CHECKING:
    from patches.client import Patches
    from patches.documents import Document
    from patches.sync import PatchesSync


class NotConfirmedError(Exception):
    """An edit is stored here, and the server has not confirmed it in time."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the options before the command say."""

    store: Path
    server: str | None
    token: str | None
    wait_s: float
    offline: bool
    as_json: bool

    @property
    def is_local(self) -> bool:
        """Whether the command works on the store alone."""
        return self.offline or self.server is None


class Session:
    """The documents of a store, and the server they are synced with, if there is one."""

    def __init__(self, settings: Settings, patches: Patches, sync: PatchesSync | None) -> None:
        self.settings = settings
        self.patches: Patches = patches
        self.sync: PatchesSync | None = sync
        self._unconnected: Exception | None = None

    async def connect(self) -> None:
        """Connect within the time that is to be waited, or note why not."""
        import asyncio

        if self.sync is None:
            return
        failures: list[Exception] = []
        self.sync.on_error(lambda error, _context: failures.append(error))
        await self.sync.connect(background=True)
        with suppress(TimeoutError):
            async with asyncio.timeout(self.settings.wait_s):
                while not self.sync.state.connected:
                    found = next((each for each in failures if _is_final(each)), None)
                    if failures:
                        self._unconnected = found or _without_hint(failures[0])
                        return
                    await asyncio.sleep(0.02)
                return
        self._unconnected = NetworkError(f"no connection to {self.settings.server}")

    def require_server(self) -> PatchesSync:
        """The connection. Raises why there is none."""
        if self.sync is None:
            why = "with --offline there is none" if self.settings.offline else "name it: --server"
            raise NetworkError(f"this needs a server; {why}")
        if self._unconnected is not None:
            raise self._unconnected
        return self.sync

    async def document(self, doc_id: str, *, create: bool = False) -> Document:
        """A document that exists here or on the server, as new as it can be had in time.

        Raises `NotFoundError`; then nothing of it is left here.
        """
        was_tracked = doc_id in self.patches.tracked_docs
        doc = await self.patches.open_doc(doc_id)
        if self.sync is not None and self._unconnected is None:
            try:
                await self.sync.settled(self.settings.wait_s, docs=[doc_id])
            except TimeoutError:
                pass  # what is here is shown
            except DocNotTrackedError:  # the server says that it was deleted
                raise NotFoundError(f"document {doc_id!r} was deleted") from None
            except Exception:
                if not was_tracked:
                    await self.patches.close_doc(doc_id, untrack=True)
                raise
        if create or doc.committed_rev or doc.has_pending or doc.raw not in ({}, None):
            return doc
        if not was_tracked:
            await self.patches.close_doc(doc_id, untrack=True)
        if self._unconnected is not None:
            raise self._unconnected
        raise await self._not_found(doc_id)

    async def confirm(self, doc: Document) -> None:
        """Store the edits of a document, and wait until the server has them.

        Raises `NotConfirmedError` after the time that is to be waited, `NetworkError` without a
        connection, and why the server refused it.
        """
        await doc.flush()
        if self.sync is None:
            return
        if self._unconnected is not None:
            raise NetworkError(
                f"stored here, to be sent by a later command: {self._unconnected}"
            ) from self._unconnected
        try:
            await self.sync.settled(self.settings.wait_s, docs=[doc.id])
        except TimeoutError:
            raise NotConfirmedError(
                f"stored here; the server has not confirmed it in {self.settings.wait_s:g} s"
            ) from None

    async def call(self, method: str, *params: Any) -> Any:
        """Call a method of the server."""
        sync = self.require_server()
        return await sync.connection.call(method, *params)

    async def known_ids(self) -> list[str]:
        """The ids of all documents here, and those that the server lists, if it does."""
        found = set(self.patches.tracked_docs)
        if self.sync is not None and self._unconnected is None:
            with suppress(Exception):  # it need not list
                page = await self.call("listDocs", "", {"limit": 1000})
                found.update(each["docId"] for each in page["items"])
        return sorted(found)

    async def _not_found(self, doc_id: str) -> NotFoundError:
        import difflib

        close = difflib.get_close_matches(doc_id, await self.known_ids(), 1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        return NotFoundError(f"document {doc_id!r} does not exist{hint}")


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Session]:
    """The session of one command, connected if it can be."""
    from patches.client import Patches
    from patches.sync import PatchesSync

    settings.store.parent.mkdir(parents=True, exist_ok=True)
    async with Patches(settings.store) as patches:
        await patches.track_docs(())  # reads which documents there are
        sync: PatchesSync | None = None
        if settings.server is not None and not settings.offline:
            headers = {"Authorization": f"Bearer {settings.token}"} if settings.token else {}
            sync = PatchesSync(patches, settings.server, websocket={"headers": headers})
        session = Session(settings, patches, sync)
        await session.connect()
        try:
            yield session
        finally:
            if sync is not None:
                await sync.disconnect()


def _without_hint(error: Exception) -> Exception:
    """An error without the advice to a program that this command follows already."""
    if not isinstance(error, NetworkError):
        return error
    return NetworkError(str(error).partition(", or use connect(")[0])


def _is_final(error: Exception) -> bool:
    return isinstance(error, UnauthorizedError)
