"""The recorded OT cases of the client's side: pure functions and client traces."""

from __future__ import annotations

import importlib
import random
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from patches.algorithms.ot import (
    OTAlgorithm,
    OTDoc,
    OversizedOp,
    SkippedChange,
    apply_changes,
    apply_changes_for_reconstruction,
    apply_committed_changes,
    break_changes,
    break_changes_into_batches,
    compute_pending_ejection,
    create_state_from_snapshot,
    rebase_changes,
    transform_incoming_changes_with_frame,
)
from patches.algorithms.ot.batching import leading_run
from patches.algorithms.ot.rebase import renumbered
from patches.algorithms.ot.receiving import reconciled
from patches.algorithms.ot.sizes import change_byte_size
from patches.algorithms.ot.stores.memory import OTMemoryStore
from patches.errors import (
    ApplyChangesError,
    ErrorContext,
    MissingChangesError,
    PatchesError,
    UnsplittableChangeError,
    UnstoredPendingError,
)
from patches.model.change import Change, QuarantinedChange, Snapshot, TrackedDoc
from patches.model.codec import decode, encode
from patches.model.ids import change_ids
from patches.model.json_values import Json, json_equal
from patches.options import DocOptions, SizeCalculator
from patches.runtime import Runtime
from patches.testing.contracts.ot_client_steps import committed_rev, drop, queued, save
from tests.conformance.ties import check_with_ties, record_ties, recorded_ties
from tests.support.conformance import (
    ConformanceTally,
    conformance_dir,
    load_cases,
    recorded_method,
)

HERE = Path(__file__).parent
SUITE = "ot-client"

Case = dict[str, Any]


def changes_of(wires: list[Case]) -> list[Change]:
    return [Change.from_wire(wire) for wire in wires]


def wire_of(value: Any) -> Json:
    """What a call gave, in the shape of the recordings."""
    match value:
        case Change():
            wire = value.to_wire()
            return {key: member for key, member in wire.items() if member is not None}
        case Snapshot():
            return {"state": value.state, "rev": value.rev, "changes": wire_of(value.changes)}
        case TrackedDoc():
            wire = {"docId": value.doc_id, "committedRev": value.committed_rev}
            return {**wire, "deleted": True} if value.deleted else wire
        case QuarantinedChange():
            return {
                "docId": value.doc_id,
                "changeId": value.change_id,
                "change": wire_of(value.change),
                "reason": value.reason,
                "quarantinedAt": value.quarantined_at,
            }
        case list() | tuple():
            return [wire_of(item) for item in value]
        case _:
            return value


class Placeholders:
    """Binds `$id1`, `$id2`, ... to the ids that this implementation made."""

    def __init__(self) -> None:
        self._bound: dict[str, str] = {}

    def matches(self, recorded: Json, got: Json, key: str = "") -> bool:
        if recorded == "$any":
            return True
        if key in ("ops", "value"):
            return json_equal(recorded, got)
        if isinstance(recorded, str) and re.fullmatch(r"\$id\d+", recorded):
            if not isinstance(got, str):
                return False
            if recorded not in self._bound and got not in self._bound.values():
                self._bound[recorded] = got
            return self._bound.get(recorded) == got
        if isinstance(recorded, str):
            return bool(self.resolved(recorded) == got)
        if isinstance(recorded, dict):
            return (
                isinstance(got, dict)
                and recorded.keys() == got.keys()
                and all(self.matches(member, got[name], name) for name, member in recorded.items())
            )
        if isinstance(recorded, list):
            return (
                isinstance(got, list)
                and len(recorded) == len(got)
                and all(map(self.matches, recorded, got))
            )
        return json_equal(recorded, got)

    def resolved(self, recorded: Json) -> Json:
        """A recorded value with the ids that were bound so far."""
        if isinstance(recorded, str):
            return re.sub(r"\$id\d+", lambda found: self._bound.get(found[0], found[0]), recorded)
        if isinstance(recorded, dict):
            return {key: self.resolved(member) for key, member in recorded.items()}
        if isinstance(recorded, list):
            return [self.resolved(item) for item in recorded]
        return recorded


def expect(recorded: Json, got: Json, what: str, ids: Placeholders | None = None) -> None:
    if not (ids or Placeholders()).matches(recorded, got):
        raise AssertionError(f"{what}:\n  recorded {recorded}\n  got      {got}")


def error_fields(error: PatchesError) -> dict[str, Json]:
    match error:
        case ApplyChangesError():
            return {"changeId": error.change_id, "rev": error.rev, "index": error.index}
        case MissingChangesError():
            return {
                "expectedRev": error.expected_rev,
                "gotRev": error.got_rev,
                "sinceRev": error.since_rev,
            }
        case UnsplittableChangeError():
            fields = {
                "docId": error.doc_id,
                "changeId": error.change_id,
                "op": error.op,
                "path": error.path,
                "bytes": error.size,
                "maxBytes": error.limit,
            }
            return {name: value for name, value in fields.items() if value is not None}
        case _:
            return {}


def check_outcome(case: Case, call: Callable[[], Json], ids: Placeholders | None = None) -> None:
    ids = ids or Placeholders()
    try:
        result = call()
    except PatchesError as error:
        check_error(case, error, ids)
        return
    if case.get("error"):
        raise AssertionError(f"recorded the error {case['error']['message']!r}, got {result}")
    expect(case["result"], result, "result", ids)


def check_error(case: Case, error: PatchesError, ids: Placeholders) -> None:
    recorded = case.get("error")
    if recorded is None:
        raise AssertionError(f"raised {error!r}, recorded {case['result']}") from error
    expect(recorded["message"], str(error), "message", ids)
    expect(recorded.get("code"), error.code, "code")
    expect(recorded.get("data"), dict(error.data) if error.data else None, "data")
    for name, value in recorded.get("fields", {}).items():
        expect(value, error_fields(error).get(name), f"error field {name}", ids)


# ---- pure functions --------------------------------------------------------------------------


def run_rebase(case: Case) -> None:
    given = case["input"]
    check_outcome(
        case,
        lambda: wire_of(
            rebase_changes(changes_of(given["serverChanges"]), changes_of(given["localChanges"]))
        ),
    )


def run_transform_incoming(case: Case) -> None:
    given = case["input"]
    own = set(given["ownCommittedIds"])

    def call() -> Json:
        result = transform_incoming_changes_with_frame(
            changes_of(given["changes"]),
            changes_of(given["committedChanges"]),
            given["currentRev"],
            force_commit=bool(given.get("forceCommit")),
            is_own_committed=(lambda change: change.id in own) if own else None,
        )
        return {
            "changes": wire_of(result.changes),
            "advancedForeign": result.advanced_foreign,
        }

    check_outcome(case, call)


def run_apply_committed(case: Case) -> None:
    given = case["input"]
    snapshot = Snapshot.from_wire(given["snapshot"])
    check_outcome(
        case,
        lambda: wire_of(apply_committed_changes(snapshot, changes_of(given["serverChanges"]))),
    )
    if case.get("view"):
        result = apply_committed_changes(snapshot, changes_of(given["serverChanges"]))
        check_outcome(case["view"], lambda: create_state_from_snapshot(result))


def run_apply(case: Case) -> None:
    state, changes = case["input"]["state"], changes_of(case["input"]["changes"])
    check_outcome(case["strict"], lambda: apply_changes(state, changes))
    if case.get("reconstruction") is None:
        return
    skipped: list[SkippedChange] = []
    options = case.get("options") or {}
    result = apply_changes_for_reconstruction(
        state,
        changes,
        on_skipped_change=skipped.append,
        legacy_text_overrun_padding=bool(options.get("legacyTextOverrunPadding")),
    )
    recorded = case["reconstruction"]
    expect(recorded["result"], result, "reconstruction")
    got = [{"id": skip.change.id, "index": skip.index} for skip in skipped]
    expect(recorded["skipped"], got, "skipped")


def run_snapshot_state(case: Case) -> None:
    check_outcome(case, lambda: create_state_from_snapshot(Snapshot.from_wire(case["input"])))


def run_ejection(case: Case) -> None:
    given = case["input"]

    def call() -> Json:
        ejection = compute_pending_ejection(
            given["committedState"],
            given["committedRev"],
            changes_of(given["pending"]),
            given["changeId"],
        )
        return ejection and {
            "poison": wire_of(ejection.ejected),
            "newPending": wire_of(ejection.new_pending),
        }

    if case.get("optional"):
        # The original fails where a true inverse exists; ours removes the change.
        ejected = call()
        left = [change["id"] for change in ejected["newPending"]]
        before = [change["id"] for change in given["pending"]]
        assert given["changeId"] not in left
        assert set(left) < set(before)
        return
    check_outcome(case, call)


def size_calculator(name: str | None) -> SizeCalculator | None:
    match name:
        case None | "none":
            return None
        case "half":
            return lambda change: change_byte_size(change) * 0.5
        case _:
            return compressed_size(name)


def compressed_size(name: str) -> SizeCalculator:
    codec = importlib.import_module("lzstring").LZString()

    def size(change: Change) -> float:
        wire = change.to_wire()
        known = ("id", "baseRev", "rev", "ops", "createdAt", "committedAt")
        ordered = {key: wire.pop(key) for key in known} | wire
        units = encode(ordered).decode().encode("utf-16-le")
        text = "".join(chr(units[at] | units[at + 1] << 8) for at in range(0, len(units), 2))
        if name.endswith("Base64"):
            return len(codec.compressToBase64(text))
        return 2 * len(codec.compress(text))

    return size


def report_wire(report: OversizedOp) -> Json:
    wire = {
        "op": report.op,
        "path": report.path,
        "bytes": report.bytes,
        "maxBytes": report.max_bytes,
        "budget": report.budget,
        "docId": report.doc_id,
        "changeId": report.change_id,
        "emitted": report.emitted,
        "reason": report.reason,
    }
    return {name: value for name, value in wire.items() if value is not None}


def run_break(case: Case) -> None:
    given = case["input"]
    changes = changes_of(given["changes"])
    calculator = size_calculator(given.get("sizeCalculator"))
    options = given.get("options")
    reports: list[OversizedOp] = []
    new_id = change_ids(random.Random(7))

    def call() -> Json:
        if case["fn"] == "breakChanges":
            rules = options or {}
            pieces = break_changes(
                changes,
                given["maxBytes"],
                calculator,
                new_id=new_id,
                max_unsplittable_bytes=rules.get("maxUnsplittableBytes"),
                doc_id=rules.get("docId"),
                budget=rules.get("budget", "storage"),
                on_oversized=reports.append,
            )
            return wire_of(pieces)
        sizes = options if isinstance(options, dict) else {"maxPayloadBytes": options}
        batches = break_changes_into_batches(
            changes,
            DocOptions(
                max_payload_bytes=sizes.get("maxPayloadBytes"),
                max_storage_bytes=sizes.get("maxStorageBytes"),
                max_unsplittable_bytes=sizes.get("maxUnsplittableBytes"),
                size_calculator=calculator,
            ),
            new_id=new_id,
            doc_id=sizes.get("docId"),
            on_oversized=reports.append,
        )
        return wire_of(batches)

    ids = Placeholders()
    check_outcome(with_escaped_paths(case), call, ids)
    got = [report_wire(report) for report in reports]
    if "ompressed" in str(given.get("sizeCalculator")):
        # A compressed size depends on the random characters of the ids.
        for recorded, report in zip(case.get("reports", []), got, strict=True):
            assert abs(recorded["bytes"] - report["bytes"]) <= 6
            report["bytes"] = recorded["bytes"]
    expect(case.get("reports", []), got, "reports", ids)


def with_escaped_paths(case: Case) -> Case:
    """A recorded split with the paths of extracted texts escaped, as ours are (README)."""
    awkward: dict[str, str] = {}
    for change in case["input"]["changes"]:
        for op in change["ops"]:
            if op["op"] in ("add", "replace"):
                collect_awkward(op.get("value"), op["path"], op["path"], awkward)
    if not awkward or not case.get("result"):
        return case

    def mended(value: Json) -> Json:
        if isinstance(value, dict):
            if value.get("op") == "@txt" and value.get("path") in awkward:
                value = {**value, "path": awkward[value["path"]]}
            return {key: mended(member) for key, member in value.items()}
        return [mended(item) for item in value] if isinstance(value, list) else value

    return {**case, "result": mended(case["result"])}


def collect_awkward(value: Json, plain: str, escaped: str, found: dict[str, str]) -> None:
    if not isinstance(value, dict):
        return
    if plain != escaped and isinstance(value.get("ops"), list):
        found[plain] = escaped
    for key, member in value.items():
        safe = key.replace("~", "~0").replace("/", "~1")
        collect_awkward(member, f"{plain}/{key}", f"{escaped}/{safe}", found)


PURE: Mapping[str, Callable[[Case], None]] = {
    "rebase_changes": run_rebase,
    "transform_incoming": run_transform_incoming,
    "apply_committed_changes": run_apply_committed,
    "apply_changes": run_apply,
    "create_state_from_snapshot": run_snapshot_state,
    "pending_ejection": run_ejection,
    "break_changes": run_break,
    "break_batches": run_break,
    "break_changes_compressed": run_break,
}


@pytest.mark.parametrize("name", PURE)
def test_recorded_pure_functions(name: str, conformance: ConformanceTally) -> None:
    cases = load_cases(conformance_dir("ot", default=HERE) / f"{name}.json")
    if name == "break_changes_compressed":
        try:
            importlib.import_module("lzstring")
        except ImportError:
            conformance.record(SUITE, 0, f"{len(cases)} skipped: no LZ-string codec")
            return
    run_case = PURE[name]

    def run_recorded(case: Case) -> None:
        with recorded_ties():
            run_case(case)

    check_with_ties(conformance, SUITE, cases, run_case, run_recorded)


# ---- client traces -----------------------------------------------------------------------------


class Trace:
    """One algorithm over a memory store, at most one open document, and the steps of a trace."""

    def __init__(self, trace: Case) -> None:
        self.doc_id = trace["docId"]
        self.now = 0
        runtime = Runtime(wall_ms=lambda: self.now, random=random.Random(5))
        self.store = OTMemoryStore(runtime=runtime)
        options = trace["options"]
        self.algorithm = OTAlgorithm(
            self.store,
            options=DocOptions(
                max_storage_bytes=options.get("maxStorageBytes"),
                max_unsplittable_bytes=options.get("maxUnsplittableBytes"),
            ),
            runtime=runtime,
        )
        self.doc: OTDoc | None = None
        self.queued: list[tuple[list[Any], str]] = []
        self.notified = 0
        self.errors: list[Json] = []
        self.ids = Placeholders()
        self.shares_queue = False
        self.ended_early = False
        self.algorithm.on_error(self._note_error)

    def _note_error(self, error: Exception, context: ErrorContext) -> None:
        assert isinstance(error, UnstoredPendingError)
        self.errors.append(
            {
                "name": type(error).__name__,
                "message": str(error),
                "changeIds": list(error.change_ids),
                "context": {"docId": context.doc_id},
            }
        )

    def _note_update(self, _: Json) -> None:
        self.notified += 1

    async def run(self, steps: list[Case]) -> None:
        """Run the steps. By the rule "shared queues" a trace ends where it first differs after
        another context has written to the queue of the open document.
        """
        for number, step in enumerate(steps):
            self.shares_queue |= self.doc is not None and self._is_by_others(step)
            try:
                await self._step(step)
            except AssertionError as error:
                if self.shares_queue:
                    self.ended_early = True
                    return
                raise AssertionError(f"step {number} ({step['method']}): {error}") from error

    def _is_by_others(self, step: Case) -> bool:
        if step["method"] == "import":  # holds a change equal to an edit that is not stored
            assert self.doc is not None
            changes = step["args"]["snapshot"].get("changes") or ()
            return any(json_equal(c["ops"], ops) for c in changes for ops in self.doc.unsaved)
        return step["method"] in ("foreignMint", "dropPendingInStore", "replacePendingChanges")

    async def _step(self, step: Case) -> None:
        self.now, self.notified, self.errors = step["now"], 0, []
        args = self.ids.resolved(step.get("args") or {})
        try:
            result = wire_of(await recorded_method(self, step["method"])(args))
        except PatchesError as error:
            check_error(step, error, self.ids)
        else:
            if step.get("error"):
                raise AssertionError(f"recorded {step['error']['message']!r}, got {result}")
            expect(step.get("result"), result, "result", self.ids)
        expect(step.get("onError") or [], self.errors, "onError", self.ids)
        if "notified" in step:
            expect(step["notified"], self.notified, "notified")
        await self._check_after(step["after"])

    async def _check_after(self, after: Case) -> None:
        stored = await self.store.get_doc(self.doc_id)
        expect(after["store"], stored and wire_of(stored), "store", self.ids)
        expect(after["committedRev"], await committed_rev(self.store, self.doc_id), "rev")
        doc = self.doc
        if after.get("doc") is None or doc is None:
            return
        got = {
            "state": doc.state,
            "committedRev": doc.committed_rev,
            "pending": [
                {"id": c.id, "baseRev": c.base_rev, "rev": c.rev, "ops": c.ops} for c in doc.pending
            ],
            "hasPending": doc.has_pending,
            "optimistic": [list(ops) for ops in doc.unsaved],
            "isLoaded": doc.is_loaded,
        }
        expect(after["doc"], got, "doc", self.ids)

    # Each method is named for a step, and takes its recorded arguments.

    async def do_track(self, args: Case) -> Any:
        await self.algorithm.track_docs([self.doc_id])

    async def do_untrack(self, args: Case) -> Any:
        await self.algorithm.untrack_docs([self.doc_id])

    async def do_delete_doc(self, args: Case) -> Any:
        await self.algorithm.delete_doc(self.doc_id)

    async def do_list_docs(self, args: Case) -> Any:
        return await self.algorithm.list_docs(True)

    async def do_list_changes(self, args: Case) -> Any:
        queue = await self.store.load_queue(self.doc_id, committed_after=0)
        return [*queue.committed, *queue.pending]

    async def do_list_quarantined_changes(self, args: Case) -> Any:
        return await self.algorithm.list_quarantined_changes(self.doc_id)

    async def do_open(self, args: Case) -> Any:
        snapshot = await self.algorithm.load_doc(self.doc_id)
        self.doc = self.algorithm.create_doc(self.doc_id, snapshot)
        self.doc.subscribe(self._note_update)
        self.notified = 0
        return {"dropped": [change.id for change in self.doc.dropped_pending_changes]}

    async def do_close(self, args: Case) -> Any:
        self.doc = None

    async def do_change(self, args: Case) -> Any:
        assert self.doc is not None
        ops: list[list[Any]] = []
        unsubscribe = self.doc.on_change(ops.append)
        self.doc.apply(args["ops"])
        unsubscribe()
        self.queued.append((ops[0], args["id"]))

    async def do_mint(self, args: Case) -> Any:
        ops, change_id = self.queued.pop(0)
        return await self.algorithm.handle_doc_change(self.doc_id, ops, self.doc, {}, change_id)

    async def do_change_and_mint(self, args: Case) -> Any:
        await self.do_change(args)
        ops, change_id = self.queued.pop()
        return await self.algorithm.handle_doc_change(
            self.doc_id, ops, self.doc, args.get("metadata") or {}, change_id
        )

    async def do_handle_doc_change(self, args: Case) -> Any:
        return await self.algorithm.handle_doc_change(
            self.doc_id, args["ops"], None, {}, args["id"]
        )

    async def do_foreign_mint(self, args: Case) -> Any:
        return await save(self.store, *changes_of(args["changes"]), doc_id=self.doc_id)

    async def do_apply_server_changes(self, args: Case) -> Any:
        changes = changes_of(args["changes"])
        await self.algorithm.apply_server_changes(self.doc_id, changes, self.doc)
        # Recorded is what 0.28.1 returns: what was given, and the queue behind it.
        return [*changes, *await queued(self.store, self.doc_id)] if changes else []

    # 0.28.1 takes these steps one by one; here they are parts of `next_batch`, `receive_answer` and
    # `install_snapshot`.

    async def do_get_pending_to_send(self, args: Case) -> Any:
        pending = await queued(self.store, self.doc_id)
        return leading_run(pending) or None

    async def do_drop_resolved_pending(self, args: Case) -> Any:
        answered = {change.id for change in changes_of(args["committed"])}
        resolved = {change.id for change in changes_of(args["sent"])} - answered
        held = {change.id for change in await queued(self.store, self.doc_id)}
        if resolved & held:
            await drop(self.store, *resolved, doc_id=self.doc_id)
        return len(resolved & held)

    async def do_reconcile_pending(self, args: Case) -> Any:
        tail = changes_of(args["changes"])
        queue = await self.store.load_queue(self.doc_id)
        rebased = reconciled(queue.committed_rev, queue.pending, tail)
        if tail:
            await self.store.apply_server_changes(self.doc_id, tail, rebased, queue)

    async def do_replace_pending_changes(self, args: Case) -> Any:
        old = {change.id for change in changes_of(args["old"])}
        new = changes_of(args["new"])
        queue = await self.store.load_queue(self.doc_id)
        since = [change for change in queue.pending if change.id not in old]
        after = new[-1].rev if new else queue.committed_rev
        pending = [*new, *renumbered(since, after)]
        await self.store.apply_server_changes(self.doc_id, [], pending, queue)

    async def do_verify_pending_change(self, args: Case) -> Any:
        return await self.algorithm.verify_pending_change(self.doc_id, args["id"])

    async def do_eject_pending_change(self, args: Case) -> Any:
        options = args.get("options") or {}
        return await self.algorithm.eject_pending_change(
            self.doc_id,
            args["id"],
            args["reason"],
            self.doc,
            only_if_unappliable=bool(options.get("onlyIfUnappliable")),
        )

    async def do_import(self, args: Case) -> Any:
        assert self.doc is not None
        self.doc.import_snapshot(Snapshot.from_wire(args["snapshot"]))

    async def do_import_from_store(self, args: Case) -> Any:
        assert self.doc is not None
        snapshot = await self.algorithm.load_doc(self.doc_id)
        assert snapshot is not None
        # As a store that reads from disk gives it: values of its own.
        state = decode(encode(snapshot.state))
        self.doc.import_snapshot(Snapshot(state=state, rev=snapshot.rev, changes=snapshot.changes))

    async def do_rollback_optimistic(self, args: Case) -> Any:
        assert self.doc is not None
        self.doc.rollback_unsaved()

    async def do_doc_apply_changes(self, args: Case) -> Any:
        assert self.doc is not None
        self.doc.apply_changes(changes_of(args["changes"]))

    async def do_drop_pending_in_store(self, args: Case) -> Any:
        await drop(self.store, *args["ids"], doc_id=self.doc_id)


async def test_recorded_client_traces(conformance: ConformanceTally) -> None:
    traces = load_cases(conformance_dir("ot", default=HERE) / "client_traces.json")
    failures: list[str] = []
    differing, shared = 0, 0
    for recorded in traces:
        trace = Trace(recorded)
        try:
            await trace.run(recorded["steps"])
            shared += trace.ended_early
        except Exception as error:  # a trace that cannot be run has failed, whatever it raised
            if await holds_with_recorded_ties(recorded):
                differing += 1
            else:
                failures.append(f"{recorded['name']}: {error!r}")
    conformance.record(SUITE, len(traces), failures=len(failures))
    record_ties(conformance, SUITE, differing)
    if shared:
        conformance.record(f'{SUITE}, by the rule "shared queues"', shared)
    assert not failures, "\n".join(failures)


async def holds_with_recorded_ties(trace: Case) -> bool:
    with recorded_ties():
        try:
            await Trace(trace).run(trace["steps"])
        except Exception:
            return False
    return True
