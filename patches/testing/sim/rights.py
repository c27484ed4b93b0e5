"""`Rights`: who may do what with which document, as an application's own table would say it.

It lies outside of all processes. A right that is taken away may be told to the servers
(`PatchesServer.revoke`), or not: then they notice when they ask again.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from patches_server.auth.access import Kind

#: What the hostile peer may do as it likes; nobody else has to do with these documents.
HOSTILE: Final = "hostile"
_HOSTILE_DOCS: Final = ("fuzz", "lww/fuzz")


@dataclass(slots=True)
class _Loss:
    reading: bool  # else writing alone
    at_s: float
    told: bool = False


class Rights:
    """The rights of every principal: all of them, but for what was taken away."""

    def __init__(self, random: Random) -> None:
        self._random = random
        #: Rights older than this are asked again by the servers.
        self.reauth_s: float = random.choice((2.0, 60.0))
        self._lost: dict[tuple[str, str], _Loss] = {}
        self._hangs = True

    def take(self, who: str, doc_id: str, *, reading: bool) -> None:
        """Somebody may no longer write a document, nor read it if `reading`."""
        self._lost.setdefault((who, doc_id), _Loss(reading, _now()))

    def told(self, who: str, doc_id: str) -> None:
        """The servers have been told of it."""
        if (who, doc_id) in self._lost:
            self._lost[who, doc_id].told = True

    def give(self, who: str, doc_id: str) -> None:
        """Somebody may do everything with a document."""
        self._lost.pop((who, doc_id), None)

    def give_all(self) -> None:
        """Everybody may do everything, and the hook is always quick from now on."""
        self._lost.clear()
        self._hangs = False

    def allows(self, who: str, doc_id: str, kind: Kind) -> bool:
        """Whether somebody may, at this moment."""
        if who == HOSTILE:
            return doc_id.startswith(_HOSTILE_DOCS)
        loss = self._lost.get((who, doc_id))
        return loss is None or (kind == "read" and not loss.reading)

    def may_get(self, who: str, doc_id: str, *, grace_s: float) -> bool:
        """Whether somebody may be sent something of a document (I5).

        A loss may go unnoticed for `grace_s`; one that the servers were told of may not, unless
        `grace_s` is for a call that had been allowed before.
        """
        if self.allows(who, doc_id, "read"):
            return True
        loss = self._lost.get((who, doc_id))
        return loss is not None and _now() - loss.at_s <= grace_s

    def was_told(self, who: str, doc_id: str) -> bool:
        """Whether the servers were told of a loss."""
        loss = self._lost.get((who, doc_id))
        return loss is not None and loss.told

    async def can_access(
        self, principal: Any, doc_id: str, kind: Kind, method: str, params: Any
    ) -> bool:
        """An application's hook: it takes its time, and answers what held when it was asked."""
        allowed = self.allows(principal.id, doc_id, kind)
        await asyncio.sleep(self._random.uniform(0, 0.02))
        if self._hangs and self._random.random() < 0.002:
            await asyncio.sleep(20.0)  # beyond `hook_timeout_s`
        return allowed


def _now() -> float:
    return asyncio.get_running_loop().time()
