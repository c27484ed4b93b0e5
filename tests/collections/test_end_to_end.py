"""The client's scenarios against the real server, over real sockets and SQLite files.

Those that break the network at a certain frame go over links in memory, below which everything is
real.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from pathlib import Path
from typing import Any

import pytest

from patches.algorithms.collections import EventStore, SingularStore, Write
from patches.errors import RejectedError, StatusError
from patches.model.json_values import Json
from patches.rows.condition_syntax import F
from patches_server.auth.access import Principal
from patches_server.collections import (
    CollectionsServer,
    SQLiteEngine,
)
from tests.support.board import Account, Message, Task, board, clear_done, seeded
from tests.support.collections_stage import DOC, Member, Stage, fill_items, until


async def test_scenario_1_what_one_writes_the_other_sees(stage: Stage) -> None:
    ann, bob = await stage.member(), await stage.member()
    base = ann.doc.committed_rev
    write = ann.tasks.insert(title="Spec")
    await write
    await until(lambda: write.key in bob.tasks)
    await ann.tasks.update(write.key, votes=1)
    await until(lambda: bob.tasks[write.key]["votes"] == 1)
    assert bob.tasks[write.key] == ann.tasks[write.key]
    await bob.tasks.delete(write.key)
    await until(lambda: write.key not in ann.tasks)
    assert ann.doc.committed_rev == bob.doc.committed_rev == base + 3


async def test_scenario_2_a_confirmed_write_is_durable(stage: Stage) -> None:
    ann = await stage.member()
    write = ann.tasks.insert(title="Spec")
    statuses = [write.status]
    await until(lambda: write.status != "pending")
    statuses.append(write.status)
    await write
    statuses.append(write.status)
    assert statuses in (["pending", "sent", "confirmed"], ["pending", "confirmed", "confirmed"])
    other = SQLiteEngine(stage.folder)
    second = CollectionsServer(board, engine=other)
    async with second:
        found = await second.write(DOC, lambda sql: sql("SELECT id FROM tasks"))
    assert [row["id"] for row in found] == [write.key]


async def test_scenario_3_no_notification_shows_two_rows_or_none(stage: Stage) -> None:
    ann, bob = await stage.member(), await stage.member()
    seen: list[list[str]] = []
    for member in (ann, bob):
        member.doc.on_update(lambda state: seen.append(list(state["tasks"])))
    write = ann.tasks.insert(title="Spec")
    assert seen == [[write.key]], "shown at once, under its final key"
    await write
    await until(lambda: write.key in bob.tasks)
    assert seen == [[write.key], [write.key]]


async def test_scenario_9_a_transaction_is_one_revision_and_one_notification(stage: Stage) -> None:
    ann, bob = await stage.member(), await stage.member()
    told: list[Json] = []
    bob.doc.on_update(told.append)
    base = bob.doc.committed_rev
    with ann.doc.transaction() as write:
        made = ann.doc.collection("lists").insert(name="Home")
        ann.tasks.insert(title="a", list_id=made.key)
        ann.tasks.insert(title="b", list_id=made.key)
    await write
    await until(lambda: bob.doc.committed_rev == base + 1)
    assert len(told) == 1
    assert len(bob.tasks) == 2
    with ann.doc.transaction() as bad:
        ann.tasks.insert(title="c")
        ann.tasks.update(next(iter(ann.tasks)), votes=1, expect={"votes": 0})
        await stage.write("UPDATE tasks SET votes = 7")
    with pytest.raises(RejectedError):
        await bad
    await until(lambda: bob.doc.committed_rev == base + 2)
    await until(lambda: ann.doc.committed_rev == base + 2)
    assert ann.doc.state == bob.doc.state
    assert len(bob.tasks) == 2


async def test_scenario_10_of_two_writes_that_expect_the_same_one_commits(stage: Stage) -> None:
    ann, bob = await stage.member(), await stage.member()
    write = ann.tasks.insert(title="a", votes=3)
    await write
    await until(lambda: write.key in bob.tasks)
    raised = [member.tasks.update(write.key, votes=4, expect={"votes": 3}) for member in (ann, bob)]
    results = await asyncio.gather(*(_outcome(each) for each in raised))
    assert sorted(results) == ["EXPECTATION_FAILED", "confirmed"]
    await until(lambda: ann.doc.state == bob.doc.state)
    assert (await stage.rows("tasks"))[str(write.key)]["votes"] == 4


async def _outcome(write: Write) -> str:
    try:
        await write
    except RejectedError as exc:
        return str(exc.code)
    return "confirmed"


async def test_scenario_11_an_action_is_shown_and_replaced_by_the_truth(stage: Stage) -> None:
    ann, bob = await stage.member(), await stage.member()
    for number in range(4):
        await ann.tasks.insert(id=f"t{number}", title="t", done=number % 2 == 0)
    await until(lambda: len(bob.tasks) == 4)
    write = bob.doc.call(clear_done)
    assert sorted(bob.tasks) == ["t1", "t3"]
    await write
    await until(lambda: sorted(ann.tasks) == ["t1", "t3"])
    assert (await stage.rows("tasks")).keys() == {"t1", "t3"}


async def test_scenario_18_offline_writes_arrive_once_and_in_order(
    stage: Stage, tmp_path: Path
) -> None:
    bob = await stage.member()
    file = tmp_path / "ann.db"
    ann = await stage.member(connect=False, store=file)
    for run in range(3):
        for number in range(16):
            ann.tasks.insert(id=f"t{run}-{number:02}", title="t")
        ann.tasks.update("t0-00", votes=run + 1)
        await ann.doc.flush()
        await ann.client.close()
        stage.server.clients.remove(ann.client)
        ann = await stage.member(connect=False, store=file)
    assert len(ann.doc.writes) == 51
    base = bob.doc.committed_rev
    await ann.client.sync.connect()
    await until(lambda: not ann.doc.has_pending)
    await until(lambda: bob.doc.committed_rev == ann.doc.committed_rev)
    assert bob.doc.committed_rev == base + 51, "each once"
    assert bob.tasks["t0-00"]["votes"] == 3
    assert bob.doc.state == ann.doc.state


async def test_scenario_19_a_lost_answer_has_one_effect(stage: Stage) -> None:
    ann, bob = await stage.member(websocket=False), await stage.member()
    base = bob.doc.committed_rev
    ann.client.link.lose_answer("commitChanges")
    write = ann.tasks.insert(title="Spec")
    await until(lambda: write.key in bob.tasks)
    assert write.status == "sent"
    ann.client.link.cut()
    await write
    assert bob.doc.committed_rev == base + 1
    await ann.client.sync.settled(10)
    assert ann.doc.committed_rev == base + 1


async def test_scenario_20_a_frozen_server_makes_a_write_unconfirmed(stage: Stage) -> None:
    ann = await stage.member(websocket=False, algorithm={"confirm_timeout_s": 0.1})
    told: list[Write] = []
    ann.doc.on_unconfirmed(told.append)
    with ann.client.link.held():
        write = ann.tasks.insert(title="Spec")
        await until(lambda: told)
        await asyncio.sleep(0.15)
        assert told == [write]
        assert write.status == "unconfirmed"
        assert write.key in ann.tasks
        write.retry()
    await write
    assert (await stage.rows("tasks")).keys() == {write.key}


async def test_scenario_21_a_discarded_write_that_was_done_comes_back(stage: Stage) -> None:
    ann, bob = await stage.member(websocket=False), await stage.member()
    with ann.client.link.held("to_client"):
        write = ann.tasks.insert(title="Spec")
        await until(lambda: write.key in bob.tasks)
        write.discard()
        assert write.key not in ann.tasks
    await until(lambda: write.key in ann.tasks)
    await ann.client.sync.settled(10)
    assert ann.client.errors == []


async def test_scenario_27_a_category_comes_with_load_and_leaves_with_close(stage: Stage) -> None:
    ann = await stage.member()
    await fill_items(stage, 10)
    assert len(ann.items) == 0
    query = ann.items.where(F.category == "a")
    await query.load()
    assert {row["category"] for row in query.rows} == {"a"}
    assert len(ann.items) == 5
    await query.close()
    assert len(ann.items) == 0


async def test_scenario_28_rows_move_in_and_out(stage: Stage) -> None:
    await fill_items(stage, 10)
    ann = await stage.member(websocket=False)
    query = await ann.items.where(F.category == "a").load()
    await stage.write(
        "UPDATE items SET category = 'a' WHERE id = 'i0001'",
        "UPDATE items SET category = 'b' WHERE id = 'i0000'",
    )
    await until(lambda: "i0001" in ann.items)
    assert "i0000" not in ann.items
    with ann.client.link.down():
        await stage.write(
            "UPDATE items SET category = 'a' WHERE id = 'i0003'",
            "UPDATE items SET category = 'b' WHERE id = 'i0001'",
            "DELETE FROM items WHERE id = 'i0002'",
        )
    await until(lambda: "i0003" in ann.items)
    expected = {"i0003", "i0004", "i0006", "i0008"}
    assert {row["id"] for row in query.rows} == set(ann.items) == expected
    await stage.write("UPDATE items SET category = 'a' WHERE id = 'i0005'")
    await until(lambda: "i0005" in ann.items)


async def test_a_row_that_left_its_subset_and_was_written_here_meanwhile_leaves(
    stage: Stage,
) -> None:
    await fill_items(stage, 4)
    ann = await stage.member(websocket=False)
    query = await ann.items.where(F.category == "a").load()
    with ann.client.link.down():
        write = ann.items.update("i0000", votes=99)
        await ann.doc.flush()
        await stage.write("UPDATE items SET category = 'b' WHERE id = 'i0000'")
    await write
    await ann.client.sync.settled(10)
    assert (await stage.rows("items"))["i0000"]["votes"] == 99
    assert [row["id"] for row in query.rows] == ["i0002"]
    assert list(ann.items) == ["i0002"]


async def test_scenario_29_a_window_is_exact_at_every_notification(stage: Stage) -> None:
    await fill_items(stage, 5_000)
    ann = await stage.member()
    top = await ann.items.order_by("votes", desc=True).limit(50).load()
    source, votes = seeded(3), {f"i{n:04}": n * 7 % 5_000 for n in range(5_000)}
    by_rev: dict[int, list[str]] = {}

    def first(count: int) -> list[str]:
        return sorted(votes, key=lambda key: (-votes[key], key))[:count]

    seen: list[tuple[int, list[str]]] = []
    top.subscribe(lambda rows: seen.append((ann.doc.committed_rev, [row["id"] for row in rows])))
    rev = ann.doc.committed_rev
    by_rev[rev] = first(50)
    for _ in range(1_000):
        key = f"i{source.randrange(5_000):04}"
        votes[key] = source.randrange(6_000)
        await stage.write(f"UPDATE items SET votes = {votes[key]} WHERE id = '{key}'")
        rev += 1
        by_rev[rev] = first(50)
    await until(lambda: [row["id"] for row in top.rows] == first(50))
    for at, keys in seen:
        assert keys == by_rev[at]
    assert len(seen) > 5
    assert set(ann.items) == set(first(50))
    await top.more(50)
    assert [row["id"] for row in top.rows] == first(100)


async def test_scenario_30_two_queries_with_one_subset_share_it(stage: Stage) -> None:
    await fill_items(stage, 10)
    ann = await stage.member()
    one, other = (ann.items.where(F.category == "a") for _ in range(2))
    await asyncio.gather(one.load(), other.load())
    assert len(ann.doc.interest.subsets) == 1
    await one.close()
    assert len(ann.items) == 5
    await other.close()
    assert len(ann.items) == 0


async def test_scenario_34_a_function_of_two_tables(stage: Stage) -> None:
    ann, bob = await stage.member(), await stage.member()
    made = ann.doc.collection("lists").insert(name="Home")
    live = bob.doc.live(
        lambda state: {
            each["name"]: sum(
                task["votes"] for task in state["tasks"].values() if task["list_id"] == key
            )
            for key, each in state["lists"].items()
        }
    )
    told: list[dict[str, int]] = []
    live.subscribe(told.append)
    await made
    await ann.tasks.insert(title="a", votes=2, list_id=made.key)
    await until(lambda: live.value == {"Home": 2})
    assert told == [{}, {"Home": 0}, {"Home": 2}]


async def test_scenario_41_documents_of_all_algorithms_on_one_socket(
    stage: Stage,
) -> None:
    """Twenty documents over one socket each: commits, refusals and subscriptions do not mix."""
    source = seeded(4)
    ann, bob = await stage.member(), await stage.member()
    docs: dict[str, tuple[Any, Any]] = {DOC: (ann.doc, bob.doc)}
    for number in range(19):
        kind = ("board", "notes", "lww", "lists")[number % 4]
        name = f"{kind}/d{number}"
        algorithm = {"board": "collections", "notes": "ot", "lww": "lww", "lists": "replay"}[kind]
        opened = [await each.client.open_doc(name, algorithm=algorithm) for each in (ann, bob)]
        docs[name] = (opened[0], opened[1])
    writes: list[Write] = []
    for number in range(80):
        name = source.choice(sorted(docs))
        doc = source.choice(docs[name])
        if name.startswith("board"):
            tasks = doc.collection(Task)
            writes.append(tasks.insert(title="forbidden"))
            writes.append(tasks.insert(title="t", votes=number))
        elif name.startswith("lists"):
            doc.run("add_todo@1", slot=f"s{number}", title="t")
        else:
            doc.change(lambda draft, number=number: draft.update({f"k{number % 5}": number}))
    for write in writes:
        with contextlib.suppress(RejectedError):
            await write
    for each in (ann, bob):
        async with asyncio.timeout(20):
            while True:
                try:
                    await each.client.sync.settled()
                except StatusError:  # a refusal, told once
                    continue
                break
    await until(lambda: all(one.state == other.state for one, other in docs.values()))
    for one, other in docs.values():
        assert one.committed_rev == other.committed_rev
        assert one.sync_status == other.sync_status == "synced"
    assert {write.status for write in writes} == {"confirmed", "rejected"}


async def test_scenario_43_cuts_at_any_frame_end_equal(stage: Stage) -> None:
    source = seeded(11)
    members = [await stage.member(websocket=False) for _ in range(3)]
    await fill_items(stage, 20)
    top = await members[0].items.order_by("votes", desc=True).limit(5).load()
    for number in range(60):
        member = source.choice(members)
        member.tasks.insert(id=f"t{number}", title="t")
        keys = list(member.tasks)
        member.tasks.update(source.choice(keys), votes=number)
        if number % 5 == 0:
            key = f"i{source.randrange(20):04}"
            await stage.write(f"UPDATE items SET votes = {number} WHERE id = '{key}'")
        if source.random() < 0.2:
            source.choice(members).client.link.cut()
        await asyncio.sleep(source.random() / 100)
    for member in members:
        async with asyncio.timeout(30):
            await member.client.sync.settled()
    await until(lambda: len({member.doc.committed_rev for member in members}) == 1)
    tasks = await stage.rows("tasks")
    for member in members:
        assert member.doc.state["tasks"].keys() == tasks.keys()
        assert {key: row["votes"] for key, row in member.tasks.items()} == {
            key: row["votes"] for key, row in tasks.items()
        }
        assert member.client.errors == []
    items = await stage.rows("items")
    ranked = sorted(items, key=lambda key: (-int(items[key]["votes"]), key))[:5]
    assert [row["id"] for row in top.rows] == ranked


async def settled_after_refusals(member: Member) -> None:
    """Settled; refusals are raised on the way, each once."""
    async with asyncio.timeout(30):
        while True:
            try:
                await member.client.sync.settled()
            except StatusError:
                continue
            return


async def a_random_step(
    stage: Stage, source: random.Random, members: list[Member], number: int
) -> Write | None:
    """One thing that somebody does: a client, the server's own SQL, or the network."""
    member, kind = source.choice(members), source.randrange(10)
    keys, items = list(member.tasks), list(member.items)
    write: Write | None = None
    if kind == 0:
        title = source.choice(["t", "forbidden"])
        write = member.tasks.insert(title=title, done=source.random() < 0.5)
    elif kind == 1 and keys:
        write = member.tasks.update(source.choice(keys), votes=number)
    elif kind == 2 and keys and source.random() < 0.5:
        write = member.tasks.delete(source.choice(keys))
    elif kind == 3 and source.random() < 0.4:
        write = member.doc.call(clear_done)
    elif kind == 4 and keys:
        with member.doc.transaction() as write:
            member.tasks.update(source.choice(keys), title=f"n{number}")
            member.doc.collection("lists").insert(name="l")
    elif kind == 5 and items:
        write = member.items.update(source.choice(items), votes=source.randrange(200))
    elif kind == 6:
        member.client.link.cut()
    elif kind == 7:
        values = f"('s{number}', 's', 0, 1)"
        await stage.write(f"INSERT INTO tasks (id, title, votes, done) VALUES {values}")
    else:
        key, category = f"i{source.randrange(20):04}", source.choice("abc")
        await stage.write(
            f"UPDATE items SET votes = {number}, category = '{category}' WHERE id = '{key}'"
        )
    await asyncio.sleep(source.choice([0, 0, 0.001, 0.01]))
    return write


@pytest.mark.parametrize("seed", [101, 109])
async def test_scenario_50_four_clients_end_equal_to_the_tables(stage: Stage, seed: int) -> None:
    source = seeded(seed)
    members = [await stage.member(websocket=False) for _ in range(4)]
    await fill_items(stage, 20)
    tops = [await each.items.order_by("votes", desc=True).limit(5).load() for each in members[:2]]
    plains = [await each.items.where(F.category == "a").load() for each in members[1:3]]
    writes = [
        write
        for number in range(120)
        if (write := await a_random_step(stage, source, members, number)) is not None
    ]
    for member in members:
        await settled_after_refusals(member)
        member.client.link.cut()
    for member in members:
        await settled_after_refusals(member)
    await until(lambda: len({member.doc.committed_rev for member in members}) == 1)
    tasks, items = await stage.rows("tasks"), await stage.rows("items")
    for member in members:
        assert {key: row["title"] for key, row in member.tasks.items()} == {
            key: row["title"] for key, row in tasks.items()
        }
        for key, row in member.items.items():
            assert (row["votes"], row["category"]) == (items[key]["votes"], items[key]["category"])
        assert member.doc.writes == ()
    ranked = sorted(items, key=lambda key: (-int(items[key]["votes"]), key))[:5]
    assert [[row["id"] for row in top.rows] for top in tops] == [ranked, ranked]
    in_a = {key for key, row in items.items() if row["category"] == "a"}
    assert [{row["id"] for row in plain.rows} for plain in plains] == [in_a, in_a]
    assert {write.status for write in writes} <= {"confirmed", "rejected"}


# ---- stores and rows in progress -----------------------------------------------------------------


def events_of(member: Member) -> EventStore:
    store = member.doc.store(Message)
    assert isinstance(store, EventStore)
    return store


def account_of(member: Member) -> SingularStore:
    store = member.doc.store(Account)
    assert isinstance(store, SingularStore)
    return store


async def test_scenario_36_events_in_the_order_of_the_servers_clock(stage: Stage) -> None:
    user = Principal(id="ann")
    ann = await stage.member(websocket=False, principal=user)
    bob = await stage.member(websocket=False, principal=user)
    for member in (ann, bob):
        await events_of(member).newest(2).load()
    for number in range(3):
        await events_of(ann).add(role="user", content=f"hi {number}", created_at=-number)
    newest = [await events_of(member).newest(2).load() for member in (ann, bob)]
    await until(lambda: all(len(query.rows) == 2 for query in newest))
    for query in newest:
        await until(lambda query=query: query.rows[0]["content"] == "hi 2")
        assert [row["content"] for row in query.rows] == ["hi 2", "hi 1"]
        assert all(int(row["created_at"]) > 0 for row in query.rows)


async def test_scenario_37_a_singular_record_set_offline_on_two_devices(stage: Stage) -> None:
    user = Principal(id="ann")
    phone = await stage.member(websocket=False, principal=user)
    laptop = await stage.member(websocket=False, principal=user)
    accounts = [account_of(device) for device in (phone, laptop)]
    assert [account.value for account in accounts] == [{"theme": "light"}] * 2
    with phone.client.link.down(), laptop.client.link.down():
        accounts[0].set(theme="dark")
        accounts[1].set(theme="dark")
        accounts[1].set(theme="light")
        await phone.doc.flush()
        await laptop.doc.flush()
        assert [account.value["theme"] for account in accounts] == ["dark", "light"]
    for device in (phone, laptop):
        await device.client.sync.settled(10)
    await until(lambda: phone.doc.committed_rev == laptop.doc.committed_rev)
    assert accounts[0].value == accounts[1].value
    assert len(await stage.rows("account")) == 1


async def test_scenario_39_a_row_in_progress_is_replaced_by_the_final_one(stage: Stage) -> None:
    ann = await stage.member(websocket=False, principal=Principal(id="ann"))
    seen: list[str] = []
    live = ann.doc.live(lambda state: [str(row["content"]) for row in state["messages"].values()])
    live.subscribe(lambda contents: seen.extend(contents))
    await events_of(ann).newest(10).load()
    stream = stage.documents.stream(DOC, Message, role="assistant", content="", user_id="ann")
    async with stream as message:
        await message.update(content="Hel")
        await until(lambda: "Hel" in seen)
        (key,) = ann.doc.collection(Message)
        assert ann.doc.is_partial(Message, key)
        assert await stage.rows("messages") == {}
        await message.update(content="Hello")
    await until(lambda: not ann.doc.is_partial(Message, key))
    assert ann.doc.collection(Message)[key]["content"] == "Hello"
    assert (await stage.rows("messages"))[key]["content"] == "Hello"
