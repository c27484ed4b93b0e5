"""A snapshot goes over the copy that the server was asked about, and takes unsent work along."""

from __future__ import annotations

from typing import Any

import pytest

from patches.algorithms.ot import OTAlgorithm
from patches.algorithms.ot.doc import OTDoc
from patches.algorithms.ot.stores.memory import OTMemoryStore
from patches.client.patches import Patches
from patches.errors import ChangeRefusedError, ErrorContext, OutdatedAnswerError
from patches.model.change import Change, QuarantinedChange, Snapshot
from patches.model.json_values import Json, Op
from patches.testing.contracts.ot_client_steps import DOC, committed_rev, pending, save
from patches.testing.virtual_time import idle, virtual_time


def add(path: str, value: Json = 1) -> Op:
    return {"op": "add", "path": path, "value": value}


def snapshot(rev: int, token: str = "t", **state: Json) -> Snapshot:
    return Snapshot(state=state, rev=rev, metadata={"token": token})


def committed(rev: int, *ops: Op) -> Change:
    return Change(id=f"s{rev}", ops=list(ops), base_rev=rev - 1, rev=rev, created_at=1)


class Processes:
    """Two processes on one store, both at revision 1, which the server was asked about."""

    def __init__(self) -> None:
        self.store = OTMemoryStore()
        self.one, self.two = OTAlgorithm(self.store), OTAlgorithm(self.store)
        self.told: list[tuple[str, int]] = []

    async def open(self) -> Processes:
        await self.one.install_snapshot(DOC, snapshot(1, log=["a"]), None)
        self.docs: list[OTDoc] = []
        for algorithm in (self.one, self.two):
            await algorithm.sync_options(DOC)
            self.docs.append(algorithm.create_doc(DOC, await algorithm.load_doc(DOC)))
        self.two.attach(self)  # type: ignore[arg-type]  # a host that is only told
        return self

    def replaced(self, doc_id: str, rev: int) -> None:
        self.told.append((doc_id, rev))


@pytest.fixture
async def processes() -> Processes:
    return await Processes().open()


# ---- unsent work on another history --------------------------------------------------------------


async def test_what_follows_a_change_that_does_not_apply_is_set_aside_with_it(
    processes: Processes,
) -> None:
    told: list[QuarantinedChange] = []
    errors: list[tuple[str | None, Exception]] = []
    processes.one.on_quarantined(told.append)
    processes.one.on_error(lambda error, context: errors.append((context.change_id, error)))
    ops = {"fine": "/n", "broken": "/log/1", "behind": "/m", "last": "/k"}
    for change_id, path in ops.items():
        await save(processes.store, pending(change_id, base_rev=1, rev=2, ops=[add(path)]))
    doc = processes.docs[0]
    await processes.one.install_snapshot(DOC, snapshot(7, log=[]), doc, is_new_history=True)
    assert [entry.change_id for entry in told] == ["broken", "behind", "last"]
    assert told == await processes.one.list_quarantined_changes(DOC)
    assert [change_id for change_id, _ in errors] == ["broken", "behind", "last"]
    assert all(isinstance(error, ChangeRefusedError) for _, error in errors)
    (left,) = await processes.one.list_pending(DOC, doc)
    assert (left.id, left.base_rev, left.rev) == ("fine", 7, 8)
    assert doc.state == {"log": [], "n": 1}


async def test_one_transaction_installs_a_history_and_judges_the_work_on_it(
    processes: Processes,
) -> None:
    """A process that ends right after it, or whose store fails then, leaves nothing unjudged."""
    await save(processes.store, pending("broken", base_rev=1, rev=2, ops=[add("/log/1")]))
    calls: list[str] = []

    class Counted:
        def __getattr__(self, name: str) -> Any:
            calls.append(name)
            return getattr(processes.store, name)

    algorithm = OTAlgorithm(Counted())
    await algorithm.install_snapshot(DOC, snapshot(7, log=[]), None, is_new_history=True)
    assert [name for name in calls if not name.startswith("load")] == ["install_doc"]
    assert [entry.change_id for entry in await processes.store.list_quarantined_changes(DOC)] == [
        "broken"
    ]


async def test_work_that_stands_on_a_revision_the_server_does_not_know_is_judged_too(
    processes: Processes,
) -> None:
    ops = [add("/log/1")]
    await save(processes.store, pending("ahead", base_rev=9, rev=10, ops=ops))
    await processes.one.install_snapshot(DOC, snapshot(1, log=[]), None)
    (entry,) = await processes.one.list_quarantined_changes(DOC)
    assert entry.change_id == "ahead"


async def test_unsaved_edits_behind_work_that_is_set_aside_go_with_it(
    processes: Processes,
) -> None:
    await save(processes.store, pending("broken", base_rev=1, rev=2, ops=[add("/log/1")]))
    doc = processes.docs[0]
    doc.apply([add("/k")])
    (live,) = doc.unsaved
    await processes.one.install_snapshot(DOC, snapshot(7, log=[]), doc, is_new_history=True)
    assert (doc.state, list(doc.unsaved), doc.holds(live)) == ({"log": []}, [], True)
    assert await processes.one.handle_doc_change(DOC, live, doc, {"by": "ada"}, "mine") == []
    first, second = await processes.one.list_quarantined_changes(DOC)
    assert (first.change_id, second.change_id) == ("broken", "mine")
    assert (second.change.ops, second.change.metadata) == ([add("/k")], {"by": "ada"})
    assert not doc.holds(live)


@virtual_time
async def test_an_edit_that_was_not_stored_and_does_not_apply_any_more_is_set_aside() -> None:
    told: list[QuarantinedChange] = []
    errors: list[tuple[Exception, ErrorContext]] = []
    async with Patches() as patches:
        doc = await patches.open_doc("d")
        algorithm = patches.algorithm_of("d")
        await algorithm.install_snapshot("d", snapshot(1, log=["a"]), doc)
        patches.on_change_quarantined(lambda _id, entry: told.append(entry))
        patches.on_error(lambda error, context: errors.append((error, context)))
        doc.change(lambda draft: draft.log.append("mine"))
        doc.change(lambda draft: draft.update(n=1))
        other = snapshot(1, "new", log="a text")
        await algorithm.install_snapshot("d", other, doc, is_new_history=True)
        await doc.flush()
        await idle()
        assert doc.state == {"log": "a text", "n": 1}
        (entry,) = await patches.list_quarantined_changes("d")
        assert told == [entry]
        assert entry.change.ops[0]["value"] == "mine"
        ((error, context),) = errors
        assert isinstance(error, ChangeRefusedError)
        assert (context.doc_id, context.change_id) == ("d", entry.change_id)
        (left,) = await algorithm.list_pending("d", doc)
        assert left.ops == [{"op": "replace", "path": "/n", "value": 1}]


async def test_an_edit_on_its_way_to_the_store_outlives_a_history_that_another_process_installs(
    processes: Processes,
) -> None:
    """What differs between the two histories says nothing against keys that are in neither."""
    one, two = processes.docs
    await processes.one.install_snapshot(
        DOC, snapshot(5, table={"theirs": 1}), one, is_new_history=True
    )
    await processes.two.apply_server_changes(DOC, [], two)
    two.apply([add("/table/mine")])
    (live,) = two.unsaved
    await processes.one.sync_options(DOC)
    await processes.one.install_snapshot(
        DOC, snapshot(3, "new", table={"others": 1}), one, is_new_history=True
    )
    await processes.two.handle_doc_change(DOC, live, two, {})
    assert two.state == {"table": {"others": 1, "mine": 1}}
    (left,) = await processes.two.list_pending(DOC, two)
    assert left.ops == [add("/table/mine")]


async def test_an_edit_of_what_another_history_does_not_have_is_set_aside(
    processes: Processes,
) -> None:
    one, two = processes.docs
    two.apply([add("/log/1", "mine")])
    (live,) = two.unsaved
    await processes.one.install_snapshot(DOC, snapshot(7, title="x"), one, is_new_history=True)
    assert await processes.two.handle_doc_change(DOC, live, two, {}, "mine") == []
    assert two.state == {"title": "x"}
    (entry,) = await processes.two.list_quarantined_changes(DOC)
    assert (entry.change_id, entry.change.ops) == ("mine", [add("/log/1", "mine")])


def test_edits_that_are_taken_back_are_not_set_aside() -> None:
    doc = OTDoc(DOC, Snapshot(state={"log": ["a"]}, rev=1))
    doc.apply([add("/log/1")])
    (live,) = doc.unsaved
    doc.import_snapshot(Snapshot(state={}, rev=2))
    assert doc.holds(live)
    doc.rollback_unsaved()
    assert (live, doc.holds(live), doc.edits.has_refused) == ([], False, False)


# ---- what the server said of another copy --------------------------------------------------------


@pytest.mark.parametrize("rev", [1, 5])
async def test_what_the_server_said_of_a_copy_is_not_applied_to_another(
    processes: Processes, rev: int
) -> None:
    await processes.one.install_snapshot(DOC, snapshot(rev, "new"), None, is_new_history=True)
    doc = processes.docs[1]
    with pytest.raises(OutdatedAnswerError) as caught:
        await processes.two.apply_server_changes(DOC, [committed(2, add("/lost"))], doc)
    assert (caught.value.rev, caught.value.is_replaced) == (rev, True)
    assert (doc.state, doc.committed_rev) == ({}, rev)
    assert processes.told == [(DOC, rev)]
    options = await processes.two.sync_options(DOC)  # it is asked about the one that is there
    assert options is not None
    assert options["token"] == "new"
    change = committed(rev + 1, add("/n"))
    assert await processes.two.apply_server_changes(DOC, [change], doc) == [change]


async def test_a_document_that_is_not_open_has_no_part_in_another_history_either(
    processes: Processes,
) -> None:
    await processes.one.install_snapshot(DOC, snapshot(1, "new"), None, is_new_history=True)
    for _ in range(2):
        with pytest.raises(OutdatedAnswerError):
            await processes.two.apply_server_changes(DOC, [committed(2, add("/lost"))], None)
    await processes.two.sync_options(DOC)
    assert await processes.two.apply_server_changes(DOC, [committed(2, add("/n"))], None)


async def test_a_history_that_another_process_has_installed_is_not_installed_again(
    processes: Processes,
) -> None:
    """What was made on it in between would be moved onto nothing."""
    await processes.one.install_snapshot(DOC, snapshot(1, "new"), None, is_new_history=True)
    await save(processes.store, pending("on it", base_rev=1, rev=2))
    asked_before = snapshot(1, "new")
    with pytest.raises(OutdatedAnswerError):
        await processes.two.install_snapshot(
            DOC, asked_before, processes.docs[1], is_new_history=True, asked_at=1
        )
    assert [change.id for change in processes.docs[1].pending] == ["on it"]


@pytest.mark.parametrize("is_open", [True, False])
async def test_a_snapshot_does_not_set_back_what_was_received_since_it_was_asked_for(
    processes: Processes, is_open: bool
) -> None:
    doc = processes.docs[0] if is_open else None
    await processes.one.apply_server_changes(DOC, [committed(2, add("/n"))], doc)
    with pytest.raises(OutdatedAnswerError) as caught:
        await processes.one.install_snapshot(DOC, snapshot(1, log=["a"]), doc, asked_at=1)
    assert (caught.value.rev, caught.value.is_replaced) == (2, False)
    assert await committed_rev(processes.store) == 2
    # asked at 2, the server has less: it was set back
    await processes.one.install_snapshot(DOC, snapshot(1, log=["a"]), doc, asked_at=2)
    assert await committed_rev(processes.store) == 1


async def test_the_token_of_another_copy_is_not_stored(processes: Processes) -> None:
    await processes.one.install_snapshot(DOC, snapshot(1, "new"), None, is_new_history=True)
    await processes.two.receive_token(DOC, "late")
    assert (await processes.store.get_history(DOC)).token == "new"


@pytest.mark.parametrize("is_open", [True, False])
async def test_the_server_is_asked_about_the_newest_change_that_any_process_has_stored(
    processes: Processes, is_open: bool
) -> None:
    """By an older one it would find nothing wrong with a copy whose newest change it has lost."""
    doc = processes.docs[1] if is_open else None
    await processes.one.apply_server_changes(DOC, [committed(2, add("/lost"))], processes.docs[0])
    assert await processes.two.get_committed_rev(DOC) == 2
    await processes.two.apply_server_changes(DOC, [], doc)
    options = await processes.two.sync_options(DOC)
    assert options is not None
    assert options["last"] == [2, "s2"]


@pytest.mark.parametrize("is_open", [True, False])
async def test_what_follows_on_another_change_than_the_stored_one_is_not_applied(
    processes: Processes, is_open: bool
) -> None:
    doc = processes.docs[1] if is_open else None
    await processes.one.apply_server_changes(DOC, [committed(2, add("/lost"))], processes.docs[0])
    theirs = [committed(2, add("/n")).replace(id="other"), committed(3, add("/m"))]
    with pytest.raises(OutdatedAnswerError) as caught:
        await processes.two.apply_server_changes(DOC, theirs, doc)
    assert caught.value.is_replaced
    assert await committed_rev(processes.store) == 2
    same = [committed(2, add("/lost")), committed(3, add("/m"))]
    assert await processes.two.apply_server_changes(DOC, same, doc) == same[1:]
