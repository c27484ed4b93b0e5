"""The table of remote methods: the only way from a method's name to code (`docs/protocol.md`).

Each row says which right is needed, how the parameters after the first are read, and what is run.
Reading is pure and comes first; rights are asked next; only then does anything run.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from patches.errors import BranchError, VersionError
from patches.limits import Limits
from patches.model import codec
from patches.model.change import Change, ChangeInput, Snapshot
from patches.model.json_values import Json
from patches.runtime import Millis
from patches_server.auth.access import Kind
from patches_server.documents.context import current_context
from patches_server.documents.history import known_history
from patches_server.documents.records import Branch, CommitOptions, CommitResult, Version
from patches_server.service.router import BranchManager, HistoryManager, Services
from patches_server.wire import checks as wire_checks
from patches_server.wire.frames import Answer, encoded_changes, encoded_snapshot


@dataclass(frozen=True, slots=True)
class Given:
    """The parameters after the first, and what bounds them."""

    params: Sequence[Json]
    limits: Limits
    frame_bytes: int
    capabilities: frozenset[str]

    def __getitem__(self, index: int) -> Any:
        return wire_checks.param(self.params, index)


Read: TypeAlias = Callable[[Given], tuple[Any, ...]]
#: Gives what is to be encoded by `encoded`; `None` for a method that returns nothing.
Run: TypeAlias = Callable[..., Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Method:
    """A remote method.

    `subject` says what its first parameter names. `is_expensive`: it loads a whole state, which few
    do at once. `also_reads`: a writing method that gives content away, in its answer or in a copy,
    and so takes the right to read as well. `commits`: it stores what somebody has written, which
    the application may have rules about.
    """

    kind: Kind
    read: Read
    run: Run
    subject: Literal["doc", "branch"] = "doc"
    is_expensive: bool = False
    also_reads: bool = False
    commits: bool = False
    #: Which parameter is the options object that an algorithm may use as it likes.
    options_at: int | None = None

    def options_of(self, params: Sequence[Json]) -> dict[str, Json]:
        """The options object of a call; empty where there is none."""
        given = wire_checks.param(params, self.options_at) if self.options_at is not None else None
        return given if isinstance(given, dict) else {}


def method_table() -> dict[str, Method]:
    """The methods that every server has; `subscribe` and `unsubscribe` are the hub's."""
    return {
        "getDoc": Method("read", _read_get_doc, _get_doc, is_expensive=True, options_at=1),
        "getChangesSince": Method("read", _read_since_rev, _get_changes_since, options_at=2),
        "commitChanges": Method(
            "write", _read_commit, _commit_changes, also_reads=True, commits=True, options_at=2
        ),
        "deleteDoc": Method("write", _read_delete_doc, _delete_doc),
        "getAlgorithm": Method("read", _read_nothing, _get_algorithm),
        "undeleteDoc": Method("write", _read_nothing, _undelete_doc),
        "listVersions": Method("read", _read_list_versions, _list_versions),
        "createVersion": Method("write", _read_metadata, _create_version),
        "updateVersion": Method("write", _read_version_metadata, _update_version),
        "getVersionState": Method("read", _read_version, _get_version_state, is_expensive=True),
        "getVersionChanges": Method("read", _read_version, _get_version_changes),
        "getStateBeforeVersion": Method(
            "read", _read_version, _get_state_before_version, is_expensive=True
        ),
        "listBranches": Method("read", _read_list_branches, _list_branches),
        "createBranch": Method("write", _read_create_branch, _create_branch, also_reads=True),
        "updateBranch": Method("write", _read_metadata, _update_branch, "branch"),
        "deleteBranch": Method("write", _read_nothing, _delete_branch, "branch"),
        "mergeBranch": Method(
            "write", _read_nothing, _merge_branch, "branch", also_reads=True, commits=True
        ),
    }


def add_methods_of(table: dict[str, Method], services: Services) -> None:
    """Add the methods that a document server brings in `remote_methods` (`name -> (kind,
    handler)`); the handler is called with the document id and the parameters as they came.

    Raises `ValueError` when a name is taken.
    """
    for name, (kind, handler) in services.documents.remote_methods.items():
        if name in table:
            raise ValueError(f"A handler for method '{name}' is already registered.")
        table[name] = Method(kind, _read_all, _calling(handler))


def _calling(handler: Callable[..., Any]) -> Run:
    async def run(_on: Services, doc_id: str, *params: Json) -> Any:
        result = handler(doc_id, *params)
        if inspect.isawaitable(result):
            result = await result
        return _or_null(result)

    return run


@dataclass(frozen=True, slots=True)
class _Tokened:
    """Changes for a caller that asked for the history's token."""

    changes: Sequence[Change]
    token: str | None


def encoded(result: Any) -> Answer:
    """What a method gave, as JSON; `None` stays what it is."""
    return None if result is None else _encoded(result)


def steps_to_encode(result: Any) -> int:
    """About how many microseconds that takes."""
    has_changes = isinstance(result, (CommitResult, Snapshot, _Tokened))
    parts = result.changes if has_changes else result
    return 4 * len(parts) if isinstance(parts, (list, tuple)) else 0


# Parameters.


def _read_nothing(_given: Given) -> tuple[()]:
    return ()


def _read_all(given: Given) -> tuple[Any, ...]:
    return tuple(given.params[1:])


def _read_get_doc(given: Given) -> tuple[int | None]:
    rev = wire_checks.options(given[1]).get("rev")
    return (None if rev is None else wire_checks.revision(rev),)


def _read_since_rev(given: Given) -> tuple[int]:
    return (wire_checks.revision(given[1]),)


def _read_commit(given: Given) -> tuple[list[ChangeInput], CommitOptions | None]:
    changes = wire_checks.changes(given[1], given.limits, frame_bytes=given.frame_bytes)
    return changes, wire_checks.commit_options(given[2], given.capabilities)


def _read_delete_doc(given: Given) -> tuple[bool]:
    return (wire_checks.skip_tombstone(given[1], given.capabilities),)


def _read_list_versions(given: Given) -> tuple[Any]:
    return (wire_checks.list_options(given[1]),)


def _read_metadata(given: Given) -> tuple[dict[str, Json]]:
    return (wire_checks.metadata(given[1], given.limits),)


def _read_version(given: Given) -> tuple[str]:
    return (wire_checks.version_id(given[1], given.limits),)


def _read_version_metadata(given: Given) -> tuple[str, dict[str, Json]]:
    return (
        wire_checks.version_id(given[1], given.limits),
        wire_checks.metadata(given[2], given.limits),
    )


def _read_list_branches(given: Given) -> tuple[Millis | None]:
    return (wire_checks.since(given[1]),)


def _read_create_branch(given: Given) -> tuple[int, dict[str, Json]]:
    metadata = wire_checks.metadata(given[2], given.limits)
    if metadata.get("id") is not None:
        wire_checks.doc_id(metadata["id"], given.limits)
    if metadata.get("contentStartRev") is not None:
        wire_checks.revision(metadata["contentStartRev"], "contentStartRev")
    return wire_checks.revision(given[1]), metadata


# Documents.


async def _get_doc(on: Services, doc_id: str, rev: int | None) -> Any:
    asks = known_history(current_context().options) is not None
    # The token first: should the document be made again in between, an old token is noticed with
    # the next call; a new one beside old content would not be.
    mark = await on.documents.history_of(doc_id) if asks else None
    snapshot = await on.documents.get_doc(doc_id, rev=rev)
    if mark is not None:
        own: dict[str, Json] = {"token": mark.token}
        if mark.change_id is not None:
            own["last"] = [mark.rev, mark.change_id]
        snapshot.metadata = {**snapshot.metadata, **own}
    return snapshot


async def _get_changes_since(on: Services, doc_id: str, rev: int) -> Any:
    known = known_history(current_context().options)
    mark = None if known is None else await on.documents.history_of(doc_id, known, rev)
    changes = await on.documents.get_changes_since(doc_id, rev)
    return changes if mark is None else _Tokened(changes, mark.token)


async def _commit_changes(
    on: Services, doc_id: str, changes: list[ChangeInput], options: CommitOptions | None
) -> Any:
    return await on.documents.commit_changes(doc_id, changes, options)


async def _delete_doc(on: Services, doc_id: str, skip_tombstone: bool) -> Answer:
    await on.documents.delete_doc(doc_id, skip_tombstone=skip_tombstone)
    return None


async def _get_algorithm(on: Services, _doc_id: str) -> Answer:
    return codec.encode(on.documents.name)


async def _undelete_doc(on: Services, doc_id: str) -> Answer:
    return b"true" if await on.documents.undelete_doc(doc_id) else b"false"


# Versions.


async def _list_versions(on: Services, doc_id: str, options: Any) -> Any:
    return await _history(on).list_versions(doc_id, options)


async def _create_version(on: Services, doc_id: str, metadata: dict[str, Json]) -> Answer:
    return codec.encode(await _history(on).create_version(doc_id, metadata))


async def _update_version(
    on: Services, doc_id: str, version_id: str, metadata: dict[str, Json]
) -> Answer:
    await _history(on).update_version(doc_id, version_id, metadata)
    return None


async def _get_version_state(on: Services, doc_id: str, version_id: str) -> Any:
    return _or_null(await _history(on).get_version_state(doc_id, version_id))


async def _get_version_changes(on: Services, doc_id: str, version_id: str) -> Any:
    return await _history(on).get_version_changes(doc_id, version_id)


async def _get_state_before_version(on: Services, doc_id: str, version_id: str) -> Any:
    return _or_null(await _history(on).get_state_before_version(doc_id, version_id))


# Branches.


async def _list_branches(on: Services, doc_id: str, since: Millis | None) -> Any:
    return await _branches(on).list_branches(doc_id, since=since)


async def _create_branch(on: Services, doc_id: str, rev: int, metadata: dict[str, Json]) -> Answer:
    return codec.encode(await _branches(on).create_branch(doc_id, rev, metadata))


async def _update_branch(on: Services, branch_id: str, metadata: dict[str, Json]) -> Answer:
    await _branches(on).update_branch(branch_id, metadata)
    return None


async def _delete_branch(on: Services, branch_id: str) -> Answer:
    await _branches(on).delete_branch(branch_id)
    return None


async def _merge_branch(on: Services, branch_id: str) -> Any:
    return await _branches(on).merge_branch(branch_id)


def _history(on: Services) -> HistoryManager:
    if on.history is None:
        raise VersionError(f"{on.documents.name} documents have no versions here")
    return on.history


def _branches(on: Services) -> BranchManager:
    if on.branches is None:
        raise BranchError(f"{on.documents.name} documents have no branches here")
    return on.branches


def _or_null(result: Any) -> Any:
    return b"null" if result is None else result


def _encoded(result: Any) -> bytes:
    """Whatever a document server gave, as JSON; what it keeps encoded goes in as it is."""
    if isinstance(result, CommitResult):
        tail = b',"docReloadRequired":true' if result.doc_reload_required else b""
        if result.token is not None:
            tail += b',"token":' + codec.encode(result.token)
        return b'{"changes":' + encoded_changes(result.changes) + tail + b"}"
    if isinstance(result, _Tokened):
        token = codec.encode(result.token)
        return b'{"changes":' + encoded_changes(result.changes) + b',"token":' + token + b"}"
    if isinstance(result, Snapshot):
        return encoded_snapshot(result)
    if isinstance(result, Change):
        return result.encoded
    if isinstance(result, bytes):
        return result
    if isinstance(result, (Version, Branch)):
        return codec.encode(result.to_wire())
    if isinstance(result, (list, tuple)):
        return codec.encode_array(map(_encoded, result))
    return codec.encode(result)
