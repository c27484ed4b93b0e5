"""Rules about content hold whatever a change is made of, under OT and LWW."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

import patches_server.lww.committer
import patches_server.ot.history
import patches_server.ot.judge
from patches import Patches, PatchesSync
from patches.errors import ChangeRefusedError, PatchesError, UnavailableError
from patches.limits import Limits
from patches.model.change import ChangeInput
from patches.testing.local_server import LocalServer
from patches_server import Review, allow_all, create_server
from patches_server.documents.context import CallContext, call_context
from patches_server.documents.rules import RuleBook

ALGORITHMS = ["ot", "lww"]


def at_most_5(review: Review) -> str | None:
    for key in ("priority", "other"):
        value = review.after.get(key, 0)
        if isinstance(value, (int, float)) and value > 5 and value > review.before.get(key, 0):
            return f"{key} is at most 5"
    return None


def ops_of(*ops: dict[str, Any]) -> list[dict[str, Any]]:
    return list(ops)


class Scene:
    """A server with one rule, and commits as a client would send them."""

    def __init__(self, algorithm: str) -> None:
        self.server = create_server(auth=allow_all, routes={"*": algorithm})
        self.documents = self.server.router.services[algorithm].documents
        branches = self.server.router.services[algorithm].branches
        assert branches is not None
        self.branches = branches
        self.count = 0

    async def commit(self, doc_id: str, *ops: dict[str, Any], base_rev: int | None = None) -> None:

        self.count += 1
        change = ChangeInput(id=f"c{self.count}", ops=list(ops), base_rev=base_rev)
        await self.documents.commit_changes(doc_id, [change])


REACHING_6 = {
    "increment": [{"op": "@inc", "path": "/priority", "value": 2}],
    "replace": [{"op": "replace", "path": "/priority", "value": 6}],
    "move": [{"op": "move", "from": "/nine", "path": "/priority"}],
    "copy": [{"op": "copy", "from": "/nine", "path": "/priority"}],
    "max": [{"op": "@max", "path": "/priority", "value": 6}],
    "in steps": [
        {"op": "@inc", "path": "/priority", "value": 1},
        {"op": "@inc", "path": "/priority", "value": 1},
    ],
}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("ops", REACHING_6.values(), ids=REACHING_6)
async def test_scenario_24_no_operation_gets_past_a_rule(
    algorithm: str, ops: list[dict[str, Any]]
) -> None:
    scene = Scene(algorithm)
    scene.server.rule("task/*")(at_most_5)
    async with scene.server as server:
        await server.edit("task/1", lambda draft: draft.update(priority=4, nine=9))
        with pytest.raises(ChangeRefusedError, match="priority is at most 5") as caught:
            await scene.commit("task/1", *ops, base_rev=1)
        assert caught.value.data is not None
        assert caught.value.data["final"]
        assert await server.read("task/1") == {"priority": 4, "nine": 9}
        await scene.commit("free/1", *ops)  # another document


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_scenario_24_edits_of_the_server_are_judged(algorithm: str) -> None:
    scene = Scene(algorithm)
    scene.server.rule("task/*")(at_most_5)
    async with scene.server as server:
        with pytest.raises(ChangeRefusedError):
            await server.edit("task/1", lambda draft: draft.update(priority=6))
        with pytest.raises(ChangeRefusedError):
            await server.ensure("task/1", {"priority": 6})
        with pytest.raises(ChangeRefusedError):
            await scene.documents.change("task/1", lambda patch: patch.replace("/priority", 6))
        assert await server.read("task/1") == {}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_scenario_24_a_merge_of_two_accepted_edits_is_judged(algorithm: str) -> None:
    def together(review: Review) -> str | None:
        total = review.after.get("a", 0) + review.after.get("b", 0)
        return "a and b are at most 5 together" if total > 5 else None

    scene = Scene(algorithm)
    scene.server.rule("task/*")(together)
    async with scene.server as server:
        await server.edit("task/1", lambda draft: draft.update(a=0, b=0))
        branch = await scene.branches.create_branch("task/1", 1, {"id": "task/1-branch"})
        await server.edit(branch, lambda draft: draft.update(a=3))
        await server.edit("task/1", lambda draft: draft.update(b=3))
        with pytest.raises(PatchesError, match="together"):
            await scene.branches.merge_branch(branch)
        assert await server.read("task/1") == {"a": 0, "b": 3}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_a_branch_may_not_begin_with_what_its_id_forbids(algorithm: str) -> None:
    scene = Scene(algorithm)
    scene.server.rule("task/*")(at_most_5)
    async with scene.server as server:
        await server.edit("draft", lambda draft: draft.update(priority=9))
        with pytest.raises(ChangeRefusedError):
            await scene.branches.create_branch("draft", 1, {"id": "task/2"})
        assert await server.read("task/2") == {}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_scenario_25_a_document_that_breaks_a_later_rule_is_mended_in_steps(
    algorithm: str,
) -> None:
    scene = Scene(algorithm)
    async with scene.server as server:
        await server.edit("task/1", lambda draft: draft.update(priority=9, other=9))
        server.rule("task/*")(at_most_5)
        await server.edit("task/1", lambda draft: draft.update(priority=3))
        with pytest.raises(ChangeRefusedError):
            await server.edit("task/1", lambda draft: draft.update(other=10))
        await server.edit("task/1", lambda draft: draft.update(other=7))
        assert await server.read("task/1") == {"priority": 3, "other": 7}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_a_refused_change_is_in_its_authors_quarantine(algorithm: str) -> None:
    async with LocalServer(routes={"*": algorithm}) as local, Patches() as patches:
        local.server.rule("task/*")(at_most_5)
        async with PatchesSync(patches, local.connection()) as sync:
            doc = await patches.open_doc("task/1", algorithm=algorithm)
            doc.change(lambda draft: draft.update(priority=6))
            with pytest.raises(ChangeRefusedError):
                await sync.settled(timeout=5)
            (held,) = await patches.list_quarantined_changes("task/1")
            assert "priority is at most 5" in held.reason
            doc.change(lambda draft: draft.update(priority=5))
            await sync.settled(timeout=5)
            assert await local.server.read("task/1") == {"priority": 5}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_a_review_says_who_what_and_between_which_states(algorithm: str) -> None:
    scene, seen = Scene(algorithm), []

    async def watch(review: Review) -> None:
        await asyncio.sleep(0)
        seen.append((review.doc_id, review.principal, review.author, review.before, review.after))

    scene.server.rule("*")(watch)
    async with scene.server as server:
        await server.edit("d", lambda draft: draft.update(a=1), author="ann")
        with call_context(CallContext(principal="bob")):
            await scene.commit("d", {"op": "replace", "path": "/a", "value": 2}, base_rev=1)
    assert seen == [("d", None, "ann", {}, {"a": 1}), ("d", "bob", None, {"a": 1}, {"a": 2})]


async def test_a_rule_that_fails_or_is_slow_accepts_nothing() -> None:
    def breaks(review: Review) -> None:
        raise KeyError("no such thing")

    async def hangs(review: Review) -> None:
        await asyncio.sleep(60)

    for rule in (breaks, hangs):
        server = create_server(auth=allow_all, limits=Limits(hook_timeout_s=0.01))
        server.rule("*")(rule)
        async with server:
            with pytest.raises(UnavailableError) as caught:
                await server.edit("d", lambda draft: draft.update(a=1))
            assert caught.value.data == {"reason": "VALIDATION"}
            assert await server.read("d") == {}


def test_rules_are_found_by_pattern() -> None:
    book = RuleBook(timeout_s=1)
    assert book.rules_of("task/1") == ()
    book.add("task/*", at_most_5)
    assert book.rules_of("task/1") == (at_most_5,)
    assert book.rules_of("tusk/1") == ()
    assert book.reviewer("tusk/1", CallContext()) is None


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("seed", range(12))
async def test_nothing_brings_a_state_past_a_rule(algorithm: str, seed: int) -> None:
    """Random operations, moves, copies, branches and merges; the states that rules see are true."""
    rng = random.Random(seed)  # to be repeated
    scene = Scene(algorithm)
    states: dict[str, Any] = {}

    def within(value: Any) -> bool:
        return all(
            not isinstance(each, (int, float)) or each <= 5
            for each in (value.values() if isinstance(value, dict) else ())
        )

    def rule(review: Review) -> str | None:
        if not isinstance(review.after, dict):
            return "an object, please"
        return None if within(review.after.get("in")) else "at most 5"

    scene.server.rule("d*")(rule)
    async with scene.server as server:
        await server.ensure("d", {"in": {"a": 1}, "out": {"big": 50}, "n": 0})
        docs = ["d"]
        for step in range(60):
            doc_id = rng.choice(docs)
            _, rev = await scene.documents.read(doc_id)
            base_rev = max(1, rev - rng.randrange(3))
            try:
                if rng.random() < 0.1 and len(docs) < 4:
                    docs.append(
                        await scene.branches.create_branch("d", rev, {"id": f"d{step}"})
                        if doc_id == "d"
                        else doc_id
                    )
                elif rng.random() < 0.15 and doc_id != "d":
                    await scene.branches.merge_branch(doc_id)
                else:
                    await scene.commit(doc_id, *random_ops(rng), base_rev=base_rev)
            except PatchesError:
                pass
            for each in docs:
                states[each] = await server.read(each)
                assert within(states[each].get("in")), (seed, step, states)
        assert await fresh_state(scene, "d") == states["d"]


async def fresh_state(scene: Scene, doc_id: str) -> Any:
    """The state as a server that has kept nothing reads it."""
    scene.documents._committer.forget(doc_id)  # type: ignore[attr-defined]  # both have one
    return (await scene.documents.read(doc_id))[0]


def random_ops(rng: random.Random) -> list[dict[str, Any]]:
    paths = ["/in/a", "/in/b", "/in", "/out/big", "/out", "/n", "/in/c"]
    ops: list[dict[str, Any]] = []
    for _ in range(rng.randint(1, 3)):
        path, value = rng.choice(paths), rng.choice([1, 4, 6, {"a": 3}, {"a": 9}])
        source = rng.choice(paths)
        ops.append(
            rng.choice(
                [
                    {"op": "replace", "path": path, "value": value},
                    {"op": "add", "path": path, "value": value},
                    {"op": "@inc", "path": path, "value": rng.randint(1, 4)},
                    {"op": "@max", "path": path, "value": rng.randint(1, 9)},
                    {"op": "move", "from": source, "path": path},
                    {"op": "copy", "from": source, "path": path},
                    {"op": "remove", "path": path},
                ]
            )
        )
    return ops


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_scenario_26_states_are_built_for_rules_alone_and_once(
    algorithm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: dict[str, int] = {"loads": 0, "applies": 0}

    def counted(module: Any, name: str, key: str) -> None:
        real = getattr(module, name)

        def count(*args: Any, **options: Any) -> Any:
            made[key] += 1
            return real(*args, **options)

        monkeypatch.setattr(module, name, count)

    if algorithm == "ot":
        counted(patches_server.ot.judge, "apply_patch", "applies")
        counted(patches_server.ot.history.OTHistory, "state_at", "loads")
    else:
        counted(patches_server.lww.committer, "state_after", "applies")
        counted(patches_server.lww.committer, "state_of", "loads")
    scene = Scene(algorithm)
    scene.server.rule("task/*")(at_most_5)
    async with scene.server as server:
        for doc_id in ("free", "task/1"):
            await server.ensure(doc_id, {"priority": 1})
            await scene.commit(doc_id, {"op": "replace", "path": "/n", "value": 0}, base_rev=1)
        made.update(loads=0, applies=0)
        for rev in range(2, 7):
            await scene.commit("free", {"op": "replace", "path": "/n", "value": 1}, base_rev=rev)
        assert made == {"loads": 0, "applies": 0}
        for rev in range(2, 7):
            await scene.commit("task/1", {"op": "replace", "path": "/n", "value": 1}, base_rev=rev)
        assert made == {"loads": 0, "applies": 5}
