"""JSON-RPC frames as bytes: what a peer may send, and the three shapes a server sends.

Pure. Results arrive here encoded and are spliced in as they are, so that a stored state or change
is never parsed to be sent (`docs/protocol.md`, `docs/decisions.md`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from patches.errors import BranchError, InvalidJsonError, PatchesError, StorageError
from patches.model import codec
from patches.model.change import Change, Snapshot
from patches.model.json_values import Json


@dataclass(slots=True)
class Request:
    """A call that is to be answered under its `id`, which may be `None`."""

    jsonrpc: Json
    method: Json
    params: list[Json]
    id: Json


@dataclass(frozen=True, slots=True)
class Notification:
    """A message without an id: never answered."""

    jsonrpc: Json
    method: Json
    params: Json


@dataclass(frozen=True, slots=True)
class Malformed:
    """A frame that is not a request, and the answer it gets."""

    answer: bytes


Frame: TypeAlias = Request | Notification | Malformed

#: A parameter that was not given.
ABSENT: Final = object()

#: What a call answers: JSON bytes, or `None` for a method that returns nothing.
Answer: TypeAlias = bytes | None

#: Where an id is searched for in a frame that is not parsed, and in one that cannot be.
_HEAD: Final = 2_048
_HEAD_OF_UNPARSED: Final = 16_384
#: Strings, also one that is cut at the end; brackets, commas, colons; anything else.
_TOKEN: Final = re.compile(rb'"(?:[^"\\]|\\.)*(?:"|\Z)|[][{},:]|[^][{},:"\s]+', re.DOTALL)
_ID: Final = re.compile(rb'-?\d{1,16}|"[^"\\\x00-\x1f]{0,128}"')
#: The last member of a frame is its own, not one of its parameters'.
_TAIL: Final = 512
_ID_IN_TAIL: Final = re.compile(
    rb'[,{]\s*"id"\s*:\s*(-?\d{1,16}|"[^"\\\x00-\x1f]{0,128}")\s*\}\s*\Z'
)
_PARSE_ERROR: Final = (
    b'{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"Parse error","data":{}}}'
)


def parse_frame(data: bytes | str, max_depth: int) -> Frame:
    """Read one frame. Never raises: what is no request becomes the answer it gets."""
    try:
        value = codec.decode(data)
    except InvalidJsonError as exc:
        return Malformed(_unparsed(data, exc, max_depth))
    if not isinstance(value, dict) or "method" not in value:
        return Malformed(_invalid_request(value.get("id") if isinstance(value, dict) else None))
    method = value["method"]
    # A commit's depth is checked change by change, to name the one that is at fault.
    if method != "commitChanges" and _may_be_deep(data, max_depth) and _is_deep(value, max_depth):
        return Malformed(_too_deep(value.get("id"), max_depth))
    if "id" not in value:
        return Notification(value.get("jsonrpc"), method, value.get("params", ABSENT))
    request_id = value["id"]
    if isinstance(request_id, (bool, dict, list)):
        return Malformed(_invalid_request(request_id))
    params = value.get("params", ABSENT)
    if not isinstance(params, list):
        params = [] if params is ABSENT else [params]
    return Request(value.get("jsonrpc"), method, params, request_id)


def result_frame(request_id: Json, result: Answer) -> bytes:
    """An answer; without a `result` key when the method returns nothing."""
    head = b'{"jsonrpc":"2.0","id":' + _encoded_id(request_id)
    return head + b"}" if result is None else head + b',"result":' + result + b"}"


def error_frame(request_id: Json, error: Mapping[str, Any]) -> bytes:
    """A refusal: `error` as `wire_error` makes it."""
    return (
        b'{"jsonrpc":"2.0","id":'
        + _encoded_id(request_id)
        + b',"error":'
        + codec.encode(error)
        + b"}"
    )


def encoded_changes(changes: Iterable[Change]) -> bytes:
    """A JSON list of changes, joined from the bytes that each keeps."""
    return codec.encode_array([change.encoded for change in changes])


def encoded_snapshot(snapshot: Snapshot) -> bytes:
    """A `getDoc` answer; the state is passed on unparsed. An algorithm's own members come last."""
    return (
        b'{"state":'
        + snapshot.encoded_state
        + b',"rev":%d,"changes":' % snapshot.rev
        + encoded_changes(snapshot.changes)
        + (b"," + codec.encode(dict(snapshot.metadata))[1:] if snapshot.metadata else b"}")
    )


def committed_params(
    doc_id: str, changes: Iterable[Change], options: Mapping[str, Any] | None
) -> bytes:
    """The params of `changesCommitted`."""
    tail = b',"options":' + codec.encode(options) + b"}" if options else b"}"
    return b'{"docId":' + codec.encode(doc_id) + b',"changes":' + encoded_changes(changes) + tail


def wire_error(error: Exception, ref: str) -> dict[str, Any]:
    """What of an exception may leave the server (`docs/internals/reliability.md` 2, T30).

    `ref` goes out in place of everything that was not foreseen; the log has it beside the rest.
    """
    hidden = _hidden_cause(error)
    if hidden is not None:
        return wire_error(hidden, ref)
    if isinstance(error, StorageError):  # its message may hold a path or SQL
        return {
            "code": error.code,
            "message": "The server cannot use its storage now; retry later",
            "data": {**(error.data or {}), "ref": ref},
        }
    if not isinstance(error, PatchesError):
        return {"code": -32000, "message": "Server error", "data": {"ref": ref}}
    wire: dict[str, Any] = {"code": error.code, "message": str(error)}
    if error.code is None:
        wire["code"] = -32000
    elif error.data is not None:
        wire["data"] = error.data
    return wire


def is_unforeseen(error: Exception) -> bool:
    """Whether an error needs a line in the log under its `ref`."""
    if _hidden_cause(error) is not None:
        return True
    return isinstance(error, StorageError) or not isinstance(error, PatchesError)


def _hidden_cause(error: Exception) -> Exception | None:
    """What made a merge fail, if that may not leave the server: a branch's error repeats it."""
    cause = error.__cause__
    while isinstance(error, BranchError) and isinstance(cause, Exception):
        if isinstance(cause, StorageError) or not isinstance(cause, PatchesError):
            return cause
        cause = cause.__cause__
    return None


def as_text(value: object, *, max_depth: int = 8) -> str:
    """A value as a JavaScript peer would print it, short enough for a message."""
    if value is ABSENT:
        return "undefined"
    if value == "":
        return "empty string"
    if isinstance(value, dict):
        return "[object Object]"
    if isinstance(value, list):  # which may be deep and wide
        items = value[:64] if max_depth else ["…"]
        text = ",".join(
            "" if item is None or item == "" else as_text(item, max_depth=max_depth - 1)
            for item in items
        )
    else:
        text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 64 else text[:64] + "…"


def memory_needed(data: bytes | str) -> int:
    """About how many bytes the value of a frame takes in memory; an upper bound for most."""
    if isinstance(data, str):
        lists, objects, items, quotes = (data.count(mark) for mark in '[{,"')
    else:
        lists, objects, items, quotes = (data.count(mark) for mark in (b"[", b"{", b",", b'"'))
    return len(data) + 72 * lists + 240 * objects + 40 * items + 30 * quotes


def find_id(data: bytes | str, *, is_json: bool = True) -> Json:
    """The id of a frame that has not been parsed, if it is near the beginning or at the very end;
    else `None`.

    Only a member of the frame itself counts, not one of an object in it. The end is searched for
    frames that are taken for JSON; of others nobody knows to what their last brace belongs.
    """
    most = _HEAD if is_json else _HEAD_OF_UNPARSED
    found = _own_id(_as_bytes(data[:most]), is_cut=len(data) > most)
    if found is None and is_json:
        at_end = _ID_IN_TAIL.search(_as_bytes(data[-_TAIL:]))
        found = at_end[1] if at_end else None
    try:
        return None if found is None else codec.decode(found)
    except InvalidJsonError:
        return None


def _own_id(head: bytes, *, is_cut: bool) -> bytes | None:
    """The value of the member `id` of the outermost object, as it stands there."""
    depth, key, is_value = 0, b"", False
    for match in _TOKEN.finditer(head):
        token = match[0]
        if token in (b"{", b"["):
            depth += 1
        elif token in (b"}", b"]"):
            depth -= 1
        elif depth == 1:
            if token == b",":
                key, is_value = b"", False
            elif token == b":":
                is_value = True
            elif not is_value:
                key = token
            elif key == b'"id"':
                is_whole = match.end() < len(head) or not is_cut
                return token if is_whole and _ID.fullmatch(token) else None
    return None


def _as_bytes(data: bytes | str) -> bytes:
    return data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data


def _unparsed(data: bytes | str, error: InvalidJsonError, max_depth: int) -> bytes:
    # Malformed text raises `JSONDecodeError` below; other causes are limits of the parser (depth,
    # digits), and such a frame may be an honest call that is waiting for its answer.
    cause = error.__cause__
    if isinstance(cause, RecursionError):
        return _too_deep(find_id(data, is_json=False), max_depth)
    request_id = find_id(data, is_json=False)
    if isinstance(cause, (json.JSONDecodeError, UnicodeError)) or request_id is None:
        return _PARSE_ERROR
    return error_frame(
        request_id,
        {"code": 400, "message": "INVALID_REQUEST: the frame holds a number that is not allowed"},
    )


def _too_deep(request_id: Json, max_depth: int) -> bytes:
    message = f"INVALID_REQUEST: the frame is nested more than {max_depth} levels deep"
    if isinstance(request_id, (bool, dict, list)):
        request_id = None
    return error_frame(request_id, {"code": 400, "message": message})


def _invalid_request(request_id: Json) -> bytes:
    if isinstance(request_id, (dict, list)):
        request_id = None  # it may be as deep as it likes
    return error_frame(None, {"code": -32600, "message": "Invalid Request", "data": request_id})


def _encoded_id(request_id: Json) -> bytes:
    return b"%d" % request_id if type(request_id) is int else codec.encode(request_id)


def _may_be_deep(data: bytes | str, max_depth: int) -> bool:
    if isinstance(data, str):
        return data.count("[") + data.count("{") > max_depth
    return data.count(b"[") + data.count(b"{") > max_depth


def _is_deep(value: Json, max_depth: int) -> bool:
    level: list[Json] = [value]
    for _ in range(max_depth):
        level = [
            child
            for item in level
            for child in (item.values() if isinstance(item, dict) else item)
            if isinstance(child, (dict, list))
        ]
        if not level:
            return False
    return True
