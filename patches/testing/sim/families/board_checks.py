"""`BoardChecks`: what must hold of the documents of `CollectionsFamily`.

C1: what a client has stored is what its user may see of the tables at the revision it names, at any
time, and at rest all copies are the tables. C2: a change is carried out once, what was confirmed is
there, what was refused is nowhere, and each stored write is one or the other. C3: a loaded window
is exactly the first rows of its table whenever it is shown. C4: rows in progress leave in the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from patches.algorithms.collections import CollectionsDoc, Query, Write
from patches.testing.sim.disk import docs_of
from patches.testing.sim.families.board import COUNTER, EAGER, Tables, visible_to
from patches.testing.sim.families.engine import BoardLog, ForeignProgram
from patches.testing.sim.families.family import Scene
from patches.testing.sim.nodes import SimClient

#: What another program wrote is noticed within this time, once all have come to rest.
_NOTICED_S: Final = 300.0


@dataclass(slots=True, eq=False)
class Made:
    """A write of a user. `stored`: it was flushed, so it has to come to a decision."""

    doc_id: str
    client: str
    kind: str
    write: Write
    mark: str
    amount: int = 0
    stored: bool = False
    given_up: bool = False

    def __str__(self) -> str:
        return f"{self.client}'s {self.kind} {self.write.id} ({self.mark}) of {self.doc_id}"


class BoardChecks:
    """Compares what clients hold with `logs`. Calls `fail(invariant, message)`."""

    def __init__(
        self,
        scene: Scene,
        logs: Mapping[str, BoardLog],
        program: ForeignProgram,
        queries_of: Callable[[SimClient, str], Mapping[str, Query]],
    ) -> None:
        self._scene, self._logs, self._program = scene, logs, program
        self._queries_of, self._fail = queries_of, scene.fail
        self._made: dict[str, Made] = {}
        self._unnumbered_since: dict[str, float] = {}
        self._seen: dict[tuple[str, str], tuple[int, int]] = {}

    def made(self, made: Made) -> None:
        """A user wrote. What asks for nothing that is not there already is no write."""
        if made.write.status == "confirmed":
            return
        self._made[made.write.id] = made

    def discarded(self, write_id: str) -> None:
        """A user takes a write back: it may have been carried out, or not."""
        if write_id in self._made:
            self._made[write_id].given_up = True

    def given_up(self, client: str, doc_id: str) -> None:
        """A client forgets what it has not sent."""
        for made in self._made.values():
            if (made.client, made.doc_id) == (client, doc_id):
                made.given_up = True

    # ---- at any time -----------------------------------------------------------------------------

    def watch(self, client: SimClient, doc: CollectionsDoc) -> None:
        """Look at every notification of an open document."""
        doc.on_update(lambda *_args: self._check_windows(client, doc))

    def look(self) -> None:
        """Compare what is stored everywhere (C1), and what was confirmed (C2)."""
        for client in self._scene.clients:
            disk = docs_of(client.node.disk.backend, "collections")
            for doc_id, tables in disk.items():
                head = tables.head()
                mark = None if head is None else (head.version, head.committed_rev)
                if mark is not None and self._seen.get((client.name, doc_id)) != mark:
                    self._seen[client.name, doc_id] = mark
                    self._check_stored(client, doc_id, mark[1], tables.rows())
        for made in self._made.values():
            commits = self._logs[made.doc_id].commits
            if made.write.status == "confirmed" and made.write.id not in commits:
                self._fail("C2", f"{made} is confirmed, and was not carried out")
        for doc_id, log in self._logs.items():
            for change_id, times in log.commits.items():
                if times > 1:
                    self._fail("C2", f"{doc_id}: {change_id} was carried out {times} times")

    def _check_stored(
        self, client: SimClient, doc_id: str, rev: int, rows: Mapping[str, Any]
    ) -> None:
        log = self._logs[doc_id]
        if rev > log.rev:
            self._fail("C1", f"{client.name}, {doc_id}: at {rev}, the server is at {log.rev}")
        elif rev:
            expected = visible_to(client.name, log.states[rev])
            found = {name: dict(rows.get(name, {})) for name in EAGER}
            if found != expected:
                what = _difference(found, expected)
                self._fail("C1", f"{client.name}, {doc_id}: stored at {rev}: {what}")

    def _check_windows(self, client: SimClient, doc: CollectionsDoc) -> None:
        """Each loaded window is that of a revision from the cursor on (C3)."""
        log = self._logs[doc.id]
        if doc.has_pending or doc.unsaved or doc.interest._ahead or doc.is_closed:
            return
        for name, query in self._queries_of(client, doc.id).items():
            if not _is_loaded(query):
                continue
            shown = [dict(row) for row in query.rows]
            states = [log.states[rev] for rev in range(doc.committed_rev, log.rev + 1) if rev]
            if states and not any(shown == _rows_of(query, state) for state in states):
                expected = _rows_of(query, states[0])
                self._fail(
                    "C3",
                    f"{client.name}, {doc.id}: {name} at {doc.committed_rev} of {log.rev} shows "
                    f"{shown}, the table has {expected}",
                )

    # ---- at rest ---------------------------------------------------------------------------------

    def restless(self) -> str:
        """What keeps the documents from being at rest."""
        for doc_id in self._scene.config.family_ids:
            if self._program.has_unnumbered(doc_id):
                now = asyncio.get_running_loop().time()
                since = self._unnumbered_since.setdefault(doc_id, now)
                if now - since > _NOTICED_S:
                    self._fail("C1", f"{doc_id}: what another program wrote is not noticed")
                return f"{doc_id} was written to by another program"
            self._unnumbered_since.pop(doc_id, None)
            log = self._logs[doc_id]
            for client in self._scene.clients:
                doc = client.doc(doc_id)
                shown = None if client.sync is None else client.sync.synced.get(doc_id)
                if not isinstance(doc, CollectionsDoc) or shown is None:
                    return f"{client.name} has not opened {doc_id}"
                if doc.has_pending or shown.has_pending or doc.unsaved:
                    return f"{client.name} has unsent work of {doc_id}: {shown}"
                if doc.committed_rev != shown.committed_rev or self._is_behind(client, doc):
                    return f"{client.name}, {doc_id} at {doc.committed_rev} of {log.rev}: {shown}"
                for name, query in self._queries_of(client, doc_id).items():
                    if not _is_loaded(query):
                        return f"{client.name} has not loaded its {name} of {doc_id}"
        return ""

    def _is_behind(self, client: SimClient, doc: CollectionsDoc) -> bool:
        """Whether the client misses something. What it may not see never comes to it."""
        log = self._logs[doc.id]
        known, newest = log.states.get(doc.committed_rev), log.states[log.rev]
        if known is None or visible_to(client.name, known) != visible_to(client.name, newest):
            return True
        queries = self._queries_of(client, doc.id).values()
        return any(
            [dict(row) for row in query.rows] != _rows_of(query, newest) for query in queries
        )

    async def check(self) -> None:
        """All copies are the tables, and every write has come to its end."""
        for doc_id in self._scene.config.family_ids:
            tables = self._program.read(doc_id)
            if tables != self._logs[doc_id].states[self._logs[doc_id].rev]:
                self._fail("C1", f"{doc_id}: rows were written that have no revision")
            for client in self._scene.clients:
                self._check_shown(client, doc_id, tables)
            await self._check_writes(doc_id, tables)

    def _check_shown(self, client: SimClient, doc_id: str, tables: Tables) -> None:
        doc = client.doc(doc_id)
        assert isinstance(doc, CollectionsDoc)
        state, expected = doc.state, visible_to(client.name, tables)
        found = {name: dict(state.get(name, {})) for name in EAGER}
        if found != expected:
            only_lines = {**found, "lines": {}} == {**expected, "lines": {}}
            what = _difference(found, expected)
            self._fail("C4" if only_lines else "C1", f"{client.name}, {doc_id}: {what}")
        for name, query in self._queries_of(client, doc_id).items():
            if [dict(row) for row in query.rows] != _rows_of(query, tables):
                shown = _rows_of(query, tables)
                self._fail("C3", f"{client.name}, {doc_id}: {name} {query.rows}, not {shown}")

    async def _check_writes(self, doc_id: str, tables: Tables) -> None:
        commits = self._logs[doc_id].commits
        aside: dict[tuple[str, str], str] = {}
        for client in self._scene.clients:
            assert client.patches is not None
            for entry in await client.patches.list_quarantined_changes(doc_id):
                aside[client.name, entry.change_id] = entry.reason
        counted = 0
        for made in (each for each in self._made.values() if each.doc_id == doc_id):
            is_done = made.write.id in commits
            reason = aside.get((made.client, made.write.id))
            counted += made.amount * is_done
            # Of two copies of a request under way, one may find what is expected, and one not.
            if is_done and reason is not None and made.kind in ("note", "count"):
                self._fail("C2", f"{made} was carried out, and set aside: {reason}")
            if made.stored and not made.given_up and not is_done and reason is None:
                self._fail("C2", f"{made} was stored, and is lost")
            if made.kind == "note" and is_done != (made.mark in tables["notes"]):
                self._fail("C2", f"{made}: carried out: {is_done}, its note: {not is_done}")
            if made.kind == "together" and is_done != (made.mark in tables["notes"]):
                self._fail("C2", f"{made} was carried out in part")
            if made.kind == "too_much" and is_done:
                self._fail("C2", f"{made} was carried out")
            if made.kind == "forbidden" and (is_done or made.mark in tables["tasks"]):
                self._fail("C2", f"{made} was carried out")
            if made.kind in ("note", "count") and reason is not None and "403" not in reason:
                self._fail("C2", f"{made} was set aside: {reason}")
        if counted != tables["counters"][COUNTER]["value"]:
            there = tables["counters"][COUNTER]["value"]
            self._fail("C2", f"{doc_id}: {there} were counted, {counted} were called for")


def _is_loaded(query: Query) -> bool:
    opened = query._opened
    return opened is not None and (opened.subset is None or opened.subset.state == "loaded")


def _rows_of(query: Query, tables: Tables) -> list[dict[str, Any]]:
    """What a query has to show: another way to say what it asks for."""
    rows = [dict(row) for row in tables[query.table.name].values()]
    if query.condition is not None:
        rows = [row for row in rows if query.condition.matches(row)]
    rows.sort(key=lambda row: str(row["id"]))
    for column, is_descending in reversed(query.order):
        rows.sort(key=lambda row: row[column], reverse=is_descending)
    return rows if query.size is None else rows[: query.size]


def _difference(found: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
    """The rows in which two states differ."""
    parts = [
        f"{name}/{key} is {found[name].get(key)}, not {rows.get(key)}"
        for name, rows in expected.items()
        for key in sorted({*rows, *found[name]})
        if rows.get(key) != found[name].get(key)
    ]
    return "; ".join(parts[:6])
