"""The recorded server traces of `docs/internals/ot.md` 13-19, every one, over both stores."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import pytest

from patches.algorithms.ot import apply_changes
from patches.errors import ApplyChangesError, DocDeletedError, PatchesError, RevConflictError
from patches.json_patch import JSONPatch
from patches.json_patch.text_values import without_empty_text_parts
from patches.model import codec
from patches.model.change import Change, ChangeInput, Snapshot
from patches.model.json_values import Json, Op, json_equal
from patches.runtime import Runtime
from patches.stores.sqlite.database import SqliteDatabase
from patches_server.documents.context import CallContext, call_context
from patches_server.documents.records import (
    Branch,
    CommitOptions,
    ListVersionsOptions,
    Tombstone,
    Version,
)
from patches_server.ot import (
    ContentDuplicationGuard,
    OTBranchManager,
    OTServer,
    PatchesHistoryManager,
)
from patches_server.ot.stores.memory import OTMemoryServerStore
from patches_server.ot.stores.sqlite import OTSqliteServerStore
from patches_server.stores.sqlite.branches import SqliteBranches
from patches_server.stores.sqlite.checksums import SUMS_SCHEMA, change_sums
from patches_server.stores.sqlite.documents import DOCUMENTS_SCHEMA
from patches_server.stores.sqlite.versions import VERSIONS, SqliteVersions
from tests.conformance.ties import record_ties, recorded_ties
from tests.support.conformance import (
    Case,
    ConformanceTally,
    conformance_dir,
    load_cases,
    recorded_method,
)

HERE: Final = Path(__file__).parent
FILES: Final = ("server_scripted", "server_random")

_SERVER_OPTIONS: Final = {
    "sessionTimeoutMinutes": "session_timeout_minutes",
    "maxChangesPerVersion": "max_changes_per_version",
}
_BRANCH_FIELDS: Final = {
    "branchedAtRev": "branched_at_rev",
    "lastMergedRev": "last_merged_rev",
    "mergeBaseRev": "merge_base_rev",
    "contentStartRev": "content_start_rev",
}
_LIST_OPTIONS: Final = {
    "startAfter": "start_after",
    "endBefore": "end_before",
    "limit": "limit",
    "orderBy": "order_by",
    "reverse": "reverse",
    "origin": "origin",
    "groupId": "group_id",
}


class Names:
    """The ids that the recording and this run made up, matched at their first meeting."""

    def __init__(self) -> None:
        self._bound: dict[str, str] = {}

    def matches(self, got: Json, expected: Json) -> bool:
        if isinstance(expected, str) and expected.startswith("$id"):
            if not isinstance(got, str):
                return False
            if expected not in self._bound:
                if got in self._bound.values():
                    return False
                self._bound[expected] = got
            return self._bound[expected] == got
        if isinstance(expected, str) and isinstance(got, str):
            return bool(got == self.filled(expected))
        if isinstance(expected, dict):
            return (
                isinstance(got, dict)
                and got.keys() == expected.keys()
                and all(self.matches(got[key], value) for key, value in expected.items())
            )
        if isinstance(expected, list):
            return (
                isinstance(got, list)
                and len(got) == len(expected)
                and all(self.matches(a, b) for a, b in zip(got, expected, strict=True))
            )
        return json_equal(got, expected)

    def filled(self, value: Json) -> Json:
        """A recorded value with our ids in it."""
        if isinstance(value, str):
            if "$id" in value:
                # the longest first: `$id1` is the beginning of `$id12`
                for name in sorted(self._bound, key=len, reverse=True):
                    value = value.replace(name, self._bound[name])
            return value
        if isinstance(value, list):
            return [self.filled(item) for item in value]
        if isinstance(value, dict):
            return {key: self.filled(item) for key, item in value.items()}
        return value


class Faults:
    """The faults of one step, put before the calls of a store."""

    def __init__(self) -> None:
        self.planned: list[Case] = []
        self._calls: dict[tuple[str, str], int] = {}

    def plan(self, faults: Sequence[Case]) -> None:
        self.planned = list(faults)
        self._calls.clear()

    async def before(self, store: Any, method: str, doc_id: str) -> None:
        nth = self._calls[method, doc_id] = self._calls.get((method, doc_id), 0) + 1
        for fault in self.planned:
            if (fault["method"], fault["docId"]) != (method, doc_id):
                continue
            if fault.get("nth") not in (None, nth):
                continue
            if fault["do"] == "throw":
                if fault.get("error") == "RevConflictError":
                    raise RevConflictError
                raise RuntimeError(fault["message"])
            changes = [Change.from_wire(change) for change in fault["changes"]]
            head = await store.get_head(doc_id)
            await store.save_changes(doc_id, changes, expected=head, now=0)


class FaultyStore:
    """A store that passes everything on, after the faults of the step."""

    def __init__(self, store: Any, faults: Faults) -> None:
        self._store = store
        self._faults = faults
        self.branches = FaultyBranches(store.branches, faults)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def save_changes(self, doc_id: str, changes: Any, **options: Any) -> None:
        await self._faults.before(self._store, "saveChanges", doc_id)
        await self._store.save_changes(doc_id, changes, **options)


class FaultyBranches:
    def __init__(self, branches: Any, faults: Faults) -> None:
        self._branches = branches
        self._faults = faults

    def __getattr__(self, name: str) -> Any:
        return getattr(self._branches, name)

    async def update_branch_if(self, branch_id: str, fields: Any, expected: Any) -> bool:
        await self._faults.before(self._branches, "updateBranchIf", branch_id)
        updated: bool = await self._branches.update_branch_if(branch_id, fields, expected)
        return updated


@dataclass
class World:
    """One trace's server over one store, with a clock that the steps set."""

    bare_store: Any
    clock: list[int]
    set_version: Callable[..., Any]
    events: list[Json] = field(default_factory=list)
    skipped: list[Json] = field(default_factory=list)
    deleted: set[str] = field(default_factory=set)
    branch_sources: dict[str, str] = field(default_factory=dict)
    pruned: dict[str, dict[int, str]] = field(
        default_factory=dict
    )  # a recording's versions have them
    committed: dict[tuple[str, str], Change] = field(default_factory=dict)
    names: Names = field(default_factory=Names)
    faults: Faults = field(default_factory=Faults)

    def start(self, config: Mapping[str, Any]) -> None:
        runtime = Runtime(wall_ms=lambda: self.clock[0], random=random.Random(1))
        self.store = FaultyStore(self.bare_store, self.faults)
        options = {name: config[key] for key, name in _SERVER_OPTIONS.items() if key in config}
        self.server = OTServer(self.store, runtime=runtime, **options)
        self.server.on_changes_committed(self._committed)
        self.server.on_doc_deleted(
            lambda doc_id, origin: self.events.append(
                {"type": "docDeleted", "docId": doc_id, **without_none(originClientId=origin)}
            )
        )
        self.history = PatchesHistoryManager(
            self.server,
            on_skipped_change=lambda doc_id, skipped: self.skipped.append(
                {"docId": doc_id, "changeId": skipped.change.id, "index": skipped.index}
            ),
        )
        self.branches = OTBranchManager(
            self.store,
            self.server,
            new_branch_id=iter([f"branch-{n}" for n in range(1, 100)]).__next__,
            runtime=runtime,
            **branch_options(config.get("branchOptions") or {}),
        )

    def _committed(
        self,
        doc_id: str,
        changes: Sequence[Change],
        options: CommitOptions | None,
        origin: str | None,
    ) -> None:
        self.committed.update(((doc_id, change.id), change) for change in changes)
        self.events.append(
            {
                "type": "changesCommitted",
                "docId": doc_id,
                "changes": wires(changes),
                **without_none(options=options and options.to_wire(), originClientId=origin),
            }
        )

    async def call(self, step: Case) -> Json:
        method = recorded_method(self, step["method"])
        return await method(*self.names.filled(step["args"]))

    async def do_get_doc(self, doc_id: str, options: Any = None) -> Json:
        self.snapshot = await self.server.get_doc(doc_id, rev=(options or {}).get("rev"))
        return {
            "state": self.snapshot.state,
            "rev": self.snapshot.rev,
            "changes": wires(self.snapshot.changes),
        }

    async def do_get_changes_since(self, doc_id: str, rev: int) -> Json:
        return wires(await self.server.get_changes_since(doc_id, rev))

    async def do_commit_changes(self, doc_id: str, changes: Any, options: Any = None) -> Json:
        inputs = [ChangeInput.from_wire(change) for change in changes]
        given = None if options is None else CommitOptions.from_wire(options)
        result = await self.server.commit_changes(doc_id, inputs, given)
        reload = {"docReloadRequired": True} if result.doc_reload_required else {}
        return {"changes": wires(result.changes), **reload}

    async def do_change(self, doc_id: str, ops: list[Op], metadata: Any = None) -> Json:
        def edit(patch: JSONPatch) -> None:
            patch.ops.extend(ops)

        change = await self.server.change(doc_id, edit, metadata)
        return change and change.to_wire()

    async def do_capture_current_version(self, doc_id: str, metadata: Any = None) -> Json:
        return await self.server.capture_current_version(doc_id, metadata)

    async def do_delete_doc(self, doc_id: str, options: Any = None) -> None:
        skip = bool((options or {}).get("skipTombstone"))
        await self.server.delete_doc(doc_id, skip_tombstone=skip)
        if not skip:
            self.deleted.add(doc_id)

    async def do_undelete_doc(self, doc_id: str) -> Json:
        self.deleted.discard(doc_id)
        return await self.server.undelete_doc(doc_id)

    async def do_history_list_versions(self, doc_id: str, options: Any = None) -> Json:
        return wires(await self.history.list_versions(doc_id, list_options(options)))

    async def do_history_create_version(self, doc_id: str, metadata: Any = None) -> Json:
        return await self.history.create_version(doc_id, metadata)

    async def do_history_update_version(self, doc_id: str, version_id: str, metadata: Any) -> None:
        await self.history.update_version(doc_id, version_id, metadata)

    async def do_history_get_version_state(self, doc_id: str, version_id: str) -> Json:
        return codec.decode(await self.history.get_version_state(doc_id, version_id))

    async def do_history_get_version_changes(self, doc_id: str, version_id: str) -> Json:
        return wires(await self.history.get_version_changes(doc_id, version_id))

    async def do_history_get_state_before_version(self, doc_id: str, version_id: str) -> Json:
        return codec.decode(await self.history.get_state_before_version(doc_id, version_id))

    async def do_branches_create_branch(self, doc_id: str, rev: int, metadata: Any = None) -> Json:
        branch_id = await self.branches.create_branch(doc_id, rev, metadata)
        self.branch_sources[branch_id] = doc_id
        return branch_id

    async def do_branches_list_branches(self, doc_id: str, options: Any = None) -> Json:
        since = (options or {}).get("since")
        return wires(await self.branches.list_branches(doc_id, since=since))

    async def do_branches_update_branch(self, branch_id: str, metadata: Any) -> None:
        await self.branches.update_branch(branch_id, metadata)

    async def do_branches_delete_branch(self, branch_id: str) -> None:
        await self.branches.delete_branch(branch_id)

    async def do_branches_get_source_doc_id(self, branch_id: str) -> Json:
        return await self.branches.get_source_doc_id(branch_id)

    async def do_branches_merge_branch(self, branch_id: str, options: Any = None) -> Json:
        guard = (options or {}).get("contentDuplicationGuard")
        changes = await self.branches.merge_branch(branch_id, content_duplication_guard=guard)
        return wires(changes)

    async def do_store_list_versions(self, doc_id: str, options: Any = None) -> Json:
        versions = await self.bare_store.versions.list_versions(doc_id, list_options(options))
        return wires(versions)

    async def do_store_load_version(self, doc_id: str, version_id: str) -> Json:
        version = await self.bare_store.versions.load_version(doc_id, version_id)
        return version and version.to_wire()

    async def do_store_load_branch(self, branch_id: str) -> Json:
        return branch_wire(await self.bare_store.branches.load_branch(branch_id))

    async def do_store_get_tombstone(self, doc_id: str) -> Json:
        stone = await self.bare_store.get_tombstone(doc_id)
        return stone and tombstone_wire(stone)

    async def do_store_set_version_state(self, doc_id: str, version_id: str, text: Any) -> None:
        version = await self.bare_store.versions.load_version(doc_id, version_id)
        await self.set_version(doc_id, version, None if text is None else text.encode())

    async def do_store_set_version_meta(self, doc_id: str, version_id: str, keys: Any) -> None:
        version = await self.bare_store.versions.load_version(doc_id, version_id)
        state = await self.bare_store.versions.load_version_state(doc_id, version_id)
        wire = {**version.to_wire(), **keys}
        kept = {key: value for key, value in wire.items() if value is not None}
        await self.set_version(doc_id, Version.from_wire(kept), state)

    async def do_store_delete_changes_through(self, doc_id: str, rev: int) -> None:
        gone = await self.bare_store.list_changes(doc_id, end_before=rev + 1)
        self.pruned[doc_id] = {change.rev: change.id for change in gone}
        await self.bare_store.prune_changes(doc_id, through_rev=rev)

    async def do_store_set_branch(self, branch_id: str, keys: Mapping[str, Json]) -> None:
        branch = await self.bare_store.branches.load_branch(branch_id)
        fields = {_BRANCH_FIELDS[key]: value for key, value in keys.items()}
        await self.bare_store.branches.create_branch(replace(branch, **fields))


def branch_options(recorded: Mapping[str, Any]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for key, name in (
        ("maxPayloadBytes", "max_payload_bytes"),
        ("maxChangesPerMerge", "max_changes_per_merge"),
        ("maxBytesPerMergeWindow", "max_bytes_per_merge_window"),
    ):
        if key in recorded:
            options[name] = recorded[key]
    guard = recorded.get("contentDuplicationGuard")
    if guard is not None:
        options["content_duplication_guard"] = ContentDuplicationGuard(
            action=guard["action"], min_length=guard.get("minLength", 64)
        )
    return options


def list_options(recorded: Mapping[str, Any] | None) -> ListVersionsOptions:
    return ListVersionsOptions(**{_LIST_OPTIONS[k]: v for k, v in (recorded or {}).items()})


def wires(records: Sequence[Any]) -> list[Json]:
    return [record.to_wire() for record in records]


def branch_wire(branch: Branch | None) -> Json:
    if branch is None:
        return None
    return branch.to_wire(with_frame=not branch.deleted)


def tombstone_wire(stone: Tombstone) -> Json:
    return {
        "docId": stone.doc_id,
        "deletedAt": stone.deleted_at,
        "lastRev": stone.last_rev,
        **without_none(deletedByClientId=stone.deleted_by_client_id),
    }


def without_none(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def ends_trace(world: World, step: Case) -> bool:
    """Whether the trace cannot be followed beyond here, by the README's rules."""
    doc_id = step["args"][0] if step["args"] else ""
    if stored_something(step) and concerned_doc(world, step) in world.deleted:
        return True
    if step["method"] != "commitChanges":
        return False
    if any(without_empty_text_parts(c["ops"]) is not c["ops"] for c in step["args"][1]):
        return True
    return any(sent_again(world, step, doc_id, change) for change in step["args"][1])


def sent_again(world: World, step: Case, doc_id: str, change: Case) -> bool:
    """Whether a change is one that was committed for another connection (Identity and echo)."""
    found = world.committed.get((doc_id, change["id"]))
    if found is None or not (change.get("baseRev") or 0) > 0:
        return False
    sender, sent_at = step.get("clientId") or change.get("clientId"), change.get("createdAt") or 0
    if sender is None or found.client_id is None or sender == found.client_id:
        return False
    return not sent_at or found.created_at == min(sent_at, found.committed_at)


def stored_something(step: Case) -> bool:
    return any(event["type"] == "changesCommitted" for event in step.get("events") or ())


def concerned_doc(world: World, step: Case) -> str:
    """The document that a step reads or writes, as far as tombstones go."""
    doc_id: str = step["args"][0] if step["args"] else ""
    if step["method"] in ("getDoc", "getChangesSince", "commitChanges", "change"):
        return doc_id
    return world.branch_sources.get(doc_id, "") if step["method"].endswith("mergeBranch") else ""


async def play(world: World, trace: Case) -> tuple[int, bool]:
    """Run a trace; how many of its steps ours answers by its own rules, and if one ended it."""
    world.start(trace["config"])
    differing = 0
    for index, step in enumerate(trace["steps"]):
        if ends_trace(world, step):
            return differing + 1, True
        where = f"{trace['name']}, step {index} ({step['method']})"
        differing += await play_step(world, step, where)
    await check_final(world, trace["final"], f"{trace['name']}, at the end")
    return differing, False


async def play_step(world: World, step: Case, where: str) -> bool:
    """Run one step; whether ours answers it with its own rule."""
    world.clock[0] = step["now"]
    world.events.clear()
    world.skipped.clear()
    world.faults.plan(world.names.filled(step.get("inject") or []))
    client = step.get("clientId")
    error: Exception | None = None
    result = None
    with call_context(CallContext(client_id=client, connection_id=client)):
        try:
            result = await world.call(step)
        except (PatchesError, RuntimeError) as exc:
            error = exc
    if concerned_doc(world, step) in world.deleted:
        assert isinstance(error, DocDeletedError), f"{where}: {result}, {error!r}"
        assert not world.events, where
        return True
    if "error" in step:
        check_error(world, error, step["error"], where)
    else:
        assert error is None, f"{where}: {error!r}"
        expected = step["result"]
        assert world.names.matches(result, expected), f"{where}:\n{result}\n{expected}"
    events = [without_delete_options(event) for event in step.get("events") or []]
    assert world.names.matches(world.events, events), f"{where}:\n{world.events}\n{events}"
    if "materialized" in step or "materializeError" in step:
        check_materialized(world, step, where)
    if "skipped" in step:
        assert world.names.matches(world.skipped, step["skipped"]), f"{where}: {world.skipped}"
    return False


def check_error(world: World, error: Exception | None, expected: Case, where: str) -> None:
    assert error is not None, f"{where}: nothing raised, expected {expected}"
    assert str(error) == world.names.filled(expected["message"]), where
    assert getattr(error, "code", None) == expected.get("code"), f"{where}: {error!r}"
    data = getattr(error, "data", None)
    assert world.names.matches(data, expected.get("data")), f"{where}: {data}"
    for name, value in (expected.get("fields") or {}).items():
        attribute = "".join(f"_{c.lower()}" if c.isupper() else c for c in name)
        got = getattr(error, attribute)
        if name == "committedChanges":
            got = wires(got)
        got = list(got) if isinstance(got, tuple) else got
        assert world.names.matches(got, value), f"{where}: {name} is {got}"


def check_materialized(world: World, step: Case, where: str) -> None:
    snapshot: Snapshot = world.snapshot
    if "materializeError" in step:
        with pytest.raises(ApplyChangesError) as raised:
            apply_changes(snapshot.state, snapshot.changes)
        assert str(raised.value) == step["materializeError"]["message"], where
        return
    state = apply_changes(snapshot.state, snapshot.changes)
    assert world.names.matches(state, step["materialized"]), where


async def check_final(world: World, final: Case, where: str) -> None:
    store = world.bare_store
    for doc_id, expected in final["docs"].items():
        if doc_id in world.deleted:
            continue
        changes = wires(await store.list_changes(doc_id))
        assert world.names.matches(changes, expected["changes"]), f"{where}, {doc_id}:\n{changes}"
        listed = [
            await shown_version(store, doc_id, version, world.pruned.get(doc_id, {}))
            for version in await store.versions.list_versions(doc_id)
        ]
        versions = expected.get("versions") or []
        assert world.names.matches(listed, versions), f"{where}, {doc_id}:\n{listed}\n{versions}"
    branches = [branch_wire(await store.branches.load_branch(b["id"])) for b in final["branches"]]
    for branch in branches:
        if branch.get("mergeFrame"):
            programs = codec.decode(branch["mergeFrame"]["programs"])
            branch["mergeFrame"] = {**branch["mergeFrame"], "programs": programs}
    assert world.names.matches(branches, final["branches"]), f"{where}: {branches}"
    stones = [await store.get_tombstone(stone["docId"]) for stone in final["tombstones"]]
    shown = [stone and tombstone_wire(stone) for stone in stones]
    assert world.names.matches(shown, final["tombstones"]), f"{where}: {shown}"


async def shown_version(
    store: Any, doc_id: str, version: Version, pruned: Mapping[int, str]
) -> Json:
    state = await store.versions.load_version_state(doc_id, version.id)
    changes = await store.list_changes(
        doc_id, start_after=version.start_rev - 1, end_before=version.end_rev + 1
    )
    return {
        "metadata": version.to_wire(),
        "state": codec.decode(state) if state else None,
        "changeIds": [
            *(id for rev, id in pruned.items() if version.start_rev <= rev <= version.end_rev),
            *(change.id for change in changes),
        ],
    }


def without_delete_options(event: Case) -> Case:
    """Our signal of a deletion does not repeat the caller's options."""
    if event["type"] != "docDeleted":
        return event
    return {key: value for key, value in event.items() if key != "options"}


@asynccontextmanager
async def memory_world() -> AsyncIterator[World]:
    clock = [0]
    store = OTMemoryServerStore()

    async def set_version(doc_id: str, version: Version, state: bytes | None) -> None:
        store.versions._versions[doc_id][version.id] = (version, state)

    yield World(store, clock, set_version)


@asynccontextmanager
async def sqlite_world() -> AsyncIterator[World]:
    clock = [0]
    runtime = Runtime(wall_ms=lambda: clock[0])
    database = SqliteDatabase(":memory:", runtime=runtime)
    database.add_schema(SUMS_SCHEMA)
    database.add_schema(DOCUMENTS_SCHEMA)
    versions = SqliteVersions(database, runtime=runtime)
    store = OTSqliteServerStore(database, versions, SqliteBranches(database), runtime=runtime)

    async def set_version(doc_id: str, version: Version, state: bytes | None) -> None:
        def remove(conn: Any) -> None:
            gone = conn.execute(
                "DELETE FROM server_versions WHERE doc_id = ? AND version_id = ? RETURNING crc",
                (doc_id, version.id),
            ).fetchall()
            change_sums(conn, VERSIONS, doc_id, gone=[crc for (crc,) in gone], new=())

        await database.write(remove)
        await versions.create_version(doc_id, version, state)

    try:
        yield World(store, clock, set_version)
    finally:
        await database.close()


WORLDS: Final[dict[str, Callable[[], Any]]] = {"memory": memory_world, "sqlite": sqlite_world}


@pytest.mark.parametrize("kind", WORLDS)
@pytest.mark.parametrize("name", FILES)
async def test_recorded_server_traces(kind: str, name: str, conformance: ConformanceTally) -> None:
    failures, touched, ended, ties = [], 0, 0, 0
    traces = load_cases(conformance_dir("ot", default=HERE) / f"{name}.json")
    for trace in traces:
        async with WORLDS[kind]() as world:
            try:
                differing, ends = await play(world, trace)
            except AssertionError as exc:
                if await holds_with_recorded_ties(kind, trace):
                    ties += 1
                else:
                    failures.append(str(exc))
                continue
        touched += bool(differing)
        ended += ends
    note = f"{touched} traces touched by a rule where ours differs, {ended} of them ended by it"
    suite = f"ot {name} ({kind})"
    conformance.record(suite, len(traces), note, failures=len(failures))
    record_ties(conformance, suite, ties)
    assert not failures, f"{len(failures)} of {len(traces)} traces:\n" + "\n".join(failures[:10])


async def holds_with_recorded_ties(kind: str, trace: Case) -> bool:
    with recorded_ties():
        async with WORLDS[kind]() as world:
            try:
                await play(world, trace)
            except AssertionError:
                return False
    return True
