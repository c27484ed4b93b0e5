"""What ids, metadata and sizes must be, at every door of the client and of the server.

A change that a client accepts and a server refuses for good stays in the queue for ever. So both
ends call these functions, and `check_ops` for operations; each raises its own kind of error. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from patches.errors import InvalidValueError, OpsRefusedError, PatchError
from patches.limits import Limits
from patches.model.checks import check_value, kind_of
from patches.model.codec import json_size
from patches.model.json_values import Json, checked_copy

_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f]")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
#: Bytes that surround the operations of a change: ids, revisions and times.
CHANGE_ENVELOPE_BYTES: Final = 512


def id_fault(value: object, max_bytes: int) -> str | None:
    """Why a value cannot be an id, as the rest of a sentence; `None` if it can.

    Ids are compared byte for byte, written to logs and used as keys by stores and browsers, so they
    have no control characters (C0, DEL, C1) and no lone surrogates.
    """
    if not isinstance(value, str):
        return f"must be a string, not {kind_of(value)}"
    if not value:
        return "must not be empty"
    if len(value) <= max_bytes and value.isascii() and value.isprintable():
        return None
    found = _CONTROL.search(value)
    if found:
        return f"must have no control characters, found U+{ord(found[0]):04X} at {found.start()}"
    found = _SURROGATE.search(value)
    if found:
        return f"must have no lone surrogates, found U+{ord(found[0]):04X} at {found.start()}"
    size = len(value.encode())
    return f"has {size} bytes, at most {max_bytes} are allowed" if size > max_bytes else None


def check_doc_id(doc_id: object, limits: Limits, *, what: str = "document id") -> str:
    """The id, if a document, branch or version may have it. Raises `PatchError`."""
    fault = id_fault(doc_id, limits.max_doc_id_bytes)
    if fault is not None:
        shown = f" {doc_id[:40]!r}" if isinstance(doc_id, str) and doc_id else ""
        raise PatchError(f"the {what}{shown} {fault}")
    assert isinstance(doc_id, str)
    return doc_id


def check_metadata(metadata: Mapping[str, Json], limits: Limits) -> None:
    """Check the metadata of a change, version or branch.

    Raises `OpsRefusedError`, with the code 413 for its size.
    """
    check_value(metadata, limits)
    most = limits.max_metadata_bytes
    if most is not None and json_size(metadata) > most:
        raise OpsRefusedError(f"metadata has {json_size(metadata)} bytes, at most {most}", code=413)


def checked_metadata(metadata: Mapping[str, Json] | None, limits: Limits) -> dict[str, Json]:
    """A plain copy of the metadata that a caller gives. Raises `PatchError`."""
    if metadata is None:
        return {}
    if not isinstance(metadata, Mapping):
        raise InvalidValueError(
            f"metadata must be a mapping, not {kind_of(metadata)}", path="/metadata"
        )
    copy: dict[str, Json] = checked_copy(
        metadata, path="/metadata", max_depth=limits.max_value_depth
    )
    check_metadata(copy, limits)
    return copy
