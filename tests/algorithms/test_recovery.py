"""What is fetched in the place of a damaged part does not undo what was received meanwhile."""

from __future__ import annotations

from typing import Any

import pytest

from patches.algorithms.base import Algorithm
from patches.algorithms.lww import LWWAlgorithm
from patches.algorithms.lww.stores.memory import LWWMemoryStore
from patches.algorithms.ot import OTAlgorithm
from patches.algorithms.ot.stores.memory import OTMemoryStore
from patches.algorithms.recovery import Recovery
from patches.errors import CorruptDataError
from patches.model.change import Change, Snapshot
from patches.model.json_values import Json

DOC = "d"


def committed(rev: int) -> Change:
    op: dict[str, Any] = {"op": "replace", "path": f"/n{rev}", "value": rev, "ts": rev}
    return Change(id=f"c{rev}", ops=[op], base_rev=rev - 1, rev=rev, created_at=1, committed_at=1)


def ot_committed(rev: int) -> Change:
    change = committed(rev)
    return change.replace(ops=[{k: v for k, v in op.items() if k != "ts"} for op in change.ops])


class Server:
    """Answers `getDoc`. A change is stored here while the first answer is on its way."""

    def __init__(self, algorithm: Algorithm, change: Change) -> None:
        self.algorithm, self.change, self.head, self.asked = algorithm, change, 1, 0

    async def call(self, method: str, *params: Any) -> Json:
        assert method == "getDoc"
        self.asked += 1
        state: Json = {f"n{rev}": rev for rev in range(1, self.head + 1)}
        answer: Json = {"state": state, "rev": self.head, "changes": []}
        if self.asked == 1:
            self.head += 1
            await self.algorithm.apply_server_changes(DOC, [self.change], None)
        return answer


@pytest.mark.parametrize("name", ["ot", "lww"])
async def test_an_older_snapshot_than_what_was_received_meanwhile_is_fetched_again(
    name: str,
) -> None:
    is_ot = name == "ot"
    algorithm = OTAlgorithm(OTMemoryStore()) if is_ot else LWWAlgorithm(LWWMemoryStore())
    await algorithm.track_docs([DOC])
    await algorithm.install_snapshot(DOC, Snapshot(state={"n1": 1}, rev=1), None)
    server = Server(algorithm, ot_committed(2) if is_ot else committed(2))
    recovery, tries = Recovery(algorithm), 0
    recovery.host = server  # type: ignore[assignment]  # nothing else is asked of it

    async def load() -> Snapshot | None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise CorruptDataError("damaged", doc_id=DOC, part="committed")
        return await algorithm.load_doc(DOC)

    loaded = await recovery.load(DOC, load)
    assert loaded is not None
    assert (loaded.state, loaded.rev) == ({"n1": 1, "n2": 2}, 2)
    assert server.asked == 2
