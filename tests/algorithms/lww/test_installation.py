"""A snapshot goes over the rows that the server was asked about, and takes unsent work along."""

from __future__ import annotations

import pytest

from patches.algorithms.lww import LWWAlgorithm, LWWDoc
from patches.algorithms.lww.stores.memory import LWWMemoryStore
from patches.errors import OutdatedAnswerError
from patches.model.change import Change, QuarantinedChange, Snapshot
from patches.model.json_values import Json, Op
from patches.options import DocOptions

DOC = "lww/doc"


def snapshot(rev: int, token: str = "t", **state: Json) -> Snapshot:
    return Snapshot(state=state, rev=rev, metadata={"token": token})


def committed(rev: int, path: str, value: Json = 1) -> Change:
    op: Op = {"op": "replace", "path": path, "value": value, "ts": 10 * rev, "rev": rev}
    return Change(id=f"s{rev}", ops=[op], base_rev=rev - 1, rev=rev, created_at=1, committed_at=1)


class Processes:
    """Two processes on one store, both at revision 1, which the server was asked about."""

    def __init__(self) -> None:
        self.store = LWWMemoryStore()
        self.one, self.two = LWWAlgorithm(self.store), LWWAlgorithm(self.store)
        self.told: list[tuple[str, int]] = []

    async def open(self) -> Processes:
        await self.one.track_docs([DOC])
        await self.one.install_snapshot(DOC, snapshot(1, x="first"), None)
        self.docs: list[LWWDoc] = []
        for algorithm in (self.one, self.two):
            await algorithm.sync_options(DOC)
            self.docs.append(algorithm.create_doc(DOC, await algorithm.load_doc(DOC)))
        self.two.attach(self)  # type: ignore[arg-type]  # a host that is only told
        return self

    def replaced(self, doc_id: str, rev: int) -> None:
        self.told.append((doc_id, rev))

    async def send(self, *ops: Op) -> list[Change]:
        doc = self.docs[0]
        doc.apply(list(ops))
        await self.one.handle_doc_change(DOC, doc.unsaved[-1], doc, {}, "edit")
        return await self.one.next_batch(DOC, doc, DocOptions())


@pytest.fixture
async def processes() -> Processes:
    return await Processes().open()


async def test_a_piece_that_does_not_apply_to_another_history_is_set_aside_with_it(
    processes: Processes,
) -> None:
    told: list[QuarantinedChange] = []
    processes.one.on_quarantined(told.append)
    doc = processes.docs[0]
    await processes.one.apply_server_changes(DOC, [committed(2, "/o", {})], doc)
    (sent,) = await processes.send({"op": "replace", "path": "/o/x", "value": 1})
    await processes.one.install_snapshot(DOC, snapshot(1, "new", o=5), doc, is_new_history=True)
    assert [entry.change_id for entry in told] == [sent.id]
    assert told == await processes.one.list_quarantined_changes(DOC)
    assert doc.state == {"o": 5}
    assert await processes.one.next_batch(DOC, doc, DocOptions()) == []


@pytest.mark.parametrize("is_open", [True, False])
async def test_what_the_server_said_of_a_copy_is_not_applied_to_another(
    processes: Processes, is_open: bool
) -> None:
    await processes.one.install_snapshot(DOC, snapshot(1, "new"), None, is_new_history=True)
    doc = processes.docs[1] if is_open else None
    with pytest.raises(OutdatedAnswerError) as caught:
        await processes.two.apply_server_changes(DOC, [committed(2, "/lost")], doc)
    assert (caught.value.rev, caught.value.is_replaced) == (1, True)
    options = await processes.two.sync_options(DOC)
    assert options is not None
    assert options["token"] == "new"
    assert await processes.two.apply_server_changes(DOC, [committed(2, "/n")], doc)
    assert doc is None or doc.state == {"n": 1}


async def test_an_edit_that_finds_another_history_tells_the_coordinator(
    processes: Processes,
) -> None:
    await processes.one.install_snapshot(DOC, snapshot(4, "new"), None, is_new_history=True)
    doc = processes.docs[1]
    doc.apply([{"op": "replace", "path": "/y", "value": 2}])
    await processes.two.handle_doc_change(DOC, doc.unsaved[-1], doc, {}, "edit")
    assert (doc.state, doc.committed_rev) == ({"y": 2}, 4)
    assert processes.told == [(DOC, 4)]


async def test_the_token_of_another_copy_is_not_stored(processes: Processes) -> None:
    await processes.one.install_snapshot(DOC, snapshot(1, "new"), None, is_new_history=True)
    await processes.two.receive_token(DOC, "late")
    history = await processes.store.read(DOC, lambda tables: tables.history())
    assert history.token == "new"


async def test_the_server_is_asked_about_the_newest_change_that_any_process_has_stored(
    processes: Processes,
) -> None:
    await processes.one.apply_server_changes(DOC, [committed(2, "/lost")], processes.docs[0])
    assert await processes.two.get_committed_rev(DOC) == 2
    options = await processes.two.sync_options(DOC)
    assert options is not None
    assert options["last"] == [2, "s2"]
