"""Who runs the actions of a server's documents: the server, or who commits them.

`ServerRunner` is for a server that has the actions, `ClientRunner` for one that has not.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from time import thread_time
from typing import Any, Generic, TypeVar

from patches.algorithms.replay.actions import Actions
from patches.algorithms.replay.changes import ACTION, CORRECTION, GROUP, SHARED, SYNC
from patches.errors import StatusError
from patches.model.change import Change
from patches.model.json_values import Json
from patches.runtime import Millis, Runtime
from patches_server.replay.gate import Correction, GateDoc, Proposed, checked_ops
from patches_server.replay.judge import (
    AnyChange,
    called,
    judged,
    judged_clock,
    made_at,
    refused,
    unclaimed,
)
from patches_server.replay.live import LiveDoc, Submitted
from patches_server.replay.logbook import Logbook
from patches_server.replay.store import LoadedDoc, Logged
from patches_server.replay.views import Viewer

Doc = TypeVar("Doc", bound=Logbook)
Judged = TypeVar("Judged", Submitted, Proposed)


class Runner(ABC, Generic[Doc, Judged]):
    """How a change is judged and committed."""

    #: As `getDoc` says it.
    name: str
    #: Whether a commit that was made on an older revision than the head is answered only.
    at_head_only: bool

    @abstractmethod
    def load(self, loaded: LoadedDoc) -> Doc:
        """A document, as it was stored."""

    @abstractmethod
    def judge(self, change: AnyChange, doc: Doc, viewer: Viewer, now: Millis) -> Judged:
        """What a change asks for. Raises `ChangeRefusedError`, `UnavailableError`."""

    @abstractmethod
    async def commit(
        self, doc: Doc, judged: Sequence[Judged], now: Millis
    ) -> tuple[list[Logged], StatusError | None]:
        """What the changes become, and the refusal of the first that is not among them."""

    def shares_args(self, change: Change) -> bool:
        """Whether all may know an action's arguments who see any of its effect."""
        return change.metadata.get(SHARED) is True

    def schema(self) -> Json:
        """Name and version of the schema, if it is known here."""
        return None


class ServerRunner(Runner[LiveDoc, Submitted]):
    """Runs the actions itself: a client chooses an action and its arguments, and no more."""

    name = "server"
    at_head_only = False

    def __init__(
        self, actions: Actions, runtime: Runtime, new_id: Callable[[], str], max_action_s: float
    ) -> None:
        self._actions, self._runtime, self._new_id = actions, runtime, new_id
        self._max_action_s = max_action_s

    def load(self, loaded: LoadedDoc) -> LiveDoc:
        return LiveDoc(loaded, self._actions, self._new_id, self._deadline)

    def judge(self, change: AnyChange, doc: LiveDoc, viewer: Viewer, now: Millis) -> Submitted:
        return judged(
            change,
            self._actions,
            now=now,
            author=viewer.author,
            rights=viewer.rights,
            clients=doc.clients,
        )

    async def commit(
        self, doc: LiveDoc, judged: Sequence[Submitted], now: Millis
    ) -> tuple[list[Logged], StatusError | None]:
        if doc.is_much(judged):
            made, slow = await self._runtime.run_blocking(lambda: doc.place(judged, now))
        else:
            made, slow = doc.place(judged, now)
        if slow is None:
            return made, None
        change_id, error = slow
        return made, refused(change_id, str(error), more={"code": "ACTION_TOO_SLOW"})

    def shares_args(self, change: Change) -> bool:
        match change.metadata.get("action"):
            case {"name": str(name)}:
                action = self._actions.find(name)
                return action is not None and action.share_args
        return False

    def schema(self) -> Json:
        schema = self._actions.schema
        return {"name": schema.name, "version": schema.version}

    def _deadline(self) -> Callable[[], bool]:
        # The time that it computes: a machine that is busy with other things refuses nothing.
        until = thread_time() + self._max_action_s
        return lambda: thread_time() > until


class ClientRunner(Runner[GateDoc, Proposed]):
    """A gate and a log: whoever commits an action has run it."""

    name = "client"
    at_head_only = True

    def __init__(self, new_id: Callable[[], str]) -> None:
        self._new_id = new_id

    def load(self, loaded: LoadedDoc) -> GateDoc:
        return GateDoc(loaded, self._new_id)

    def judge(self, change: AnyChange, doc: GateDoc, viewer: Viewer, now: Millis) -> Proposed:
        metadata = change.metadata
        kept: dict[str, Any] = unclaimed(change)
        kind = metadata.get("kind")
        if kind not in (ACTION, SYNC):
            raise refused(change, "expected an action, or the rest of the effect of one")
        kept["kind"] = kind
        kept["clock"] = judged_clock(change, now, viewer.author, doc.clients).to_wire()
        if kind == ACTION:
            name, args = called(change)
            kept["action"] = {"name": name, "args": args}
            if isinstance(error := metadata.get("error"), str):
                kept["error"] = error
        else:
            kept["corrects"], kept[GROUP] = _ids(change, metadata.get("corrects")), 0
        if metadata.get(SHARED) is True:
            kept[SHARED] = True
        group = metadata.get(GROUP, 1)
        if not isinstance(group, int) or isinstance(group, bool) or group < 1:
            raise refused(change, "group: expected a number from 1 on")
        return Proposed(
            id=change.id,
            ops=checked_ops(change.id, list(change.ops)),
            created_at=made_at(change, now),
            author=viewer.author,
            rights=viewer.rights,
            correction=_correction(change, metadata.get(CORRECTION)),
            group=group,
            metadata=kept,
        )

    async def commit(
        self, doc: GateDoc, judged: Sequence[Proposed], now: Millis
    ) -> tuple[list[Logged], StatusError | None]:
        for place, each in enumerate(judged):
            if place + each.group > len(judged):
                message = f"only {len(judged) - place} of the {each.group} of its group are here"
                raise refused(each.id, message, more={"code": "GROUP_INCOMPLETE"})
        return doc.append(judged, now), None


def _correction(change: AnyChange, given: Json) -> Correction | None:
    if given is None:
        return None
    match given:
        case {"ops": list(ops), "corrects": corrects, "failed": list(failed)}:
            return Correction(
                ops=checked_ops(change.id, ops),
                corrects=_ids(change, corrects),
                failed=[_failure(change, each) for each in failed],
            )
    raise refused(change, "sync: expected {ops, corrects, failed}")


def _failure(change: AnyChange, given: Json) -> Mapping[str, str]:
    match given:
        case {"id": str(change_id), "name": str(name), "message": str(message)}:
            return {"id": change_id, "name": name, "message": message}
    raise refused(change, "sync: expected {id, name, message} of what failed")


def _ids(change: AnyChange, given: Json) -> list[str]:
    if not isinstance(given, list) or not all(isinstance(each, str) for each in given):
        raise refused(change, "corrects: expected ids")
    return given
