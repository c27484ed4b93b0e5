"""A text edit beyond the end of the text reads the same in a version as in the log."""

from __future__ import annotations

from patches.algorithms.ot import apply_changes
from patches.model import codec
from patches.model.change import Change
from patches.model.json_values import Op
from patches_server.ot.server import OTServer
from patches_server.stores.memory.backend import MemoryBackend


async def test_a_version_holds_what_those_see_who_apply_the_log() -> None:
    backend = MemoryBackend()
    server = OTServer(backend)
    texts: list[list[Op]] = [
        [{"op": "@txt", "path": "/t", "value": [{"insert": "Short"}]}],
        [{"op": "@txt", "path": "/t", "value": [{"retain": 21}, {"insert": "Long"}]}],
    ]
    for rev, ops in enumerate(texts):
        now = server.runtime.wall_ms()
        change = Change(id=f"c{rev}", ops=ops, base_rev=rev, rev=rev + 1, created_at=now)
        await server.commit_changes("d", [change])
    log = await server.get_changes_since("d", 0)
    shown = apply_changes({}, log)
    version_id = await server.capture_current_version("d")
    assert version_id is not None
    state = await backend.versions.load_version_state("d", version_id)
    assert state is not None
    assert codec.decode(state) == shown
    assert (await server.get_doc("d")).state == shown
