"""An edit that a failed call has stored all the same is shown, kept and sent once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from patches.algorithms.ot import Conflict, OTAlgorithm, QueuePosition
from patches.algorithms.ot.stores.memory import OTMemoryStore
from patches.client.patches import Patches
from patches.errors import StorageError
from patches.model.change import Change, Snapshot
from patches.stores.memory.backend import MemoryBackend
from patches.testing.contracts.ot_client_steps import queued
from patches.testing.virtual_time import idle, virtual_time


class ForgetfulStore(OTMemoryStore):
    """Its next save takes effect and fails."""

    forgets = False

    async def save_pending_edits(
        self, doc_id: str, edits: Sequence[Sequence[Change]], read: QueuePosition
    ) -> list[list[Change]] | Conflict:
        saved = await super().save_pending_edits(doc_id, edits, read)
        if self.forgets:
            self.forgets = False
            raise StorageError("the outcome is unknown")
        return saved


@virtual_time
async def test_an_edit_whose_save_seemed_to_fail_is_not_shown_beside_its_stored_copy() -> None:
    backend = MemoryBackend()
    backend.stores["ot"] = store = ForgetfulStore()
    async with Patches(store=backend) as patches:
        doc = await patches.open_doc("d")
        algorithm = patches.algorithm_of("d")
        assert isinstance(algorithm, OTAlgorithm)
        await algorithm.install_snapshot("d", Snapshot(state={"n": 0}, rev=1), doc)
        told: list[str] = []
        patches.on_change(told.append)
        store.forgets = True
        doc.change(lambda draft: draft.increment("n"))
        await idle()
        assert not store.forgets
        other = Change(
            id="other",
            ops=[{"op": "add", "path": "/m", "value": 1}],
            base_rev=1,
            rev=2,
            created_at=1,
            committed_at=1,
        )
        await algorithm.apply_server_changes("d", [other], doc)
        assert doc.state == {"n": 1, "m": 1}
        await doc.flush()
        assert doc.state == {"n": 1, "m": 1}
        assert len(await queued(store, "d")) == 1
        assert told == ["d"]  # there is work for the server


@virtual_time
async def test_an_edit_of_a_closed_document_whose_save_seemed_to_fail_is_stored_once() -> None:
    backend = MemoryBackend()
    backend.stores["ot"] = store = ForgetfulStore()
    async with Patches(store=backend) as patches:
        await patches.track_docs(["d"])
        store.forgets = True
        stored = await patches.submit_doc_change("d", [{"op": "@inc", "path": "/n", "value": 1}])
        again = await patches.submit_doc_change("d", [{"op": "@inc", "path": "/n", "value": 1}])
        assert [*stored, *again] == await queued(store, "d")
        assert [change.rev for change in (*stored, *again)] == [1, 2]


@virtual_time
async def test_an_edit_whose_save_seemed_to_fail_is_stored_once_when_it_is_tried_again() -> None:
    backend = MemoryBackend()
    backend.stores["ot"] = store = ForgetfulStore()
    async with Patches(store=backend) as patches:
        doc = await patches.open_doc("d")
        store.forgets = True
        doc.change(lambda draft: draft.increment("n"))
        await doc.flush()
        assert not store.forgets
        assert doc.state == {"n": 1}
        assert len(await queued(store, "d")) == 1


@virtual_time
async def test_an_edit_is_stored_once_when_its_document_is_closed_meanwhile() -> None:
    backend = MemoryBackend()
    backend.stores["ot"] = store = ForgetfulStore()
    async with Patches(store=backend) as patches:
        doc = await patches.open_doc("d")
        store.forgets = True
        doc.change(lambda draft: draft.increment("n"))
        await asyncio.sleep(0.1)
        assert not store.forgets
        await patches.close_doc("d", force=True)
        await asyncio.sleep(60)
        assert len(await queued(store, "d")) == 1
