"""`HasPast`: the part of a document that shows its past, and goes back to it.

What it shows comes from the server, by the connection that syncs the document.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from patches.documents.draft import ops_to_reach
from patches.errors import (
    HistoryUnavailableError,
    JSONRPCError,
    NetworkError,
    PatchError,
    VersionError,
)
from patches.json_patch import ABSENT, apply_patch, pointer
from patches.model.json_values import Json, Op
from patches.runtime import Runtime

if TYPE_CHECKING:
    import jsonpatch
    from jsonpointer import JsonPointer

    from patches.history import Diff, Moment, Run

_PAGE = 50


class CallServer(Protocol):
    """Calls a method of the server that syncs a document."""

    async def __call__(self, method: str, *params: Any) -> Json:
        """Its result. Raises `NetworkError` without a connection."""


class HasPast:
    """A document with a history. Calls raise `NetworkError` when there is no connection."""

    id: str
    runtime: Runtime | None
    #: Whether the server keeps every change, so that every revision can be read.
    keeps_log: ClassVar[bool] = True

    #: Set by the owner.
    call_server: CallServer | None = None

    @property
    @abstractmethod
    def raw(self) -> Json:
        """The state as plain JSON."""

    @abstractmethod
    def apply_as(self, editor: object, ops: list[Op], metadata: Mapping[str, Json]) -> None:
        """Apply operations; `metadata` goes onto the change."""

    async def history(
        self, *, limit: int | None = None, before: int | None = None
    ) -> AsyncIterator[Moment]:
        """The moments of the document, newest first; up to `limit`, those before a revision.

        Raises `HistoryUnavailableError` if the server has none.
        """
        from patches.history import Moment  # on first use: few programs need it

        left = limit
        while left is None or left > 0:
            page = _PAGE if left is None else min(_PAGE, left)
            options: dict[str, Json] = {"limit": page}
            if before is not None:
                options["before"] = before
            found = [Moment.from_wire(each) for each in await self._ask("listHistory", options)]
            for moment in found:
                yield moment
            if len(found) < page:
                return
            before = found[-1].from_rev
            left = None if left is None else left - len(found)

    async def at(self, rev: int) -> Any:
        """The state at a committed revision, as plain JSON. Do not change it.

        A document that keeps no log has the states of its versions: others raise `VersionError`.
        """
        if not self.keeps_log:
            return await self._version_at(rev)
        wire = await self._call("getDoc", {"rev": rev})
        assert isinstance(wire, dict)
        state, at = wire.get("state"), wire["rev"]
        for change in wire.get("changes") or ():
            with suppress(PatchError):  # every replica leaves such a change out
                state = apply_patch(state, change["ops"], strict=True)
            at = change["rev"]
        if at != rev:
            raise VersionError(f"document {self.id!r} has no revision {rev}")
        return {} if state is None or state is ABSENT else state

    async def diff(self, rev: int, to_rev: int | None = None, *, key: str | None = None) -> Diff:
        """What differs between two revisions; without the second, from the first to now.

        `key` names the member by which elements of lists are the same, such as `"id"`.
        """
        from patches.history import diff_states

        before = await self.at(rev)
        after = self.raw if to_rev is None else await self.at(to_rev)
        run = (self.runtime or Runtime()).run_blocking
        return await run(lambda: diff_states(before, after, key=key))

    async def patch_since(self, rev: int) -> jsonpatch.JsonPatch:
        """What has changed since a committed revision, own unsent edits too, as RFC 6902 has it:
        `(await doc.patch_since(3)).apply(await doc.at(3)) == doc.raw`."""
        from patches.history.plain import jsonpatch_between

        before, after = await self.at(rev), self.raw
        run = (self.runtime or Runtime()).run_blocking
        return await run(lambda: jsonpatch_between(before, after))

    async def blame(self, path: str | JsonPointer) -> list[Run]:
        """Who wrote which part of the text at a path; LWW: who wrote each field there, and when.

        Raises `HistoryUnavailableError` if the server does not say.
        """
        from patches.history import Run

        return [Run.from_wire(each) for each in await self._ask("getBlame", pointer.text_of(path))]

    async def restore(self, rev: int, *, note: str | None = None) -> None:
        """Make the document what it was at a revision, by an ordinary edit, which can be undone.

        What others write meanwhile is merged. The state before is saved as a version, named `note`.
        """
        old = await self.at(rev)
        await self.save_version(note or f"Before revision {rev} was restored")
        ops = ops_to_reach(self.raw, old, text=self.keeps_log)
        if ops:
            self.apply_as(None, ops, {"restored": rev})

    async def save_version(self, name: str) -> str | None:
        """Save what is committed as a version; its id, `None` if there is nothing new."""
        version_id = await self._call("createVersion", {"name": name})
        return version_id if isinstance(version_id, str) else None

    # ---- inside ----------------------------------------------------------------------------------

    async def _version_at(self, rev: int) -> Json:
        options = {"startAfter": rev - 1, "endBefore": rev + 1, "orderBy": "endRev"}
        versions = await self._call("listVersions", options)
        if not isinstance(versions, list) or not versions:
            raise VersionError(
                f"document {self.id!r} keeps no log: it can be read at the revisions of its "
                f"versions, and {rev} is none"
            )
        return await self._call("getVersionState", versions[-1]["id"])

    async def _ask(self, method: str, *params: Any) -> list[Any]:
        try:
            found = await self._call(method, *params)
        except JSONRPCError as exc:
            if "Unknown method" in str(exc):
                raise HistoryUnavailableError(self.id) from exc
            raise
        return found if isinstance(found, list) else []

    async def _call(self, method: str, *params: Any) -> Json:
        if self.call_server is None:
            raise NetworkError(f"document {self.id!r}: there is no connection to read its past by")
        return await self.call_server(method, self.id, *params)
