"""What parameters must be before anything is done with them.

The rules: `docs/internals/reliability.md` 3, T13, T27.

Pure. A fault of the call is `InvalidRequestError` (400); a fault of one change that has a usable id
is `ChangeRefusedError`, which names it, so that its author's client can set it aside.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from patches.errors import (
    ChangeRefusedError,
    InvalidRequestError,
    OpsRefusedError,
    StatusError,
)
from patches.limits import Limits
from patches.model.change import ChangeInput
from patches.model.checks import check_value
from patches.model.codec import json_size
from patches.model.json_values import Json
from patches.model.request_checks import check_metadata, id_fault
from patches.runtime import Millis
from patches_server.documents.history import HISTORY_OPTIONS
from patches_server.documents.records import CommitOptions, ListVersionsOptions
from patches_server.wire.frames import ABSENT, as_text

_CHANGE_FIELDS: Final = frozenset(
    ("id", "ops", "baseRev", "rev", "createdAt", "committedAt", "batchId", "clientId")
)
#: The option by which a client says what it takes a document for.
ALGORITHM_OPTION: Final = "algorithm"
#: Options that need no capability.
OPEN_OPTIONS: Final = frozenset({*HISTORY_OPTIONS, ALGORITHM_OPTION})
#: Options that rewrite history: only for callers with the capability (T11).
_PRIVILEGED_OPTIONS: Final = ("historicalImport", "allowRootReplace", "maxChangesPerVersion")
IMPORT: Final = "import"
ADMIN: Final = "admin"


def param(params: Sequence[Json], index: int) -> Any:
    """A positional parameter; `ABSENT` when it was left out."""
    return params[index] if index < len(params) else ABSENT


def doc_id(value: object, limits: Limits) -> str:
    """A document or branch id: 1 to 512 bytes, no control characters, no lone surrogates."""
    return _id(value, "docId", limits)


def version_id(value: object, limits: Limits) -> str:
    """A version's id; the same characters as a document's."""
    return _id(value, "versionId", limits)


def is_doc_id(value: object, limits: Limits) -> bool:
    """Whether a value may be a document's id."""
    return id_fault(value, limits.max_doc_id_bytes) is None


def revision(value: object, name: str = "rev") -> int:
    """A revision: a whole number, not negative."""
    number = _whole(value)
    if number is None:
        raise InvalidRequestError(
            f"INVALID_REQUEST: {name} must be a whole number of 0 or more (got {as_text(value)})"
        )
    return number


def options(value: object) -> Mapping[str, Json]:
    """An options object; absent and `null` are an empty one."""
    if value is ABSENT or value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidRequestError(
            f"INVALID_REQUEST: options must be an object (got {as_text(value)})"
        )
    return value


def metadata(value: object, limits: Limits) -> dict[str, Json]:
    """Metadata of a version or branch: an object of plain JSON, of bounded size."""
    found = options(value)
    try:
        check_metadata(found, limits)
    except OpsRefusedError as exc:
        if exc.code == 413:
            raise StatusError(413, str(exc), {"limit": "max_metadata_bytes"}) from None
        raise InvalidRequestError(f"INVALID_REQUEST: metadata: {exc}") from None
    return dict(found)


def commit_options(value: object, capabilities: Collection[str]) -> CommitOptions | None:
    """The options of a commit that this caller may use; the others are dropped (T11)."""
    given = dict(options(value))
    for key in OPEN_OPTIONS:  # between this caller and us: not broadcast
        given.pop(key, None)
    if not {IMPORT, ADMIN} & set(capabilities):
        for key in _PRIVILEGED_OPTIONS:
            given.pop(key, None)
    if not given:
        return None
    try:
        check_value(given, Limits())
    except OpsRefusedError as exc:
        raise InvalidRequestError(f"INVALID_REQUEST: options: {exc}") from None
    return CommitOptions.from_wire(given)


def skip_tombstone(value: object, capabilities: Collection[str]) -> bool:
    """`deleteDoc`'s option, for administrators alone (T11)."""
    return options(value).get("skipTombstone") is True and ADMIN in capabilities


def list_options(value: object) -> ListVersionsOptions:
    """The options of `listVersions`."""
    given = options(value)
    order_by = given.get("orderBy")
    if order_by not in (None, "startedAt", "endRev", "startRev"):
        raise InvalidRequestError(f"INVALID_REQUEST: unknown orderBy {as_text(order_by)}")
    limit = given.get("limit")
    return ListVersionsOptions(
        start_after=_number(given, "startAfter"),
        end_before=_number(given, "endBefore"),
        limit=None if limit is None else revision(limit, "limit"),
        order_by=order_by,
        reverse=given.get("reverse") is True,
        origin=_text(given, "origin"),
        group_id=_text(given, "groupId"),
    )


def since(value: object) -> Millis | None:
    """The `since` option of `listBranches`."""
    number = _number(options(value), "since")
    return None if number is None else math.floor(number)


def changes(value: object, limits: Limits, *, frame_bytes: int) -> list[ChangeInput]:
    """The changes of a commit; their operations are the document server's to check.

    `frame_bytes` bounds their size: what came in a small frame is not measured.
    """
    if not isinstance(value, list):
        raise InvalidRequestError(f"INVALID_REQUEST: changes must be a list (got {as_text(value)})")
    if limits.max_changes_per_commit is not None and len(value) > limits.max_changes_per_commit:
        raise StatusError(
            413,
            f"{len(value)} changes in one commit, at most {limits.max_changes_per_commit}",
            {"limit": "max_changes_per_commit"},
        )
    if limits.max_commit_bytes is not None and frame_bytes > limits.max_commit_bytes:
        if json_size(value) > limits.max_commit_bytes:
            raise StatusError(
                413,
                f"the commit has more than {limits.max_commit_bytes} bytes",
                {"limit": "max_commit_bytes"},
            )
    return [_change(item, index, limits, frame_bytes) for index, item in enumerate(value)]


def _change(item: object, index: int, limits: Limits, frame_bytes: int) -> ChangeInput:
    if not isinstance(item, dict):
        raise InvalidRequestError(
            f"INVALID_REQUEST: changes[{index}] must be an object (got {as_text(item)})"
        )
    change_id = item.get("id")
    fault = id_fault(change_id, limits.max_change_id_bytes)
    if fault is not None:
        raise InvalidRequestError(f"INVALID_REQUEST: changes[{index}].id {fault}")
    assert isinstance(change_id, str)
    try:
        _check_fields(item, limits)
        if not item.keys() <= _CHANGE_FIELDS:
            _check_extra_keys(item, limits)
    except OpsRefusedError as exc:
        raise ChangeRefusedError(change_id, f"change {change_id}: {exc}", code=exc.code) from None
    if limits.max_change_bytes is not None and frame_bytes > limits.max_change_bytes:
        if json_size(item) > limits.max_change_bytes:
            raise ChangeRefusedError(
                change_id,
                f"change {change_id}: more than {limits.max_change_bytes} bytes",
                code=413,
            )
    return ChangeInput.from_wire(item)


def _check_fields(item: Mapping[str, Json], limits: Limits) -> None:
    if not isinstance(item.get("ops"), list):
        raise OpsRefusedError(f"ops must be a list (got {as_text(item.get('ops', ABSENT))})")
    for name in ("baseRev", "rev"):
        if item.get(name) is not None and _whole(item[name]) is None:
            raise OpsRefusedError(
                f"{name} must be a whole number of 0 or more, got {as_text(item[name])}"
            )
    for name in ("createdAt", "committedAt"):
        value = item.get(name)
        if value is not None and not _is_time(value):
            raise OpsRefusedError(f"{name} must be a time of 0 or more, got {as_text(value)}")
    for name in ("batchId", "clientId"):
        value = item.get(name)
        fault = None if value is None else id_fault(value, limits.max_change_id_bytes)
        if fault is not None:
            raise OpsRefusedError(f"{name} {fault}")


def _check_extra_keys(item: Mapping[str, Json], limits: Limits) -> None:
    extra = {key: value for key, value in item.items() if key not in _CHANGE_FIELDS}
    if extra:
        check_metadata(extra, limits)


def _id(value: object, name: str, limits: Limits) -> str:
    if not isinstance(value, str) or value == "":
        raise InvalidRequestError(f"INVALID_REQUEST: {name} is required (got {as_text(value)})")
    fault = id_fault(value, limits.max_doc_id_bytes)
    if fault is not None:
        raise InvalidRequestError(f"INVALID_REQUEST: {name} {fault}")
    return value


def _whole(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value <= 2**53 - 1 else None


def _is_time(value: object) -> bool:
    return (
        isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 2**53 - 1
    )


def _number(given: Mapping[str, Json], name: str) -> float | None:
    value = given.get(name)
    if value is None:
        return None
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))
        or not -(2**53) < value < 2**53
    ):
        raise InvalidRequestError(
            f"INVALID_REQUEST: {name} must be a number (got {as_text(value)})"
        )
    return value


def _text(given: Mapping[str, Json], name: str) -> str | None:
    value = given.get(name)
    if value is not None and not isinstance(value, str):
        raise InvalidRequestError(
            f"INVALID_REQUEST: {name} must be a string (got {as_text(value)})"
        )
    fault = id_fault(value, sys.maxsize) if value else None  # stores refuse lone surrogates
    if fault is not None:
        raise InvalidRequestError(f"INVALID_REQUEST: {name} {fault}")
    return value
