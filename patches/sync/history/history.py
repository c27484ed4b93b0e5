"""`PatchesHistoryClient`: the versions of one document (`docs/internals/ot.md` 12)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol, TypeVar

from patches.aio.signals import Signal
from patches.errors import PatchError, VersionError
from patches.json_patch import ABSENT, apply_patch
from patches.model.change import Change
from patches.model.json_values import Json
from patches.model.records import Version
from patches.net.connection import changes_from_wire

T = TypeVar("T")

#: Versions whose state and changes are kept.
CACHED_VERSIONS: Final = 6


class Caller(Protocol):
    """Whatever can call a method of the server: a connection."""

    async def call(self, method: str, *params: Any) -> Json:
        """Call it; its result."""


class PatchesHistoryClient:
    """Lists, makes and shows versions: `PatchesHistoryClient("doc-id", sync.connection)`.

    What a call needs of the server it asks there and then; offline it raises `NetworkError`. The
    states and changes of the last few versions are kept.
    """

    def __init__(self, doc_id: str, connection: Caller) -> None:
        self.id: Final = doc_id
        self._connection = connection
        self._versions: tuple[Version, ...] = ()
        self._state: Json = None
        self._states: OrderedDict[str, Json] = OrderedDict()
        self._changes: OrderedDict[str, Sequence[Change]] = OrderedDict()
        #: The new `versions`.
        self.on_versions_change: Signal[[Sequence[Version]]] = Signal("on_versions_change")
        #: The new `state`.
        self.on_state_change: Signal[[Json]] = Signal("on_state_change")

    @property
    def versions(self) -> tuple[Version, ...]:
        """What the last `list_versions` gave."""
        return self._versions

    @property
    def state(self) -> Json:
        """The state that was fetched last."""
        return self._state

    async def list_versions(
        self,
        *,
        start_after: float | None = None,
        end_before: float | None = None,
        limit: int | None = None,
        order_by: str | None = None,
        reverse: bool | None = None,
        origin: str | None = None,
        group_id: str | None = None,
    ) -> tuple[Version, ...]:
        """The versions, oldest first by default.

        `order_by` is `"startedAt"`, `"endRev"` or `"startRev"`; `start_after` and `end_before` are
        values of it, in the order of the list.
        """
        given = {
            "startAfter": start_after,
            "endBefore": end_before,
            "limit": limit,
            "orderBy": order_by,
            "reverse": reverse,
            "origin": origin,
            "groupId": group_id,
        }
        options = {key: value for key, value in given.items() if value is not None}
        wire = await self._connection.call("listVersions", self.id, options or None)
        if not isinstance(wire, list):
            raise VersionError(f"document {self.id!r}: the server gave no list of versions")
        versions = tuple(Version.from_wire(version) for version in wire)
        if versions != self._versions:
            self._versions = versions
            self.on_versions_change.emit(versions)
        return versions

    async def create_version(self, metadata: Mapping[str, Json] | None = None) -> str | None:
        """Save the present state as a version; its id, `None` if there is nothing new to save."""
        version_id = await self._connection.call("createVersion", self.id, dict(metadata or {}))
        await self.list_versions()
        return version_id if isinstance(version_id, str) else None

    async def update_version(self, version_id: str, metadata: Mapping[str, Json]) -> None:
        """Set fields of a version, such as its `name`."""
        await self._connection.call("updateVersion", self.id, version_id, dict(metadata))
        await self.list_versions()

    async def get_version_state(self, version_id: str) -> Json:
        """The document as it was after a version. It becomes `state`."""
        state = await self._version_state(version_id)
        self._show(state)
        return state

    async def get_version_changes(self, version_id: str) -> Sequence[Change]:
        """The changes that a version holds; none for an LWW document."""

        async def fetch() -> Sequence[Change]:
            wire = await self._connection.call("getVersionChanges", self.id, version_id)
            return tuple(changes_from_wire(wire))

        return await _cached(self._changes, version_id, fetch)

    async def scrub_to(self, version_id: str, count: int) -> Json:
        """The document after the first `count` changes of a version. It becomes `state`.

        `count` 0 is the state before the version. Changes beyond the last count as the last; one
        that cannot be applied is left out whole, as in the server's states. OT documents only.
        """
        if count < 0:
            raise VersionError(f"version {version_id!r}: {count} is not a number of changes")
        state = await self._state_before(version_id)
        for change in (await self.get_version_changes(version_id))[:count]:
            with suppress(PatchError):
                state = apply_patch(
                    state, change.ops, strict=True, legacy_text_overrun_padding=True
                )
        state = None if state is ABSENT else state
        self._show(state)
        return state

    def clear(self) -> None:
        """Forget what was fetched."""
        self._versions, self._state = (), None
        self._states.clear()
        self._changes.clear()

    # ---- inside ----------------------------------------------------------------------------------

    async def _state_before(self, version_id: str) -> Json:
        listed = {each.id: each for each in self._versions}
        version = listed.get(version_id)
        parent = listed.get(version.parent_id or "") if version is not None else None
        # A parent may end earlier: what was committed between the two is in no version.
        if version is not None and parent is not None and parent.end_rev == version.start_rev - 1:
            return await self._version_state(parent.id)
        return await self._connection.call("getStateBeforeVersion", self.id, version_id)

    async def _version_state(self, version_id: str) -> Json:
        async def fetch() -> Json:
            return await self._connection.call("getVersionState", self.id, version_id)

        return await _cached(self._states, version_id, fetch)

    def _show(self, state: Json) -> None:
        self._state = state
        self.on_state_change.emit(state)


async def _cached(
    cache: OrderedDict[str, T], version_id: str, fetch: Callable[[], Awaitable[T]]
) -> T:
    if version_id not in cache:
        cache[version_id] = await fetch()
    cache.move_to_end(version_id)
    while len(cache) > CACHED_VERSIONS:
        cache.popitem(last=False)
    return cache[version_id]
