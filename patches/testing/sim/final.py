"""What must hold at the end of a run, when all faults are over and all have come to rest."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from typing import Any, Final

from patches.errors import PatchError
from patches.json_patch import apply_patch
from patches.model import codec
from patches.model.change import Change, QuarantinedChange
from patches.model.json_values import Json, json_equal
from patches.sync.presence.presence import Room
from patches.testing.sim.checker import RETENTION_DAYS, Checker, Made
from patches.testing.sim.config import Config
from patches.testing.sim.net import SimNet
from patches.testing.sim.nodes import SimClient
from patches.testing.sim.servers import SimServer, is_vetoed
from patches.testing.sim.workload import COUNTING, LASTING, cell_of
from patches_server.documents.records import ListVersionsOptions

#: Within this time everybody has heard of everybody else.
_SEEN_S: Final = 120


class FinalChecks:
    """The checks at quiescence: I9, I10, I11, I12."""

    def __init__(
        self,
        config: Config,
        checker: Checker,
        clients: list[SimClient],
        servers: list[SimServer],
        fail: Callable[[str, str], None],
    ) -> None:
        self._config, self._checker, self._fail = config, checker, fail
        self._clients, self._servers = clients, servers
        self._aside: list[QuarantinedChange] = []

    async def check(self) -> None:
        """Compare every document everywhere."""
        found: dict[tuple[int, str], QuarantinedChange] = {}
        for client in self._clients:
            if client.patches is not None:
                for entry in await client.patches.list_quarantined_changes():
                    if entry.doc_id not in self._config.family_ids:
                        found[id(client.node.disk), entry.change_id] = entry
        self._aside = list(found.values())
        for message in self._checker.undone_deletions():
            self._fail("I10", message)
        for doc_id in self._config.core_ids:
            log = self._checker.log(doc_id)
            if log.deleted:
                continue
            state, head = await self._server_state(doc_id)
            if head != log.rev:
                self._fail("I1", f"{doc_id}: the head is {head}, the log ends at {log.rev}")
            for client in self._clients:
                who = f"{client.name} and the server"
                # a document that is null on the server is an empty object on a client
                self._compare(who, doc_id, _shown(client, doc_id), {} if state is None else state)
            if not doc_id.startswith("lww/"):
                await self._check_replay(doc_id, state)
            if doc_id in self._config.lasting_ids:
                self._check_edits(doc_id, state)
        for entry in self._aside:
            if entry.change_id in self._checker.log(entry.doc_id).ids:
                self._fail("I10", f"{entry.doc_id}: {entry.change_id} is committed and set aside")
            # On another history than it was made on, an edit may be one that cannot be applied.
            is_forked = entry.doc_id in self._checker.forked
            # What was made on top of a change goes with it, and says why that went.
            is_asked_for = entry.reason.endswith("app-requested") or is_vetoed(entry.change.ops)
            is_on_top = any(f"change {other.change_id}," in entry.reason for other in self._aside)
            is_expected = is_forked or is_asked_for or is_on_top
            if not is_expected and entry.doc_id in self._config.lasting_ids:
                message = f"{entry.change_id}: {entry.reason}"
                self._fail("I10", f"{entry.doc_id}: an honest change was set aside: {message}")

    async def check_presence(self, net: SimNet) -> None:
        """Whoever is at a document sees who else is, as far as one server connects them."""
        doc_id = self._config.doc_ids[0]
        async with AsyncExitStack() as stack:
            rooms: dict[str, Room] = {}
            for client in self._clients:
                assert client.sync is not None
                room = client.sync.presence(doc_id, {"who": client.name})
                rooms[client.name] = await stack.enter_async_context(room)
            for _ in range(_SEEN_S):
                await asyncio.sleep(1.0)
                missed = _unseen(rooms, net)
                if not missed:
                    return
            self._fail("presence", f"at {doc_id} after {_SEEN_S} s: {missed}")

    def residue(self, server: SimServer) -> Mapping[str, int]:
        """What a server still holds for clients, all of which have left (I12)."""
        core = server.core
        assert core is not None
        return {
            name: count
            for name, count in {
                "sessions": len(core.sessions),
                "subscriptions": len(core.hub._table),
                "calls": core._under_way,
                "frames held back": len(core.hub._held) + len(core.hub._rechecks),
                "peers": len(core.relay) if core.relay else 0,
            }.items()
            if count
        }

    def _documents(self, doc_id: str) -> Any:
        return self._servers[0].services["lww" if doc_id.startswith("lww/") else "ot"].documents

    async def _server_state(self, doc_id: str) -> tuple[Json, int]:
        snapshot = await self._documents(doc_id).get_doc(doc_id)
        replay = _replayed_by_op if doc_id.startswith("lww/") else _replayed
        return replay(snapshot.state, snapshot.changes), snapshot.head

    async def _check_replay(self, doc_id: str, state: Json) -> None:
        """The log from its start, and every version with what came after it (P8)."""
        log = self._checker.log(doc_id).changes
        if log:
            self._compare("the log and the server", doc_id, _replayed(None, log), state)
        versions = self._servers[0].node.disk.backend.versions
        for version in await versions.list_versions(doc_id, ListVersionsOptions(origin="main")):
            text = await versions.load_version_state(doc_id, version.id)
            if text is None:
                self._fail("I9", f"{doc_id}: version {version.id} has no state")
                continue
            rest = _replayed(codec.decode(text), log[version.end_rev :])
            self._compare(f"version at {version.end_rev} and the server", doc_id, rest, state)

    def _check_edits(self, doc_id: str, state: Json) -> None:
        """Each lasting edit is there once (I10, I11)."""
        edits = [edit for edit in self._checker.edits if edit.doc_id == doc_id]
        found = Counter(_characters(state))
        aside = [entry.change for entry in self._aside if entry.doc_id == doc_id]
        kept = set(_characters([change.ops for change in aside]))
        for edit in edits:
            if edit.kind == "vetoed":
                self._check_vetoed(edit, found[edit.mark], edit.mark in kept)
            elif edit.kind in LASTING and edit.kind not in COUNTING:
                self._check_edit(edit, found[edit.mark], edit.mark in kept)
            elif edit.kind == "flat" and edit.mark not in kept:
                self._check_undone(edit, state)
        self._check_cells(doc_id, state)
        counts = [edit for edit in edits if edit.kind in COUNTING]
        least = sum(edit.stored and not edit.given_up for edit in counts)
        increments = [op for change in aside for op in change.ops if op["op"] == "@inc"]
        least -= sum(op["value"] for op in increments if op["path"] == "/count")
        if doc_id.startswith("lww/") and self._config.absence_days > RETENTION_DAYS:
            counts = counts * 2  # an increment that was sent again after so long counts again (P5)
        got = state.get("count") if isinstance(state, dict) else None
        if not isinstance(got, int) or not least <= got <= len(counts):
            message = f"{doc_id}: /count is {got}, of {len(counts)} increments {least} were stored"
            self._fail("I11", message)

    def _check_edit(self, edit: Made, times: int, kept: bool) -> None:
        if times + kept > 1:
            self._fail("I11", f"{edit.doc_id}: {edit} is there {times} times")
        if not times and not kept and edit.stored and not edit.given_up:
            self._fail("I10", f"{edit.doc_id}: {edit} was stored and is lost")

    def _check_vetoed(self, edit: Made, times: int, kept: bool) -> None:
        """What the server refuses for good is set aside, and seen by nobody else."""
        if times:
            self._fail("I10", f"{edit.doc_id}: {edit} was refused, and is there")
        is_replaced = edit.doc_id.startswith("lww/")  # perhaps, by its author's next such write
        if not (kept or is_replaced) and edit.stored and not edit.given_up:
            self._fail("I10", f"{edit.doc_id}: {edit} was refused, and is not set aside")

    def _check_undone(self, edit: Made, state: Json) -> None:
        """A write that was made over what its author saw is not undone by that (I11)."""
        shown = state.get(edit.field) if isinstance(state, dict) else None
        if shown and shown == edit.seen and edit.stored and not edit.given_up:
            message = f"{edit} was made over {shown}, which is there again"
            self._fail("I11", f"{edit.doc_id}: {message}")

    def _check_cells(self, doc_id: str, state: Json) -> None:
        """Each cell is at the key it was written to (I11)."""
        table = state.get("table") if isinstance(state, dict) else None
        for key, mark in table.items() if isinstance(table, dict) else ():
            if isinstance(mark, str) and _is_private(mark) and cell_of(mark) != key:
                self._fail("I11", f"{doc_id}: {mark!r} was written to {cell_of(mark)}, is at {key}")

    def _compare(self, who: str, doc_id: str, one: Json, other: Json) -> None:
        if not json_equal(one, other):
            self._fail("I9", f"{doc_id}: {who} differ:\n  {_text(one)}\n  {_text(other)}")


def _unseen(rooms: Mapping[str, Room], net: SimNet) -> str:
    """What somebody does not see of the others on the same server; `""` for nothing."""
    server_of = {name: link.server for name in rooms for link in net.links_of(name)}
    if len(server_of) < len(rooms):
        return "somebody is not connected"
    for name, room in rooms.items():
        seen = sorted(str(state.get("who")) for state in room.others.values())
        there = [each for each in rooms if each != name and server_of[each] == server_of[name]]
        if seen != there:
            return f"{name} sees {seen}; there are {there}"
    return ""


def _shown(client: SimClient, doc_id: str) -> Json:
    doc = client.doc(doc_id)
    return doc.state if doc is not None else None


def _replayed(state: Json, changes: list[Change]) -> Json:
    """The state after changes. One that cannot be applied is left out whole, by everybody."""
    for change in changes:
        try:
            state = apply_patch(state, change.ops, strict=True)
        except PatchError:
            continue
    return state


def _replayed_by_op(state: Json, changes: list[Change]) -> Json:
    """The state of an LWW document: each row is applied, those that find no parent are not.

    A row has been decided: it does not yield, although the write it came from was soft.
    """
    for change in changes:
        for op in change.ops:
            try:
                state = apply_patch(state, [{**op, "soft": False}], strict=True)
            except PatchError:
                continue
    return state


def _characters(value: Json) -> Iterator[str]:
    """Every private character in a value, in keys too."""
    if isinstance(value, str):
        yield from (char for char in value if _is_private(char))
    elif isinstance(value, list):
        for item in value:
            yield from _characters(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _characters(key)
            yield from _characters(item)


def _is_private(char: str) -> bool:
    return "\ue000" <= char <= "\uf8ff" or char >= "\U000f0000"


def _text(value: Json) -> str:
    text = codec.encode(value).decode()
    return text if len(text) < 600 else f"{text[:600]}... ({len(text)} bytes)"
