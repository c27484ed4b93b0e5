"""The tables of `docs/protocol.md`, row by row, against the documents that are served.

Answers are compared byte for byte: which keys there are, and in which order. `<name>` in an
expected answer stands for an id that the server makes up; the same name is the same id again.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias

import pytest

from patches.model import codec
from patches.runtime import Runtime
from patches_server.algorithms import services_on
from patches_server.auth.access import allow_all
from patches_server.service.server import PatchesServer
from patches_server.stores.memory.backend import MemoryBackend
from tests.support.raw_peer import RawPeer

NOW: Final = 1_700_000_000_000
METHODS: Final = (
    "getDoc",
    "getChangesSince",
    "commitChanges",
    "deleteDoc",
    "undeleteDoc",
    "listVersions",
    "createVersion",
    "updateVersion",
    "getVersionState",
    "getVersionChanges",
    "getStateBeforeVersion",
    "listBranches",
    "createBranch",
    "updateBranch",
    "deleteBranch",
    "mergeBranch",
)
FIXED_IN_VERSIONS: Final = "id parentId groupId origin startedAt endedAt startRev endRev".split()
FIXED_IN_BRANCHES: Final = (
    "id docId branchedAtRev createdAt modifiedAt contentStartRev pendingOp deleted".split()
)

#: A call of Ann's with what she gets: the end of the answer to it, after its id, and before that
#: the frames that come of themselves. A text instead of a call is a frame as it is.
Row: TypeAlias = tuple[Sequence[Any] | str, str] | tuple[Sequence[Any] | str, str, Sequence[str]]


class Desk:
    """A server on a clock that stands still, with two peers, and the ids that were made up."""

    def __init__(self, server: PatchesServer) -> None:
        self.ann = RawPeer(server.connect())
        self.bob = RawPeer(server.connect())
        self.names: dict[str, str] = {"ann": self.ann.id, "bob": self.bob.id}

    def text(self, template: str) -> str:
        """A template with the ids that are known."""
        return re.sub("<(\\w+)>", lambda found: self.names[found[1]], template)

    def expect(self, frame: bytes, template: str) -> None:
        """Compare a frame with a template, and learn the ids that it names first."""
        got = frame.decode()
        parts = re.split("<(\\w+)>", template)
        pattern = ""
        for index, part in enumerate(parts):
            if index % 2 == 0:
                pattern += re.escape(part)
            elif part in self.names:
                pattern += re.escape(self.names[part])
            else:
                pattern += f"(?P<{part}>[0-9A-Za-z]{{4,32}})"
        found = re.fullmatch(pattern, got)
        assert found is not None, f"\n{got}\nis not\n{self.text_or_template(template)}"
        self.names.update(found.groupdict())

    def text_or_template(self, template: str) -> str:
        return re.sub("<(\\w+)>", lambda found: self.names.get(found[1], found[0]), template)

    async def play(self, rows: Sequence[Row]) -> None:
        for number, (call, answer, *before) in enumerate(rows, start=1):
            if isinstance(call, str):
                await self.ann.send(self.text(call))
            else:
                request = {"jsonrpc": "2.0", "id": number, "method": call[0]}
                if len(call) > 1:
                    request["params"] = list(call[1:])
                await self.ann.send(self.text(codec.encode_text(request)))
                answer = f'{{"jsonrpc":"2.0","id":{number}{answer and "," + answer}}}'
            for notification in before[0] if before else ():
                self.expect(await self.ann.next_bytes(), notification)
            if answer:
                self.expect(await self.ann.next_bytes(), answer)
            left = self.ann.session.outbox.get_nowait()
            assert left is None, f"after {call}: {left!r}"

    async def told(self, *notifications: str) -> None:
        """What Bob was told, in order, and no more."""
        for notification in notifications:
            self.expect(await self.bob.next_bytes(), notification)
        left = self.bob.session.outbox.get_nowait()
        assert left is None, repr(left)


@asynccontextmanager
async def open_desk(*, relay: bool = False) -> AsyncIterator[Desk]:
    runtime = Runtime(wall_ms=lambda: NOW)
    backend = MemoryBackend()
    server = PatchesServer(
        services_on(backend, runtime=runtime),
        auth=allow_all,
        routes=[("lww/*", "lww"), ("*", "ot")],
        algorithm_of=backend.algorithm_of,
        get_tombstone=backend.get_tombstone,
        runtime=runtime,
        relay=relay,
    )
    async with server:
        yield Desk(server)


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    async with open_desk() as desk:
        yield desk


def op(path: str, value: Any, **more: Any) -> dict[str, Any]:
    return {"op": "replace", "path": path, "value": value, **more}


def error(code: int, message: str, data: str = "") -> str:
    return f'"error":{{"code":{code},"message":{codec.encode_text(message)}{data}}}'


def required(text: str) -> str:
    return error(400, f"INVALID_REQUEST: docId is required (got {text})")


def committed(doc_id: str, changes: str, more: str = "") -> str:
    params = f'{{"docId":"{doc_id}","changes":[{changes}]{more}}}'
    return f'{{"jsonrpc":"2.0","method":"changesCommitted","params":{params}}}'


def deleted(doc_id: str) -> str:
    return f'{{"jsonrpc":"2.0","method":"docDeleted","params":{{"docId":"{doc_id}"}}}}'


def change(
    id: str, ops: str, base: int, rev: int, *, at: int = NOW, batch: str = "", more: str = ""
) -> str:
    """An OT change as it is stored when Ann has committed it."""
    return (
        f'{{"id":"{id}","ops":[{ops}],"baseRev":{base},"rev":{rev},"createdAt":{at},'
        f'"committedAt":{NOW}{batch},"clientId":"<ann>"{more}}}'
    )


PARSE_ERROR = (
    '{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"Parse error","data":{}}}'
)
EMPTY = '"result":{"state":null,"rev":0,"changes":[]}'


def to(id: str, tail: str) -> str:
    return f'{{"jsonrpc":"2.0","id":{id},{tail}}}'


def invalid(data: str) -> str:
    return (
        '{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"Invalid Request",'
        f'"data":{data}}}}}'
    )


@pytest.mark.parametrize(
    ("frame", "answer"),
    [
        # malformed input
        ("", PARSE_ERROR),
        ("{oops", PARSE_ERROR),
        ('{"jsonrpc":"2.0","id":5}', invalid("5")),
        ('{"id":"x","result":3}', invalid('"x"')),
        ("{}", invalid("null")),
        ('[{"jsonrpc":"2.0","id":1,"method":"getDoc","params":["d"]}]', invalid("null")),
        ("[]", invalid("null")),
        ("42", invalid("null")),
        ('"text"', invalid("null")),
        ("null", invalid("null")),
        ("true", invalid("null")),
        # methods
        ('{"id":1,"method":"no"}', to("1", error(-32000, "Unknown method 'no'."))),
        ('{"id":1,"method":null}', to("1", error(-32000, "Unknown method 'null'."))),
        ('{"id":1,"method":7}', to("1", error(-32000, "Unknown method '7'."))),
        ('{"jsonrpc":"2.0","method":"no"}', ""),
        ('{"jsonrpc":"2.0","method":"getDoc","params":["d"]}', ""),
        ('{"jsonrpc":"2.0","method":"docDeleted","params":{"docId":"d"}}', ""),
        # ids, and the jsonrpc field, which is not looked at
        ('{"jsonrpc":"2.0","id":null,"method":"getDoc","params":["d"]}', to("null", EMPTY)),
        ('{"jsonrpc":"1.0","id":-7,"method":"getDoc","params":["d"]}', to("-7", EMPTY)),
        ('{"id":1.5,"method":"getDoc","params":["d"]}', to("1.5", EMPTY)),
        ('{"method":"getDoc","params":["d"],"id":"last"}', to('"last"', EMPTY)),
        # parameters
        ('{"id":1,"method":"getDoc"}', to("1", required("undefined"))),
        ('{"id":1,"method":"getDoc","params":[]}', to("1", required("undefined"))),
        ('{"id":1,"method":"getDoc","params":"d"}', to("1", EMPTY)),
        ('{"id":1,"method":"getDoc","params":null}', to("1", required("null"))),
        ('{"id":1,"method":"getDoc","params":{"docId":"d"}}', to("1", required("[object Object]"))),
        ('{"id":1,"method":"getDoc","params":["d",null]}', to("1", EMPTY)),
        ('{"id":1,"method":"getDoc","params":["d",{"rev":3},"more"]}', to("1", EMPTY)),
    ],
)
async def test_framing(desk: Desk, frame: str, answer: str) -> None:
    await desk.play([(frame, answer), (["getChangesSince", "still open", 0], '"result":[]')])


@pytest.mark.parametrize("method", METHODS)
async def test_a_first_parameter_that_is_no_text_is_refused(desk: Desk, method: str) -> None:
    await desk.play(
        [
            ([method], required("undefined")),
            ([method, None], required("null")),
            ([method, ""], required("empty string")),
            ([method, 7], required("7")),
            ([method, True], required("true")),
            ([method, {"docId": "d"}], required("[object Object]")),
            ([method, ["d", [1, None], {}]], required("d,1,,[object Object]")),
        ]
    )


async def test_subscriptions(desk: Desk) -> None:
    await desk.play(
        [
            (["subscribe", "a"], '"result":["a"]'),
            (["subscribe", ["a", "b", "b", 7, "", None]], '"result":["a","b"]'),
            (["subscribe", []], '"result":[]'),
            (["unsubscribe", "a"], '"result":["a"]'),
            (["unsubscribe", ["a", "b", "never"]], '"result":["b"]'),
        ]
    )


async def test_ot_documents(desk: Desk) -> None:
    await desk.bob.result("subscribe", "d")
    root, title, count, other = (
        codec.encode_text(each)
        for each in (op("", {"t": "x"}), op("/t", "y"), op("/n", 1), op("/o", 1))
    )
    first = change("c1", root, 0, 1, at=5, batch=',"batchId":"b"', more=',"mine":[1]')
    second = change("c2", title, 1, 2)
    third = change("c3", count, 1, 3)  # `baseRev` stays the sender's
    fourth = change("c4", other, 3, 4)
    await desk.play(
        [
            (["getChangesSince", "d", 0], '"result":[]'),
            (["commitChanges", "d", []], '"result":{"changes":[]}'),
            (
                [
                    "commitChanges",
                    "d",
                    [
                        {
                            "id": "c1",
                            "ops": [op("", {"t": "x"})],
                            "baseRev": 0,
                            "rev": 1,
                            "createdAt": 5,
                            "committedAt": 0,
                            "batchId": "b",
                            "clientId": "forged",
                            "mine": [1],
                        }
                    ],
                ],
                f'"result":{{"changes":[{first}]}}',
            ),
            # absent fields are filled in, and a time in the future lowered
            (
                [
                    "commitChanges",
                    "d",
                    [{"id": "c2", "ops": [op("/t", "y")], "createdAt": NOW * 2}],
                    {},
                ],
                f'"result":{{"changes":[{second}]}}',
            ),
            # what was missed comes first, then the own ones
            (
                [
                    "commitChanges",
                    "d",
                    [{"id": "c3", "ops": [op("/n", 1)], "baseRev": 1, "rev": 2}],
                    {
                        "forceCommit": True,
                        "allowRootReplace": True,
                        "historicalImport": True,
                        "maxChangesPerVersion": 1,
                    },
                ],
                f'"result":{{"changes":[{second},{third}]}}',
            ),
            # sent again
            (
                [
                    "commitChanges",
                    "d",
                    [{"id": "c3", "ops": [op("/n", 1)], "baseRev": 1, "rev": 2}],
                ],
                f'"result":{{"changes":[{second},{third}]}}',
            ),
            # made at revision 0 of a document that has a history
            (
                [
                    "commitChanges",
                    "d",
                    [{"id": "c4", "ops": [op("/o", 1)], "baseRev": 0, "rev": 1}],
                ],
                f'"result":{{"changes":[{fourth}],"docReloadRequired":true}}',
            ),
            (["getChangesSince", "d", 2], f'"result":[{third},{fourth}]'),
            (["getChangesSince", "d", 99], '"result":[]'),
            # an upload in batches makes a version
            (["getDoc", "d", {"rev": 1}], '"result":{"state":{"t":"x"},"rev":1,"changes":[]}'),
            (
                ["getDoc", "d", {"rev": 2}],
                f'"result":{{"state":{{"t":"x"}},"rev":1,"changes":[{second}]}}',
            ),
            (
                ["getDoc", "d", {"rev": 99}],
                f'"result":{{"state":{{"t":"x"}},"rev":1,"changes":[{second},{third},{fourth}]}}',
            ),
            (
                ["getDoc", "d"],
                f'"result":{{"state":{{"t":"x"}},"rev":1,"changes":[{second},{third},{fourth}]}}',
            ),
            (["createVersion", "d"], '"result":"<version>"'),
            (["getDoc", "d"], '"result":{"state":{"t":"y","n":1,"o":1},"rev":4,"changes":[]}'),
        ]
    )
    await desk.told(
        committed("d", first),
        committed("d", second),
        committed("d", third, ',"options":{"forceCommit":true}'),
        committed("d", fourth),
    )


async def test_commits_that_an_ot_document_refuses(desk: Desk) -> None:
    whole = ',"data":{"scope":"doc"}'
    one = ',"data":{"changeId":"x","scope":"change"}'
    await desk.bob.result("commitChanges", "d", [{"id": "c1", "ops": [op("", {})]}])
    await desk.bob.result("subscribe", "d")
    at_root_message = (
        "Document d already exists (rev 1). Cannot apply root-level replace (path: '') - this "
        "would overwrite the existing document. Load the existing document first, or use nested "
        "paths instead of replacing at root."
    )
    at_root = {"id": "x", "baseRev": 1, "ops": [op("", {})]}
    await desk.play(
        [
            (
                ["commitChanges", "d", [at_root]],
                error(400, at_root_message, one),
            ),
            (
                ["commitChanges", "d", [at_root], {"allowRootReplace": True}],
                error(400, at_root_message, one),
            ),
            (
                [
                    "commitChanges",
                    "d",
                    [{"id": "x", "baseRev": 1, "ops": []}, {"id": "y", "baseRev": 0, "ops": []}],
                ],
                error(
                    400,
                    "Client changes must have consistent baseRev in all changes for doc d.",
                    whole,
                ),
            ),
            (
                ["commitChanges", "d", [{"id": "x", "baseRev": 9, "ops": []}]],
                error(
                    409,
                    "Client baseRev (9) is ahead of server revision (1) for doc d. "
                    "Client needs to reload the document.",
                    whole,
                ),
            ),
            (
                [
                    "commitChanges",
                    "d",
                    [{"id": "x", "baseRev": 0, "rev": 2, "batchId": "b", "ops": [op("/a", 1)]}],
                ],
                error(
                    409,
                    "Document d already exists (rev 1) and was not created by this upload. Cannot "
                    "continue a baseRev 0 upload onto it - these changes were made against state "
                    "the client has since reloaded. Reload the document and re-send them on the "
                    "current revision.",
                    whole,
                ),
            ),
            (
                ["commitChanges", "d", [{"id": "x", "ops": [{"op": "odd", "path": "/a"}]}]],
                error(400, "change 'x': ops[0]: [op:odd] unknown", one),
            ),
        ]
    )
    await desk.told()
    assert await desk.ann.result("getChangesSince", "d", 1) == []


async def test_lww_documents(desk: Desk) -> None:
    await desk.bob.result("subscribe", "lww/d")
    name = '{"op":"replace","path":"/user/name","value":"Anna","ts":5,"rev":1}'
    count = '{"op":"replace","path":"/count","value":3,"ts":5,"rev":1}'
    more = f'{{"op":"replace","path":"/more","value":[],"ts":{NOW},"rev":2}}'
    y = '{"op":"replace","path":"/y","value":1,"ts":1,"rev":3}'
    z = '{"op":"replace","path":"/z","value":1,"ts":1,"rev":3}'

    def one(id: str, ops: str, base: int, rev: int, *, at: int = NOW) -> str:
        return (
            f'{{"id":"{id}","ops":[{ops}],"baseRev":{base},"rev":{rev},"createdAt":{NOW},'
            f'"committedAt":{at}}}'
        )

    whole = one("<made2>", f"{name},{count},{more},{y},{z}", 0, 3)
    first = [op("/user/name", "Anna", ts=5), {"op": "@inc", "path": "/count", "value": 3, "ts": 5}]
    await desk.play(
        [
            (["getDoc", "lww/d"], '"result":{"state":{},"rev":0,"changes":[]}'),
            (
                ["getDoc", "lww/d", {"rev": 1}],
                error(-32000, "LWW documents do not support reading at a specific revision"),
            ),
            (["getChangesSince", "lww/d", 0], '"result":[]'),
            (["commitChanges", "lww/d", []], '"result":{"changes":[]}'),
            # deltas come back as the value that they made
            (
                ["commitChanges", "lww/d", [{"id": "l1", "baseRev": 0, "ops": first}]],
                f'"result":{{"changes":[{one("l1", name + "," + count, 0, 1)}]}}',
            ),
            # sent again: nothing is added up twice
            (
                ["commitChanges", "lww/d", [{"id": "l1", "baseRev": 0, "ops": first}]],
                f'"result":{{"changes":[{one("l1", name + "," + count, 0, 1)}]}}',
            ),
            # what loses is corrected, and moves nothing
            (
                [
                    "commitChanges",
                    "lww/d",
                    [{"id": "l2", "baseRev": 1, "ops": [op("/user/name", "Old", ts=4)]}],
                ],
                f'"result":{{"changes":[{one("l2", name, 1, 1)}]}}',
            ),
            # an absent time is the server's, and so is one in the future
            (
                ["commitChanges", "lww/d", [{"id": "l3", "baseRev": 1, "ops": [op("/more", [])]}]],
                f'"result":{{"changes":[{one("l3", more, 1, 2)}]}}',
            ),
            # several are answered as one, with what the sender missed
            (
                [
                    "commitChanges",
                    "lww/d",
                    [
                        {"id": "l4", "baseRev": 1, "ops": [op("/y", 1, ts=1)]},
                        {"id": "l5", "baseRev": 1, "ops": [op("/z", 1, ts=1)]},
                    ],
                ],
                f'"result":{{"changes":[{one("l4", f"{more},{y},{z}", 1, 3)}]}}',
            ),
            (
                ["getChangesSince", "lww/d", 2],
                f'"result":[{one("<made1>", f"{y},{z}", 2, 3, at=1)}]',
            ),  # the latest of its times
            (["getChangesSince", "lww/d", 3], '"result":[]'),
            (["getDoc", "lww/d"], f'"result":{{"state":{{}},"rev":3,"changes":[{whole}]}}'),
        ]
    )
    assert desk.names["made1"] != desk.names["made2"]
    await desk.told(
        committed("lww/d", one("l1", f"{name},{count}", 0, 1)),
        committed("lww/d", one("l3", more, 1, 2)),
        committed("lww/d", one("l4", f"{y},{z}", 2, 3)),
    )


@pytest.mark.parametrize("doc_id", ["d", "lww/d"])
async def test_deletion(desk: Desk, doc_id: str) -> None:
    await desk.bob.result("commitChanges", doc_id, [{"id": "c1", "ops": [op("/a", 1)]}])
    await desk.bob.result("subscribe", [doc_id, "e"])
    gone = error(
        410, f"Document {doc_id} was deleted", f',"data":{{"deletedAt":{NOW},"lastRev":1}}'
    )
    await desk.play(
        [
            (["deleteDoc", doc_id, {"skipTombstone": True}], ""),  # not for everybody: there is one
            (["getDoc", doc_id], gone),
            (["getChangesSince", doc_id, 0], gone),
            (["commitChanges", doc_id, [{"id": "c2", "ops": []}]], gone),
            (["createVersion", doc_id], gone),
            (["createBranch", doc_id, 1], gone),
            (["subscribe", [doc_id, "e"]], '"result":["e"]', [deleted(doc_id)]),
            (["unsubscribe", ["e"]], '"result":["e"]'),
            (["deleteDoc", doc_id], ""),
            (["undeleteDoc", doc_id], '"result":true'),
            (["undeleteDoc", doc_id], '"result":false'),
            (["getChangesSince", doc_id, 0], '"result":[]'),
            (["undeleteDoc", "never"], '"result":false'),
        ]
    )
    await desk.told(deleted(doc_id), deleted(doc_id))


async def test_versions(desk: Desk) -> None:
    await desk.bob.result("commitChanges", "d", [{"id": "c1", "ops": [op("", {"t": "x"})]}])
    times = f'"startedAt":{NOW},"endedAt":{NOW}'
    one = f'{{"id":"<one>","origin":"main",{times},"startRev":1,"endRev":1,"name":"One"}}'
    two = (
        f'{{"id":"<two>","origin":"main",{times},"startRev":2,"endRev":2,"parentId":"<one>",'
        '"name":"2","mine":{"x":1}}'
    )
    title = codec.encode_text(op("/t", "y"))
    unknown = error(404, "Version nope not found for doc d.")
    await desk.play(
        [
            (["createVersion", "empty", {}], '"result":null'),
            (["createVersion", "d", {"name": "One"}], '"result":"<one>"'),
            (["createVersion", "d", {"name": "again"}], '"result":null'),
            (
                ["commitChanges", "d", [{"id": "c2", "baseRev": 1, "ops": [op("/t", "y")]}]],
                f'"result":{{"changes":[{change("c2", title, 1, 2)}]}}',
            ),
            (["createVersion", "d", {"name": "Two"}], '"result":"<two>"'),
            (["updateVersion", "d", "<two>", {"name": "2", "mine": {"x": 1}}], ""),
            (["updateVersion", "d", "nope", {"name": "2"}], ""),
            *(
                (
                    [method, *params, {"name": "x", field: 1}],
                    error(-32000, f"Cannot modify version field {field}"),
                )
                for method, params in (("createVersion", ["d"]), ("updateVersion", ["d", "<one>"]))
                for field in FIXED_IN_VERSIONS
            ),
            (["listVersions", "empty"], '"result":[]'),
            (["listVersions", "d"], f'"result":[{one},{two}]'),
            (["listVersions", "d", None], f'"result":[{one},{two}]'),
            (["listVersions", "d", {"limit": 1}], f'"result":[{one}]'),
            (
                ["listVersions", "d", {"orderBy": "endRev", "reverse": True}],
                f'"result":[{two},{one}]',
            ),
            (["listVersions", "d", {"orderBy": "startRev", "startAfter": 1}], f'"result":[{two}]'),
            (["listVersions", "d", {"orderBy": "endRev", "endBefore": 2}], f'"result":[{one}]'),
            (
                ["listVersions", "d", {"orderBy": "endRev", "reverse": True, "startAfter": 2}],
                f'"result":[{one}]',
            ),
            (
                ["listVersions", "d", {"orderBy": "endRev", "reverse": True, "endBefore": 1}],
                f'"result":[{two}]',
            ),
            (["listVersions", "d", {"origin": "branch"}], '"result":[]'),
            (["listVersions", "d", {"groupId": "g"}], '"result":[]'),
            (["getVersionState", "d", "<one>"], '"result":{"t":"x"}'),
            (["getVersionState", "d", "nope"], unknown),
            (
                ["getVersionState", "other", "<one>"],
                error(404, "Version <one> not found for doc other."),
            ),
            (["getVersionChanges", "d", "<two>"], f'"result":[{change("c2", title, 1, 2)}]'),
            (["getVersionChanges", "d", "nope"], '"result":[]'),
            (["getStateBeforeVersion", "d", "<one>"], '"result":null'),
            (["getStateBeforeVersion", "d", "<two>"], '"result":{"t":"x"}'),
            (["getStateBeforeVersion", "d", "nope"], unknown),
        ]
    )


async def test_versions_of_an_lww_document(desk: Desk) -> None:
    await desk.bob.result("commitChanges", "lww/d", [{"id": "l1", "ops": [op("/a", 1, ts=5)]}])
    times = f'"startedAt":{NOW},"endedAt":{NOW}'
    await desk.play(
        [
            (["createVersion", "lww/empty"], '"result":null'),
            (["createVersion", "lww/d", {"name": "One"}], '"result":"<one>"'),
            (
                ["listVersions", "lww/d"],
                f'"result":[{{"id":"<one>","origin":"main",{times},"startRev":1,"endRev":1,"name":"One"}}]',
            ),
            (["getVersionState", "lww/d", "<one>"], '"result":{"a":1}'),
            (["getVersionChanges", "lww/d", "<one>"], '"result":[]'),
            (
                ["getStateBeforeVersion", "lww/d", "<one>"],
                error(-32000, "getStateBeforeVersion is only supported for OT stores."),
            ),
        ]
    )


async def test_branches(desk: Desk) -> None:
    await desk.bob.result("commitChanges", "d", [{"id": "c1", "ops": [op("", {"l": [1, 2]})]}])
    await desk.bob.result("subscribe", "d")
    record = f'"docId":"d","branchedAtRev":1,"createdAt":{NOW},"modifiedAt":{NOW}'
    b = f'{{"id":"b",{record},"contentStartRev":2%s,"name":"%s","mine":3}}'
    made = f'{{"id":"<made>",{record},"contentStartRev":2}}'
    theirs = f'{{"id":"theirs",{record},"contentStartRev":5}}'
    removal = '{"op":"remove","path":"/l/0"}'
    edit = codec.encode_text(op("/t", 1))
    on_branch = change("c3", removal, 1, 2)
    on_source = change("c2", edit, 1, 2)
    merged = change("c3", removal, 2, 3, batch=',"batchId":"b"')
    unknown = error(404, "Branch nope not found")
    closed = error(404, "Branch b not found")
    await desk.play(
        [
            (["listBranches", "d"], '"result":[]'),
            (
                [
                    "createBranch",
                    "d",
                    1,
                    {
                        "id": "b",
                        "name": "B",
                        "mine": 3,
                        "lastMergedRev": 9,
                        "mergeBaseRev": 9,
                        "mergeFrame": {},
                    },
                ],
                '"result":"b"',
            ),
            (["createBranch", "d", 1, {"id": "b", "name": "again"}], '"result":"b"'),
            (["listBranches", "d"], f'"result":[{b % ("", "B")}]'),
            (["createBranch", "d", 1], '"result":"<made>"'),
            (["createBranch", "d", 1, {"id": "theirs", "contentStartRev": 5}], '"result":"theirs"'),
            (["getDoc", "theirs"], '"result":{"state":null,"rev":0,"changes":[]}'),
            (
                ["createBranch", "other", 0, {"id": "b"}],
                error(-32000, "Branch b already exists for a different document"),
            ),
            (
                ["createBranch", "b", 1],
                error(-32000, "Cannot create a branch from another branch."),
            ),
            (["getDoc", "b"], '"result":{"state":{"l":[1,2]},"rev":1,"changes":[]}'),
            (
                [
                    "updateBranch",
                    "b",
                    {"name": "B2", "lastMergedRev": 9, "mergeBaseRev": 9, "mergeFrame": {}},
                ],
                "",
            ),
            *(
                (
                    ["updateBranch", "b", {field: 1}],
                    error(-32000, f"Cannot modify branch field {field}"),
                )
                for field in FIXED_IN_BRANCHES
            ),
            (["listBranches", "d", {"since": NOW}], '"result":[]'),
            (
                ["listBranches", "d", {"since": NOW - 1}],
                f'"result":[{b % ("", "B2")},{made},{theirs}]',
            ),
            (["mergeBranch", "b"], '"result":[]'),
            (
                ["commitChanges", "d", [{"id": "c2", "baseRev": 1, "ops": [op("/t", 1)]}]],
                f'"result":{{"changes":[{on_source}]}}',
            ),
            (
                [
                    "commitChanges",
                    "b",
                    [{"id": "c3", "baseRev": 1, "ops": [{"op": "remove", "path": "/l/0"}]}],
                ],
                f'"result":{{"changes":[{on_branch}]}}',
            ),
            (["subscribe", "d"], '"result":["d"]'),
            # from the branch point on; its caller is told of the merge like everybody else
            (["mergeBranch", "b"], f'"result":[{on_source},{merged}]', [committed("d", merged)]),
            (["mergeBranch", "b"], '"result":[]'),
            (
                ["listBranches", "d"],
                f'"result":[{b % (""","lastMergedRev":2""", "B2")},{made},{theirs}]',
            ),
            *(
                ([method, "nope", *rest], unknown)
                for method, *rest in (("updateBranch", {}), ("deleteBranch",), ("mergeBranch",))
            ),
            (["deleteBranch", "b"], ""),
            *(
                ([method, "b", *rest], closed)
                for method, *rest in (("updateBranch", {}), ("deleteBranch",), ("mergeBranch",))
            ),
            (["listBranches", "d"], f'"result":[{made},{theirs}]'),
            (
                ["listBranches", "d", {"since": NOW - 1}],
                f'"result":[{{"id":"b","docId":"d","modifiedAt":{NOW},"deleted":true}},{made},{theirs}]',
            ),
            (
                ["getDoc", "b"],
                f'"result":{{"state":{{"l":[1,2]}},"rev":1,"changes":[{on_branch}]}}',
            ),
        ]
    )
    await desk.told(committed("d", on_source), committed("d", merged))


SIGNALED = '{"jsonrpc":"2.0","result":"ok","id":%s}'
NO_TARGET = '{"jsonrpc":"2.0","id":%s,"error":{"code":-32000,"message":"Target not connected"}}'
NOT_ITS = (
    '{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"Unknown method \'peer-signal\'."}}'
)


def signal(data: str, room: str = "") -> str:
    return f'{{"jsonrpc":"2.0","method":"signal","params":{{"from":"<ann>","data":{data}{room}}}}}'


@pytest.mark.parametrize(
    ("frame", "answer", "delivered"),
    [
        ('{"jsonrpc":"2.0","method":"peer-signal","params":["<bob>","{}"]}', "", signal('"{}"')),
        (
            '{"jsonrpc":"2.0","id":1,"method":"peer-signal","params":["<bob>",{"x":1}]}',
            SIGNALED % 1,
            signal('{"x":1}'),
        ),
        (
            '{"jsonrpc":"2.0","id":"s","method":"peer-signal","params":["<bob>",1,null]}',
            SIGNALED % '"s"',
            signal("1"),
        ),
        (
            '{"jsonrpc":"2.0","id":1,"method":"peer-signal","params":["<bob>",1,"d"]}',
            SIGNALED % 1,
            signal("1", ',"room":"d"'),
        ),
        (
            '{"jsonrpc":"2.0","id":1,"method":"peer-signal","params":["<bob>",1,"elsewhere"]}',
            NO_TARGET % 1,
            "",
        ),
        (
            '{"jsonrpc":"2.0","id":1,"method":"peer-signal","params":["nobody",1]}',
            NO_TARGET % 1,
            "",
        ),
        ('{"jsonrpc":"2.0","method":"peer-signal","params":["nobody",1]}', "", ""),
        ('{"jsonrpc":"2.0","id":1,"method":"peer-signal","params":{"to":"<bob>"}}', NOT_ITS, ""),
        ('{"jsonrpc":"2.0","id":1,"method":"peer-signal","params":["",1]}', NOT_ITS, ""),
        ('{"jsonrpc":"2.0","id":1,"method":"peer-signal","params":[7,1]}', NOT_ITS, ""),
        ('{"id":1,"method":"peer-signal","params":["<bob>",1]}', NOT_ITS, ""),
        ('{"method":"peer-signal","params":["<bob>",1]}', "", ""),
    ],
)
async def test_signaling(frame: str, answer: str, delivered: str) -> None:
    async with open_desk(relay=True) as desk:
        welcome = '{"jsonrpc":"2.0","method":"peer-welcome","params":{"id":"%s","peers":[%s]}}'
        desk.expect(await desk.ann.next_bytes(), welcome % ("<ann>", ""))
        await desk.told(welcome % ("<bob>", '"<ann>"'))
        for peer in (desk.ann, desk.bob):
            await peer.result("subscribe", "d")
        await desk.play([(frame, answer)])
        await desk.told(*([delivered] if delivered else ()))
        desk.ann.session.end()
        gone = '{"jsonrpc":"2.0","method":"peer-disconnected","params":{"id":"<ann>"%s}}'
        # Beyond the table: the room in which the two have met is told of it, too.
        rooms = [""] + ([',"room":"d"'] if '"room":"d"' in delivered else [])
        await desk.told(*(gone % room for room in rooms))
