"""`Confirmable`: the part of a document that waits for the server."""

from __future__ import annotations

from typing import Literal, Protocol

from patches.errors import NetworkError


class WaitSettled(Protocol):
    """Waits for the documents of a client."""

    async def __call__(
        self, doc_id: str, timeout_s: float | None, offline: Literal["wait", "raise"]
    ) -> None:
        """As `Confirmable.settled`."""


class Confirmable:
    """A document whose edits a server confirms."""

    id: str
    #: Set by the owner.
    wait_settled: WaitSettled | None = None

    async def settled(
        self,
        timeout: float | None = None,  # noqa: ASYNC109  # public name
        *,
        offline: Literal["wait", "raise"] = "wait",
    ) -> None:
        """Wait until every edit of this document is confirmed by the server.

        Raises why its work cannot leave, also once the refusal of each of its changes; nothing
        about other documents. `TimeoutError` after `timeout` seconds. Without a connection it
        waits, or with `offline="raise"` raises `NetworkError` at once; without a `PatchesSync` it
        always does.
        """
        if self.wait_settled is None:
            raise NetworkError(f"document {self.id!r} is not synced with a server")
        await self.wait_settled(self.id, timeout, offline)
