"""What a server of collections does, as its clients see it: over real sockets, with files."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from patches.algorithms.collections import (
    Collections,
    CollectionsAlgorithm,
    CollectionsDoc,
    EventStore,
    SingularStore,
)
from patches.errors import InvalidError, RejectedError, UnavailableError
from patches.rows import F
from patches.testing.fixtures import ClientFixture, ServerFixture
from patches_server.auth.access import Principal
from patches_server.collections import CollectionsServer, SQLiteEngine, collections
from tests.server.collections.board import add_rules, new_declaration

DOC = "board/1"


class ByHeader:
    """Signs in whoever a header names; everybody may do everything with documents."""

    def __init__(self) -> None:
        self.claims: dict[str, dict[str, Any]] = {}

    async def authenticate(self, request: web.Request) -> Principal:
        return Principal(id=request.headers["X-User"])

    async def can_access(self, *_: object) -> bool:
        return True


class Member:
    """A client with the document open."""

    def __init__(self, client: ClientFixture, doc: CollectionsDoc) -> None:
        self.client, self.doc = client, doc
        self.seen: list[Any] = []
        doc.subscribe(self.seen.append)

    def __getitem__(self, table: str) -> Any:
        return self.doc.collection(table)

    @property
    def tasks(self) -> Any:
        return self.doc.collection("tasks")

    @property
    def messages(self) -> EventStore:
        store = self.doc.store("chat_message")
        assert isinstance(store, EventStore)
        return store

    @property
    def account(self) -> SingularStore:
        store = self.doc.store("account")
        assert isinstance(store, SingularStore)
        return store


class Stage:
    """A server with the board, and clients that follow it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.auth = folder, ByHeader()
        self.declared = new_declaration()
        self.start_anew()

    def start_anew(self, **options: Any) -> None:
        """Another server process, over the same files."""
        self.documents = CollectionsServer(
            self.declared,
            engine=SQLiteEngine(self.folder, durability="relaxed"),
            claims=lambda principal: self.auth.claims.get(principal.id, {}),
            poll_s=0.1,
            **options,
        )
        add_rules(self.documents)
        self.server = ServerFixture(
            {
                "auth": self.auth,
                "algorithms": [collections(self.documents)],
                "routes": {"*": "collections"},
            }
        )

    async def member(
        self,
        user: str = "u1",
        *,
        connect: bool = True,
        declared: Collections | None = None,
        **options: Any,
    ) -> Member:
        client = await self.server.client(
            algorithms=[CollectionsAlgorithm(declared or self.declared)],
            websocket={"headers": {"X-User": user}},
            connect=connect,
            **options,
        )
        doc = await client.open_doc(DOC, algorithm="collections")
        assert isinstance(doc, CollectionsDoc)
        if connect:
            await client.sync.settled(10)
        return Member(client, doc)

    def database(self) -> sqlite3.Connection:
        """The file, as another program opens it."""
        return sqlite3.connect(self.folder / "board%2f1.sqlite")

    async def sql(self, query: str, *params: Any) -> list[dict[str, Any]]:
        """SQL of the server's own."""
        return await self.documents.write(DOC, lambda sql: sql(query, *params))


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    stage = Stage(tmp_path / "boards")
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(stage.server)
        yield stage


async def until(condition: Callable[[], object]) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  # of anything that shows, on any client
            await asyncio.sleep(0.005)


def many(count: int) -> str:
    """SQL that adds so many labels."""
    return (
        f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count}) "
        "INSERT INTO labels SELECT 'l' || i, 'n' FROM n"
    )


# ---- rules -------------------------------------------------------------------------------------


async def test_scenario_4_a_refused_row_disappears_and_a_later_one_commits(stage: Stage) -> None:
    ann = await stage.member("u1")
    refused = ann.tasks.insert(owner="u2", title="not mine")
    later = ann.tasks.insert(owner="u1", title="mine")
    assert refused.key in ann.tasks
    with pytest.raises(RejectedError, match="owner must be you"):
        await refused
    await later
    assert refused.key not in ann.tasks
    assert later.key in ann.tasks
    (quarantined,) = await ann.client.patches.list_quarantined_changes(DOC)
    assert "owner must be you" in quarantined.reason


async def test_scenario_5_what_rests_on_a_refused_row_is_refused(stage: Stage) -> None:
    ann = await stage.member("u1", connect=False)
    insert = ann.tasks.insert(owner="u2", title="not mine")
    update = ann.tasks.update(insert.key, votes=3)
    await ann.client.sync.connect()
    for write in (insert, update):
        with pytest.raises(RejectedError):
            await write
    await until(lambda: not ann.doc.has_pending)
    assert len(ann.tasks) == 0


async def test_scenario_6_nothing_is_allowed_until_it_is_declared(stage: Stage) -> None:
    ann = await stage.member("u1")
    with pytest.raises(RejectedError, match="not allowed"):
        await ann["labels"].insert(name="mine")
    assert await stage.sql("SELECT * FROM labels") == []


async def test_scenario_7_everybody_gets_what_the_sql_made_of_a_write(stage: Stage) -> None:
    ann, bob = await stage.member("u1"), await stage.member("u2")
    with closing(stage.database()) as conn:
        conn.execute(
            "CREATE TRIGGER counted AFTER INSERT ON tasks BEGIN "
            "INSERT INTO labels VALUES ('t-' || NEW.id, 'by a trigger'); END"
        )
        conn.commit()
    await ann.tasks.insert(id="a", owner="u1", title="  labelled ")
    await ann.tasks.insert(id="b", owner="u1", title="labelled")
    await until(lambda: "b" in bob.tasks)
    for member in (ann, bob):
        assert member.tasks["a"]["title"] == "labelled"
        assert set(member["labels"]) == {"t-a", "l-b", "t-b"}


async def test_scenario_8_nothing_is_left_of_a_change_that_fails(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    ann = await stage.member("u1")
    await ann.tasks.insert(id="a", owner="u1", title="first")
    base = ann.doc.committed_rev
    with caplog.at_level(logging.ERROR, "patches_server.collections"):
        ann.tasks.insert(id="b", owner="u1", title="broken")
        await until(lambda: "the middle" in caplog.text)
    with closing(stage.database()) as conn:
        assert conn.execute("SELECT id FROM tasks").fetchall() == [("a",)]
        assert conn.execute("SELECT rev FROM _patches_meta").fetchone() == (base,)
    assert "b" in ann.tasks  # kept, and tried again


async def test_scenario_12_a_job_calls_an_action_as_a_client_does(stage: Stage) -> None:
    ann = await stage.member("u1")
    await ann.tasks.insert(id="a", owner="u1", title="t")
    events: list[Any] = []
    stage.documents.on("tasks", "delete")(events.append)
    await stage.documents.call(DOC, "clear", below=1, as_user="cron")
    await until(lambda: "a" not in ann.tasks)
    await until(lambda: events)
    assert events[0].author == "cron"


# ---- writes of the server and of others --------------------------------------------------------


async def test_scenario_13_ten_thousand_rows_are_one_revision(stage: Stage) -> None:
    ann, bob = await stage.member("u1"), await stage.member("u2")
    await stage.sql(many(10_000))
    await until(lambda: len(ann["labels"]) == len(bob["labels"]) == 10_000)
    assert ann.doc.committed_rev == bob.doc.committed_rev == 1
    assert ann.doc.state == bob.doc.state


async def test_scenario_14_the_row_of_another_program_arrives(stage: Stage) -> None:
    ann = await stage.member("u1")
    base = ann.doc.committed_rev
    with closing(stage.database()) as conn:
        conn.execute("INSERT INTO labels VALUES ('l', 'by hand')")
        conn.commit()
    async with asyncio.timeout(2):
        while "l" not in ann["labels"]:  # noqa: ASYNC110  # the time is what is tested
            await asyncio.sleep(0.01)
    assert ann.doc.committed_rev == base + 1


async def test_scenario_15_a_slow_transaction_of_another_program_is_not_missed(
    stage: Stage,
) -> None:
    ann = await stage.member("u1")
    with closing(stage.database()) as conn:
        conn.execute("INSERT INTO labels VALUES ('slow', 'by hand')")  # it holds the file
        first = ann.tasks.insert(id="a", owner="u1", title="t")
        second = ann.tasks.insert(id="b", owner="u1", title="t")
        await asyncio.sleep(0.3)
        conn.commit()
    await first
    await second
    await until(lambda: "slow" in ann["labels"])
    bob = await stage.member("u2")
    assert bob.doc.state == ann.doc.state


async def test_scenario_16_after_commit_holds_nothing_up(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    @stage.documents.after_commit("tasks", "insert")
    async def fail(ctx: Any, op: Any) -> None:
        raise RuntimeError("no mail")

    @stage.documents.after_commit("tasks", "insert")
    async def hang(ctx: Any, op: Any) -> None:
        await asyncio.Event().wait()

    ann, bob = await stage.member("u1"), await stage.member("u2")
    with caplog.at_level(logging.ERROR, "patches_server.collections"):
        await ann.tasks.insert(id="a", owner="u1", title="t")
        await until(lambda: "a" in bob.tasks)
        await until(lambda: "no mail" in caplog.text)


async def test_scenario_17_a_handler_answers_each_message(stage: Stage) -> None:
    answered: list[str] = []

    def answer_on(documents: CollectionsServer) -> None:
        @documents.on("chat_message", "create", durable="assistant")
        async def answer(event: Any) -> None:
            if event.row["role"] == "user":
                answered.append(event.key)
                await documents.push(
                    DOC, "chat_message", user_id="u1", role="assistant", content="hello"
                )

    ann = await stage.member("u1")
    newest = await ann.messages.newest().load()
    await ann.messages.add(role="user", content="before")  # nobody answers yet
    await ann.client.close()
    await stage.server.stop()  # as one that is killed between commit and handler
    stage.server.clients.clear()
    stage.start_anew()
    answer_on(stage.documents)
    async with stage.server:
        ann = await stage.member("u1")
        newest = await ann.messages.newest().load()
        await until(lambda: [row["role"] for row in newest.rows].count("assistant") == 1)
        await ann.messages.add(role="user", content="again")
        await until(lambda: [row["role"] for row in newest.rows].count("assistant") == 2)
        assert len(answered) == 2


# ---- catching up and recovery ------------------------------------------------------------------


async def test_scenario_22_a_difference_has_each_row_once(tmp_path: Path, stage: Stage) -> None:
    ann = await stage.member("u1", store=str(tmp_path / "ann.db"))
    await stage.sql(many(10))
    await until(lambda: len(ann["labels"]) == 10)
    await ann.client.close()

    def vote(sql: Any) -> None:
        sql("UPDATE labels SET name = name || 'x' WHERE id = 'l1'")

    for _ in range(100):
        await stage.documents.write(DOC, vote)
    (change,) = await stage.documents.get_changes_since(DOC, 1)
    assert len(change.ops) == 1
    ann = await stage.member("u1", store=str(tmp_path / "ann.db"))
    await until(lambda: ann.doc.committed_rev == 101)
    # Deletions that are forgotten send the copy away; unsent work is kept.
    await ann.client.close()
    stage.documents._retention_ms = -1000
    await stage.sql("DELETE FROM labels WHERE id = 'l2'")
    await stage.documents.compact(DOC)
    ann = await stage.member("u1", store=str(tmp_path / "ann.db"), connect=False)
    write = ann.tasks.insert(id="a", owner="u1", title="offline")
    await ann.client.sync.connect()
    await write
    assert set(ann["labels"]) == {"l1", "l3", "l4", "l5", "l6", "l7", "l8", "l9", "l10"}


async def test_scenario_23_many_updates_of_a_row_leave_one_entry(stage: Stage) -> None:
    await stage.documents.push(DOC, "labels", id="l", name="n")

    def update(sql: Any) -> None:
        for number in range(10_000):
            sql("UPDATE labels SET name = ?", str(number))

    for _ in range(10):
        await stage.documents.write(DOC, update)
    assert await stage.sql("SELECT count(*) AS n FROM _patches_log") == [{"n": 1}]


async def test_scenario_24_another_history_is_fetched_and_pending_work_kept(
    stage: Stage,
) -> None:
    ann = await stage.member("u1")
    await stage.sql(many(3))
    await until(lambda: len(ann["labels"]) == 3)
    with closing(stage.database()) as conn:  # a backup is restored under the server
        conn.execute("UPDATE _patches_meta SET rev = 1")
        conn.execute("UPDATE _patches_log SET rev = 1")
        conn.execute("DELETE FROM labels WHERE id = 'l1'")
        conn.execute("DELETE FROM _patches_log WHERE key = 'l1'")
        conn.commit()
    write = ann.tasks.insert(id="a", owner="u1", title="t")
    await stage.documents.new_history(DOC)
    await write
    await until(lambda: set(ann["labels"]) == {"l2", "l3"})
    assert "a" in ann.tasks


async def test_scenario_25_a_new_column_is_sent_with_touch(tmp_path: Path) -> None:
    def declared(*, has_due: bool) -> Collections:
        board = Collections("board", version=1)

        class Label:
            id: str
            name: str

        class DatedLabel:
            id: str
            name: str
            due: int = 5

        board.table("labels")(DatedLabel if has_due else Label)
        return board

    folder = tmp_path / "boards"
    first = CollectionsServer(declared(has_due=False), engine=SQLiteEngine(folder))
    async with first:
        await first.push(DOC, "labels", id="l", name="n")
    second = CollectionsServer(declared(has_due=True), engine=SQLiteEngine(folder))
    async with second:
        triggers = "SELECT count(*) AS n FROM sqlite_master WHERE type = 'trigger'"
        assert await second.write(DOC, lambda sql: sql(triggers)) == [{"n": 4}]
        rev = (await second.get_doc(DOC)).rev
        await second.touch(DOC, "labels")
        (change,) = await second.get_changes_since(DOC, rev)
        assert change.ops[0]["value"] == {"id": "l", "name": "n", "due": 5}


# ---- who sees what -----------------------------------------------------------------------------


async def test_scenario_27_what_is_not_loaded_is_not_there(stage: Stage) -> None:
    ann = await stage.member("u1")
    await stage.sql("INSERT INTO cards VALUES ('a', 'x', 0), ('b', 'y', 0)")
    assert len(ann["cards"]) == 0
    query = await ann["cards"].where(F.category == "x").load()
    assert set(ann["cards"]) == {"a"}
    write = ann["cards"].insert(id="c", category="y")
    await query.close()
    await until(lambda: "a" not in ann["cards"])
    await write
    assert "b" not in ann["cards"]


async def test_scenario_32_private_rows_stay_private(stage: Stage) -> None:
    ann, bob = await stage.member("u1"), await stage.member("u2")
    await ann.tasks.insert(id="secret", owner="u1", title="t", private=True)
    await ann.tasks.insert(id="open", owner="u1", title="t")
    await until(lambda: "open" in bob.tasks)
    await ann.tasks.update("open", private=True)
    await until(lambda: "open" not in bob.tasks)
    assert set(ann.tasks) == {"secret", "open"}
    assert not any("secret" in state["tasks"] for state in bob.seen)
    assert len((await stage.member("u2")).tasks) == 0


async def test_scenario_33_rows_come_and_go_with_claims(tmp_path: Path) -> None:
    from patches.rows import claim

    stage = Stage(tmp_path / "boards")
    board = Collections("teams")

    @board.table("tasks", visible=F.team == claim.team)
    class Task:
        id: str
        team: str

    stage.declared = board
    stage.documents = CollectionsServer(
        board,
        engine=SQLiteEngine(stage.folder),
        claims=lambda principal: stage.auth.claims.get(principal.id, {}),
    )
    stage.server = ServerFixture(
        {
            "auth": stage.auth,
            "algorithms": [collections(stage.documents)],
            "routes": {"*": "collections"},
        }
    )
    async with stage.server:
        await stage.sql("INSERT INTO tasks VALUES ('a', 'red'), ('b', 'blue')")
        stage.auth.claims["u1"] = {"team": "red"}
        ann = await stage.member("u1")
        assert set(ann.tasks) == {"a"}
        stage.auth.claims["u1"] = {"team": "blue"}
        await stage.documents.access_changed("u1")
        await until(lambda: set(ann.tasks) == {"b"})


# ---- stores ------------------------------------------------------------------------------------


async def test_scenario_35_rules_of_an_event_store_hold_on_both_sides(stage: Stage) -> None:
    ann = await stage.member("u1")
    with pytest.raises(InvalidError, match="only user messages"):
        ann.messages.add(role="assistant", content="forged")
    await ann.messages.add(role="user", content="hi")
    # What a forged client gets: tests/server/collections/test_server.py.


async def test_scenario_36_the_newest_are_shown_in_the_order_of_the_server(stage: Stage) -> None:
    await stage.sql(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000) "
        "INSERT INTO chat_message (id, user_id, created_at, role, content) "
        "SELECT 'm' || i, 'u1', i, 'user', 'x' FROM n"
    )
    ann = await stage.member("u1")
    newest = await ann.messages.newest().load()
    assert [row["id"] for row in newest.rows] == [f"m{number}" for number in range(1000, 900, -1)]
    await newest.more(100)
    assert len(newest.rows) == 200


async def test_scenario_37_the_later_commit_of_a_singular_store_counts(stage: Stage) -> None:
    phone = await stage.member("u1", connect=False)
    desk = await stage.member("u1", connect=False)
    assert phone.account.value == {"theme": "light", "size": 1}
    phone.account.set(theme="dark")
    desk.account.set(size=7)
    await phone.client.sync.connect()
    await phone.client.sync.settled(10)
    await desk.client.sync.connect()
    await desk.client.sync.settled(10)
    await until(lambda: phone.account.value == desk.account.value)
    assert phone.account.value["size"] == 7


async def test_scenario_38_a_deleted_event_is_gone_everywhere(stage: Stage, tmp_path: Path) -> None:
    phone = await stage.member("u1", store=str(tmp_path / "phone.db"))
    desk = await stage.member("u1")
    for member in (phone, desk):
        await member.messages.newest().load()
    write = desk.messages.add(role="user", content="hi")
    await write
    assert write.key is not None
    key = write.key
    await until(lambda: key in phone["chat_message"])
    await phone.client.close()
    await desk.messages.remove(key)
    assert key not in desk["chat_message"]
    with closing(stage.database()) as conn:
        assert conn.execute("SELECT * FROM chat_message").fetchall() == []
    phone = await stage.member("u1", store=str(tmp_path / "phone.db"))
    await phone.messages.newest().load()
    assert key not in phone["chat_message"]


async def test_scenario_39_a_stream_shows_partials_and_ends_as_a_row(stage: Stage) -> None:
    ann = await stage.member("u1")
    await ann.messages.newest().load()
    shown: list[str] = []
    async with stage.documents.stream(
        DOC, "chat_message", user_id="u1", role="assistant", content=""
    ) as message:
        for letter in "hello":
            await message.update(content=message.content + letter)
            await asyncio.sleep(0.06)
        key = message.key
        await until(lambda: ann["chat_message"].get(key, {}).get("content") == "hello")
        assert ann.doc.is_partial("chat_message", key)
        late = await stage.member("u1")
        await until(lambda: late["chat_message"].get(key, {}).get("content") == "hello")
        assert await stage.documents._jobs.read(DOC, lambda tx: tx.rev) == 0
    await until(lambda: not ann.doc.is_partial("chat_message", key))
    assert ann["chat_message"][key]["content"] == "hello"
    shown = [
        state["chat_message"][key]["content"] for state in ann.seen if key in state["chat_message"]
    ]
    assert shown[-1] == "hello"
    assert len(set(shown)) > 2
    first = next(i for i, state in enumerate(ann.seen) if key in state["chat_message"])
    assert all(key in state["chat_message"] for state in ann.seen[first:])  # never away between


async def test_scenario_40_a_stream_that_ends_early_leaves_nothing(stage: Stage) -> None:
    ann = await stage.member("u1")

    async def fail() -> None:
        async with stage.documents.stream(DOC, "labels", name="partial") as row:
            await until(lambda: row.key in ann["labels"])
            raise RuntimeError("the model")

    with pytest.raises(RuntimeError, match="the model"):
        await fail()
    await until(lambda: len(ann["labels"]) == 0)

    async def stopped() -> None:
        async with stage.documents.stream(DOC, "labels", name="partial") as row:
            await until(lambda: row.key in ann["labels"])
            await stage.server.stop(lose=True)
            await until(lambda: len(ann["labels"]) == 0)

    with pytest.raises(UnavailableError, match="the server stops"):
        await stopped()


# ---- size --------------------------------------------------------------------------------------


async def test_scenario_47_a_large_document_opens_on_demand(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "boards")
    stage.start_anew(max_eager_rows=100)
    async with stage.server:
        await stage.sql(many(101))
        ann = await stage.member("u1", connect=False)
        await ann.client.sync.connect()
        await until(lambda: ann.client.errors)
        assert any("on_demand" in str(error) for error in ann.client.errors)
        bob = await stage.member("u1", declared=new_declaration(labels="on_demand"))
        assert len(bob["labels"]) == 0
        await bob["labels"].order_by("id").limit(10).load()
        assert len(bob["labels"]) == 10


async def test_scenario_48_emptying_a_table_reaches_everybody(stage: Stage) -> None:
    ann = await stage.member("u1")
    await stage.sql(many(10_000))
    await until(lambda: len(ann["labels"]) == 10_000)
    await stage.sql("DELETE FROM labels")
    await until(lambda: len(ann["labels"]) == 0)


async def test_scenario_49_a_deleted_document_hands_pending_work_back(stage: Stage) -> None:
    ann, bob = await stage.member("u1"), await stage.member("u1", connect=False)
    await ann.tasks.insert(id="a", owner="u1", title="t")
    bob.tasks.insert(id="b", owner="u1", title="offline")
    await bob.doc.flush()
    handed: list[Any] = []
    bob.client.sync.on_remote_doc_deleted(lambda _doc_id, changes: handed.extend(changes))
    await ann.client.patches.delete_doc(DOC)
    await until(lambda: not list(stage.folder.glob("board*")))
    await bob.client.sync.connect()
    await until(lambda: handed)
    assert handed[0].ops[0]["path"] == "/tasks/b"
    assert await stage.documents.undelete_doc(DOC)
    fresh = await stage.member("u1")
    assert dict(fresh.tasks) == {}
