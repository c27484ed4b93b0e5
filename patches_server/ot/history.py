"""Versions of OT documents: making them, and the states they stand for (`docs/internals/ot.md` 15).

A version is a range of the log and the state after it. States are built from the newest state that
is stored before them, in reconstruction mode: a committed change that cannot be applied is left
out whole, here as on every replica. Building runs in a thread when there is much to do.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, TypeAlias, TypeVar

from patches.algorithms.ot import SkippedChange, apply_changes_for_reconstruction
from patches.errors import PatchesError
from patches.model import codec
from patches.model.change import Change
from patches.model.ids import SortableIds
from patches.model.json_values import Json
from patches.runtime import Millis, Runtime
from patches_server.documents.offload import BYTES_PER_STEP, Offloader, steps_of_encoded
from patches_server.documents.records import ListVersionsOptions, Version
from patches_server.documents.version_history import state_unavailable
from patches_server.ot.store import OTServerStore, StoredSnapshot

_log = logging.getLogger("patches_server.ot")

_STEPS_PER_CHANGE: Final = 4
_MAX_ANCESTORS: Final = 10
_REMEMBERED_UNAPPLIABLE: Final = 10_000

T = TypeVar("T")
#: Told of each change that a state was built without.
OnSkipped: TypeAlias = Callable[[SkippedChange], object]


class OTHistory:
    """Reads and makes the versions of a store's documents."""

    def __init__(self, store: OTServerStore, runtime: Runtime, offload: Offloader) -> None:
        self._store = store
        self._offload = offload
        self._new_id = SortableIds(runtime.random)
        #: Changes that were left out of a state, by document and id; each is reported once.
        self._reported: dict[tuple[str, str], None] = {}
        self.unappliable = 0
        #: Called for each version that was saved.
        self.on_saved: Callable[[str, str], object] = lambda _doc_id, _version_id: None

    async def newest_version(self, doc_id: str) -> Version | None:
        """The version, of any origin, that reaches furthest."""
        return await self._newest(doc_id, ListVersionsOptions(limit=1, reverse=True))

    async def newest_main(self, doc_id: str, *, through_rev: int) -> Version | None:
        """The newest main version that ends at or before a revision of the log."""
        head = await self._store.get_head(doc_id)
        options = ListVersionsOptions(
            limit=1,
            reverse=True,
            origin="main",
            start_after=min(through_rev, head.rev) + 1,
        )
        return await self._newest(doc_id, options)

    async def create_version(
        self,
        doc_id: str,
        changes: Sequence[Change],
        *,
        now: Millis,
        origin: str = "main",
        parent_id: str | None = None,
        group_id: str | None = None,
        metadata: Mapping[str, Json] | None = None,
    ) -> Version:
        """Save a version of changes that are in the log, with the state after them."""
        version = version_of(
            changes,
            id=self._new_id(now),
            origin=origin,
            parent_id=parent_id,
            group_id=group_id,
            metadata=metadata,
        )
        await self.save(doc_id, version, changes)
        return version

    async def save(self, doc_id: str, version: Version, changes: Sequence[Change]) -> None:
        """Build the state after `changes`, which the version stands for, and save both."""
        state, bridge = await self._base(doc_id, version)
        encoded = await self._built(doc_id, state, [*bridge, *changes], padding=False)
        await self._store.versions.create_version(doc_id, version, encoded)
        self.on_saved(doc_id, version.id)

    async def save_copies(
        self, doc_id: str, rev: int, copies: Sequence[tuple[Version, Sequence[Change]]]
    ) -> None:
        """Save versions of changes that are about to follow on a revision of the log.

        Each comes with all those changes that lead to it from there.
        """
        state, _ = await self.state_at(doc_id, rev)
        base = codec.encode(state)
        for version, changes in copies:
            encoded = await self._built(doc_id, base, changes, padding=False)
            await self._store.versions.create_version(doc_id, version, encoded)

    async def create_version_at(
        self,
        doc_id: str,
        end_rev: int,
        *,
        now: Millis,
        after: Version | None,
        limit: int | None = None,
        metadata: Mapping[str, Json] | None = None,
    ) -> Version | None:
        """Save a main version, chained to `after`, of the changes from there to `end_rev`.

        At most `limit` of them; `None` if there are none.
        """
        changes = await self._store.list_changes(
            doc_id,
            start_after=after.end_rev if after else 0,
            end_before=end_rev + 1,
            limit=limit,
        )
        if not changes:
            return None
        parent_id = after.id if after else None
        return await self.create_version(
            doc_id, changes, now=now, parent_id=parent_id, metadata=metadata
        )

    async def create_session_versions(
        self, doc_id: str, changes: Sequence[Change], *, origin: str, pause: Millis, now: Millis
    ) -> None:
        """A version of each session in what one commit stored (`docs/internals/ot.md` 14.8)."""
        before = await self.newest_main(doc_id, through_rev=changes[0].rev - 1)
        parent_id = before.id if before else None
        found = await self._offload(
            _STEPS_PER_CHANGE * len(changes), lambda: list(sessions(changes, pause))
        )
        for session in found:
            version = await self.create_version(
                doc_id, session, now=now, origin=origin, parent_id=parent_id
            )
            parent_id = version.id

    async def state_at(
        self,
        doc_id: str,
        rev: int | None = None,
        *,
        on_skipped: OnSkipped | None = None,
        legacy_text_overrun_padding: bool = False,
    ) -> tuple[Json, int]:
        """The state at a revision, and that revision: the head, if `None` or beyond.

        Raises `UnavailableError` when a version's state is missing, `DocDeletedError`.
        """
        snapshot = await self._store.load_snapshot(doc_id, rev=rev)
        encoded = state_of(doc_id, snapshot)
        at = snapshot.version.end_rev if snapshot.version else 0
        changes = snapshot.changes

        def build() -> Json:
            return apply_changes_for_reconstruction(
                codec.decode(encoded),
                changes,
                on_skipped_change=on_skipped or self._logged(doc_id),
                legacy_text_overrun_padding=legacy_text_overrun_padding,
            )

        state = await self._run(build, len(encoded), changes)
        return state, changes[-1].rev if changes else at

    async def state_before(
        self, doc_id: str, version: Version, *, on_skipped: OnSkipped | None = None
    ) -> bytes:
        """The state that a version started from, as JSON text (`docs/internals/ot.md` 15.5)."""
        state, bridge = await self._base(doc_id, version)
        return await self._built(doc_id, state, bridge, on_skipped) if bridge else state

    async def built(self, doc_id: str, state: bytes, changes: Sequence[Change]) -> bytes:
        """The state after changes, as all replicas have it."""
        return await self._built(doc_id, state, changes, padding=False)

    async def _base(self, doc_id: str, version: Version) -> tuple[bytes, list[Change]]:
        """A stored state before a version, and the changes from there to the version."""
        ancestor, state = await self._ancestor(doc_id, version)
        end_rev = ancestor.end_rev if ancestor else 0
        if version.start_rev <= end_rev + 1:
            return state, []
        bridge = await self._store.list_changes(
            doc_id, start_after=end_rev, end_before=version.start_rev
        )
        return state, bridge

    async def _ancestor(self, doc_id: str, version: Version) -> tuple[Version | None, bytes]:
        """The nearest ancestor that has its state, if it ends before the version starts."""
        descendant = version
        for climbed in range(_MAX_ANCESTORS + 1):
            ancestor = await self._parent(doc_id, descendant, climbing=climbed > 0)
            if ancestor is None:
                break
            state = await self._store.versions.load_version_state(doc_id, ancestor.id)
            if state and ancestor.end_rev < version.start_rev:
                return ancestor, state
            if state:
                break
            descendant = ancestor
        return None, b"null"

    async def _parent(self, doc_id: str, version: Version, *, climbing: bool) -> Version | None:
        try:
            if version.parent_id is not None:
                return await self._store.versions.load_version(doc_id, version.parent_id)
            if version.start_rev > 1:
                return await self.newest_main(doc_id, through_rev=version.start_rev - 1)
        except PatchesError as exc:
            # Without the ancestors there is still the log, unless the store says why not.
            if not climbing or isinstance(exc.code, int):
                raise
        return None

    async def _built(
        self,
        doc_id: str,
        state: bytes,
        changes: Sequence[Change],
        on_skipped: OnSkipped | None = None,
        *,
        padding: bool = True,
    ) -> bytes:
        """`padding` is for the past (`docs/internals/ot.md` 15.5). A version that is stored is the
        base of what readers load, and must be what those see who apply the log: they never pad.
        """

        def build() -> bytes:
            return codec.encode(
                apply_changes_for_reconstruction(
                    codec.decode(state),
                    changes,
                    on_skipped_change=on_skipped or self._logged(doc_id),
                    legacy_text_overrun_padding=padding,
                )
            )

        return await self._run(build, len(state), changes)

    async def _run(self, build: Callable[[], T], size: int, changes: Sequence[Change]) -> T:
        return await self._offload(size // BYTES_PER_STEP + steps_of_encoded(changes), build)

    async def _newest(self, doc_id: str, options: ListVersionsOptions) -> Version | None:
        found = await self._store.versions.list_versions(doc_id, options)
        return found[0] if found else None

    def _logged(self, doc_id: str) -> OnSkipped:
        def log(skipped: SkippedChange) -> None:
            key = (doc_id, skipped.change.id)
            if key in self._reported:
                return
            self._reported[key] = None
            self.unappliable += 1
            if len(self._reported) > _REMEMBERED_UNAPPLIABLE:
                del self._reported[next(iter(self._reported))]
            _log.error(
                "document %.128r: committed change %.128r (rev %d) cannot be applied and is left "
                "out",
                doc_id,
                skipped.change.id,
                skipped.change.rev,
            )

        return log


def version_of(
    changes: Sequence[Change],
    *,
    id: str,
    origin: str,
    parent_id: str | None,
    group_id: str | None = None,
    metadata: Mapping[str, Json] | None = None,
) -> Version:
    """The record of a version of these changes."""
    return Version(
        id=id,
        origin=origin,
        start_rev=changes[0].rev,
        end_rev=changes[-1].rev,
        started_at=changes[0].created_at,
        ended_at=changes[-1].created_at,
        parent_id=parent_id,
        group_id=group_id,
        metadata=dict(metadata or {}),
    )


def sessions(changes: Sequence[Change], pause: Millis) -> Iterator[list[Change]]:
    """Changes in runs that were made without stopping longer than `pause`."""
    run: list[Change] = []
    for change in changes:
        if run and change.created_at - run[-1].created_at > pause:
            yield run
            run = []
        run.append(change)
    if run:
        yield run


def state_of(doc_id: str, snapshot: StoredSnapshot) -> bytes:
    """The state of a snapshot's version as JSON text, `null` before the first version.

    Raises `UnavailableError` when the state is missing: never to be taken for an empty document.
    """
    if snapshot.version is None:
        return b"null"
    if not snapshot.state:
        raise state_unavailable(doc_id, snapshot.version.id)
    return snapshot.state
