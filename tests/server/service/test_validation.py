"""An application's own rules about changes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from patches import Patches, PatchesSync
from patches.errors import ChangeRefusedError, StatusError, UnavailableError
from patches.json_patch import apply_patch
from patches.limits import Limits
from patches.model.change import ChangeInput
from patches.runtime import Runtime
from patches.testing.local_server import LocalServer
from patches_server.documents.offload import Offloader
from patches_server.service.validation import Validation
from tests.support.raw_peer import RawPeer


def change(change_id: str, value: Any, path: str = "/a") -> dict[str, Any]:
    return {"id": change_id, "ops": [{"op": "replace", "path": path, "value": value}]}


def no_shouting(_principal: object, _doc_id: str, changes: Any) -> ChangeRefusedError | None:
    for each in changes:
        if any(str(op.get("value", "")).isupper() for op in each.ops):
            return ChangeRefusedError(each.id, "please do not shout")
    return None


async def test_a_refused_change_is_named_and_nothing_of_the_commit_is_stored(
    serve: Any, documents: Any
) -> None:
    peer = (await serve(validate=no_shouting))()
    error = await peer.error("commitChanges", "d", [change("c1", "calm"), change("c2", "LOUD")])
    assert error == {
        "code": 400,
        "message": "please do not shout",
        "data": {"changeId": "c2", "scope": "change", "final": True},
    }
    assert documents.logs == {}
    assert len((await peer.result("commitChanges", "d", [change("c1", "calm")]))["changes"]) == 1


@pytest.mark.parametrize("verdict", ["a reason", ChangeRefusedError("c1", "a reason")], ids=repr)
async def test_a_hook_may_be_slow_raise_or_return_a_reason(serve: Any, verdict: Any) -> None:
    async def returns(*_: object) -> Any:
        await asyncio.sleep(0)
        return verdict

    async def raises(*_: object) -> Any:
        raise verdict if isinstance(verdict, Exception) else ChangeRefusedError("c1", verdict)

    for hook in (returns, raises):
        error = await (await serve(validate=hook))().error("commitChanges", "d", [change("c1", 1)])
        assert (error["code"], error["message"]) == (400, "a reason")
        assert error["data"]["changeId"] == "c1"


async def test_anything_but_none_is_a_refusal(serve: Any) -> None:
    verdicts: list[Any] = [False, True, 0, {}]
    for verdict in verdicts:
        peer = (await serve(validate=lambda *_, v=verdict: v))()
        assert (await peer.error("commitChanges", "d", [change("c1", 1)]))["code"] == 400


async def test_rights_are_asked_first_and_operations_are_well_formed(serve: Any) -> None:
    seen = []

    def validate(_principal: object, _doc_id: str, changes: Any) -> None:
        seen.extend(changes)

    peer = (await serve(validate=validate, auth=None))()
    assert (await peer.error("commitChanges", "d", [change("c1", 1)]))["code"] == 403
    peer = (await serve(validate=validate))()
    error = await peer.error("commitChanges", "d", [change("c1", 1, path="no pointer")])
    assert error["data"] == {"changeId": "c1", "scope": "change"}
    assert seen == []


async def test_a_hook_that_hangs_is_503_and_one_that_fails_tells_nothing(serve: Any) -> None:
    async def hangs(*_: object) -> None:
        await asyncio.Event().wait()

    limits = Limits(hook_timeout_s=0.001)
    validation = Validation(hangs, limits, Offloader(Runtime(), limits))
    with pytest.raises(UnavailableError):
        await validation.require(None, "d", [ChangeInput.from_wire(change("c1", 1))])

    def fails(*_: object) -> None:
        raise StatusError(402, "pay first")

    peer = (await serve(validate=fails))()
    assert (await peer.error("commitChanges", "d", [change("c1", 1)]))["code"] == 402

    def breaks(*_: object) -> None:
        raise KeyError("/home/ann/secret")

    peer = (await serve(validate=breaks))()
    error = await peer.error("commitChanges", "d", [change("c1", 1)])
    assert error["message"] == "Server error"
    assert "ann" not in str(error)


@pytest.mark.parametrize("algorithm", ["ot", "lww"])
async def test_the_author_finds_the_refused_change_in_quarantine_with_the_reason(
    algorithm: str,
) -> None:
    async with (
        LocalServer(validate=no_shouting, routes={"*": algorithm}) as server,
        Patches() as patches,
        PatchesSync(patches, server.connection()) as sync,
    ):
        doc = await patches.open_doc("plan", algorithm=algorithm)
        doc.change(lambda d: d.update({"title": "calm"}))
        await sync.settled(5)
        doc.change(lambda d: d.update({"title": "LOUD"}))
        with pytest.raises(ChangeRefusedError, match="please do not shout"):
            await sync.settled(5)
        [entry] = await patches.list_quarantined_changes("plan")
        assert entry.reason == "please do not shout"
        assert entry.change.ops[0]["value"] == "LOUD"
        assert doc.state == {"title": "calm"}
        doc.change(lambda d: d.update({"more": "quiet"}))
        await sync.settled(5)
        assert doc.state == {"title": "calm", "more": "quiet"}


# ---- what comes of changes -----------------------------------------------------------------------


def never_over_ten(
    _principal: object, _doc_id: str, _change: Any, before: Any, after: Any
) -> str | None:
    assert (before or {}).get("n", 0) <= 10
    return "n is over 10" if (after or {}).get("n", 0) > 10 else None


SNEAKS: dict[str, list[dict[str, Any]]] = {
    "replace": [{"op": "replace", "path": "/n", "value": 11}],
    "increment": [{"op": "@inc", "path": "/n", "value": 6}],
    "max": [{"op": "@max", "path": "/n", "value": 11}],
    "move": [{"op": "move", "from": "/high", "path": "/n"}],
    "copy": [{"op": "copy", "from": "/high", "path": "/n"}],
    "above": [
        {"op": "replace", "path": "/low", "value": 1},
        {"op": "copy", "from": "/high", "path": "/n"},
    ],
}


@pytest.mark.parametrize("algorithm", ["ot", "lww"])
@pytest.mark.parametrize("sneak", SNEAKS)
async def test_no_operation_gets_around_a_rule_about_the_state(algorithm: str, sneak: str) -> None:
    async with LocalServer(validate_state=never_over_ten, routes={"*": algorithm}) as server:
        peer = RawPeer(server.server.connect())
        start = {"high": 99, "n": 5}
        ops = [{"op": "replace", "path": f"/{key}", "value": value} for key, value in start.items()]
        await peer.result("commitChanges", "d", [{"id": "start", "ops": ops, "baseRev": 0}])
        good = {"id": "good", "ops": [{"op": "@inc", "path": "/n", "value": 5}], "baseRev": 1}
        bad = {"id": "bad", "ops": SNEAKS[sneak], "baseRev": 1}
        error = await peer.error("commitChanges", "d", [good, bad])
        assert error == {
            "code": 400,
            "message": "n is over 10",
            "data": {"changeId": "bad", "scope": "change", "final": True},
        }
        await peer.result("commitChanges", "d", [good])
        error = await peer.error("commitChanges", "d", [bad])
        assert error["data"]["changeId"] == "bad"
        assert await state_of(peer, "d") == {"high": 99, "n": 10}


@pytest.mark.parametrize("algorithm", ["ot", "lww"])
async def test_a_merge_is_judged_by_what_it_makes_of_the_source(algorithm: str) -> None:
    async with LocalServer(validate_state=never_over_ten, routes={"*": algorithm}) as server:
        peer = RawPeer(server.server.connect())
        start = {"id": "start", "ops": [{"op": "replace", "path": "/n", "value": 4}], "baseRev": 0}
        await peer.result("commitChanges", "d", [start])
        branch = await peer.result("createBranch", "d", 1, {"id": "b"})
        add = [{"op": "@inc", "path": "/n", "value": 5}]
        value = [{"op": "replace", "path": "/n", "value": 9}]
        for doc_id, ops in ((branch, add if algorithm == "ot" else value), ("d", add)):
            await peer.result("commitChanges", doc_id, [{"id": f"on {doc_id}", "ops": ops}])
        answer = await peer.call("mergeBranch", branch)
        if algorithm == "ot":  # five and five on top of four
            assert "n is over 10" in answer["error"]["message"]
        assert (await state_of(peer, "d"))["n"] == 9


async def test_a_hook_about_states_that_hangs_is_503() -> None:
    async def hangs(*_: object) -> None:
        await asyncio.Event().wait()

    async with LocalServer(validate_state=hangs, limits=Limits(hook_timeout_s=0.001)) as server:
        error = await RawPeer(server.server.connect()).error(
            "commitChanges", "d", [change("c1", 1)]
        )
        assert (error["code"], error["data"]) == (503, {"reason": "VALIDATION"})


async def state_of(peer: Any, doc_id: str) -> Any:
    """The state that a client makes of `getDoc`."""
    found = await peer.result("getDoc", doc_id)
    state = found["state"]
    for each in found["changes"]:
        state = apply_patch(state, each["ops"])
    return state
