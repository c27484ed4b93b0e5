"""The parts of the simulation do what its page says."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from patches.algorithms.ot.stores.factory import OT_STORES
from patches.errors import CorruptDataError, NetworkError, StorageError
from patches.model.json_values import Op
from patches.stores.memory.backend import MemoryBackend
from patches.testing.sim import Config, draw, run
from patches.testing.sim.__main__ import main
from patches.testing.sim.config import numbers, ranges
from patches.testing.sim.disk import SimDisk
from patches.testing.sim.field_model import Field, after_commit
from patches.testing.sim.journal import Journal
from patches.testing.sim.loop import Life, SimLoop, SleepForeverError
from patches.testing.sim.net import SimNet, SimStream
from patches.testing.sim.nodes import Node, SimClient, SimClock
from patches.testing.sim.rights import Rights
from patches.testing.sim.shrink import shrink
from patches.testing.sim.trace import Trace
from patches.testing.sim.watch import ANSWER_S, Watch
from patches_server.documents.records import Tombstone
from patches_server.ot.stores.factory import OT_STORES as SERVER_STORES
from patches_server.service.fanout.hub import Hub
from patches_server.stores.memory.backend import MemoryBackend as ServerMemoryBackend

pytestmark = pytest.mark.filterwarnings("error")


def in_simulation(work: object) -> object:
    """Run a coroutine on a loop of its own."""
    loop = SimLoop(lambda *_args: None)
    try:
        return loop.run_until_complete(work)  # type: ignore[arg-type]  # any coroutine
    finally:
        loop.close()


def test_days_of_waiting_take_no_time() -> None:
    async def wait() -> float:
        await asyncio.sleep(40 * 86_400)
        return asyncio.get_running_loop().time()

    assert in_simulation(wait()) == pytest.approx(40 * 86_400)


def test_waiting_for_nothing_is_an_error() -> None:
    loop = SimLoop(lambda *_args: None)
    task = loop.create_task(asyncio.Event().wait())
    with pytest.raises(SleepForeverError):
        loop.run_until_complete(task)
    task.cancel()
    loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
    loop.close()


def test_a_frozen_process_goes_on_with_what_was_due_meanwhile() -> None:
    async def scene() -> list[float]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        life, woken = Life("client-0", 1), list[float]()

        async def tick() -> None:
            for _ in range(3):
                await asyncio.sleep(1)
                woken.append(loop.time())

        life.spawn(tick(), name="ticks")
        await asyncio.sleep(1.5)
        loop.freeze(life)
        assert loop.is_frozen(life)
        await asyncio.sleep(10)
        loop.thaw(life)
        await asyncio.sleep(3)
        return woken

    assert in_simulation(scene()) == pytest.approx([1, 11.5, 12.5])


@pytest.mark.parametrize(
    ("before", "ts", "wins"), [(5, 4, False), (5, 5, True), (5, 6, True), (5, 99, True)]
)
def test_of_two_writes_the_later_wins_and_of_equal_ones_the_second(
    before: int, ts: int, wins: bool
) -> None:
    fields = {"/f0": Field(before, "old")}
    op: Op = {"op": "replace", "path": "/f0", "value": "new", "ts": ts}
    after = after_commit(fields, [[op]], now=8)
    assert after == {"/f0": Field(min(ts, 8), "new")} if wins else fields


def test_a_seed_is_the_same_run_in_every_process() -> None:
    code = (
        "import logging; logging.disable(logging.ERROR)\n"
        "from dataclasses import replace\n"
        "from patches.testing.sim import draw, run\n"
        "draws = [draw(seed, 'light') for seed in (3, 20, 105)]\n"
        "draws[2] = replace(draws[2], faults=draws[2].faults | {'presence'})\n"
        "print([run(each).digest for each in draws])"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(digests) == 1


@pytest.mark.parametrize("text", ["", "4", "1-3", "1-3,7,9-10"])
def test_numbers_on_a_command_line_round_trip(text: str) -> None:
    assert ranges(numbers(text)) == text


async def _linked(seed: int) -> tuple[SimNet, SimStream, SimStream]:
    net = SimNet(random=Random(seed), trace=Trace())
    accepted: list[SimStream] = []
    net.servers["server"] = accepted.append
    stream = await net.dial(Life("client-0", 1))
    return net, stream, accepted[0]


@pytest.mark.parametrize("seed", range(5))
def test_a_cut_link_loses_an_end_of_what_is_under_way_and_keeps_the_order(seed: int) -> None:
    async def scene() -> list[bytes]:
        _, near, far = await _linked(seed)
        for number in range(10):
            await near.send(b"%d" % number)
        near.link.cut()
        with pytest.raises(NetworkError):
            await near.send(b"late")
        received: list[bytes] = []
        try:
            while True:
                received.append(await far.receive())
        except NetworkError:
            return received

    received = in_simulation(scene())
    assert isinstance(received, list)
    assert received == [b"%d" % number for number in range(len(received))]


def a_disk(backend: object = None) -> SimDisk:
    """A disk on which nothing goes wrong by itself."""

    async def pass_point(_life: Life, _name: str) -> None:
        return None

    return SimDisk(
        backend or MemoryBackend(),
        random=Random(1),
        trace=Trace(),
        points={},
        pass_point=pass_point,
        on_effect=lambda *_args: None,
    )


def test_a_crash_leaves_what_a_disk_had_and_ends_what_was_under_way() -> None:
    async def scene() -> None:
        disk = a_disk()
        first, second = Life("client-0", 1), Life("client-0", 2)
        await disk.backend_of(first).open_store(OT_STORES).track_docs(["kept"])
        under_way = first.spawn(
            disk.backend_of(first).open_store(OT_STORES).track_docs(["late"]), name="late"
        )
        await asyncio.sleep(0)
        first.end()
        await asyncio.wait([under_way])
        with pytest.raises(StorageError):
            await disk.backend_of(first).open_store(OT_STORES).track_docs(["later"])
        found = await disk.backend_of(second).open_store(OT_STORES).list_docs()
        assert [record.doc_id for record in found] == ["kept"]

    in_simulation(scene())


def test_a_process_hears_of_its_network_in_turn_when_it_stood_still() -> None:
    async def scene() -> bool:
        net = SimNet(random=Random(1), trace=Trace())
        net.servers["server"] = lambda _stream: None
        node = Node("client-0", SimClock(0.0), a_disk(), "seed")
        client = SimClient(node, net, Trace(), *(lambda *_args: None for _ in range(3)))
        await client.start()
        await asyncio.sleep(1)
        client.freeze()
        client.set_online(False)
        await asyncio.sleep(1)
        client.thaw()
        client.set_online(True)
        await asyncio.sleep(5)
        assert client.sync is not None
        connected = client.sync.state.connected
        await client.stop()
        return connected

    assert in_simulation(scene())


@pytest.mark.parametrize("seed", range(4))
def test_a_loss_of_power_takes_an_end_of_what_was_not_synced(seed: int) -> None:
    async def scene() -> None:
        disk = a_disk(ServerMemoryBackend())
        syncs: list[None] = []
        disk.journal = Journal(disk.backend, Random(seed), lambda: syncs.append(None))
        life = Life("server", 1)
        ids = [f"d{number}" for number in range(60)]
        for doc_id in ids:
            tombstone = Tombstone(doc_id=doc_id, deleted_at=1, last_rev=0)
            await (
                disk.backend_of(life).open_store(SERVER_STORES).delete_doc(doc_id, tombstone, now=1)
            )
        life.end()
        kept, lost = disk.lose_power()
        after = disk.backend_of(Life("server", 2)).open_store(SERVER_STORES)
        found = [doc_id for doc_id in ids if await after.get_tombstone(doc_id) is not None]
        assert found == ids[: len(found)]
        assert [write.args[0] for write in lost] == ids[len(found) :]
        assert [write.args[0] for write in kept] == found[len(found) - len(kept) :]
        assert syncs

    in_simulation(scene())


def test_a_row_that_cannot_be_read_is_one_documents_alone() -> None:
    async def scene() -> None:
        disk = a_disk(ServerMemoryBackend())
        disk.bad_docs["bad"] = 60.0
        store = disk.backend_of(Life("server", 1)).open_store(SERVER_STORES)
        with pytest.raises(CorruptDataError):
            await store.list_changes("bad")
        assert await store.list_changes("good") == []
        await asyncio.sleep(61)
        assert await store.list_changes("bad") == []

    in_simulation(scene())


def test_a_right_that_was_lost_may_go_unnoticed_for_a_while() -> None:
    async def scene() -> None:
        rights = Rights(Random(1))
        rights.take("ann", "d", reading=True)
        assert not rights.allows("ann", "d", "read")
        assert rights.allows("bob", "d", "write")
        await asyncio.sleep(5)
        assert rights.may_get("ann", "d", grace_s=10)
        assert not rights.may_get("ann", "d", grace_s=4)
        rights.give("ann", "d")
        assert rights.may_get("ann", "d", grace_s=0)
        assert not rights.may_get("hostile", "d", grace_s=1e9)

    in_simulation(scene())


def test_every_request_wants_one_answer() -> None:
    async def scene() -> None:
        failures: list[str] = []
        watch = Watch(Rights(Random(1)), lambda invariant, _message: failures.append(invariant))
        talk = watch.begins("ann", "link")
        for id in (1, 2):
            talk.asks(b'{"jsonrpc":"2.0","id":%d,"method":"getDoc","params":["d"]}' % id)
        talk.outbox.answer(b'{"jsonrpc":"2.0","id":1,"result":1}')
        watch.check([], most_tasks=1)
        assert failures == []
        talk.outbox.answer(b'{"jsonrpc":"2.0","id":1,"result":1}')
        assert failures == ["I8"], "a second answer"
        await asyncio.sleep(ANSWER_S + 1)
        watch.check([], most_tasks=1)
        assert failures == ["I8", "I8"], "no answer"

    in_simulation(scene())


def test_a_long_run_has_to_hit_everything(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("logging.disable", lambda _level: None)
    monkeypatch.setattr("patches.testing.sim.__main__.LONG_RUN", 1)
    assert main(["--seeds", "1", "--profile", "light"]) == 1
    assert "never hit: " in capsys.readouterr().out


def test_a_failure_is_made_smaller_and_says_how_to_run_it_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Hub, "publish", lambda *_args: None)
    failed = run(draw(0, "light", "ot"))
    smaller = shrink(failed, most_runs=40)
    assert smaller.failure is not None
    assert len(smaller.config.without_actions) > 20
    assert "--without-actions" in smaller.report()
    assert "--family ot" in smaller.report()


def test_the_command_line_writes_a_trace_and_tells_of_failures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("logging.disable", lambda _level: None)
    trace = tmp_path / "out.txt"
    assert main(["--seed", "3", "--profile", "light", "--trace", str(trace)]) == 0
    assert "heal" in trace.read_text()
    assert main(["--seeds", "2", "--profile", "light"]) == 0
    assert "2 runs" in capsys.readouterr().out
    monkeypatch.setattr(Hub, "publish", lambda *_args: None)
    assert main(["--seed", "0", "--profile", "light", "--family", "ot"]) == 1
    assert "replay: python -m patches.testing.sim --seed 0" in capsys.readouterr().out


def test_a_configuration_of_ones_own_runs() -> None:
    outcome = run(Config(seed=5, clients=3, lww_docs=1, faults=frozenset({"client_crash"})))
    assert outcome.failure is None, outcome.report()
    assert outcome.faults["client_crash"]
