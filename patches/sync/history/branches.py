"""`PatchesBranchClient`: the branches of one document, online and offline.

The rules: `docs/internals/ot.md` 12.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final, Protocol

from patches.aio.signals import Signal
from patches.client.patches import Patches
from patches.errors import BranchError, NetworkError, PatchesError
from patches.model.change import Change
from patches.model.ids import random_id
from patches.model.json_values import Json, Op, json_equal
from patches.model.records import Branch, check_branch_metadata, without_merge_fields
from patches.model.request_checks import check_doc_id, checked_metadata
from patches.net.connection import changes_from_wire
from patches.options import DEFAULT_MAX_PAYLOAD_BYTES, DocOptions
from patches.sync.history.branch_seed import seed_edits
from patches.sync.history.branch_store import (
    BranchStore,
    changes_to_send,
    deleted_branch,
    merged_with_server,
    metadata_to_send,
    new_branch,
    updated_branch,
)
from patches.sync.history.history import Caller

_ID_LENGTH: Final = 22


class BranchHost(Protocol):
    """What the client needs of a `PatchesSync`."""

    @property
    def patches(self) -> Patches:
        """The documents."""

    @property
    def connection(self) -> Caller:
        """The server."""

    @property
    def branch_store(self) -> BranchStore | None:
        """Where records are kept here, if they are."""

    async def send_branch_records(self) -> None:
        """Tell the server of pending branch records, if there is a connection."""

    def apply_merge_changes(self, doc_id: str, changes: Sequence[Change]) -> None:
        """Fold the answer to a merge in."""


class PatchesBranchClient:
    """Lists, makes, changes and merges branches: `PatchesBranchClient("doc-id", sync)`.

    If the sync has a `branch_store`, records are kept there and everything but `merge_branch` works
    offline; the server gets the changes later. Otherwise each call asks the server.
    """

    def __init__(self, doc_id: str, sync: BranchHost, *, algorithm: str | None = None) -> None:
        self.id: Final = doc_id
        self._sync = sync
        self._patches = sync.patches
        self._algorithm = algorithm
        self._branches: tuple[Branch, ...] = ()
        #: The new `branches`.
        self.on_branches_change: Signal[[Sequence[Branch]]] = Signal("on_branches_change")

    @property
    def branches(self) -> tuple[Branch, ...]:
        """The branches as of the last call."""
        return self._branches

    async def list_branches(self) -> tuple[Branch, ...]:
        """The branches of the document, oldest first; with a store, those that are known here."""
        store = self._sync.branch_store
        if store is None:
            found: Sequence[Branch] = await _fetch(self._sync.connection, self.id)
        else:
            found = await store.list(self.id)
        branches = tuple(branch for branch in found if not branch.deleted)
        if branches != self._branches:
            self._branches = branches
            self.on_branches_change.emit(branches)
        return branches

    async def refresh(self) -> tuple[Branch, ...]:
        """Fetch the server's records, then list. Raises `NetworkError` when offline."""
        store = self._sync.branch_store
        if store is not None:
            # All of them, not those since the newest here: its time may be of a clock that is ahead
            # of the server's, and two may be modified in one millisecond.
            before = await store.list(self.id)
            received = await _fetch(self._sync.connection, self.id)
            now = {branch.id: branch for branch in await store.list(self.id)}
            saved, removed = merged_with_server(before, now, received)
            await store.save(saved)
            await store.remove(removed)
        return await self.list_branches()

    async def create_branch(
        self,
        rev: int,
        metadata: Mapping[str, Json] | None = None,
        *,
        initial_state: Json = None,
    ) -> str:
        """Branch off at `rev` of the document; the branch's id, which is a document's id.

        Without `initial_state` the server makes the branch's document of its own state at `rev`.
        With it the document is made here, offline too; `metadata["id"]` then names it.
        """
        metadata = checked_metadata(metadata, self._patches.limits)
        if metadata.get("id") is not None:
            check_doc_id(metadata["id"], self._patches.limits, what="branch id")
        check_branch_metadata({key: value for key, value in metadata.items() if key != "id"})
        if initial_state is not None:
            branch_id = await self._create_here(rev, metadata, initial_state)
        elif self._sync.branch_store is not None:
            branch_id = str(metadata.get("id") or self._new_id())
            await self._save_new(branch_id, rev, metadata)
        else:
            made = await self._sync.connection.call(
                "createBranch", self.id, rev, without_merge_fields(metadata) or None
            )
            branch_id = str(made)
        await self.list_branches()
        return branch_id

    async def update_branch(self, branch_id: str, metadata: Mapping[str, Json]) -> None:
        """Set fields of a branch, such as its `name`. Raises `BranchError` for fixed ones."""
        check_doc_id(branch_id, self._patches.limits, what="branch id")
        metadata = checked_metadata(metadata, self._patches.limits)
        check_branch_metadata(metadata)
        store = self._sync.branch_store
        if store is None:
            await self._sync.connection.call(
                "updateBranch", branch_id, without_merge_fields(metadata)
            )
        else:
            branch = await _known(store, branch_id)
            await store.save([updated_branch(branch, metadata, now=self._now())])
            await self._sync.send_branch_records()
        await self.list_branches()

    async def delete_branch(self, branch_id: str) -> None:
        """Delete a branch's record. Its document stays: `delete_branch_with_doc` deletes both."""
        store = self._sync.branch_store
        if store is None:
            await self._sync.connection.call("deleteBranch", branch_id)
        else:
            mark = deleted_branch(await _known(store, branch_id), now=self._now())
            if mark is None:
                await store.remove([branch_id])
            else:
                await store.save([mark])
                await self._sync.send_branch_records()
        await self.list_branches()

    async def delete_branch_with_doc(self, branch_id: str) -> None:
        """Delete a branch and its document."""
        await self.delete_branch(branch_id)
        await self._patches.delete_doc(branch_id)

    async def merge_branch(self, branch_id: str) -> list[Change]:
        """Merge a branch into the document, on the server; what it committed there.

        The document here follows. The branch stays, and may be merged again. Raises `NetworkError`
        when offline: a merge is the server's.
        """
        changes = changes_from_wire(await self._sync.connection.call("mergeBranch", branch_id))
        if changes:
            self._sync.apply_merge_changes(self.id, changes)
        return changes

    # ---- inside ----------------------------------------------------------------------------------

    async def _create_here(self, rev: int, metadata: dict[str, Json], state: Json) -> str:
        branch_id = metadata.get("id")
        if not isinstance(branch_id, str) or not branch_id:
            raise BranchError(
                "metadata['id'] is required when a branch is made with an initial state"
            )
        if branch_id == self.id:
            raise BranchError(f"Document {branch_id} cannot be a branch of itself.")
        if await self._is_branch(self.id):
            raise BranchError("Cannot create a branch from another branch.")
        if await self._is_made(branch_id):
            return branch_id
        most = self._patches.doc_options.max_payload_bytes or DEFAULT_MAX_PAYLOAD_BYTES
        edits = seed_edits(state, most)
        was_tracked = branch_id in self._patches.tracked_docs
        if was_tracked and await self._holds_seed(branch_id, state):
            edits = []  # of a call that was cut before its record was written
        elif not was_tracked:
            await self._require_new_document(branch_id)
        try:
            await self._patches.track_docs([branch_id], self._algorithm_name())
            metadata["contentStartRev"] = await self._seed(branch_id, edits, most) + 1
            if self._sync.branch_store is None:
                await self._sync.connection.call("createBranch", self.id, rev, metadata)
            else:
                await self._save_new(branch_id, rev, metadata)
        except BaseException:
            await self._forget_record(branch_id)
            if not was_tracked:
                await self._patches.untrack_docs([branch_id])
            raise
        return branch_id

    async def _is_made(self, branch_id: str) -> bool:
        """Whether this is a branch of the document already. Raises `BranchError` for another's."""
        store = self._sync.branch_store
        if store is None:
            made = await _fetch(self._sync.connection, self.id)
            return any(branch.id == branch_id for branch in made)
        known = await store.load(branch_id)
        if known is None:
            return False
        _require_source(known, self.id)
        if known.deleted:
            raise BranchError(f"Branch {branch_id} was deleted; choose another id")
        return True

    async def _holds_seed(self, branch_id: str, state: Json) -> bool:
        """Whether the document here is just `state`, unsent. Raises `BranchError` if it is more."""
        doc = await self._patches.open_doc(branch_id)
        try:
            if not doc.committed_rev and not doc.has_pending:
                return False
            if not doc.committed_rev and json_equal(doc.plain_state, state):
                return True
        finally:
            await self._patches.close_doc(branch_id)
        raise BranchError(
            f"Document {branch_id} already exists; a branch with an initial state needs an id "
            f"that is not used"
        )

    async def _require_new_document(self, branch_id: str) -> None:
        """Raise `BranchError` if the server, when connected, has a document of this id."""
        try:
            found = await self._sync.connection.call("getChangesSince", branch_id, 0)
        except NetworkError:
            if self._sync.branch_store is None:
                raise
            return  # made offline; a server that has the document will refuse the record
        if found:
            raise BranchError(f"Document {branch_id} already exists")

    async def _forget_record(self, branch_id: str) -> None:
        store = self._sync.branch_store
        if store is not None:
            record = await store.load(branch_id)
            if record is not None and record.doc_id == self.id:
                await store.remove([branch_id])

    async def _seed(self, branch_id: str, edits: Sequence[list[Op]], most: int) -> int:
        """Store a branch's first content; the last revision that it will take.

        The first batch is made up at once, so that no later edit can slip into it: an algorithm may
        consolidate pending edits, and the branch's own content would be part of its seed.
        """
        for ops in edits:
            await self._patches.submit_doc_change(branch_id, ops)
        options = DocOptions(max_payload_bytes=most).over(self._patches.doc_options)
        doc = self._patches.get_open_doc(branch_id)
        algorithm = self._patches.algorithm_of(branch_id)
        pending = await algorithm.list_pending(branch_id, doc)
        if not pending:
            raise BranchError("Branch seeding persisted no changes")
        batch = await algorithm.next_batch(branch_id, doc, options)
        return max(pending[-1].rev, batch[0].base_rev + len(batch) if batch else 0)

    async def _save_new(self, branch_id: str, rev: int, metadata: Mapping[str, Json]) -> None:
        store = self._sync.branch_store
        assert store is not None
        known = await store.load(branch_id)
        if known is not None:
            _require_source(known, self.id)
            return
        await store.save([new_branch(branch_id, self.id, rev, metadata, now=self._now())])
        await self._sync.send_branch_records()

    async def _is_branch(self, doc_id: str) -> bool:
        store = self._sync.branch_store
        return store is not None and await store.load(doc_id) is not None

    def _algorithm_name(self) -> str | None:
        if self._algorithm is not None:
            return self._algorithm
        if self.id in self._patches.tracked_docs:
            return self._patches.algorithm_of(self.id).name
        return None

    def _new_id(self) -> str:
        return random_id(self._patches.runtime.random, _ID_LENGTH)

    def _now(self) -> int:
        return self._patches.runtime.wall_ms()


async def send_pending(store: BranchStore, connection: Caller) -> tuple[int, list[PatchesError]]:
    """Send what is pending to the server: creations, then changes, then deletions.

    Each group ends at its first failure, all of them when the connection is lost: what follows is
    the next connection's, from the beginning. Returns how many were sent, and the failures.
    """
    sent = 0
    failures: list[PatchesError] = []
    pending = await store.list_pending()
    for pending_op in ("create", "update", "delete"):
        for branch in pending:
            if branch.pending_op != pending_op:
                continue
            try:
                await _send(branch, connection)
            except NetworkError as exc:
                return sent, [*failures, exc]
            except PatchesError as exc:
                failures.append(exc)
                break
            await _confirm(store, branch)
            sent += 1
    return sent, failures


async def _send(branch: Branch, connection: Caller) -> None:
    if branch.pending_op == "create":
        metadata = metadata_to_send(branch)
        await connection.call("createBranch", branch.doc_id, branch.branched_at_rev, metadata)
    elif branch.pending_op == "update":
        await connection.call("updateBranch", branch.id, changes_to_send(branch))
    else:
        await connection.call("deleteBranch", branch.id)


async def _confirm(store: BranchStore, sent: Branch) -> None:
    """The server knows it. What was changed meanwhile is still to be sent."""
    now = await store.load(sent.id)
    if sent.pending_op == "delete":
        await store.remove([sent.id])
    elif now == sent:
        await store.save([replace(sent, pending_op=None)])
    elif now is not None and now.pending_op == "create":
        await store.save([replace(now, pending_op="update")])
    elif now is None and sent.pending_op == "create":  # deleted here while it was being sent
        mark = Branch(id=sent.id, doc_id=sent.doc_id, deleted=True, pending_op="delete")
        await store.save([mark])


def _require_source(branch: Branch, doc_id: str) -> None:
    if branch.doc_id != doc_id:
        raise BranchError(f"Branch {branch.id} already exists for a different document")


async def _known(store: BranchStore, branch_id: str) -> Branch:
    branch = await store.load(branch_id)
    if branch is None or branch.deleted:
        raise BranchError(f"Branch {branch_id} not found")
    return branch


async def _fetch(connection: Caller, doc_id: str) -> list[Branch]:
    wire = await connection.call("listBranches", doc_id)
    if not isinstance(wire, list):
        raise BranchError(f"document {doc_id!r}: the server gave no list of branches")
    return [Branch.from_wire(branch) for branch in wire]
