"""The table of remote methods: the only way from a method's name to code.

Parameters are read first, which is pure; then rights are checked; only then does anything run.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol, TypeAlias

from patches.errors import BranchError, PatchesError, VersionError
from patches.history import Moment
from patches.history import Run as BlameRun
from patches.model import codec
from patches.model.change import Change, Snapshot
from patches.model.json_values import Json
from patches_server.auth.access import Kind
from patches_server.documents.context import current_context
from patches_server.documents.history import known_history
from patches_server.documents.records import Branch, CommitResult, Version
from patches_server.documents.services import BranchManager, HistoryManager, Services
from patches_server.service.fanout.hub import Hub
from patches_server.service.fanout.relay import AwarenessRelay, Relayed, is_signal
from patches_server.service.fanout.subscriber import Subscriber
from patches_server.service.parameters import (
    Read,
    read_all,
    read_commit,
    read_create_branch,
    read_delete_doc,
    read_get_doc,
    read_list_branches,
    read_list_history,
    read_list_versions,
    read_metadata,
    read_nothing,
    read_path,
    read_since_rev,
    read_version,
    read_version_metadata,
)
from patches_server.wire import checks as wire_checks
from patches_server.wire.frames import Answer, as_text, encoded_changes, encoded_snapshot

#: A presence message. Also taken as a notification.
SIGNAL: Final = "peer-signal"
#: A notification of our clients alone: its sender is seen no more.
WITHDRAWAL: Final = "peer-leave"

#: Gives what is to be encoded by `Method.encoded`.
Run: TypeAlias = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Method:
    """A remote method: which right it needs, how its parameters are read, and what is run.

    `run` is called with the services of the document, the first parameter and what `read` gave; for
    a method of the connection, with the connection, the parameters and the size of the message.
    """

    kind: Kind
    read: Read
    run: Run
    #: What the first parameter names. A method of the connection asks for rights itself.
    target: Literal["doc", "branch", "connection"] = "doc"
    #: It loads a whole state, which few do at once.
    is_expensive: bool = False
    #: A client syncs a document with it: one at a time, the next when it has applied an answer.
    is_sync: bool = False
    #: The caller's own changes: their bytes are counted, the access provider sees them, and a
    #: repetition waits for the first.
    is_commit: bool = False
    #: It is carried out at once, in the turn in which it came, and `run` is no coroutine function.
    is_instant: bool = False
    #: It gives content away, in its answer or in a copy, so that it takes the right to read too.
    also_reads: bool = False
    #: It stores what somebody has written, which the application may have rules about.
    commits: bool = False
    #: It is answered without a result.
    returns_nothing: bool = False
    #: Another document that a call writes to, by the arguments that were read.
    also_writes: Callable[..., str | None] | None = None
    #: Which parameter is the options object that an algorithm may use as it likes.
    options_at: int | None = None

    def options_of(self, params: Sequence[Json]) -> dict[str, Json]:
        """The options object of a call; empty where there is none."""
        given = wire_checks.param(params, self.options_at) if self.options_at is not None else None
        return given if isinstance(given, dict) else {}

    def encoded(self, result: Any) -> Answer:
        """What the method gave, as JSON; `None` for a method that returns nothing."""
        return None if self.returns_nothing else encoded(result)


class Connection(Subscriber, Protocol):
    """What a method of the connection is run on."""

    @property
    def hub(self) -> Hub:
        """The subscriptions of the server."""

    @property
    def relay(self) -> AwarenessRelay | None:
        """The relay of a server that has one."""


def method_table(*, has_relay: bool) -> dict[str, Method]:
    """The methods that every server has."""
    table = {
        "subscribe": Method("read", read_nothing, _subscribe, "connection"),
        "unsubscribe": Method("read", read_nothing, _unsubscribe, "connection"),
        "getDoc": Method(
            "read", read_get_doc, _get_doc, is_expensive=True, is_sync=True, options_at=1
        ),
        "getChangesSince": Method(
            "read", read_since_rev, _get_changes_since, is_sync=True, options_at=2
        ),
        "commitChanges": Method(
            "write",
            read_commit,
            lambda on, doc_id, *given: on.documents.commit_changes(doc_id, *given),
            is_sync=True,
            is_commit=True,
            also_reads=True,
            commits=True,
            options_at=2,
        ),
        "deleteDoc": Method(
            "write",
            read_delete_doc,
            lambda on, doc_id, skip: on.documents.delete_doc(doc_id, skip_tombstone=skip),
            returns_nothing=True,
        ),
        "getAlgorithm": Method("read", read_nothing, _get_algorithm),
        "undeleteDoc": Method(
            "write", read_nothing, lambda on, doc_id: on.documents.undelete_doc(doc_id)
        ),
        "listHistory": Method("read", read_list_history, _list_history, is_expensive=True),
        "getBlame": Method(
            "read",
            read_path,
            lambda on, *given: on.documents.blame(*given),
            is_expensive=True,
        ),
        "listVersions": Method(
            "read", read_list_versions, lambda on, *given: _history(on).list_versions(*given)
        ),
        "createVersion": Method(
            "write", read_metadata, lambda on, *given: _history(on).create_version(*given)
        ),
        "updateVersion": Method(
            "write",
            read_version_metadata,
            lambda on, *given: _history(on).update_version(*given),
            returns_nothing=True,
        ),
        "getVersionState": Method(
            "read",
            read_version,
            lambda on, *given: _history(on).get_version_state(*given),
            is_expensive=True,
        ),
        "getVersionChanges": Method(
            "read", read_version, lambda on, *given: _history(on).get_version_changes(*given)
        ),
        "getStateBeforeVersion": Method(
            "read",
            read_version,
            lambda on, *given: _history(on).get_state_before_version(*given),
            is_expensive=True,
        ),
        "listBranches": Method(
            "read",
            read_list_branches,
            lambda on, doc_id, since: _branches(on).list_branches(doc_id, since=since),
        ),
        "createBranch": Method(
            "write",
            read_create_branch,
            lambda on, *given: _branches(on).create_branch(*given),
            also_reads=True,
            # Whoever names a branch needs the right to that name: it may be somebody's document.
            also_writes=lambda _rev, metadata: metadata.get("id"),
        ),
        "updateBranch": Method(
            "write",
            read_metadata,
            lambda on, *given: _branches(on).update_branch(*given),
            "branch",
            returns_nothing=True,
        ),
        "deleteBranch": Method(
            "write",
            read_nothing,
            lambda on, branch_id: _branches(on).delete_branch(branch_id),
            "branch",
            returns_nothing=True,
        ),
        "mergeBranch": Method(
            "write",
            read_nothing,
            lambda on, branch_id: _branches(on).merge_branch(branch_id),
            "branch",
            also_reads=True,
            commits=True,
        ),
    }
    if has_relay:
        table[SIGNAL] = Method("read", read_nothing, _signal, "connection", is_instant=True)
    return table


def connection_method(run: Run) -> Method:
    """A method that asks for rights itself: `run(connection, params, size)`."""
    return Method("read", read_nothing, run, "connection")


def unknown_method(name: object) -> PatchesError:
    """The error for a call to an unknown method."""
    return PatchesError(f"Unknown method '{as_text(name)}'.")


def add_methods_of(table: dict[str, Method], services: Services) -> None:
    """Add the methods that a document server brings in `remote_methods` (`name -> (kind,
    handler)`); the handler is called with the document id and the parameters as they came.

    Raises `ValueError` when a name is taken.
    """
    for name, (kind, handler) in services.documents.remote_methods.items():
        if name in table:
            raise ValueError(f"A handler for method '{name}' is already registered.")
        table[name] = Method(kind, read_all, _calling(handler))


def _calling(handler: Callable[..., Any]) -> Run:
    async def run(_on: Services, doc_id: str, *params: Json) -> Any:
        result = handler(doc_id, *params)
        if inspect.isawaitable(result):
            result = await result
        return result

    return run


@dataclass(frozen=True, slots=True)
class _Tokened:
    """Changes for a caller that requested the history's token."""

    changes: Sequence[Change]
    token: str | None


def steps_to_encode(result: Any) -> int:
    """About how many microseconds that takes."""
    has_changes = isinstance(result, (CommitResult, Snapshot, _Tokened))
    parts = result.changes if has_changes else result
    return 4 * len(parts) if isinstance(parts, (list, tuple)) else 0


# Documents.


async def _get_doc(on: Services, doc_id: str, rev: int | None) -> Any:
    wants_token = known_history(current_context().options) is not None
    # The token first: should the document be made again in between, an old token is noticed with
    # the next call; a new one beside old content would not be.
    mark = await on.documents.history_of(doc_id) if wants_token else None
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


async def _list_history(on: Services, doc_id: str, before: int | None, limit: int) -> Any:
    return await on.documents.list_history(doc_id, before=before, limit=limit)


async def _get_algorithm(on: Services, _doc_id: str) -> str:
    return on.documents.name


# The connection's own.


async def _subscribe(connection: Connection, params: Sequence[Json], _size: int) -> bytes:
    granted = await connection.hub.subscribe(connection, wire_checks.param(params, 0))
    if connection.relay is not None:
        connection.relay.subscribed(connection, granted)
    return codec.encode(granted)


async def _unsubscribe(connection: Connection, params: Sequence[Json], _size: int) -> bytes:
    return codec.encode(connection.hub.unsubscribe(connection, wire_checks.param(params, 0)))


def _signal(connection: Connection, params: Sequence[Json], size: int) -> bytes:
    if not is_signal(params):
        raise unknown_method(SIGNAL)
    assert connection.relay is not None, "there is no such row then"
    outcome = connection.relay.pass_on(connection, params, size=size)
    if outcome is not Relayed.SENT:
        raise PatchesError(str(outcome.value))
    return codec.encode(outcome.value)


def _history(on: Services) -> HistoryManager:
    if on.history is None:
        raise VersionError(f"{on.documents.name} documents have no versions here")
    return on.history


def _branches(on: Services) -> BranchManager:
    if on.branches is None:
        raise BranchError(f"{on.documents.name} documents have no branches here")
    return on.branches


def encoded(result: Any) -> bytes:
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
    if isinstance(result, (Version, Branch, Moment, BlameRun)):
        return codec.encode(result.to_wire())
    if isinstance(result, (list, tuple)):
        return codec.encode_array(map(encoded, result))
    return codec.encode(result)
