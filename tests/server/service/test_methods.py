"""The table of methods: what each reads of its parameters, and how its result is encoded."""

from __future__ import annotations

from typing import Any

import pytest

from patches.errors import BranchError, PatchesError, StatusError, VersionError
from patches.limits import Limits
from patches.model.change import Change, Snapshot
from patches_server.documents.records import CommitOptions, CommitResult, Version
from patches_server.documents.services import Services
from patches_server.service.methods import (
    SIGNAL,
    add_methods_of,
    encoded,
    method_table,
    steps_to_encode,
    unknown_method,
)
from patches_server.service.parameters import Given
from patches_server.wire.checks import IMPORT

TABLE = method_table(has_relay=True)
CHANGE = {"id": "c1", "ops": [{"op": "replace", "path": "/a", "value": 1}]}
STORED = Change(id="c1", ops=[], base_rev=0, rev=1, created_at=1, committed_at=2)


def read(name: str, *params: Any, capabilities: frozenset[str] = frozenset()) -> tuple[Any, ...]:
    """What a method makes of a document's id and these parameters."""
    return TABLE[name].read(Given(["d", *params], Limits(), 1_000, capabilities))


@pytest.mark.parametrize(
    ("name", "params", "expected"),
    [
        ("getDoc", [], (None,)),
        ("getDoc", [{"rev": 3}], (3,)),
        ("getDoc", [{"token": "t"}], (None,)),
        ("getChangesSince", [4], (4,)),
        ("deleteDoc", [], (False,)),
        ("deleteDoc", [{"skipTombstone": True}], (False,)),
        ("undeleteDoc", [{"what": "ever"}], ()),
        ("getVersionState", ["v"], ("v",)),
        ("updateVersion", ["v", {"name": "n"}], ("v", {"name": "n"})),
        ("listBranches", [], (None,)),
        ("listBranches", [{"since": 5}], (5,)),
        ("createBranch", [2, {"id": "b"}], (2, {"id": "b"})),
        ("mergeBranch", [], ()),
    ],
)
def test_parameters_are_read(name: str, params: list[Any], expected: tuple[Any, ...]) -> None:
    assert read(name, *params) == expected


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("getDoc", [{"rev": -1}]),
        ("getDoc", ["1"]),
        ("getChangesSince", []),
        ("getChangesSince", [1.5]),
        ("commitChanges", [{}]),
        ("commitChanges", [[{"ops": []}]]),
        ("getVersionState", [7]),
        ("updateVersion", ["v", 1]),
        ("createBranch", ["1"]),
        ("createBranch", [1, {"id": ""}]),
        ("createBranch", [1, {"contentStartRev": "x"}]),
    ],
)
def test_what_a_method_does_not_take_is_400(name: str, params: list[Any]) -> None:
    with pytest.raises(StatusError) as refused:
        read(name, *params)
    assert refused.value.code == 400


def test_options_that_need_a_capability_are_dropped_without_it() -> None:
    options = {"forceCommit": True, "historicalImport": True, "allowRootReplace": True}
    _, plain = read("commitChanges", [CHANGE], options)
    assert plain == CommitOptions(force_commit=True)
    granted = frozenset({IMPORT})
    _, full = read("commitChanges", [CHANGE], options, capabilities=granted)
    assert (full.historical_import, full.allow_root_replace) == (True, True)


def test_traits_say_how_a_call_is_carried_out() -> None:
    assert {name for name, row in TABLE.items() if row.kind == "write"} == {
        "commitChanges", "deleteDoc", "undeleteDoc", "createVersion", "updateVersion",
        "createBranch", "updateBranch", "deleteBranch", "mergeBranch",
    }  # fmt: skip
    assert {name for name, row in TABLE.items() if row.target == "branch"} == {
        "updateBranch", "deleteBranch", "mergeBranch",
    }  # fmt: skip
    assert {name for name, row in TABLE.items() if row.also_reads} == {
        "commitChanges", "createBranch", "mergeBranch",
    }  # fmt: skip
    assert SIGNAL not in method_table(has_relay=False)
    writes_to = TABLE["createBranch"].also_writes
    assert writes_to is not None
    assert (writes_to(1, {"id": "b"}), writes_to(1, {})) == ("b", None)


@pytest.mark.parametrize(
    ("name", "params", "options"),
    [
        ("getDoc", ["d", {"token": None}], {"token": None}),
        ("getDoc", ["d"], {}),
        ("commitChanges", ["d", [], {"a": 1}], {"a": 1}),
        ("commitChanges", ["d", [], 7], {}),
        ("deleteDoc", ["d", {"skipTombstone": True}], {}),
    ],
)
def test_the_options_object_is_where_the_row_says(
    name: str, params: list[Any], options: dict[str, Any]
) -> None:
    assert TABLE[name].options_of(params) == options


VERSION = Version(id="v", origin="main", start_rev=1, end_rev=2, started_at=3, ended_at=4)


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (None, b"null"),
        (True, b"true"),
        (b'{"kept":1}', b'{"kept":1}'),
        (CommitResult(changes=[]), b'{"changes":[]}'),
        (
            CommitResult(changes=[], doc_reload_required=True, token="t"),
            b'{"changes":[],"docReloadRequired":true,"token":"t"}',
        ),
        (Snapshot(state={"a": 1}, rev=2), b'{"state":{"a":1},"rev":2,"changes":[]}'),
        ([STORED], b"[" + STORED.encoded + b"]"),
        ([b"1", b"2"], b"[1,2]"),
    ],
)
def test_results_are_encoded(result: Any, expected: bytes) -> None:
    assert encoded(result) == expected


def test_a_version_is_encoded_as_its_wire_object() -> None:
    assert encoded([VERSION]).startswith(b'[{"id":"v"')
    assert TABLE["deleteDoc"].encoded("whatever it gave") is None


def test_what_there_is_to_encode_is_estimated() -> None:
    assert steps_to_encode(CommitResult(changes=[STORED, STORED])) == 8
    assert steps_to_encode([STORED]) == 4
    assert steps_to_encode(None) == 0


def test_methods_of_a_document_server_are_added_once(documents: Any) -> None:
    documents.remote_methods = {"count": ("read", lambda doc_id, *given: [doc_id, *given])}
    table = dict(TABLE)
    add_methods_of(table, Services(documents))
    assert table["count"].kind == "read"
    with pytest.raises(ValueError, match="'count' is already registered"):
        add_methods_of(table, Services(documents))


async def test_such_a_method_may_be_plain_or_a_coroutine_function(documents: Any) -> None:
    async def slow(doc_id: str) -> str:
        return doc_id

    documents.remote_methods = {"slow": ("read", slow), "plain": ("write", lambda doc_id: 1)}
    table: dict[str, Any] = {}
    add_methods_of(table, Services(documents))
    assert await table["slow"].run(None, "d") == "d"
    assert await table["plain"].run(None, "d") == 1


def test_what_an_algorithm_lacks_says_so(documents: Any) -> None:
    bare = Services(documents)
    with pytest.raises(VersionError, match="no versions"):
        TABLE["listVersions"].run(bare, "d", None)
    with pytest.raises(BranchError, match="no branches"):
        TABLE["mergeBranch"].run(bare, "d")


def test_an_unknown_method_is_named_as_text() -> None:
    error = unknown_method({"a": 1})
    assert isinstance(error, PatchesError)
    assert str(error).startswith("Unknown method '")
