"""An edit of which the server refuses a part is refused whole, whatever it was folded with."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import pytest

from patches import Patches, PatchesSync
from patches.algorithms.base import Algorithm
from patches.algorithms.lww import LWWAlgorithm
from patches.algorithms.ot import OTAlgorithm
from patches.errors import ChangeRefusedError, PatchError
from patches.json_patch import ABSENT, apply_patch
from patches.json_patch.pointer import value_at
from patches.model.change import Change
from patches.runtime import Runtime
from patches.testing.local_server import LocalServer
from patches.testing.virtual_time import virtual_time

Judge = Callable[[Any, Any], bool]

START: dict[str, Any] = {"a": {"n": -1}, "b": {"n": -2}, "c": -3, "d": -4}
PLACES = ("/a", "/a/n", "/a/m", "/b", "/b/n", "/c", "/d", "/e", "/e/n")


def rule(judge: Judge) -> Any:
    def validate_state(
        _principal: object, _doc_id: str, change: Any, before: Any, after: Any
    ) -> ChangeRefusedError | None:
        return ChangeRefusedError(change.id, "no") if judge(before, after) else None

    return validate_state


@pytest.mark.parametrize("algorithm", ["ot", "lww"])
@pytest.mark.parametrize("companions", [0, 5])
def test_a_move_is_refused_whole(algorithm: str, companions: int) -> None:
    @virtual_time
    async def run() -> None:
        judge: Judge = lambda _before, after: "done" in after  # noqa: E731  # shorter than a def
        async with (
            LocalServer(validate_state=rule(judge), routes={"*": algorithm}) as server,
            Patches() as patches,
            PatchesSync(patches, server.connection()) as sync,
        ):
            doc = await patches.open_doc("d", algorithm=algorithm)
            doc.set({"todo": {"card": 1}, "kept": {}})
            await sync.settled(60)
            sync.set_online(False)
            for number in range(companions):
                doc.apply([{"op": "replace", "path": f"/kept/{number}", "value": number}])
            doc.apply([{"op": "move", "from": "/todo/card", "path": "/done"}])
            for number in range(companions):
                doc.apply([{"op": "replace", "path": f"/kept/x{number}", "value": number}])
            await doc.flush()
            sync.set_online(True)
            with pytest.raises(ChangeRefusedError):
                await sync.settled(60)
            await sync.settled(60)
            kept = {f"{x}{n}": n for x in ("", "x") for n in range(companions)}
            assert doc.state == {"todo": {"card": 1}, "kept": kept}
            assert len(await patches.list_quarantined_changes("d")) == 1

    run()


ALGORITHMS: dict[str, type[OTAlgorithm | LWWAlgorithm]] = {"ot": OTAlgorithm, "lww": LWWAlgorithm}


def recording(algorithm: Algorithm, made: list[Change]) -> Algorithm:
    """Let an algorithm note the changes of the edits that it stores."""
    stored = algorithm.handle_doc_changes

    async def handle(*arguments: Any) -> list[list[Change]]:
        changes = await stored(*arguments)
        made.extend(change for edit in changes for change in edit)
        return changes

    algorithm.handle_doc_changes = handle  # type: ignore[method-assign, assignment]  # watched
    return algorithm


def random_ops(rng: random.Random, state: Any, number: int) -> list[dict[str, Any]]:
    """The operations of one edit, which can be applied to `state`."""
    ops: list[dict[str, Any]] = []
    for part in range(rng.choice((1, 1, 2, 2, 3))):
        path, value = rng.choice(PLACES), 100 * number + part
        kind = rng.random()
        op: dict[str, Any] = {"op": "replace", "path": path, "value": value}
        if kind < 0.25:
            op["value"] = {"n": value}
        elif kind < 0.4 and value_at(state, path) is not ABSENT:
            op = {"op": "remove", "path": path}
        elif kind < 0.65:
            op = {"op": "move", "from": rng.choice(PLACES), "path": path}
            if path.startswith(op["from"]) or op["from"].startswith(path):
                continue
        try:
            state = apply_patch(state, [op], strict=True)
        except PatchError:
            continue
        ops.append(op)
    return ops


def random_judge(rng: random.Random) -> Judge:
    """A rule that refuses some states, and never the one that edits start from."""
    kind = rng.randrange(4)
    if kind == 0:
        kept = rng.choice(("a", "b", "c", "d"))
        return lambda before, after: kept in (before or {}) and kept not in after
    if kind == 1:
        return lambda _before, after: "e" in after
    if kind == 2:
        bad = {100 * number + part for number in range(12) for part in range(3)}
        some = {value for value in bad if rng.random() < 0.2}
        return lambda _before, after: bool(some & set(numbers(after)))
    return lambda before, after: len(after) < len(before or {})


def numbers(value: Any) -> list[int]:
    if isinstance(value, dict):
        return [number for item in value.values() for number in numbers(item)]
    return [value] if isinstance(value, int) else []


def with_folded(edits: Sequence[Change], refused: set[int]) -> set[int]:
    """The refused edits of an LWW document with those that were folded together with them.

    An edit that replaces what an earlier one has written cannot be told from it any more.
    """
    together = [{number} for number in range(len(edits))]
    writer: dict[str, int] = {}  # of each pending write
    for number, edit in enumerate(edits):
        for op in edit.ops:
            path = op["path"]
            for other in [p for p in writer if p == path or p.startswith(path + "/")]:
                union = together[number] | together[writer.pop(other)]
                for one in union:
                    together[one] = union
            writer[path] = number
    return {other for number in refused for other in together[number]}


def without_empty(state: Any) -> Any:
    return {key: value for key, value in state.items() if value != {}}


@pytest.mark.parametrize("algorithm", ["ot", "lww"])
@pytest.mark.parametrize("seed", range(60))
def test_accepted_edits_are_applied_whole(seed: int, algorithm: str) -> None:
    @virtual_time
    async def run() -> None:
        rng = random.Random(seed)
        made: list[Change] = []
        times = count(1_000_000_000_000)  # each edit has one of its own
        runtime = Runtime(wall_ms=lambda: next(times))
        async with (
            LocalServer(validate_state=rule(random_judge(rng)), routes={"*": algorithm}) as server,
            Patches(
                algorithms=[recording(ALGORITHMS[algorithm](runtime=runtime), made)]
            ) as patches,
            PatchesSync(patches, server.connection()) as sync,
        ):
            doc = await patches.open_doc("d", algorithm=algorithm)
            doc.set(START)
            await sync.settled(60)
            made.clear()
            sync.set_online(False)
            for number in range(1, rng.randrange(3, 12)):
                ops = random_ops(rng, doc.state, number)
                if ops:
                    doc.apply(ops)
                await doc.flush()
            sync.set_online(True)
            for _ in range(15):
                try:
                    await sync.settled(60)
                    break
                except ChangeRefusedError:
                    pass
            entries = await patches.list_quarantined_changes("d")
            if algorithm == "ot":
                ids = {entry.change_id for entry in entries}
                refused = {n for n, change in enumerate(made) if change.id in ids}
            else:
                at = {op["ts"] for entry in entries for op in entry.change.ops}
                refused = {n for n, change in enumerate(made) if change.ops[0]["ts"] in at}
                refused = with_folded(made, refused)
            served = await server.services[algorithm].documents.get_doc("d")
            assert served.head == doc.committed_rev
            if algorithm == "ot" and any(
                op["op"] == "move" for number in refused for op in made[number].ops
            ):
                return  # what follows the move means what stands at its source now
            expected: Any = START
            for number, change in enumerate(made):
                if number not in refused:
                    expected = apply_patch(expected, change.ops, strict=algorithm == "ot")
            # An object that was made to hold a field goes with it in LWW documents.
            assert without_empty(doc.state) == without_empty(expected), sorted(refused)

    run()
