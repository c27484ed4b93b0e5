"""Unsent work that does not apply to another history is set aside, whatever follows it."""

from __future__ import annotations

from patches.algorithms.ot import OTAlgorithm
from patches.algorithms.ot.stores.memory import OTMemoryStore
from patches.model.change import QuarantinedChange, Snapshot
from patches.sync.document.other_history import set_aside_unappliable
from patches.testing.contracts.ot_client_steps import DOC, pending, save


async def test_what_follows_a_change_that_does_not_apply_is_set_aside_with_it() -> None:
    store, told = OTMemoryStore(), list[QuarantinedChange]()
    algorithm = OTAlgorithm(store)
    await algorithm.install_snapshot(DOC, Snapshot(state={"log": ["a"]}, rev=1), None)
    ops = {"fine": "/n", "broken": "/log/3", "behind": "/m", "last": "/k"}
    for change_id, path in ops.items():
        edit = [{"op": "add", "path": path, "value": 1}]
        await save(store, pending(change_id, base_rev=1, rev=2, ops=edit))
    doc = algorithm.create_doc(DOC, await algorithm.load_doc(DOC))
    await set_aside_unappliable(DOC, algorithm, doc, lambda _id, entry: told.append(entry))
    assert [entry.change_id for entry in told] == ["last", "behind", "broken"]
    assert [change.id for change in await algorithm.list_pending(DOC, doc)] == ["fine"]
    assert doc.state == {"log": ["a"], "n": 1}
