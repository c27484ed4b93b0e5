"""The check at the door: what no client may queue and no server takes."""

from __future__ import annotations

import math
from typing import Any

import pytest

from patches.errors import OpsRefusedError, PatchError
from patches.limits import Limits
from patches.model.checks import KNOWN_OPS, check_ops, check_value

LIMITS = Limits()


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"k": value}
    return value


@pytest.mark.parametrize(
    "op",
    [
        {"op": "add", "path": "/a", "value": None},
        {"op": "add", "path": "", "value": {}},
        {"op": "remove", "path": "/a"},
        {"op": "replace", "path": "/a/-", "value": [1.5, "x", {"b": True}], "soft": True, "ts": 5},
        {"op": "replace", "path": "/a", "value": 1, "ts": None, "rev": 3, "soft": None},
        {"op": "move", "from": "/a", "path": "/b"},
        {"op": "copy", "from": "/a", "path": ""},
        {"op": "test", "path": "/gone"},
        {"op": "add", "path": "/a", "value": 1, "from": ""},
        {"op": "@inc", "path": "/n", "value": -1.5},
        {"op": "@bit", "path": "/n", "value": 262144},
        {"op": "@max", "path": "/n", "value": "2026-01-01"},
        {"op": "@min", "path": "/n", "value": 0},
        {"op": "@txt", "path": "/t", "value": []},
        {"op": "@txt", "path": "/t", "value": {"ops": [{"insert": "x"}]}},
        {
            "op": "@txt",
            "path": "/t",
            "value": [
                {"retain": 0},
                {"retain": 2, "attributes": {"b": None}},
                {"insert": {"image": "x"}},
                {"delete": 2**31 - 1 - 2**30},
            ],
        },
        {"op": "replace", "path": "/constructor", "value": {"prototype": 1, "toString": 2}},
        {"op": "replace", "path": "/__proto__x/hasOwnProperty", "value": 1},
        {"op": "replace", "path": "/k" * 64, "value": nested(60)},
        {"op": "replace", "path": "/a", "value": 2**53 - 1},
        {"op": "replace", "path": "/a", "value": 1e300},
    ],
    ids=str,
)
def test_what_a_peer_may_honestly_send_passes(op: dict[str, Any]) -> None:
    check_ops([op], Limits(max_text_op_len=None))


@pytest.mark.parametrize(
    ("op", "reason"),
    [
        (None, "expected an operation object, got null"),
        ([], "expected an operation object, got a list"),
        ({}, "needs a name"),
        ({"op": 5, "path": "/a"}, "needs a name"),
        ({"op": "zap", "path": "/a"}, r"\[op:zap\] unknown"),
        ({"op": "remove"}, "'path' must be a JSON Pointer, got null"),
        ({"op": "remove", "path": 5}, "got a number"),
        ({"op": "remove", "path": "a"}, "start with '/'"),
        ({"op": "remove", "path": "/k" * 65}, "65 segments"),
        ({"op": "remove", "path": "/" + "x" * 4096}, "4097 bytes"),
        ({"op": "remove", "path": "/" + "é" * 2048}, "4097 bytes"),
        ({"op": "remove", "path": "/__proto__"}, "__proto__"),
        ({"op": "remove", "path": "/a/__proto__/b"}, "__proto__"),
        ({"op": "remove", "path": "/constructor/prototype/x"}, "constructor"),
        ({"op": "move", "from": "/__proto__", "path": "/b"}, "'from' goes through"),
        ({"op": "move", "path": "/b"}, "'from' must be a JSON Pointer"),
        ({"op": "copy", "from": "", "path": "/b"}, "whole document"),
        ({"op": "add", "from": "/a", "path": "/b", "value": 1}, "takes no 'from'"),
        ({"op": "add", "path": "/b"}, "needs a value"),
        ({"op": "@inc", "path": "/b"}, "needs a value"),
        ({"op": "@inc", "path": "/b", "value": None}, "needs a number or a string, got null"),
        ({"op": "@inc", "path": "/b", "value": True}, "got a boolean"),
        ({"op": "@bit", "path": "/b", "value": "1"}, "needs a number, got a string"),
        ({"op": "@max", "path": "/b", "value": [1]}, "got a list"),
        ({"op": "add", "path": "/b", "value": nested(61)}, "nested too deeply"),
        ({"op": "add", "path": "/b", "value": [[[{"__proto__": 1}]]]}, "member '__proto__'"),
        ({"op": "add", "path": "/b", "value": [2**53]}, "2\\^53-1"),
        ({"op": "add", "path": "/b", "value": {"x": -(2**53)}}, "2\\^53-1"),
        ({"op": "add", "path": "/b", "value": math.nan}, "not a JSON number"),
        ({"op": "@inc", "path": "/b", "value": math.inf}, "not a JSON number"),
        ({"op": "add", "path": "/b", "value": {1: 2}}, "member name"),
        ({"op": "add", "path": "/b", "value": (1,)}, "tuple is not a JSON value"),
        ({"op": "remove", "path": "/b", "ts": "x"}, "'ts' must be a number"),
        ({"op": "remove", "path": "/b", "ts": -1, "x": 1}, "'ts' must be"),
        ({"op": "add", "path": "/b", "value": 1, "ts": math.inf}, "'ts' must be"),
        ({"op": "add", "path": "/b", "value": 1, "soft": "yes"}, "'soft' must be"),
        ({"op": "add", "path": "/b", "value": 1, "extra": nested(9)}, "nested too deeply"),
        ({"op": "add", "path": "/b", "value": 1, 5: 1}, "field name"),
        ({"op": "@txt", "path": "/b", "value": "x"}, "list of text operations"),
        ({"op": "@txt", "path": "/b", "value": {"ops": 1}}, "list of text operations"),
        ({"op": "@txt", "path": "/b", "value": ["x"]}, "text operation object"),
        ({"op": "@txt", "path": "/b", "value": [{}]}, "one of insert, retain and delete"),
        ({"op": "@txt", "path": "/b", "value": [{"insert": "x", "delete": 1}]}, "one of insert"),
        ({"op": "@txt", "path": "/b", "value": [{"insert": 1}]}, "a string or an object"),
        ({"op": "@txt", "path": "/b", "value": [{"retain": -1}]}, "from 0 to"),
        ({"op": "@txt", "path": "/b", "value": [{"delete": True}]}, "from 0 to"),
        ({"op": "@txt", "path": "/b", "value": [{"retain": 1.0}]}, "from 0 to"),
        ({"op": "@txt", "path": "/b", "value": [{"retain": 2**31}]}, "from 0 to"),
        ({"op": "@txt", "path": "/b", "value": [{"retain": 1, "attributes": 1}]}, "attributes"),
    ],
)
def test_what_any_replica_would_refuse_is_refused(op: Any, reason: str) -> None:
    with pytest.raises(OpsRefusedError, match=reason) as caught:
        check_ops([{"op": "remove", "path": "/fine"}, op], LIMITS)
    assert caught.value.code == 400
    assert str(caught.value).startswith("ops[1]: ")
    assert isinstance(caught.value, PatchError)


@pytest.mark.parametrize("ops", [None, {}, "text", ({},), 5])
def test_operations_are_a_list(ops: Any) -> None:
    with pytest.raises(OpsRefusedError, match=r"changes\[3\]\.ops: expected a list"):
        check_ops(ops, LIMITS, where="changes[3].ops")


def test_too_many_operations_are_too_large() -> None:
    remove = {"op": "remove", "path": "/a"}
    check_ops([remove] * 20_000, LIMITS)
    with pytest.raises(OpsRefusedError, match="20001 operations") as caught:
        check_ops([remove] * 20_001, LIMITS)
    assert caught.value.code == 413
    check_ops([remove] * 20_001, Limits(max_ops_per_change=None))


@pytest.mark.parametrize(
    "parts",
    [
        [{"retain": 10}, {"delete": 1}],
        [{"insert": "12345678901"}],
        [{"insert": "😀" * 5}, {"insert": {}}],
    ],
)
def test_a_text_edit_that_spans_too_much_is_too_large(parts: list[Any]) -> None:
    op = {"op": "@txt", "path": "/t", "value": parts}
    check_ops([op], Limits(max_text_op_len=11))
    with pytest.raises(OpsRefusedError, match="spans 11") as caught:
        check_ops([op], Limits(max_text_op_len=10))
    assert caught.value.code == 413


def test_custom_operations_are_taken_by_name() -> None:
    op = {"op": "@concat", "path": "/a", "value": {"any": ["thing"]}}
    assert op["op"] not in KNOWN_OPS
    check_ops([op], LIMITS, custom_ops={"@concat"})
    with pytest.raises(OpsRefusedError):
        check_ops([op], LIMITS, custom_ops={"@other"})


def test_limits_of_paths_can_be_off() -> None:
    long_path = {"op": "remove", "path": "/" + "x" * 10_000}
    check_ops([long_path], Limits(max_path_bytes=None))


def test_a_lone_half_of_a_pair_is_no_fault() -> None:
    check_ops([{"op": "add", "path": "/\ud800", "value": "\ud800"}], LIMITS)


def test_a_value_alone_can_be_checked() -> None:
    check_value(nested(60), LIMITS)
    check_value(nested(100), LIMITS, max_depth=100)
    with pytest.raises(OpsRefusedError):
        check_value(nested(61), LIMITS)
