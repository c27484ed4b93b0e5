"""Frames in and out."""

from __future__ import annotations

from typing import Any

import pytest

from patches.errors import (
    BranchError,
    CorruptDataError,
    NotFoundError,
    StaleSubmissionError,
    StorageError,
)
from patches.model import codec
from patches.model.change import Change, Snapshot
from patches_server.wire.frames import (
    ABSENT,
    Malformed,
    Notification,
    Request,
    as_text,
    encoded_snapshot,
    find_id,
    is_unforeseen,
    parse_frame,
    result_frame,
    wire_error,
)


def parsed(frame: str | bytes) -> Any:
    return parse_frame(frame, 16)


def error_of(frame: Any) -> Any:
    assert isinstance(frame, Malformed)
    return codec.decode(frame.answer)


def test_presence_of_an_id_makes_a_request() -> None:
    assert parsed('{"id":1,"method":"m"}') == Request(None, "m", [], 1)
    assert parsed('{"jsonrpc":"2.0","id":null,"method":7,"params":{"a":1}}') == Request(
        "2.0", 7, [{"a": 1}], None
    )
    assert parsed('{"method":"m","params":[1]}') == Notification(None, "m", [1])


@pytest.mark.parametrize(
    "frame",
    [b"", b"\xff\xfe", b"\xef\xbb\xbf{}", b'{"id":1}x', b'{"id":1,"method":"m","params":[NaN]}'],
    ids=["empty", "invalid UTF-8", "a BOM", "trailing bytes", "NaN"],
)
def test_what_is_not_json_is_a_parse_error(frame: bytes) -> None:
    error = error_of(parsed(frame))
    if b"NaN" in frame:  # it has an id, and somebody is waiting
        assert (error["id"], error["error"]["code"]) == (1, 400)
    else:
        assert (error["id"], error["error"]["code"]) == (None, -32700)


def test_a_frame_our_limits_refuse_is_answered_under_its_id() -> None:
    deep = "[" * 5_000 + "]" * 5_000
    error = error_of(parsed(f'{{"jsonrpc":"2.0","id":7,"method":"m","params":[{deep}]}}'))
    assert (error["id"], error["error"]["code"]) == (7, 400)
    assert "16 levels" in error["error"]["message"]
    digits = "9" * 5_000
    error = error_of(parsed(f'{{"id":"a","method":"m","params":[{digits}]}}'))
    assert error["id"] in ("a", None)


def test_depth_is_measured_in_what_could_be_parsed() -> None:
    flat = '{"id":1,"method":"m","params":[' + ",".join(["[]"] * 100) + "]}"
    assert isinstance(parsed(flat), Request)
    deep = '{"id":1,"method":"m","params":' + "[" * 20 + "]" * 20 + "}"
    assert error_of(parsed(deep))["id"] == 1
    in_text = '{"id":1,"method":"m","params":["' + "[" * 100 + '"]}'
    assert isinstance(parsed(in_text), Request)


def test_lone_surrogates_are_read() -> None:
    request = parsed(b'{"id":1,"method":"m","params":["\\ud83d"]}')
    assert request.params == ["\ud83d"]


def test_an_id_is_found_in_the_head_alone() -> None:
    assert find_id('{"jsonrpc":"2.0","id":12,"method":"m","params":[{"id":5}') == 12
    assert find_id('{"id":"x y","method"') == "x y"
    assert find_id('{"method":"m","params":[{"id":5}]') is None
    assert find_id(b"\xff" * 5_000) is None
    text = "x" * 5_000
    assert find_id(f'{{"method":"m","params":["{text}"],"id":"last"}}\n') == "last"
    assert find_id(f'{{"method":"m","params":["{text}"], "id" : 7 }}'.encode()) == 7
    assert find_id(f'{{"method":"m","params":["{text}",{{"id":7}}]}}') is None
    assert find_id(f'{{"method":"m","params":["{text}\\"id\\":7}}') is None


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        ('{"meta":{"id":5},"id":9,"params":[DEEP]}', 9),
        ('{"method":"m","meta":[{"id":5}],"params":[DEEP]}', None),
        ('{"method":"m","params":[DEEP,{"id":5}],"id":9}', 9),
        ('{"note":"\\"id\\":5,","id":"a","params":[DEEP]}', "a"),
        ('{"id":{"id":5},"params":[DEEP]}', None),
        ('{"x":"id","y":5,"params":[DEEP]}', None),
        ('[{"id":5},DEEP]', None),
        ('{"method":"m","params":[DEEP,{"id":5}', None),
    ],
)
def test_a_frame_that_cannot_be_parsed_is_answered_under_no_id_but_its_own(
    frame: str, expected: object
) -> None:
    deep = "[" * 1_500 + "]" * 1_500
    assert error_of(parsed(frame.replace("DEEP", deep)))["id"] == expected


def test_an_id_that_is_cut_is_none() -> None:
    frame = '{"x":"' + "x" * 2_027 + '","id":123456789,"params":[]}'
    assert frame[:2_048].endswith('"id":12345678')
    assert find_id(frame) is None


def test_results_are_spliced_in_as_they_are() -> None:
    change = Change.from_encoded(b'{"id":"c","later":1}', id="c", rev=2)
    snapshot = Snapshot.from_encoded(b'{"big": [1,2]}', rev=1, changes=[change])
    assert result_frame("x", encoded_snapshot(snapshot)) == (
        b'{"jsonrpc":"2.0","id":"x","result":'
        b'{"state":{"big": [1,2]},"rev":1,"changes":[{"id":"c","later":1}]}}'
    )
    assert result_frame(5, None) == b'{"jsonrpc":"2.0","id":5}'


@pytest.mark.parametrize(
    ("error", "wire"),
    [
        (NotFoundError("Branch b not found"), {"code": 404, "message": "Branch b not found"}),
        (
            StaleSubmissionError("reload"),
            {"code": 409, "message": "reload", "data": {"scope": "doc"}},
        ),
        (BranchError("of a branch"), {"code": -32000, "message": "of a branch"}),
        (
            StorageError("/home/ann/x.db: disk full"),
            {
                "code": 503,
                "message": "The server cannot use its storage now; retry later",
                "data": {"reason": "STORAGE", "ref": "r"},
            },
        ),
        (
            RuntimeError("secret"),
            {"code": -32000, "message": "Server error", "data": {"ref": "r"}},
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_errors_leave_as_the_table_says(error: Exception, wire: dict[str, Any]) -> None:
    assert wire_error(error, "r") == wire


def test_what_needs_a_line_in_the_log() -> None:
    assert is_unforeseen(CorruptDataError("row 5"))
    assert is_unforeseen(KeyError("x"))
    assert not is_unforeseen(NotFoundError("no"))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (ABSENT, "undefined"),
        (None, "null"),
        ("", "empty string"),
        (7, "7"),
        (True, "true"),
        ({"a": 1}, "[object Object]"),
        ([1, [None, "x"], {}], "1,,x,[object Object]"),
        (codec.decode("[" * 900 + "]" * 900), "…"),
        ("x" * 100, "x" * 64 + "…"),
    ],
)
def test_values_in_messages_read_as_in_javascript(value: object, text: str) -> None:
    assert as_text(value) == text
