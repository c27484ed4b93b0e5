"""The model of the original's client against recordings of the original itself.

What the other tests here show rests on the model doing what the original does, its defects
included. Here it runs the recorded traces of both algorithms: every LWW trace, and those OT traces
that need nothing the model leaves out (quarantine, splitting by storage size, several contexts on
one store). The frames that it sends are compared with recorded ones in
`test_frames_of_the_model.py`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from patches.errors import MissingChangesError, PatchError, PatchesError
from patches.model.change import Change, Snapshot
from patches.model.json_values import Json, Op, json_equal
from patches.runtime import Runtime
from tests.interop.original.lww import OriginalLWW
from tests.interop.original.ot import OriginalOT
from tests.interop.original.ot_doc import OriginalOTDoc
from tests.interop.original.turns import Turns
from tests.support.conformance import Case, conformance_dir, load_cases

CASES: Final = Path(__file__).parent.parent / "conformance"
DOC: Final = "doc"
RAISES: Final = "<original raises>"


class Clock:
    """The time that a recording says it is."""

    def __init__(self) -> None:
        self.now = 0
        self.runtime = Runtime(wall_ms=lambda: self.now, random=random.Random(1))


def by_path(ops: Sequence[Op]) -> list[Op]:
    return sorted(ops, key=lambda op: str(op["path"]))


def same(what: str, got: Json, recorded: Json) -> None:
    assert json_equal(got, recorded), f"{what}: got {got}, recorded {recorded}"


# ---- LWW -----------------------------------------------------------------------------------------


class LWWTrace:
    """The clients of a trace. What the server did is taken from the recording."""

    def __init__(self, clients: int) -> None:
        self.clock = Clock()
        self.clients = [OriginalLWW(Turns(n, most=0), self.clock.runtime) for n in range(clients)]
        self.broadcasts: dict[int, Change] = {}
        self.raised = 0

    async def run(self, step: Case) -> None:
        self.clock.now = step["now"]
        client = self.clients[step["client"]]
        client.track(DOC)
        match step["do"]:
            case "edit":
                await client.handle_doc_change(DOC, step["ops"], None)
            case "flush":
                await self.flush(client, step)
            case "deliver":
                await self.deliver(client, [self.broadcasts[step["broadcast"]]], step)
            case "catchup":
                same("since", client.committed_rev(DOC), step["since"])
                await self.deliver(client, [answered(c, "") for c in step["changes"]], step)
        self.compare(client, step["after"])

    async def flush(self, client: OriginalLWW, step: Case) -> None:
        sent = await client.get_pending_to_send(DOC)
        same("request", plain(sent[0]) if sent else None, step.get("request"))
        broadcast = step.get("broadcast")
        if sent and broadcast is not None:
            self.broadcasts[broadcast["index"]] = answered(broadcast, sent[0].id)
        if not sent or step.get("lost") in ("request", "response"):
            return
        corrected = await client.confirm_sent(DOC, sent)
        same("corrections", corrected, bool(step["corrections"]))
        if step.get("lost") != "apply":
            await self.deliver(client, [answered(step["response"], sent[0].id)], step)

    async def deliver(self, client: OriginalLWW, changes: list[Change], step: Case) -> None:
        try:
            await client.apply_server_changes(DOC, changes, None)
        except MissingChangesError as error:
            recorded = step["error"]
            same(
                "gap",
                [error.expected_rev, error.got_rev],
                [recorded["expectedRev"], recorded["gotRev"]],
            )
        else:
            assert "error" not in step

    def compare(self, client: OriginalLWW, after: Case) -> None:
        stored = client.stored(DOC)
        same("committedRev", stored.committed_rev, after["committedRev"])
        same("pending", by_path(list(stored.pending.values())), after["pending"])
        same("sending", plain(stored.sending) if stored.sending else None, after["sending"])
        for name, state in (
            ("committed", stored.committed_state),
            ("state", lambda: client.load(DOC).state),
        ):
            if after[name] == RAISES:
                self.raised += 1
                with pytest.raises(PatchError):
                    state()
            else:
                same(name, state(), after[name])


def plain(change: Change) -> dict[str, Json]:
    return {"baseRev": change.base_rev, "rev": change.rev, "ops": by_path(change.ops)}


def answered(wire: Mapping[str, Any], change_id: str) -> Change:
    return Change.from_wire({"id": change_id, "createdAt": 0, **wire})


async def test_the_lww_model_does_what_was_recorded_of_the_original() -> None:
    traces = load_traces("lww", "sync-traces.json")
    raised = 0
    for trace in traces:
        run = LWWTrace(trace["clients"])
        for number, step in enumerate(trace["steps"]):
            try:
                await run.run(step)
            except (AssertionError, KeyError) as error:
                raise AssertionError(f"{trace['name']}, step {number}: {error!r}") from error
        raised += run.raised
    assert len(traces) >= 25
    assert raised > 0, "the defect of a write below a scalar was met"


def load_traces(suite: str, name: str) -> list[Case]:
    content = json.loads((conformance_dir(suite, default=CASES) / name).read_text("utf-8"))
    return list(content["traces"])


# ---- OT ------------------------------------------------------------------------------------------

#: What the model leaves out.
BEYOND: Final = {"foreignMint", "dropPendingInStore", "ejectPendingChange", "rollbackOptimistic"}


class OTTrace:
    """One algorithm and at most one open document."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.algorithm = OriginalOT(Turns(1, most=0), self.clock.runtime)
        self.doc: OriginalOTDoc | None = None
        self.queued: list[tuple[list[Op], str]] = []

    async def run(self, step: Case) -> None:
        self.clock.now = step["now"]
        try:
            await self.do(step["method"], step.get("args") or {})
            message = None
        except PatchesError as error:
            message = str(error)
        same("error", message, (step.get("error") or {}).get("message"))
        self.compare(step["after"])

    async def do(self, method: str, args: Case) -> None:
        algorithm, doc = self.algorithm, self.doc
        match method:
            case "track":
                algorithm.track(DOC)
            case "open":
                self.doc = algorithm.open_doc(DOC)
            case "change" | "changeAndMint":
                assert doc is not None
                ops = [dict(op) for op in args["ops"]]
                doc.change(ops)
                if method == "change":
                    self.queued.append((ops, args["id"]))
                else:
                    await algorithm.handle_doc_change(DOC, ops, doc, args["id"])
            case "mint":
                ops, change_id = self.queued.pop(0)
                await algorithm.handle_doc_change(DOC, ops, doc, change_id)
            case "handleDocChange":
                await algorithm.handle_doc_change(DOC, args["ops"], None, args["id"])
            case "applyServerChanges":
                await algorithm.apply_server_changes(DOC, changes_of(args["changes"]), doc)
            case "dropResolvedPending":
                sent, committed = changes_of(args["sent"]), changes_of(args["committed"])
                algorithm.drop_resolved(DOC, sent, committed)
            case "reconcilePending":
                algorithm.reconcile(DOC, changes_of(args["changes"]))
            case "replacePendingChanges":
                algorithm.replace_pending(DOC, changes_of(args["old"]), changes_of(args["new"]))
            case "importFromStore":
                assert doc is not None
                doc.load(algorithm.load(DOC))
            case "import":
                assert doc is not None
                doc.load(Snapshot.from_wire(args["snapshot"]))
            case "getPendingToSend" | "listDocs" | "listChanges":
                pass  # nothing changes
            case _:
                raise NotImplementedError(method)

    def compare(self, after: Case) -> None:
        stored = self.algorithm.load(DOC)
        same("rev", stored.rev, after["store"]["rev"])
        same("stored state", stored.state, after["store"]["state"])
        same("stored queue", queue(stored.changes), queue(changes_of(after["store"]["changes"])))
        doc, recorded = self.doc, after.get("doc")
        if doc is None or recorded is None:
            return
        same("state", doc.state, recorded["state"])
        same("committedRev", doc.committed_rev, recorded["committedRev"])
        same("pending", [c.ops for c in doc.pending], [c["ops"] for c in recorded["pending"]])
        same("optimistic", doc.optimistic, recorded["optimistic"])


def changes_of(wires: Sequence[Case]) -> list[Change]:
    return [Change.from_wire(wire) for wire in wires]


def queue(changes: Sequence[Change]) -> Json:
    return [[c.id, c.base_rev, c.rev, c.ops] for c in changes]


def ot_traces() -> list[Case]:
    traces = load_cases(conformance_dir("ot", default=CASES) / "client_traces.json")
    return [
        trace
        for trace in traces
        if not trace["options"] and not BEYOND & {step["method"] for step in trace["steps"]}
    ]


async def test_the_ot_model_does_what_was_recorded_of_the_original() -> None:
    traces = ot_traces()
    for trace in traces:
        run = OTTrace()
        for number, step in enumerate(trace["steps"]):
            try:
                await run.run(step)
            except (AssertionError, NotImplementedError) as error:
                at = f"{trace['name']}, step {number} ({step['method']})"
                raise AssertionError(f"{at}: {error!r}") from error
    assert len(traces) >= 9
