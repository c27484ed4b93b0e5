"""The collections server over its wire: commits, answers, views, subsets."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from patches.errors import InvalidRowError, QueueFullError, UnavailableError
from patches.limits import Limits
from patches_server.collections.interests import Interests
from tests.server.collections.board import DOC, Board, commit, follow, open_board, refused, task


@pytest.fixture
async def board() -> AsyncIterator[Board]:
    async with open_board() as opened:
        yield opened


async def test_a_write_is_answered_with_what_the_sql_made_of_it(board: Board) -> None:
    peer = board.peer()
    empty = await follow(peer)
    assert empty["state"]["tasks"] == {}
    assert empty["schema"] == {"name": "board", "version": 1}
    (change,) = await commit(peer, task("a", title="  Plan "), id="c1", base=0)
    assert (change["id"], change["baseRev"], change["rev"]) == ("c1", 0, 1)
    assert change["author"] == "u1"
    (op,) = change["ops"]
    assert op["path"] == "/tasks/a"
    assert op["value"]["title"] == "Plan"
    assert op["value"]["private"] is False
    assert op["value"]["tags"] == []


async def test_others_are_told_and_the_author_is_not(board: Board) -> None:
    ann, bob = board.peer("u1"), board.peer("u2")
    await follow(ann)
    await follow(bob)
    await commit(ann, task("a"), id="c1", base=0)
    told = await bob.notification("changesCommitted")
    assert told["docId"] == DOC
    assert told["changes"][0]["rev"] == 1
    assert "author" not in told["changes"][0]  # the table has a rule about who sees what
    await commit(bob, {"op": "replace", "path": "/tasks/a/votes", "value": 4}, id="c2", base=1)
    (change,) = (await ann.notification("changesCommitted"))["changes"]
    assert change["ops"][0]["value"]["votes"] == 4
    await commit(bob, {"op": "remove", "path": "/tasks/a"}, id="c3", base=2)
    (change,) = (await ann.notification("changesCommitted"))["changes"]
    assert change["ops"] == [{"op": "remove", "path": "/tasks/a"}]
    assert not bob.unread("changesCommitted")


async def test_an_answer_brings_what_its_sender_has_missed(board: Board) -> None:
    ann, bob = board.peer("u1"), board.peer("u2")
    await follow(ann)
    await commit(ann, task("a"), id="c1", base=0)
    await commit(ann, task("b"), id="c2", base=1)
    changes = await commit(bob, task("x", owner="u2"), id="d1", base=0)
    assert [(change["baseRev"], change["rev"]) for change in changes] == [(0, 2), (2, 3)]
    assert {op["path"] for op in changes[0]["ops"]} == {"/tasks/a", "/tasks/b"}
    assert changes[1]["id"] == "d1"


async def test_an_answer_takes_away_what_its_sender_may_see_no_more(board: Board) -> None:
    bob = board.peer("u2")
    await follow(bob)
    await commit(bob, task("t", owner="u2", private=True), id="c1", base=0)
    await board.documents.write(DOC, lambda sql: sql("UPDATE tasks SET owner = 'u1'"))
    # It has not heard of that yet, and touches the row itself.
    vote = {"op": "replace", "path": "/tasks/t/votes", "value": 1}
    changes = await commit(bob, vote, id="c2", base=1)
    assert [op for change in changes for op in change["ops"]] == [
        {"op": "remove", "path": "/tasks/t"}
    ]


async def test_a_change_that_is_sent_again_is_not_carried_out_again(board: Board) -> None:
    peer = board.peer()
    await follow(peer)
    await commit(peer, task("a"), id="c1", base=0)
    (again,) = await commit(peer, task("a"), id="c1", base=0)
    assert (again["id"], again["baseRev"], again["rev"]) == ("c1", 0, 1)
    assert [op["path"] for op in again["ops"]] == ["/tasks/a"]  # it may have missed the answer
    await commit(peer, task("b"), id="c2", base=1)
    known, missed = await commit(peer, task("a"), id="c1", base=0)
    assert (known["id"], known["baseRev"], known["rev"], known["ops"]) == ("c1", 0, 1, [])
    assert (missed["baseRev"], missed["rev"]) == (1, 2)
    assert {op["path"] for op in missed["ops"]} == {"/tasks/a", "/tasks/b"}


async def test_the_first_refused_change_ends_the_batch(board: Board) -> None:
    peer = board.peer()
    await follow(peer)
    changes = [
        {"id": "c1", "ops": [task("a")], "baseRev": 0},
        {"id": "c2", "ops": [task("b", owner="u2")]},
        {"id": "c3", "ops": [task("c")]},
    ]
    error = await peer.error("commitChanges", DOC, changes)
    assert error["code"] == 403
    assert error["data"]["changeId"] == "c2"
    assert error["message"] == "owner must be you"
    changes = await peer.result("commitChanges", DOC, [changes[0], changes[2]])
    assert [change["id"] for change in changes["changes"]] == ["c1", "c3"]
    state = (await peer.result("getDoc", DOC))["state"]
    assert set(state["tasks"]) == {"a", "c"}


async def test_nothing_is_left_of_a_change_whose_code_raises(board: Board) -> None:
    peer = board.peer()
    await follow(peer)
    error = await refused(peer, task("b", title="broken"))
    assert error["code"] == 503
    assert error["data"]["ref"]
    found = await peer.result("getDoc", DOC)
    assert (found["rev"], found["state"]["tasks"]) == (0, {})


@pytest.mark.parametrize(
    ("op", "code", "reason"),
    [
        (task("a"), 409, "ROW_EXISTS"),
        ({"op": "replace", "path": "/tasks/x/votes", "value": 1}, 409, "ROW_NOT_FOUND"),
        ({"op": "test", "path": "/tasks/a/votes", "value": 3}, 409, "EXPECTATION_FAILED"),
        ({"op": "add", "path": "/labels/l", "value": {"id": "l", "name": "n"}}, 403, "DENIED"),
        ({"op": "replace", "path": "/tasks/a/votes", "value": "3"}, 400, None),
        ({"op": "replace", "path": "/tasks/a/nothing", "value": 3}, 400, None),
        ({"op": "replace", "path": "/tasks/a/id", "value": "b"}, 400, None),
        ({"op": "add", "path": '/ta"sks; --/a', "value": {}}, 400, None),
        ({"op": "add", "path": "/tasks", "value": {}}, 400, None),
        (
            {"op": "add", "path": "/tasks/b", "value": {"id": "c", "owner": "u1", "title": "t"}},
            400,
            None,
        ),
        ({"op": "add", "path": "/tasks/" + "x" * 201, "value": {}}, 400, None),
        ({"op": "remove", "path": "/tasks/"}, 400, None),
        ({"op": "move", "path": "/tasks/a", "from": "/tasks/b"}, 400, None),
        ({"op": "replace", "path": "/tasks/a/title", "value": "x" * 300_000}, 413, None),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_a_change_that_does_not_fit_is_refused(
    board: Board, op: Any, code: int, reason: str | None
) -> None:
    peer = board.peer()
    await follow(peer)
    await commit(peer, task("a"), id="c1", base=0)
    ops = [op, {"op": "remove", "path": "/tasks/a"}] if op["op"] == "test" else [op]
    error = await refused(peer, *ops, id="c2")
    assert (error["code"], error["data"]["changeId"]) == (code, "c2")
    assert error["data"]["scope"] == "change"
    assert error["data"].get("code") == reason
    if reason in ("ROW_EXISTS", "ROW_NOT_FOUND", "EXPECTATION_FAILED"):
        assert error["message"].startswith(f"{reason}: ")
    found = await peer.result("getDoc", DOC)
    assert found["rev"] == 1
    assert found["state"]["tasks"]["a"]["votes"] == 0


async def test_a_constraint_is_named(board: Board) -> None:
    await board.documents.write(DOC, lambda sql: sql("CREATE UNIQUE INDEX one ON tasks (title)"))
    peer = board.peer()
    await commit(peer, task("a"), id="c1")
    error = await refused(peer, task("b"))
    assert (error["code"], error["data"]["code"]) == (409, "CONSTRAINT")
    assert "tasks.title" in error["message"]


async def test_deleting_what_is_not_there_succeeds(board: Board) -> None:
    peer = board.peer()
    (change,) = await commit(peer, {"op": "remove", "path": "/tasks/x"}, id="c1", base=0)
    assert (change["rev"], change["ops"]) == (1, [])


async def test_several_columns_of_a_row_are_one_update(board: Board) -> None:
    seen: list[Any] = []

    @board.documents.execute("cards", "update")
    def update(sql: Any, op: Any, ctx: Any) -> None:
        seen.append((op.type, op.columns, op.old["votes"], op.row["votes"]))

    peer = board.peer()
    row = {"id": "k", "category": "x"}
    await commit(peer, {"op": "add", "path": "/cards/k", "value": row}, id="c1")
    writes = [
        {"op": "replace", "path": "/cards/k/votes", "value": 3},
        {"op": "replace", "path": "/cards/k/category", "value": "y"},
    ]
    await commit(peer, *writes, id="c2")
    assert seen == [("update", {"votes": 3, "category": "y"}, 0, 3)]


async def test_an_action_is_carried_out_and_its_operations_are_not(board: Board) -> None:
    peer = board.peer()
    await follow(peer)
    await commit(peer, task("a"), task("b", votes=5), id="c1", base=0)
    action = {"name": "clear", "args": {"below": 3}}
    forged = {"op": "remove", "path": "/tasks/b"}
    (change,) = await commit(peer, forged, id="c2", base=1, action=action)
    assert change["ops"] == [{"op": "remove", "path": "/tasks/a"}]
    assert "action" not in change


@pytest.mark.parametrize(
    ("action", "code"),
    [
        ({"name": "clear", "args": {"below": -1}}, 403),
        ({"name": "other", "args": {}}, 403),
        ({"name": "clear", "args": {"below": "1"}}, 400),
        ({"name": "clear", "args": {}}, 400),
        ({"name": "clear", "args": {"below": 1, "sql": "x"}}, 400),
        ({"name": "clear", "args": [1]}, 400),
        ("clear", 400),
    ],
    ids=str,
)
async def test_an_action_that_is_not_one_is_refused(board: Board, action: Any, code: int) -> None:
    error = await refused(board.peer(), action=action)
    assert error["code"] == code
    assert error["data"]["scope"] == "change"


async def test_authorize_is_asked_again_if_the_row_has_moved(board: Board) -> None:
    asked: list[str] = []
    documents = board.documents

    @documents.authorize("labels", "update")
    async def rule(ctx: Any, op: Any) -> None:
        asked.append(op.old["name"])
        if len(asked) == 1:
            await documents.write(DOC, lambda sql: sql("UPDATE labels SET name = 'new'"))

    await documents.push(DOC, "labels", id="l", name="old")
    await commit(board.peer(), {"op": "replace", "path": "/labels/l/name", "value": "x"}, id="c")
    assert asked == ["old", "new"]


async def test_a_rule_that_fails_is_no_permission(board: Board) -> None:
    @board.documents.authorize("labels", "insert")
    async def rule(ctx: Any, op: Any) -> None:
        raise ValueError("a bug")

    op = {"op": "add", "path": "/labels/l", "value": {"id": "l", "name": "n"}}
    assert (await refused(board.peer(), op))["code"] == 503


async def test_sql_that_runs_too_long_is_broken_off(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("patches_server.collections.execute.TIME_LIMIT_S", 0.05)
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "

    @board.documents.action("read")
    def read(sql: Any, ctx: Any) -> None:
        sql(endless + "SELECT count(*) AS n FROM n")

    @board.documents.action("write")
    def write(sql: Any, ctx: Any) -> None:
        sql("DELETE FROM tasks")
        sql(endless + "INSERT INTO labels SELECT 'l' || i, 'n' FROM n")

    peer, other = board.peer(), board.peer("u2")
    await follow(peer)
    await follow(other)
    await commit(peer, task("a"), id="c1", base=0)
    for name in ("read", "write"):
        error = await refused(peer, id=name, action={"name": name, "args": {}})
        assert error["code"] == 503, name
    found = await peer.result("getDoc", DOC)
    assert (found["rev"], set(found["state"]["tasks"]), found["state"]["labels"]) == (1, {"a"}, {})
    await commit(peer, task("b"), id="c2", base=1)
    revs = [
        change["rev"]
        for frame in other.unread("changesCommitted")
        for change in frame["params"]["changes"]
    ]
    assert revs == [1, 2]


async def test_what_was_not_stored_after_all_is_taken_back(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("patches_server.collections.execute.TIME_LIMIT_S", 0.05)

    @board.documents.action("endless")
    def endless(sql: Any, ctx: Any) -> None:
        sql(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
            "INSERT INTO labels SELECT 'l' || i, 'n' FROM n"
        )

    documents, peer = board.documents, board.peer()
    await follow(peer)
    results = await asyncio.gather(  # one transaction on disk, which SQLite gives up
        documents.push(DOC, "labels", id="first", name="n"),
        documents.call(DOC, "endless"),
        return_exceptions=True,
    )
    assert all(isinstance(result, Exception) for result in results)
    assert (await peer.result("getChangesSince", DOC, 0)) == []
    await documents.push(DOC, "labels", id="second", name="n")
    told = [frame["params"]["changes"] for frame in peer.unread("changesCommitted")]
    ops = [op["path"] for changes in told for change in changes for op in change["ops"]]
    assert ops == ["/labels/second"]


async def test_a_connection_holds_a_bounded_number_of_subsets(board: Board) -> None:
    peer = board.peer()
    await follow(peer)
    for start in (0, 100):
        stated = [
            {"id": f"s{number}", "table": "cards", "where": ["=", "votes", number]}
            for number in range(start, start + 100)
        ]
        answer = await peer.call("getDoc", DOC, {"subsets": stated})
        assert ("error" in answer) == (start == 100)
    error = await peer.error("loadSubset", DOC, {"id": "more", "table": "cards"})
    assert error["code"] == 400


async def test_scenario_46_many_subscribers_are_told_and_a_slow_one_is_let_go() -> None:
    limits = Limits(max_response_buffer_bytes=20_000)
    async with open_board(limits=limits) as board:
        peers = [board.peer(f"u{number}") for number in range(200)]
        for peer in peers:
            await follow(peer)
        slow = board.peer("slow")
        await follow(slow)
        for number in range(50):
            await board.documents.push(DOC, "labels", id=f"l{number}", name="x" * 1_000)
            for peer in peers:
                (frame,) = peer.unread("changesCommitted")
                assert frame["params"]["changes"][0]["rev"] == number + 1
                peer._unread.clear()
        closing = slow.session.outbox.closing
        assert closing is not None
        assert closing.code == 1013
        again = board.peer("slow")
        await again.result("subscribe", DOC)
        (change,) = await again.result("getChangesSince", DOC, 0)
        assert len(change["ops"]) == 50


# ---- catching up -------------------------------------------------------------------------------


def write_label(key: str, sql: Any) -> None:
    sql(
        "INSERT INTO labels VALUES (?, 'n') ON CONFLICT DO UPDATE SET name = name || 'x'",
        key,
    )


async def test_catch_up_is_one_change_with_the_net_difference(board: Board) -> None:
    documents = board.documents
    for number in range(20):
        await documents.write(DOC, partial(write_label, f"l{number % 4}"))
    await documents.write(DOC, lambda sql: sql("DELETE FROM labels WHERE id = 'l1'"))
    peer = board.peer()
    (change,) = await peer.result("getChangesSince", DOC, 4)
    assert (change["baseRev"], change["rev"]) == (4, 21)
    assert sorted((op["op"], op["path"]) for op in change["ops"]) == [
        ("add", "/labels/l0"),
        ("add", "/labels/l2"),
        ("add", "/labels/l3"),
        ("remove", "/labels/l1"),
    ]
    assert await peer.result("getChangesSince", DOC, 21) == []
    error = await peer.error("getChangesSince", DOC, 22)
    assert (error["code"], error["data"]["scope"]) == (409, "doc")


async def test_a_token_names_history_and_view(board: Board) -> None:
    ann, bob = board.peer("u1"), board.peer("u2")
    first = await follow(ann, token=None)
    assert first["token"]
    await commit(ann, task("a"), id="c1", base=0)
    answer = await ann.result("getChangesSince", DOC, 0, {"token": first["token"]})
    assert answer["token"] == first["token"]
    error = await bob.error("getChangesSince", DOC, 0, {"token": first["token"]})
    assert (error["code"], error["data"]["scope"]) == (409, "doc")
    await board.documents.new_history(DOC)
    assert (await ann.notification("changesCommitted"))["changes"] == []
    for method, params in (
        ("getChangesSince", (0, {"token": first["token"]})),
        ("commitChanges", ([{"id": "x", "ops": []}], {"token": first["token"]})),
        ("loadSubset", ({"id": "s", "table": "cards"}, {"token": first["token"]})),
    ):
        error = await ann.error(method, DOC, *params)
        assert (error["code"], error["data"]["scope"]) == (409, "doc"), method


async def test_a_deletion_that_is_forgotten_sends_older_copies_away(board: Board) -> None:
    documents = board.documents
    documents._retention_ms = -1000
    await documents.push(DOC, "labels", id="a", name="n")
    await documents.write(DOC, lambda sql: sql("DELETE FROM labels"))
    await documents.push(DOC, "labels", id="b", name="n")
    peer = board.peer()
    assert len(await peer.result("getChangesSince", DOC, 1)) == 1
    assert await documents.compact(DOC) == 1
    assert (await peer.error("getChangesSince", DOC, 1))["code"] == 409
    assert len(await peer.result("getChangesSince", DOC, 2)) == 1


# ---- what others write -------------------------------------------------------------------------


async def test_another_program_is_followed(tmp_path: Path) -> None:
    async with open_board(tmp_path, poll_s=0.05) as board:
        peer = board.peer()
        await follow(peer)
        file = tmp_path / "board%2f1.sqlite"
        with sqlite3.connect(file) as conn:
            conn.execute("INSERT OR IGNORE INTO labels VALUES ('l', 'by hand')")
        conn.close()
        (change,) = (await peer.notification("changesCommitted"))["changes"]
        assert change["ops"][0]["value"] == {"id": "l", "name": "by hand"}
        assert (change["baseRev"], change["rev"]) == (0, 1)
        with sqlite3.connect(file) as conn:
            conn.execute("UPDATE OR REPLACE labels SET id = 'm' WHERE id = 'l'")
        conn.close()
        (change,) = (await peer.notification("changesCommitted"))["changes"]
        assert [(op["op"], op["path"]) for op in change["ops"]] == [
            ("add", "/labels/m"),
            ("remove", "/labels/l"),
        ]


async def test_a_write_takes_what_others_wrote_before_it_first(tmp_path: Path) -> None:
    async with open_board(tmp_path, poll_s=60) as board:
        peer, other = board.peer(), board.peer("u2")
        await follow(peer)
        await follow(other)
        with sqlite3.connect(tmp_path / "board%2f1.sqlite") as conn:
            conn.execute("INSERT INTO labels VALUES ('l', 'by hand')")
        conn.close()
        missed, own = await commit(peer, task("a"), id="c1", base=0)
        assert (missed["rev"], missed["ops"][0]["path"]) == (1, "/labels/l")
        assert (own["rev"], own["ops"][0]["path"]) == (2, "/tasks/a")
        told = [
            (await other.notification("changesCommitted"))["changes"][0]["rev"] for _ in range(2)
        ]
        assert told == [1, 2]


async def test_a_refused_change_leaves_what_others_wrote(tmp_path: Path) -> None:
    async with open_board(tmp_path, poll_s=60) as board:
        peer = board.peer()
        await follow(peer)
        with sqlite3.connect(tmp_path / "board%2f1.sqlite") as conn:
            conn.execute("INSERT INTO labels VALUES ('l', 'by hand')")
        conn.close()
        assert (await refused(peer, task("a", title="broken")))["code"] == 503
        (change,) = (await peer.notification("changesCommitted"))["changes"]
        assert change["ops"][0]["path"] == "/labels/l"
        assert (await peer.result("getDoc", DOC))["rev"] == 1


# ---- views -------------------------------------------------------------------------------------


async def test_rows_that_a_user_may_not_see_are_not_sent(board: Board) -> None:
    ann, bob = board.peer("u1"), board.peer("u2")
    await follow(ann)
    await follow(bob)
    await commit(ann, task("secret", private=True), id="c1", base=0)
    await commit(ann, task("open"), id="c2", base=1)
    (change,) = (await bob.notification("changesCommitted"))["changes"]
    assert (change["baseRev"], change["rev"]) == (0, 2)  # a hole, not a loss
    assert [op["path"] for op in change["ops"]] == ["/tasks/open"]
    await commit(ann, {"op": "replace", "path": "/tasks/open/private", "value": True}, id="c3")
    (change,) = (await bob.notification("changesCommitted"))["changes"]
    assert change["ops"] == [{"op": "remove", "path": "/tasks/open"}]
    await commit(ann, {"op": "remove", "path": "/tasks/secret"}, id="c4")
    await commit(ann, {"op": "replace", "path": "/tasks/open/private", "value": False}, id="c5")
    (change,) = (await bob.notification("changesCommitted"))["changes"]
    assert (change["baseRev"], change["rev"]) == (3, 5)
    assert [op["path"] for op in change["ops"]] == ["/tasks/open"]
    assert "secret" not in str(bob.unread())


async def test_changed_claims_send_the_copy_away(board: Board) -> None:
    ann = board.peer("u1")
    token = (await follow(ann, token=None))["token"]
    await board.documents.access_changed("u1")
    assert (await ann.notification("changesCommitted"))["changes"] == []
    # The same claims: nothing to fetch anew.
    answer = await ann.result("getChangesSince", DOC, 0, {"token": token})
    assert answer["changes"] == []


# ---- subsets -----------------------------------------------------------------------------------


def card(key: str, category: str = "x", votes: int = 0) -> dict[str, Any]:
    row = {"id": key, "category": category, "votes": votes}
    return {"op": "add", "path": f"/cards/{key}", "value": row}


async def test_a_subset_is_loaded_followed_and_unloaded(board: Board) -> None:
    ann, bob = board.peer("u1"), board.peer("u2")
    await commit(ann, card("a"), card("b", "y"), id="c1")
    assert (await follow(bob))["state"]["cards"] == {}
    subset = {"id": "s", "table": "cards", "where": ["=", "category", "x"]}
    loaded = await bob.result("loadSubset", DOC, subset)
    assert (loaded["rev"], loaded["keys"], loaded["more"]) == (1, ["a"], False)
    assert loaded["ops"] == [card("a")]
    await commit(ann, card("c"), card("d", "y"), id="c2")
    (change,) = (await bob.notification("changesCommitted"))["changes"]
    assert [op["path"] for op in change["ops"]] == ["/cards/c"]
    moves = [
        {"op": "replace", "path": "/cards/a/category", "value": "y"},
        {"op": "replace", "path": "/cards/b/category", "value": "x"},
    ]
    await commit(ann, *moves, id="c3")
    (change,) = (await bob.notification("changesCommitted"))["changes"]
    assert [(op["op"], op["path"]) for op in change["ops"]] == [
        ("add", "/cards/b"),
        ("remove", "/cards/a"),
    ]
    assert await bob.result("unloadSubset", DOC, "s") is None
    await commit(ann, card("e"), id="c4")
    await commit(ann, task("t"), id="c5")
    (change,) = (await bob.notification("changesCommitted"))["changes"]
    assert [op["path"] for op in change["ops"]] == ["/tasks/t"]


async def test_a_row_that_another_subset_has_stays(board: Board) -> None:
    ann, bob = board.peer("u1"), board.peer("u2")
    await commit(ann, card("a", votes=5), id="c1")
    await follow(bob)
    for name, where in (("s", ["=", "category", "x"]), ("t", [">", "votes", 3])):
        await bob.result("loadSubset", DOC, {"id": name, "table": "cards", "where": where})
    await commit(ann, {"op": "replace", "path": "/cards/a/category", "value": "y"}, id="c2")
    (change,) = (await bob.notification("changesCommitted"))["changes"]
    assert [(op["op"], op["path"]) for op in change["ops"]] == [("add", "/cards/a")]
    await commit(ann, {"op": "replace", "path": "/cards/a/votes", "value": 1}, id="c3")
    (change,) = (await bob.notification("changesCommitted"))["changes"]
    assert change["ops"] == [{"op": "remove", "path": "/cards/a"}]


async def test_a_stated_subset_counts_after_a_reconnection(board: Board) -> None:
    ann, bob = board.peer("u1"), board.peer("u2")
    await commit(ann, card("a"), id="c1")
    subset = {"id": "s", "table": "cards", "where": ["=", "category", "x"]}
    await bob.result("subscribe", DOC)
    assert await bob.result("getChangesSince", DOC, 1, {"subsets": [subset]}) == []
    await commit(ann, {"op": "replace", "path": "/cards/a/category", "value": "y"}, id="c2")
    (change,) = (await bob.notification("changesCommitted"))["changes"]
    assert change["ops"] == [{"op": "remove", "path": "/cards/a"}]


async def test_a_subset_loaded_first_on_a_connection_leaves_what_a_commit_states(
    board: Board,
) -> None:
    ann, bob = board.peer("u1"), board.peer("u2")
    await commit(ann, *(card(f"k{n}", votes=n) for n in range(4)), id="c1")
    window = {"id": "top", "table": "cards", "orderBy": [["votes", "desc"]], "limit": 2}
    shelf = {"id": "y", "table": "cards", "where": ["=", "category", "y"]}
    await bob.result("subscribe", DOC)
    await bob.result("loadSubset", DOC, shelf)  # its window is of the connection before
    await commit(ann, {"op": "replace", "path": "/cards/k0/votes", "value": 9}, id="c2")
    change = {"id": "c3", "baseRev": 1, "ops": [card("k9", votes=1)]}
    options = {"subsets": [window, shelf]}
    answer = await bob.result("commitChanges", DOC, [change], options)
    told = [op["path"] for each in answer["changes"] for op in each["ops"]]
    assert "/cards/k0" in told
    assert answer["changes"][0]["windows"] == {"top": ["k0", "k3"]}
    await commit(ann, {"op": "replace", "path": "/cards/k1/votes", "value": 8}, id="c4")
    (change,) = (await bob.notification("changesCommitted"))["changes"]
    assert change["windows"] == {"top": ["k0", "k1"]}


async def test_a_window_is_exact(board: Board) -> None:
    ann, bob = board.peer("u1"), board.peer("u2")
    await commit(ann, *(card(f"k{n}", votes=n) for n in range(10)), id="c1")
    await follow(bob)
    subset = {
        "id": "top",
        "table": "cards",
        "orderBy": [["votes", "desc"]],
        "limit": 3,
    }
    loaded = await bob.result("loadSubset", DOC, subset)
    assert (loaded["keys"], loaded["more"]) == (["k9", "k8", "k7"], True)

    async def told(change_id: str, *ops: Any) -> tuple[list[Any], list[str]]:
        await commit(ann, *ops, id=change_id)
        (change,) = (await bob.notification("changesCommitted"))["changes"]
        found = sorted((op["op"], op["path"]) for op in change["ops"])
        return found, change["windows"]["top"]

    def votes(key: str, number: int) -> dict[str, Any]:
        return {"op": "replace", "path": f"/cards/{key}/votes", "value": number}

    assert await told("d1", votes("k0", 20)) == (
        [("add", "/cards/k0"), ("remove", "/cards/k7")],
        ["k0", "k9", "k8"],
    )
    assert await told("d2", votes("k9", 0)) == (
        [("add", "/cards/k7"), ("remove", "/cards/k9")],
        ["k0", "k8", "k7"],
    )
    assert await told("d3", {"op": "remove", "path": "/cards/k8"}) == (
        [("add", "/cards/k6"), ("remove", "/cards/k8")],
        ["k0", "k7", "k6"],
    )
    await commit(ann, votes("k1", 2), id="d4")  # outside: nothing to tell
    assert await told("d5", votes("k7", 21)) == ([("add", "/cards/k7")], ["k7", "k0", "k6"])
    more = await bob.result("loadSubset", DOC, {**subset, "limit": 5})
    assert more["keys"] == ["k7", "k0", "k6", "k5", "k4"]
    found = await bob.result("getDoc", DOC)
    assert found["windows"] == {"top": ["k7", "k0", "k6", "k5", "k4"]}
    assert set(found["state"]["cards"]) == set(more["keys"])


@pytest.mark.parametrize(
    "subset",
    [
        None,
        {"table": "cards"},
        {"id": "s", "table": 'ca"rds'},
        {"id": "s", "table": "cards", "where": ["=", "no", 1]},
        {"id": "s", "table": "cards", "where": ["or"]},
        {"id": "s", "table": "cards", "where": "votes > 1"},
        {"id": "s", "table": "cards", "orderBy": [["votes; --", "asc"]], "limit": 1},
        {"id": "s", "table": "cards", "orderBy": [["votes", "up"]], "limit": 1},
        {"id": "s", "table": "cards", "limit": 0},
        {"id": "s", "table": "cards", "limit": True},
        {"id": "s", "table": "cards", "limit": 1_001},
        {"id": "s", "table": "cards", "offset": 1},
    ],
    ids=str,
)
async def test_a_bad_subset_is_refused(board: Board, subset: Any) -> None:
    peer = board.peer()
    await follow(peer)
    assert (await peer.error("loadSubset", DOC, subset))["code"] == 400
    assert (await peer.error("getDoc", DOC, {"subsets": [subset]}))["code"] == 400


async def test_a_document_with_too_many_eager_rows_is_not_sent() -> None:
    async with open_board(max_eager_rows=10) as board:
        await board.documents.write(
            DOC,
            lambda sql: sql(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 11) "
                "INSERT INTO labels SELECT 'l' || i, 'n' FROM n"
            ),
        )
        peer = board.peer()
        error = await peer.error("getDoc", DOC)
        assert error["code"] == 413
        assert "on_demand" in error["message"]
        found = await peer.result("getDoc", DOC, {"onDemand": ["labels"]})
        assert found["state"]["labels"] == {}


async def test_emptying_a_table_is_one_operation(board: Board) -> None:
    documents = board.documents
    await documents.write(
        DOC,
        lambda sql: sql(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000) "
            "INSERT INTO labels SELECT 'l' || i, 'n' FROM n"
        ),
    )
    peer = board.peer()
    await follow(peer)
    await documents.write(DOC, lambda sql: sql("DELETE FROM labels"))
    (change,) = (await peer.notification("changesCommitted"))["changes"]
    assert change["ops"] == [{"op": "add", "path": "/labels", "value": {}}]
    (change,) = await peer.result("getChangesSince", DOC, 1)
    assert change["ops"] == [{"op": "add", "path": "/labels", "value": {}}]


# ---- stores ------------------------------------------------------------------------------------


def message(key: str, role: str = "user", **columns: Any) -> dict[str, Any]:
    row = {"id": key, "role": role, "content": "hi", "user_id": "-", "created_at": 5, **columns}
    return {"op": "add", "path": f"/chat_message/{key}", "value": row}


async def test_the_server_says_whose_a_record_is_and_when_it_was_made(board: Board) -> None:
    peer = board.peer("u1")
    (change,) = await commit(peer, message("m"), id="c1", base=0)
    assert change["ops"] == []  # the store is on demand, and nothing of it is loaded
    loaded = await peer.result("loadSubset", DOC, {"id": "s", "table": "chat_message", "limit": 10})
    row = loaded["ops"][0]["value"]
    assert row["user_id"] == "u1"
    assert row["created_at"] > 1_600_000_000_000
    assert (await refused(peer, message("n", "assistant")))["code"] == 400
    update = {"op": "replace", "path": "/chat_message/m/content", "value": "x"}
    assert (await refused(peer, update))["code"] == 400
    other = board.peer("u2")
    assert (await refused(other, {"op": "remove", "path": "/chat_message/m"}))["code"] == 403
    assert (await refused(board.peer(None), message("o")))["code"] == 403
    loaded = await other.result("loadSubset", DOC, {"id": "s", "table": "chat_message"})
    assert loaded["keys"] == []


async def test_a_singular_record_is_written_whether_there_is_one_or_not(board: Board) -> None:
    peer = board.peer("u1")
    row = {"id": "-", "user_id": "-", "created_at": 0, "theme": "dark", "size": 2}
    (change,) = await commit(
        peer, {"op": "add", "path": "/account/-", "value": row}, id="c1", base=0
    )
    assert change["ops"][0]["path"] == "/account/u1"
    row = {**row, "theme": "light", "size": 3}
    await commit(peer, {"op": "add", "path": "/account/-", "value": row}, id="c2", base=1)
    (change,) = await commit(
        peer, {"op": "replace", "path": "/account/u1/size", "value": 4}, id="c3", base=2
    )
    value = change["ops"][0]["value"]
    assert (value["theme"], value["size"], value["user_id"]) == ("light", 4, "u1")
    other = board.peer("u2")
    (change,) = await commit(
        other, {"op": "replace", "path": "/account/u1/size", "value": 9}, id="d", base=3
    )
    assert change["ops"][0]["path"] == "/account/u2"  # everybody writes to its own


# ---- the server's own calls --------------------------------------------------------------------


async def test_jobs_write_as_clients_do(board: Board) -> None:
    documents, peer = board.documents, board.peer("u1")
    await follow(peer)
    key = await documents.push(DOC, "labels", name="made", as_user="cron")
    (change,) = (await peer.notification("changesCommitted"))["changes"]
    assert (change["author"], change["ops"][0]["value"]) == ("cron", {"id": key, "name": "made"})
    await commit(peer, task("a"), id="c1", base=1)
    await documents.call(DOC, "clear", below=3, as_user="cron")
    (change,) = (await peer.notification("changesCommitted"))["changes"]
    assert change["ops"] == [{"op": "remove", "path": "/tasks/a"}]
    await documents.touch(DOC, "labels")
    (change,) = (await peer.notification("changesCommitted"))["changes"]
    assert change["ops"][0]["path"] == f"/labels/{key}"


async def test_handlers_are_told_in_order(board: Board) -> None:
    events: list[Any] = []
    enough = asyncio.Event()

    @board.documents.on("labels", "create", "update", "delete")
    async def index(event: Any) -> None:
        events.append((event.action, event.key, event.rev, event.author))
        if len(events) == 3:
            enough.set()

    documents = board.documents
    await documents.push(DOC, "labels", id="l", name="a", as_user="cron")
    await documents.write(DOC, lambda sql: sql("UPDATE labels SET name = 'b'"))
    await documents.write(DOC, lambda sql: sql("DELETE FROM labels"))
    async with asyncio.timeout(5):
        await enough.wait()
    assert events == [
        ("create", "l", 1, "cron"),
        ("update", "l", 2, None),
        ("delete", "l", 3, None),
    ]


async def test_a_row_that_was_replaced_and_deleted_at_once_is_gone(board: Board) -> None:
    events: list[str] = []
    board.documents.on("labels", "create", "update", "delete")(
        lambda event: events.append(event.action)
    )
    peer = board.peer()
    await board.documents.push(DOC, "labels", id="l", name="a")
    await follow(peer)

    def replace_and_delete(sql: Any) -> None:
        sql("INSERT OR REPLACE INTO labels VALUES ('l', 'b')")
        sql("DELETE FROM labels")

    await board.documents.write(DOC, replace_and_delete)
    (change,) = (await peer.notification("changesCommitted"))["changes"]
    assert change["ops"] == [{"op": "remove", "path": "/labels/l"}]
    await board.documents.push(DOC, "labels", id="l", name="c")
    async with asyncio.timeout(5):
        while len(events) < 3:  # noqa: ASYNC110  # handlers are called on their own
            await asyncio.sleep(0.01)
    assert events == ["create", "delete", "create"]


async def test_a_durable_handler_gets_what_it_missed(tmp_path: Path) -> None:
    async with open_board(tmp_path) as board:
        await board.documents.push(DOC, "labels", id="l", name="a")
        await board.documents.push(DOC, "labels", id="m", name="a")
    events: list[str] = []
    enough = asyncio.Event()

    def tell(event: Any) -> None:
        events.append(f"{event.action} {event.key}")
        enough.set()

    for _ in range(2):  # the second time there is nothing to catch up
        engine_folder = tmp_path
        async with open_board(engine_folder, rules=False) as board:
            board.documents.on("labels", "create", durable="indexer")(tell)
            await board.documents._resume()
            async with asyncio.timeout(5):
                await enough.wait()
                while board.documents._consumers._at_work:  # noqa: ASYNC110  # it has no event
                    await asyncio.sleep(0.01)
    assert events == ["create l", "create m"]


async def test_after_commit_delays_nothing(board: Board) -> None:
    called: list[str] = []

    @board.documents.after_commit("cards", "insert")
    async def mail(ctx: Any, op: Any) -> None:
        called.append(op.key)
        raise RuntimeError("no mail")

    @board.documents.after_commit("cards", "insert")
    async def hang(ctx: Any, op: Any) -> None:
        await asyncio.Event().wait()

    peer = board.peer()
    await commit(peer, card("a"), id="c1")
    await commit(peer, card("b"), id="c2")
    await asyncio.sleep(0)
    assert called == ["a", "b"]


# ---- rows in progress --------------------------------------------------------------------------


async def test_a_stream_is_shown_and_then_committed(board: Board) -> None:
    documents = board.documents
    ann, bob = board.peer("u1"), board.peer("u2")
    await follow(ann, subsets=[{"id": "s", "table": "chat_message", "limit": 9}])
    await follow(bob)
    async with documents.stream(
        DOC, "chat_message", user_id="u1", role="assistant", content=""
    ) as row:
        first = (await ann.notification("changesPartial"))["changes"][0]
        assert first["ops"][0]["value"]["content"] == ""
        for letter in "hello":
            await row.update(content=row.content + letter)
        late = board.peer("u1")
        await follow(late)
        shown = (await late.notification("changesPartial"))["changes"][0]
        assert shown["ops"][0]["value"]["content"] == "hello"
        content = ""
        while content != "hello":  # the last one is never left out
            shown = (await ann.notification("changesPartial"))["changes"][0]
            content = shown["ops"][0]["value"]["content"]
        assert (await ann.result("getDoc", DOC))["rev"] == 0
    (change,) = (await ann.notification("changesCommitted"))["changes"]
    assert change["ops"][0]["value"]["content"] == "hello"
    while shown["ops"][0]["op"] != "remove":
        shown = (await ann.notification("changesPartial"))["changes"][0]
    assert shown["ops"] == [{"op": "remove", "path": f"/chat_message/{row.key}"}]
    assert not bob.unread("changesPartial")


async def test_a_stream_is_shown_twenty_times_a_second(board: Board) -> None:
    peer = board.peer("u1")
    await follow(peer)
    loop = asyncio.get_running_loop()
    begun = loop.time()
    async with board.documents.stream(DOC, "labels", name="") as row:
        while loop.time() < begun + 0.4:
            await row.update(name=row.name + "x")
            await asyncio.sleep(0.002)
        await asyncio.sleep(0.06)
        shown = peer.unread("changesPartial")
        took = loop.time() - begun
        assert 2 <= len(shown) <= 20 * took + 2
        assert shown[-1]["params"]["changes"][0]["ops"][0]["value"]["name"] == row.name


async def test_a_document_has_a_bounded_number_of_streams(board: Board) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(100):
            await stack.enter_async_context(board.documents.stream(DOC, "labels", name="a"))
        with pytest.raises(QueueFullError):
            await stack.enter_async_context(board.documents.stream(DOC, "labels", name="a"))
    assert (await board.documents.get_doc(DOC)).rev == 100


async def test_a_stream_takes_what_its_table_takes(board: Board) -> None:
    with pytest.raises(InvalidRowError, match=r"labels\.name"):
        board.documents.stream(DOC, "labels", name=3)
    async with board.documents.stream(DOC, "labels", name="a") as row:
        with pytest.raises(InvalidRowError, match=r"labels\.name"):
            await row.update(name=3)
    with pytest.raises(RuntimeError, match="ended"):
        await row.update(name="b")


async def test_a_stream_that_fails_is_taken_back(board: Board) -> None:
    peer = board.peer("u1")
    await follow(peer)
    with pytest.raises(ValueError, match="stop"):
        async with board.documents.stream(DOC, "labels", name="a"):
            raise ValueError("stop")
    ops = [
        (await peer.notification("changesPartial"))["changes"][0]["ops"][0]["op"] for _ in range(2)
    ]
    assert ops == ["add", "remove"]
    assert (await peer.result("getDoc", DOC))["rev"] == 0


async def test_a_deleted_document_is_gone_and_starts_empty(tmp_path: Path) -> None:
    async with open_board(tmp_path) as board:
        ann, bob = board.peer("u1"), board.peer("u2")
        await follow(bob)
        await commit(ann, task("a"), id="c1")
        await ann.result("deleteDoc", DOC)
        assert (await bob.notification("docDeleted"))["docId"] == DOC
        assert not [name for name in os.listdir(tmp_path) if name.startswith("board")]
        for method, params in (
            ("getDoc", ()),
            ("getChangesSince", (0,)),
            ("commitChanges", ([{"id": "c2", "ops": [task("b")]}],)),
            ("loadSubset", ({"id": "s", "table": "cards"},)),
        ):
            assert (await bob.error(method, DOC, *params))["code"] == 410, method
        assert await ann.result("undeleteDoc", DOC) is True
        found = await ann.result("getDoc", DOC)
        assert (found["rev"], found["state"]["tasks"]) == (0, {})


async def stopped_in_the_middle(board: Board, *, update: bool) -> None:
    async with board.documents.stream(DOC, "labels", name="a") as row:
        board.documents.streams.close()
        if update:
            await row.update(name="b")


@pytest.mark.parametrize("update", [True, False])
async def test_the_writer_of_a_row_in_progress_learns_that_the_server_stops(
    board: Board, update: bool
) -> None:
    with pytest.raises(UnavailableError, match="the server stops"):
        await stopped_in_the_middle(board, update=update)
    assert await board.documents.write(DOC, lambda sql: sql("SELECT * FROM labels")) == []


async def test_a_commit_is_put_together_once_for_all_that_hold_the_same(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    views, view = 0, Interests._view

    def counted(self: Interests, *args: Any) -> Any:
        nonlocal views
        views += 1
        return view(self, *args)

    peers = [board.peer("u1") for _ in range(50)]
    for peer in peers:
        await follow(peer)
    monkeypatch.setattr(Interests, "_view", counted)
    await board.documents.push(DOC, "labels", id="l", name="n")
    assert views == 1
    for peer in peers:
        assert len((await peer.notification("changesCommitted"))["changes"]) == 1
    await commit(peers[0], task("t"), id="c1")
    assert views == 3  # one for its sender
