"""Real frames of 0.28.1 clients, replayed against this server: it answers as the original did.

A recording shows each client's side. What the server did first is not in it, but follows from the
revisions in its answers: a commit that was answered with revision 5 came after the one that made 4.
So frames are sent one at a time, in the order of the file except where the revisions say otherwise.
Ids and times that the server made up are mapped to ours as they appear.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from patches.algorithms.ot import apply_changes
from patches.model import codec
from patches.runtime import Runtime
from patches_server.algorithms import services_on
from patches_server.auth.access import allow_all
from patches_server.service.json_rpc import JsonRpcPeer
from patches_server.service.server import PatchesServer
from patches_server.stores.memory.backend import MemoryBackend
from tests.support.conformance import ConformanceTally, case_files

HERE = Path(__file__).parent

#: Values of these keys are the server's clock, or a client's lowered to it.
TIMES: Final = frozenset(
    ("createdAt", "committedAt", "modifiedAt", "startedAt", "endedAt", "deletedAt")
)
#: Texts of a JavaScript engine; ours are a 400 with a text of its own.
ENGINE: Final = re.compile(r"Cannot read properties|is not a function|is not iterable")
ELIDED: Final = "<<elided "
#: The original's defect: a commit sent again over a new connection was taken for a foreign one. The
#: change after it was transformed over its own predecessor, and so are the ops of these answers.
DEFECT: Final = "lost-ack-new-connection-id"


@dataclass(slots=True)
class Sent:
    """A frame from a client, and the answer it got."""

    line: int
    client: str
    frame: Any = None
    raw: str | None = None
    answer: Any = None

    @property
    def method(self) -> str | None:
        return self.frame.get("method") if isinstance(self.frame, dict) else None

    @property
    def is_answered(self) -> bool:
        """Whether a server answers such a frame at all."""
        return self.raw is not None or self.method is None or "id" in self.frame

    @property
    def answer_id(self) -> Any:
        return self.frame.get("id") if self.raw is None and self.method is not None else None


@dataclass(slots=True)
class Socket:
    """A client's socket opens or closes."""

    line: int
    client: str
    opens: bool


@dataclass(slots=True)
class Told:
    """A notification that a client got."""

    line: int
    client: str
    frame: Any


@dataclass(slots=True)
class Recording:
    """A file, as what each client did and what it was told."""

    acts: dict[str, deque[Sent | Socket]] = field(default_factory=lambda: defaultdict(deque))
    told: list[Told] = field(default_factory=list)
    frames: int = 0


def read_recording(path: Path) -> Recording:
    recording = Recording()
    waiting: dict[str, list[Sent]] = defaultdict(list)
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines()):
        line = json.loads(text)
        client, direction, frame = line.get("client", ""), line["dir"], line.get("frame")
        if direction in ("open", "close"):
            recording.acts[client].append(Socket(number, client, direction == "open"))
        elif direction == "c2s":
            sent = Sent(number, client, frame, line.get("raw"))
            recording.acts[client].append(sent)
            recording.frames += 1
            if sent.is_answered:
                waiting[client].append(sent)
        elif direction == "s2c":
            recording.frames += 1
            if "id" not in frame:
                recording.told.append(Told(number, client, frame))
                continue
            sent = next(each for each in waiting[client] if each.answer_id == frame["id"])
            sent.answer = frame
            waiting[client].remove(sent)
    return recording


class Client:
    """A label of the recording: its socket, and what has arrived there."""

    def __init__(self, server: PatchesServer) -> None:
        self._server = server
        self._open: deque[JsonRpcPeer] = deque()
        self.connection_ids: set[str] = set()
        self.inbox: list[Any] = []

    def open(self) -> None:
        session = self._server.connect()
        self._open.append(session)
        self.connection_ids.add(session.connection_id)

    def close(self) -> None:
        """Close the older of two sockets: a new one may open before the old one is seen closed."""
        if self._open:
            self.read()
            self._open.popleft().end()

    async def call(self, data: bytes, sent: Sent) -> Any:
        if not self._open:
            self.open()  # a bare socket, whose opening is not recorded
        await self._open[-1].receive(data)
        if not sent.is_answered:
            return None
        async with asyncio.timeout(10):
            while True:
                frame = await self._open[-1].outbox.get()
                assert frame is not None, "the server closed the connection"
                arrived = codec.decode(frame)
                if "id" in arrived and arrived["id"] == sent.answer_id:
                    return arrived
                self.inbox.append(arrived)

    def read(self) -> None:
        """Take what has arrived without having been asked for."""
        for session in self._open:
            while (frame := session.outbox.get_nowait()) is not None:
                self.inbox.append(codec.decode(frame))


class Heads:
    """Where each document stands in the replay: which of the clients' next calls may come now."""

    def __init__(self) -> None:
        self._revs: dict[str, int] = defaultdict(int)
        self._deleted: set[str] = set()

    def allow(self, sent: Sent) -> bool:
        """Whether the recorded answer is one that a server gives in this state."""
        found = self._document(sent)
        if found is None or sent.answer is None:
            return True
        doc_id, params = found
        if "error" in sent.answer:
            code = sent.answer["error"]["code"]
            return (code == 410) == (doc_id in self._deleted) if code in (409, 410) else True
        if doc_id in self._deleted and sent.method not in ("undeleteDoc", "deleteDoc"):
            return False
        return self._revs_allow(sent, self._revs[doc_id], params)

    def _revs_allow(self, sent: Sent, head: int, params: list[Any]) -> bool:
        result = sent.answer.get("result")
        match sent.method:
            case "commitChanges":
                own = {change["id"] for change in params[1]}
                revs = [change["rev"] for change in result["changes"] if change["id"] in own]
                foreign = [c["rev"] for c in result["changes"] if c["id"] not in own]
                new = [rev for rev in revs if rev > head]
                return max(foreign, default=0) <= head and min(new, default=head + 1) == head + 1
            case "getDoc" if not (len(params) > 1 and params[1]):
                changes = result["changes"]
                return bool(head == (changes[-1]["rev"] if changes else result["rev"]))
            case "getChangesSince":
                return bool(head == result[-1]["rev"] if result else head <= params[1])
            case _:
                return True

    def note(self, sent: Sent, answer: Any) -> None:
        """What a call has done, by our own answer."""
        found = self._document(sent)
        if found is None or answer is None or "error" in answer:
            return
        doc_id, _ = found
        match sent.method:
            case "commitChanges":
                revs = [change["rev"] for change in answer["result"]["changes"]]
                self._revs[doc_id] = max([self._revs[doc_id], *revs])
            case "deleteDoc":
                self._deleted.add(doc_id)
                self._revs[doc_id] = 0
            case "undeleteDoc":
                self._deleted.discard(doc_id)

    def alive(self) -> list[str]:
        """The documents that were committed to and not deleted."""
        return [doc_id for doc_id in self._revs if doc_id not in self._deleted]

    def _document(self, sent: Sent) -> tuple[str, list[Any]] | None:
        params = sent.frame.get("params") if isinstance(sent.frame, dict) else None
        if not isinstance(params, list) or not params or not isinstance(params[0], str):
            return None
        return params[0], params


class Mapping:
    """Recorded ids and times of the original server, and ours in their place."""

    def __init__(self, clients: dict[str, Client]) -> None:
        self._clients = clients
        self._ours: dict[Any, Any] = {}
        self._from_clients: set[Any] = set()
        self._owners: dict[str, str] = {}

    def outgoing(self, sent: Sent) -> bytes:
        """A client's frame with our ids in it."""
        if sent.raw is not None:
            return sent.raw.encode()
        self._from_clients.update(_scalars(sent.frame))
        if sent.method == "commitChanges" and sent.answer is not None:
            self._learn_owner(sent)
        return codec.encode(self._mapped(sent.frame))

    def _learn_owner(self, sent: Sent) -> None:
        params = sent.frame.get("params") or []
        own = {c.get("id") for c in params[1] if isinstance(c, dict)} if len(params) > 1 else set()
        result = sent.answer.get("result") or {}
        for change in result.get("changes", ()):
            if change["id"] in own and "clientId" in change:
                self._owners.setdefault(change["clientId"], sent.client)

    def _mapped(self, value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: self._mapped(member, name) for name, member in value.items()}
        if isinstance(value, list):
            return [self._mapped(item) for item in value]
        if isinstance(value, str) and value not in self._ours:
            for theirs, ours in self._ours.items():  # an id inside a text
                if isinstance(theirs, str) and len(theirs) > 12 and theirs in value:
                    value = value.replace(theirs, ours)
            return value
        if isinstance(value, str) or key == "since":  # the one time that goes back to the server
            return self._ours.get(value, value)
        return value

    def check(self, theirs: Any, ours: Any, where: str = "", key: str = "") -> None:
        """Compare two frames, learning ids and times. Raises `AssertionError`."""
        if isinstance(theirs, dict):
            assert isinstance(ours, dict), f"{where}: {ours!r}, not an object"
            if "code" in theirs and "message" in theirs and key == "error":
                self._check_error(theirs, ours, where)
                return
            assert theirs.keys() == ours.keys(), f"{where}: keys {list(ours)}, not {list(theirs)}"
            for name, member in theirs.items():
                self.check(member, ours[name], f"{where}/{name}", name)
        elif isinstance(theirs, list):
            assert isinstance(ours, list), f"{where}: {ours!r}, not a list"
            assert len(theirs) == len(ours), f"{where}: {len(ours)} items, not {len(theirs)}"
            for index, (one, other) in enumerate(zip(theirs, ours, strict=True)):
                self.check(one, other, f"{where}/{index}", key)
        else:
            self._check_scalar(theirs, ours, where, key)

    def _check_error(self, theirs: Any, ours: Any, where: str) -> None:
        if theirs["code"] == -32000 and ENGINE.search(theirs["message"]):
            assert ours["code"] == 400, f"{where}: code {ours['code']}"
            return
        assert ours["code"] == theirs["code"], f"{where}: {ours!r}, not {theirs!r}"
        self.check(theirs["message"], ours["message"], f"{where}/message")
        if theirs["code"] != -32000:
            self.check(theirs.get("data"), ours.get("data"), f"{where}/data")

    def _check_scalar(self, theirs: Any, ours: Any, where: str, key: str) -> None:
        if isinstance(theirs, str) and theirs.startswith(ELIDED):
            assert isinstance(ours, str), f"{where}: {ours!r}, not text"
        elif key == "clientId":
            owner = self._clients.get(self._owners.get(theirs, ""))
            assert owner is None or ours in owner.connection_ids, f"{where}: not the author's"
        elif key in TIMES and _is_time(theirs):
            assert _is_time(ours), f"{where}: {ours!r} is no time"
            self._ours[theirs] = ours
        elif self._is_new_id(theirs, ours, key):
            self._ours[theirs] = ours
        else:
            expected = self._mapped(theirs)
            assert type(expected) is type(ours), f"{where}: {ours!r}, not {expected!r}"
            assert expected == ours, f"{where}: {ours!r}, not {expected!r}"

    def _is_new_id(self, theirs: Any, ours: Any, key: str) -> bool:
        return (
            isinstance(theirs, str)
            and isinstance(ours, str)
            and key in ("id", "result", "from", "peers")
            and theirs not in self._ours
            and theirs not in self._from_clients
        )


def _scalars(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for member in value.values():
            yield from _scalars(member)
    elif isinstance(value, list):
        for item in value:
            yield from _scalars(item)
    elif isinstance(value, (str, int, float)):
        yield value


def _is_time(value: Any) -> bool:
    return isinstance(value, (int, float)) and value > 1_000_000_000_000


class Replay:
    """Plays a recording against a server of its own, in memory."""

    def __init__(self, recording: Recording, server: PatchesServer) -> None:
        self._recording = recording
        self._clients = {label: Client(server) for label in recording.acts}
        self._mapping = Mapping(self._clients)
        self.heads = Heads()
        self.frames = recording.frames
        self._told = list(recording.told)
        self.failures: list[str] = []

    async def run(self) -> None:
        """Play it to the end. What differs is added to `failures`."""
        acts = self._recording.acts
        while any(acts.values()):
            waiting = sorted((queue[0] for queue in acts.values() if queue), key=lambda a: a.line)
            act = next((each for each in waiting if self._may_come(each)), waiting[0])
            acts[act.client].popleft()
            client = self._clients[act.client]
            if isinstance(act, Sent):
                await self._send(client, act)
            elif act.opens:
                client.open()
            else:
                await self._let_rest()
                client.close()
            self._check_told()
        await self._let_rest()
        self.failures += [f"line {told.line + 1}: never told: {told.frame}" for told in self._told]

    def _may_come(self, act: Sent | Socket) -> bool:
        return isinstance(act, Socket) or self.heads.allow(act)

    async def _let_rest(self) -> None:
        """The server may hold a broadcast back for a moment after an answer that stored nothing."""
        self._check_told()
        if self._told:
            await asyncio.sleep(0.05)
            self._check_told()

    async def _send(self, client: Client, sent: Sent) -> None:
        answer = await client.call(self._mapping.outgoing(sent), sent)
        self.heads.note(sent, answer)
        if sent.answer is not None:
            self._check(sent.answer, answer, f"line {sent.line + 1}: {sent.method}")

    def _check_told(self) -> None:
        for client in self._clients.values():
            client.read()
        for told in list(self._told):
            inbox = self._clients[told.client].inbox
            arrived = next((each for each in inbox if _is_same(told.frame, each)), None)
            if arrived is not None:
                inbox.remove(arrived)
                self._told.remove(told)
                self._check(told.frame, arrived, f"line {told.line + 1}: {told.frame['method']}")

    def _check(self, theirs: Any, ours: Any, where: str) -> None:
        try:
            self._mapping.check(theirs, ours)
        except AssertionError as exc:
            self.failures.append(f"{where}: {str(exc).splitlines()[0]}")


def _is_same(theirs: Any, ours: Any) -> bool:
    """Whether two notifications tell of the same event."""
    if theirs["method"] != ours.get("method"):
        return False
    one, other = theirs["params"], ours["params"]
    if one.get("docId") != other.get("docId"):
        return False
    revs = [change["rev"] for change in one.get("changes", ())]
    return revs == [change["rev"] for change in other.get("changes", ())]


async def replayed(path: Path) -> tuple[Replay, dict[str, Any]]:
    """A recording's replay, and how every OT document ends, by the last part of its id."""
    recording = read_recording(path)
    clock = itertools.count(_latest_time(recording) + 1)
    runtime = Runtime(wall_ms=lambda: next(clock))
    backend = MemoryBackend(runtime=runtime)
    services = services_on(backend, runtime=runtime)
    server = PatchesServer(
        services,
        auth=allow_all,
        algorithm_of=backend.algorithm_of,
        get_tombstone=backend.get_tombstone,
        runtime=runtime,
        relay=any(told.frame["method"] == "peer-welcome" for told in recording.told),
    )
    async with server:
        replay = Replay(recording, server)
        await replay.run()
    states = {}
    for doc_id in replay.heads.alive():
        if await backend.algorithm_of(doc_id) == "ot":
            snapshot = await services["ot"].documents.get_doc(doc_id)
            states[doc_id.rpartition("/")[2]] = apply_changes(snapshot.state, snapshot.changes)
    return replay, states


def _latest_time(recording: Recording) -> int:
    """The server's clock starts after every time that a client sends, so it lowers none."""
    times = (
        value
        for acts in recording.acts.values()
        for act in acts
        if isinstance(act, Sent)
        for value in _scalars(act.frame)
        if _is_time(value)
    )
    return max(times, default=1_800_000_000_000)


@pytest.mark.parametrize(
    "path",
    case_files("transcripts", default=HERE, pattern="*.jsonl"),
    ids=lambda path: str(path.stem),
)
async def test_recorded_frames(path: Path, conformance: ConformanceTally) -> None:
    replay, _ = await replayed(path)
    failures = replay.failures
    if path.stem == DEFECT:
        failures = [failure for failure in failures if "/ops/" not in failure]
    conformance.record("transcripts", replay.frames, "frames", failures=len(failures))
    assert not failures, "\n".join(failures[:20])


async def test_a_commit_sent_again_over_a_new_connection_id_ends_as_over_the_old_one() -> None:
    ends = []
    for name in ("lost-ack", DEFECT):
        replay, states = await replayed(HERE / "transcripts" / f"{name}.jsonl")
        assert replay.frames > 0
        ends.append(states["ack"])
    assert ends[0] == ends[1]
    assert ends[0]["list"][-1] == "x"
