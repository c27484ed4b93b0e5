"""The token of a document's history on the wire: for those who ask, and for nobody else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from patches_server.algorithms import services_on
from patches_server.auth.access import allow_all
from patches_server.service.server import PatchesServer
from patches_server.stores.memory import MemoryBackend
from patches_server.stores.sqlite import SqliteBackend
from tests.support.raw_peer import Peers


@pytest.fixture(params=["memory", "sqlite"])
async def connect(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Any]:
    backend: Any = MemoryBackend()
    if request.param == "sqlite":
        backend = SqliteBackend(tmp_path / "server.db")
    services = services_on(backend)
    async with PatchesServer(
        services, auth=allow_all, algorithm_of=backend.algorithm_of, relay=False
    ) as server:
        yield Peers(server)
    await backend.close()


async def test_only_a_caller_that_asks_for_the_token_gets_it(connect: Any) -> None:
    peer = connect()
    change = {"id": "c1", "baseRev": 0, "ops": [{"op": "replace", "path": "/a", "value": 1}]}
    plain = await peer.result("commitChanges", "plan", [change])
    assert plain.keys() == {"changes"}
    assert (await peer.result("getDoc", "plan")).keys() == {"state", "rev", "changes"}
    assert isinstance(await peer.result("getChangesSince", "plan", 0), list)

    asked = await peer.result("getDoc", "plan", {"token": None})
    token = asked["token"]
    assert isinstance(token, str)
    assert asked["last"] == [1, "c1"]
    since = await peer.result("getChangesSince", "plan", 0, {"token": token})
    assert since == {"changes": plain["changes"], "token": token}
    change = {**change, "id": "c2", "baseRev": 1}
    answer = await peer.result(
        "commitChanges", "plan", [change], {"token": token, "last": [1, "c1"]}
    )
    assert answer["token"] == token
    nothing = await peer.result("getDoc", "none", {"token": None})
    assert nothing == {"state": None, "rev": 0, "changes": [], "token": None}


@pytest.mark.parametrize("doc_id", ["plan", "lww/plan"])
@pytest.mark.parametrize(
    "options",
    [
        {"token": "other.1"},
        {"token": None, "last": [1, "other"]},
        {"token": None, "last": [2, "c1"]},
    ],
)
async def test_a_copy_of_another_history_is_refused(
    connect: Any, doc_id: str, options: dict[str, Any]
) -> None:
    peer = connect()
    op = {"op": "replace", "path": "/a", "value": 1, **({"ts": 1} if "/" in doc_id else {})}
    await peer.result("commitChanges", doc_id, [{"id": "c1", "baseRev": 0, "ops": [op]}])
    expected = {"scope": "doc", "reason": "HISTORY"}
    assert (await peer.error("getChangesSince", doc_id, 1, options))["data"] == expected
    late = {"id": "c2", "baseRev": 1, "ops": [op]}
    assert (await peer.error("commitChanges", doc_id, [late], options))["data"] == expected
    assert (await peer.result("getDoc", doc_id, options))["token"] not in (None, "other.1")
    assert (await peer.error("getChangesSince", doc_id, 2, {"token": None}))["data"] == expected


async def test_the_token_is_not_told_to_others(connect: Any) -> None:
    ann, bob = connect(), connect()
    await bob.result("subscribe", "plan")
    change = {"id": "c1", "baseRev": 0, "ops": [{"op": "replace", "path": "/a", "value": 1}]}
    answer = await ann.result("commitChanges", "plan", [change], {"token": None})
    told = await bob.next()
    assert told["params"] == {"docId": "plan", "changes": answer["changes"]}
