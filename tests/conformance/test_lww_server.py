"""The recorded server traces of `docs/internals/lww.md`, every one, over both stores."""

from __future__ import annotations

import json
import random
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from patches.errors import DocDeletedError, PatchesError
from patches.json_patch import JSONPatch
from patches.model.change import Change, ChangeInput, Snapshot
from patches.model.ids import base62
from patches.model.json_values import Json, Op, json_equal
from patches.runtime import Runtime
from patches.stores.sqlite.database import SqliteDatabase
from patches_server.documents.context import CallContext, call_context
from patches_server.documents.records import CommitOptions, ListVersionsOptions
from patches_server.lww import LWWBranchManager, LWWServer
from patches_server.lww.commit import LWW_OPS
from patches_server.lww.store import LWWServerStore
from patches_server.lww.stores.memory import LWWMemoryServerStore
from patches_server.lww.stores.sqlite import LWWSqliteServerStore
from patches_server.stores.sqlite.branches import SqliteBranches
from patches_server.stores.sqlite.checksums import SUMS_SCHEMA
from patches_server.stores.sqlite.documents import DOCUMENTS_SCHEMA
from patches_server.stores.sqlite.versions import SqliteVersions
from tests.support.conformance import Case, ConformanceTally, conformance_dir, recorded_method

HERE: Final = Path(__file__).parent
MINTED: Final = "<minted>"
MINTED_VERSION: Final = "<minted-version>"
RETENTION: Final = 30 * 86_400_000


@dataclass
class World:
    """One trace's server over one store, with a clock that the steps set."""

    store: LWWServerStore
    clock: list[int]
    events: list[dict[str, Any]] = field(default_factory=list)
    deleted: set[str] = field(default_factory=set)
    docs: set[str] = field(default_factory=set)
    revs: dict[str, int] = field(default_factory=dict)

    def start(self, options: Mapping[str, Any]) -> None:
        runtime = Runtime(wall_ms=lambda: self.clock[0], random=random.Random(1))
        ttl = {"change_id_ttl": options["changeIdTTL"]} if "changeIdTTL" in options else {}
        self.server = LWWServer(self.store, runtime=runtime, **ttl)
        self.manager = LWWBranchManager(self.server, runtime=runtime)
        self.server.on_changes_committed(self._committed)
        self.server.on_doc_deleted(
            lambda doc_id, origin: self.events.append(
                {"event": "docDeleted", "docId": doc_id, **without_none(clientId=origin)}
            )
        )

    def _committed(
        self,
        doc_id: str,
        changes: Sequence[Change],
        options: CommitOptions | None,
        origin: str | None,
    ) -> None:
        self.events.append(
            {
                "event": "changesCommitted",
                "docId": doc_id,
                "changes": [change.to_wire() for change in changes],
                **without_none(options=options and options.to_wire(), clientId=origin),
            }
        )

    async def call(self, step: Case) -> Json:
        method = recorded_method(self, step["call"])
        return await method(*step["args"])

    async def do_get_doc(self, doc_id: str, options: Any = None) -> Json:
        rev = (options or {}).get("rev")
        return snapshot_wire(await self.server.get_doc(doc_id, rev=rev))

    async def do_get_changes_since(self, doc_id: str, rev: int) -> Json:
        return [change.to_wire() for change in await self.server.get_changes_since(doc_id, rev)]

    async def do_commit_changes(self, doc_id: str, changes: Any, options: Any = None) -> Json:
        inputs = [ChangeInput.from_wire(change) for change in changes]
        given = None if options is None else CommitOptions.from_wire(options)
        result = await self.server.commit_changes(doc_id, inputs, given)
        return {"changes": [change.to_wire() for change in result.changes]}

    async def do_change(self, doc_id: str, ops: list[Op], metadata: Any = None) -> Json:
        change = await self.server.change(doc_id, lambda patch: build(patch, ops), metadata)
        return change and change.to_wire()

    async def do_delete_doc(self, doc_id: str, options: Any = None) -> None:
        skip = bool((options or {}).get("skipTombstone"))
        await self.server.delete_doc(doc_id, skip_tombstone=skip)
        if not skip:
            self.deleted.add(doc_id)

    async def do_undelete_doc(self, doc_id: str) -> Json:
        self.deleted.discard(doc_id)
        return await self.server.undelete_doc(doc_id)

    async def do_capture_current_version(self, doc_id: str, metadata: Any = None) -> Json:
        return await self.server.capture_current_version(doc_id, metadata)

    async def do_create_branch(self, doc_id: str, rev: int, metadata: Any = None) -> Json:
        return await self.manager.create_branch(doc_id, rev, metadata)

    async def do_merge_branch(self, branch_id: str) -> Json:
        return [change.to_wire() for change in await self.manager.merge_branch(branch_id)]

    async def do_list_branches(self, doc_id: str, options: Any = None) -> Json:
        since = (options or {}).get("since")
        branches = await self.manager.list_branches(doc_id, since=since)
        return [branch.to_wire() for branch in branches]

    async def do_update_branch(self, branch_id: str, metadata: Any) -> None:
        await self.manager.update_branch(branch_id, metadata)

    async def do_delete_branch(self, branch_id: str) -> None:
        await self.manager.delete_branch(branch_id)

    async def do_get_source_doc_id(self, branch_id: str) -> Json:
        return await self.manager.get_source_doc_id(branch_id)

    async def do_store_save_snapshot(self, doc_id: str, state: Json, rev: int) -> None:
        await self.store.save_snapshot(doc_id, json.dumps(state).encode(), rev, now=self.clock[0])

    async def do_store_seen_change_ids(self, doc_id: str, ids: list[str]) -> Json:
        loaded = await self.store.load_rows(doc_id, now=self.clock[0], paths=(), change_ids=ids)
        return [change_id for change_id in ids if change_id in loaded.seen]

    async def do_store_get_tombstone(self, doc_id: str) -> Json:
        stone = await self.store.get_tombstone(doc_id)
        if stone is None:
            return None
        return {
            "docId": stone.doc_id,
            "deletedAt": stone.deleted_at,
            "lastRev": stone.last_rev,
            **without_none(deletedByClientId=stone.deleted_by_client_id),
        }

    async def do_store_list_versions(self, doc_id: str, options: Any = None) -> Json:
        assert self.store.versions is not None
        chosen = ListVersionsOptions(**(options or {}))
        return [v.to_wire() for v in await self.store.versions.list_versions(doc_id, chosen)]

    async def stored(self, doc_id: str) -> Json:
        """What the trace shows of a document after a step."""
        try:
            loaded = await self.store.load_rows(doc_id, now=self.clock[0])
        except DocDeletedError:
            return None
        if not loaded.rev and loaded.snapshot is None:
            return None
        shown: dict[str, Json] = {
            "rev": loaded.rev,
            "ops": [row.op for row in loaded.rows if not row.hidden],
        }
        if loaded.snapshot is not None:
            state = json.loads(loaded.snapshot.state)
            shown["snapshot"] = {"state": state, "rev": loaded.snapshot.rev}
        return shown


def build(patch: JSONPatch, ops: Sequence[Op]) -> None:
    for op in ops:
        patch.ops.append(dict(op))


def snapshot_wire(snapshot: Snapshot) -> Json:
    return {
        "state": snapshot.state,
        "rev": snapshot.rev,
        "changes": [change.to_wire() for change in snapshot.changes],
    }


def without_none(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def matches(got: Json, expected: Json, step: Case, minted_rev: int | None = None) -> bool:
    """Equal as JSON, with `expected`'s placeholders for ids that the server makes up."""
    if isinstance(expected, dict):
        return (
            isinstance(got, dict)
            and got.keys() == expected.keys()
            and all(
                is_minted(got, value, step, minted_rev)
                if value in (MINTED, MINTED_VERSION)
                else matches(got[key], value, step, minted_rev)
                for key, value in expected.items()
            )
        )
    if isinstance(expected, list):
        return (
            isinstance(got, list)
            and len(got) == len(expected)
            and all(matches(a, b, step, minted_rev) for a, b in zip(got, expected, strict=True))
        )
    if expected == MINTED_VERSION:
        return is_minted({"id": got, "startedAt": step["now"]}, expected, step, minted_rev)
    return json_equal(got, expected)


def is_minted(record: Json, kind: str, step: Case, minted_rev: int | None) -> bool:
    """Whether an id was made as its kind is: after a merge, for a revision of the branch."""
    if kind == MINTED_VERSION:
        pattern = base62(record["startedAt"]).rjust(8, "0") + "[0-9A-Za-z]{8}"
    elif step["call"] == "mergeBranch":
        pattern = "[0-9A-Za-z]+[0-9A-Za-z]{4}"
    else:
        rev = record["rev"] if minted_rev is None else minted_rev
        pattern = base62(rev) + "[0-9A-Za-z]{4}"
    return isinstance(record["id"], str) and bool(re.fullmatch(pattern, record["id"]))


def ends_before(world: World, step: Case) -> bool:
    """Whether a step is one that ours refuses or leaves out, by the README's rules."""
    doc_id = step["args"][0] if step["args"] else None
    if step["call"] in ("commitChanges", "change") and doc_id in world.deleted:
        return True
    if step["call"] == "commitChanges":
        names = {op["op"] for change in step["args"][1] for op in change["ops"]}
        if not names <= LWW_OPS - {"@txt"}:
            return True
    if step["call"] in ("commitChanges", "change", "mergeBranch") and not step["events"]:
        before = world.revs
        return any(
            shown is not None and shown["rev"] > before.get(name, 0)
            for name, shown in step.get("store", {}).items()
        )
    return False


async def play(world: World, trace: Case) -> tuple[int, bool]:
    """Run a trace; how many steps were compared, and whether it ended early."""
    world.start(trace.get("serverOptions") or {})
    for index, step in enumerate(trace["steps"]):
        if ends_before(world, step):
            return index + 1, True
        await play_step(world, trace, index)
    return len(trace["steps"]), False


async def play_step(world: World, trace: Case, index: int) -> None:
    step = trace["steps"][index]
    where = f"{trace['name']}, step {index} ({step['call']})"
    world.clock[0] = step["now"]
    world.events.clear()
    doc_id = step["args"][0] if step["args"] else ""
    client = step.get("clientId")
    error: PatchesError | None = None
    result = None
    with call_context(CallContext(client_id=client, connection_id=client)):
        try:
            result = await world.call(step)
        except PatchesError as exc:
            error = exc
    if step["call"] in ("getDoc", "getChangesSince") and doc_id in world.deleted:
        assert isinstance(error, DocDeletedError), where
    elif "error" in step:
        assert error is not None, where
        assert str(error) == step["error"]["message"], where
        assert error.code == step["error"].get("code"), where
    else:
        assert error is None, f"{where}: {error!r}"
        assert matches(result, step["result"], step), f"{where}:\n{result}\n{step['result']}"
    minted_rev = result["rev"] if step["call"] == "change" and result else None
    events = [without_delete_options(event) for event in step["events"]]
    assert matches(world.events, events, step, minted_rev), f"{where}: {world.events}"
    for name, expected in step.get("store", {}).items():
        got = await world.stored(name)
        assert matches(got, expected, step), f"{where}, {name}:\n{got}\n{expected}"
        world.revs[name] = expected["rev"] if expected else 0


def without_delete_options(event: dict[str, Any]) -> dict[str, Any]:
    """Our signal of a deletion does not repeat the caller's options."""
    if event["event"] != "docDeleted":
        return event
    return {key: value for key, value in event.items() if key != "options"}


def traces() -> list[Case]:
    path = conformance_dir("lww", default=HERE) / "server-traces.json"
    found: list[Case] = json.loads(path.read_text(encoding="utf-8"))["traces"]
    return found


@asynccontextmanager
async def memory_store(keeps_change_ids: bool, _clock: object) -> AsyncIterator[LWWServerStore]:
    yield LWWMemoryServerStore(keeps_change_ids=keeps_change_ids)


@asynccontextmanager
async def sqlite_store(keeps_change_ids: bool, clock: list[int]) -> AsyncIterator[LWWServerStore]:
    runtime = Runtime(wall_ms=lambda: clock[0])
    database = SqliteDatabase(":memory:", runtime=runtime)
    database.add_schema(SUMS_SCHEMA)
    database.add_schema(DOCUMENTS_SCHEMA)
    store = LWWSqliteServerStore(
        database,
        SqliteVersions(database, runtime=runtime),
        SqliteBranches(database),
        runtime=runtime,
    )
    store.keeps_change_ids = keeps_change_ids
    try:
        yield store
    finally:
        await database.close()


@asynccontextmanager
async def compacting_store(
    keeps_change_ids: bool, clock: list[int]
) -> AsyncIterator[LWWServerStore]:
    """A store that is compacted before every read, as far as retention allows."""
    async with memory_store(keeps_change_ids, clock) as store:
        load = store.load_rows

        async def load_compacted(doc_id: str, **options: Any) -> Any:
            await store.drop_removals(doc_id, stored_before=clock[0] - RETENTION, limit=1_000)
            return await load(doc_id, **options)

        store.load_rows = load_compacted  # type: ignore[method-assign]  # the fake of this test
        yield store


STORES: Final[dict[str, Callable[..., Any]]] = {
    "memory": memory_store,
    "sqlite": sqlite_store,
    "compacting": compacting_store,
}


@pytest.mark.parametrize("kind", STORES)
async def test_recorded_server_traces(kind: str, conformance: ConformanceTally) -> None:
    failures, early, steps = [], 0, 0
    cases = traces()
    for trace in cases:
        clock = [0]
        keeps = trace.get("seenChangeIds") is not False
        async with STORES[kind](keeps, clock) as store:
            try:
                played, ended = await play(World(store, clock), trace)
            except AssertionError as exc:
                failures.append(str(exc))
                continue
            steps += played
            early += ended
    note = f"{steps} steps, {early} traces ended early where ours differs"
    conformance.record(f"lww server ({kind})", len(cases), note, failures=len(failures))
    assert not failures, f"{len(failures)} of {len(cases)} traces:\n" + "\n".join(failures[:10])
