"""`AccessWatch`: what peers may do with documents, for those who ask, and when it changes."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence

from patches.aio.tasks import TaskScope
from patches.errors import ForbiddenError, PatchesError
from patches.limits import Limits
from patches.model import codec
from patches.model.json_values import Json
from patches_server.auth.access import Access, Kind, principal_key
from patches_server.service.fanout.events import wanted_ids
from patches_server.service.fanout.outbox import Event
from patches_server.service.fanout.subscriber import Subscriber
from patches_server.service.router import Router
from patches_server.wire import checks as wire_checks

_log = logging.getLogger("patches_server.service")


class AccessWatch:
    """Answers `getAccess`, and remembers what was answered to whom, for `accessChanged`."""

    def __init__(self, access: Access, router: Router, *, limits: Limits, tasks: TaskScope) -> None:
        self._access, self._router, self._limits, self._tasks = access, router, limits, tasks
        #: Peer -> document -> the rights to read and to write that it was last sent.
        self._sent: dict[Subscriber, dict[str, tuple[bool, bool]]] = {}

    async def get_access(self, peer: Subscriber, params: Sequence[Json], _size: int) -> bytes:
        """`getAccess`: what the peer may do, and the algorithm of what it may read."""
        answers: list[Mapping[str, Json]] = []
        for doc_id in wanted_ids(wire_checks.param(params, 0), self._limits):
            read, write = await self._rights(peer, doc_id)
            if not peer.ended:
                self._sent.setdefault(peer, {})[doc_id] = read, write
            answer: dict[str, Json] = {"docId": doc_id, "read": read, "write": write}
            if read:  # of others it says nothing, whether they exist or not
                answer["algorithm"] = (await self._router.find(doc_id)).documents.name
            answers.append(answer)
        return codec.encode(answers)

    def revoke(self, *, principal: object, doc_id: str | None) -> None:
        """Rights may have changed: peers are sent what is other than before."""
        for peer, sent in list(self._sent.items()):
            if principal is not None and principal_key(peer.context.principal) != principal:
                continue
            ids = list(sent) if doc_id is None else [doc_id] if doc_id in sent else []
            if ids:
                self._tasks.spawn(self._check(peer, ids), name="rights")

    def ended(self, peer: Subscriber) -> None:
        """A connection is closed."""
        self._sent.pop(peer, None)

    async def _check(self, peer: Subscriber, doc_ids: Iterable[str]) -> None:
        for doc_id in doc_ids:
            try:
                rights = await self._rights(peer, doc_id)
            except PatchesError:  # nobody can say now: what was sent stands
                _log.warning("document %.128r: rights cannot be checked", doc_id)
                continue
            sent = self._sent.get(peer)
            if sent is None or sent.get(doc_id) == rights:
                continue
            sent[doc_id] = rights
            read, write = rights
            params = {"docId": doc_id, "read": read, "write": write}
            peer.outbox.put(Event("accessChanged", codec.encode(params)))

    async def _rights(self, peer: Subscriber, doc_id: str) -> tuple[bool, bool]:
        return await self._may(peer, doc_id, "read"), await self._may(peer, doc_id, "write")

    async def _may(self, peer: Subscriber, doc_id: str, kind: Kind) -> bool:
        try:
            await self._access.require(peer.context.principal, doc_id, kind, "getAccess")
        except ForbiddenError:
            return False
        except PatchesError as exc:
            if exc.code == 503:
                raise
            return False
        return True
