"""Parameters are checked before anything is done with them."""

from __future__ import annotations

from typing import Any

import pytest

from patches.errors import ChangeRefusedError, InvalidRequestError, OpsRefusedError, StatusError
from patches.limits import Limits
from patches.model.checks import check_ops
from patches_server.wire import checks as wire_checks
from patches_server.wire.frames import ABSENT

LIMITS = Limits()
OP = {"op": "replace", "path": "/a", "value": 1}


def changes(value: Any, *, limits: Limits = LIMITS, frame_bytes: int = 100) -> Any:
    return wire_checks.changes(value, limits, frame_bytes=frame_bytes)


def readable(value: object) -> str:
    """An id that is the same in every process, which the address of an object is not."""
    return repr(value).replace(repr(ABSENT), "absent")


@pytest.mark.parametrize(
    "doc_id",
    ["a", "a/b", "../x", "a b", "日本", "é" * 256, "'; DROP TABLE x", "x" * 512],
)
def test_ids_that_are_allowed(doc_id: str) -> None:
    assert wire_checks.doc_id(doc_id, LIMITS) == doc_id


@pytest.mark.parametrize(
    "doc_id",
    ["a\0b", "a\nb", "\x7f", "\x85", "\ud83d", "é" * 257, "x" * 513, "x" * 1_000_000],
    ids=["NUL", "newline", "DEL", "C1", "half a pair", "too many bytes", "too long", "1 MB"],
)
def test_ids_that_are_not(doc_id: str) -> None:
    with pytest.raises(InvalidRequestError, match=r"docId (must have no|has \d+ bytes)"):
        wire_checks.doc_id(doc_id, LIMITS)


@pytest.mark.parametrize("value", [ABSENT, None, -1, 1.5, True, "1", [], 2**53], ids=readable)
def test_a_revision_is_a_whole_number(value: object) -> None:
    with pytest.raises(InvalidRequestError, match="rev must be a whole number"):
        wire_checks.revision(value)


@pytest.mark.parametrize(
    "value", [ABSENT, None, "zzz", {}, 7, [7], [None], [{}], [{"id": ""}], [{"id": 7, "ops": []}]]
)
def test_a_malformed_submission_is_400_without_a_scope(value: object) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        changes(value)
    assert caught.value.data is None


@pytest.mark.parametrize(
    "fields",
    [
        {"ops": ABSENT},
        {"ops": {}},
        {"ops": "x"},
        {"baseRev": -1},
        {"baseRev": 1.5},
        {"baseRev": True},
        {"rev": "1"},
        {"createdAt": "now"},
        {"createdAt": -1},
        {"createdAt": 10**400},
        {"createdAt": float("nan")},
        {"committedAt": []},
        {"batchId": 7},
        {"batchId": "x" * 129},
        {"clientId": {}},
        {"extra": 2**60},
        {"__proto__": {}},
    ],
    ids=readable,
)
def test_a_malformed_change_is_named(fields: dict[str, Any]) -> None:
    change = {"id": "c1", "ops": [OP], **fields}
    if change["ops"] is ABSENT:
        del change["ops"]
    with pytest.raises(ChangeRefusedError) as caught:
        changes([{"id": "c0", "ops": [OP]}, change])
    assert caught.value.code == 400
    assert caught.value.data == {"changeId": "c1", "scope": "change"}


def test_null_is_absent_and_unknown_keys_are_kept() -> None:
    wire = {"id": "c", "ops": [OP], "baseRev": None, "createdAt": None, "note": {"by": "ann"}}
    [change] = changes([wire])
    assert (change.base_rev, change.created_at) == (None, None)
    assert change.metadata == {"note": {"by": "ann"}}


@pytest.mark.parametrize(
    ("limits", "value", "scope"),
    [
        (Limits(max_changes_per_commit=1), [{"id": "a", "ops": []}, {"id": "b", "ops": []}], None),
        (Limits(max_commit_bytes=50), [{"id": "a", "ops": [{**OP, "value": "x" * 50}]}], None),
        (Limits(max_change_bytes=50), [{"id": "a", "ops": [{**OP, "value": "x" * 50}]}], "change"),
        (Limits(max_metadata_bytes=50), [{"id": "a", "ops": [], "note": "x" * 50}], "change"),
    ],
    ids=["changes", "commit bytes", "change bytes", "metadata"],
)
def test_what_is_too_large_is_413(limits: Limits, value: Any, scope: str | None) -> None:
    with pytest.raises(StatusError) as caught:
        changes(value, limits=limits)
    assert caught.value.code == 413
    assert caught.value.scope == scope


def test_options_of_versions_are_checked() -> None:
    given = {"limit": 5, "orderBy": "endRev", "reverse": True, "startAfter": 1.5, "origin": "main"}
    options = wire_checks.list_options(given)
    assert (options.limit, options.order_by, options.reverse) == (5, "endRev", True)
    assert (options.start_after, options.origin) == (1.5, "main")
    for bad in (
        "x",
        {"limit": -1},
        {"orderBy": "id; DROP"},
        {"startAfter": "x"},
        {"startAfter": 10**400},
        {"origin": 7},
    ):
        with pytest.raises(InvalidRequestError):
            wire_checks.list_options(bad)
    assert wire_checks.list_options(ABSENT) == wire_checks.list_options(None)


def test_metadata_is_an_object_of_bounded_size() -> None:
    assert wire_checks.metadata(ABSENT, LIMITS) == {}
    refused: list[Any] = [[], "x", {"a": float("nan")}, {"__proto__": 1}]
    for bad in refused:
        with pytest.raises(InvalidRequestError):
            wire_checks.metadata(bad, LIMITS)
    with pytest.raises(StatusError, match="metadata has 20008 bytes, at most 16384"):
        wire_checks.metadata({"a": "x" * 20_000}, LIMITS)


def test_numbers_too_large_for_a_float_are_no_times() -> None:
    with pytest.raises(ChangeRefusedError, match="createdAt must be a time"):
        wire_checks.changes(
            [{"id": "c1", "ops": [], "createdAt": 10**400}], Limits(), frame_bytes=500
        )
    with pytest.raises(InvalidRequestError, match="since must be a number"):
        wire_checks.since({"since": 10**400})
    with pytest.raises(OpsRefusedError, match="'ts' must be a number"):
        check_ops([{"op": "remove", "path": "/a", "ts": 10**400}], Limits())
