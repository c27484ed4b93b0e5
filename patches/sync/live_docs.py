"""`LiveDocs`: subscribes tracked documents on the connection that is up, then lets them sync."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Literal

from patches.aio.tasks import TaskScope
from patches.client.patches import Patches
from patches.errors import JSONRPCError, NetworkError, PatchesError
from patches.model.change import Change
from patches.model.json_values import Json
from patches.net.backoff import reconnect_wait
from patches.net.connection import PatchesConnection
from patches.sync.document import transitions
from patches.sync.documents import Documents, Report
from patches.sync.link import Link
from patches.sync.subscriptions import Subscriptions

#: How long opening a new document waits for the server to say which algorithm it has.
FIND_ALGORITHM_S: Final = 2.0


class LiveDocs:
    """Owned by a `PatchesSync`. `subscribed` is called after each subscription that worked."""

    def __init__(
        self,
        docs: Documents,
        subscriptions: Subscriptions,
        connection: PatchesConnection,
        *,
        link: Callable[[], Link | None],
        scope: TaskScope,
        report: Report,
        subscribed: Callable[[], None],
        random: random.Random,
        client: Patches,
        settled: Callable[..., Awaitable[None]],
    ) -> None:
        self._client = client
        self._settled = settled
        self._docs = docs
        self._subscriptions = subscriptions
        self._connection = connection
        self._link = link
        self._scope = scope
        self._report = report
        self._subscribed = subscribed
        self._random = random

    async def subscribe(self, link: Link) -> None:
        """Subscribe to what is tracked. A failure is reported, and tried again while the connection
        lasts; the documents sync all the same.
        """
        try:
            await self._subscribe(link)
        except Exception as exc:  # boundary: the application's filter
            if link.is_current and not link.is_retrying:
                link.is_retrying = True
                self._report(exc, None)
                self._scope.spawn(self._subscribe_again(link), name="subscribe again")

    async def begin(self, doc_ids: Sequence[str], link: Link) -> None:
        """Documents are new here: subscribe, then sync."""
        await self.subscribe(link)
        if link.is_current:
            self._docs.connected(doc_ids, link)

    async def settled(
        self,
        timeout_s: float | None,
        *,
        docs: Sequence[str],
        offline: Literal["wait", "raise"],
    ) -> None:
        """`PatchesSync.settled`, for a client that asks about one document."""
        await self._settled(timeout_s, docs=docs, offline=offline)

    async def find_algorithm(self, doc_id: str) -> str | None:
        """The algorithm that the server has for a document; `None` if it does not say, or there is
        no connection.
        """
        link = self._link()
        if link is None or not link.names_algorithms:
            return None
        try:
            async with asyncio.timeout(FIND_ALGORITHM_S):
                name = await self._connection.call("getAlgorithm", doc_id)
        except (PatchesError, TimeoutError) as exc:
            # A server that does not know the method, such as that of @dabble/patches.
            link.names_algorithms = not isinstance(exc, JSONRPCError)
            return None
        return name if isinstance(name, str) else None

    async def fetch_changes(self, doc_id: str, since: int) -> Sequence[Change]:
        """What the server has committed after a revision. Raises `NetworkError`."""
        return await self._connection.get_changes_since(doc_id, since)

    async def call_server(self, method: str, *params: Any) -> Json:
        """Call a method of the server. Raises `NetworkError` without a connection."""
        if self._link() is None:
            raise NetworkError(f"{method}: there is no connection")
        return await self._connection.call(method, *params)

    def ask_access(self, doc_ids: Sequence[str]) -> None:
        """Ask for the rights to open documents, whose programs want to know them."""
        link = self._link()
        if doc_ids and link is not None and link.knows_access:
            self._scope.spawn(self._ask_access(list(doc_ids), link), name="rights")

    def access_changed(self, wire: object) -> None:
        """The server says what may be done with a document."""
        if isinstance(wire, Mapping) and isinstance(doc_id := wire.get("docId"), str):
            self._client.set_access(doc_id, wire.get("write") is True)

    async def _ask_access(self, doc_ids: list[str], link: Link) -> None:
        try:
            answers = await self._connection.call("getAccess", doc_ids)
        except PatchesError as exc:
            # A server that does not know the method, such as that of @dabble/patches.
            link.knows_access = not isinstance(exc, JSONRPCError)
            return
        if link.is_current and isinstance(answers, list):
            for answer in answers:
                self.access_changed(answer)

    def _wants_access(self, doc_id: str) -> bool:
        doc = self._client.get_open_doc(doc_id)
        return doc is not None and doc.wants_access

    async def show_docs(self, doc_ids: Sequence[str]) -> None:
        """Read what the stores hold of documents, for `synced`."""
        await self._docs.learn(doc_ids)

    async def unsubscribe(self, link: Link) -> None:
        """Unsubscribe from what no tracked document needs any more."""
        try:
            await self._subscriptions.unsubscribe_unused(
                link, lambda: self._docs, self._connection.unsubscribe
            )
        except Exception as exc:  # boundary: the application's filter
            if link.is_current:
                self._report(exc, None)

    def subscription_ended(self, doc_id: str, code: object, link: Link) -> None:
        """The server sends no broadcasts of a document: ask for them again, and for what was
        missed. Whoever may not read the document any more sees that in the answer.

        `code` says why. A subscription that was never made is requested again only if that may
        pass, and not at once.
        """
        if link.granted.pop(doc_id, doc_id) is None:  # it was granted
            self._scope.spawn(self._subscribe_and_pull(link), name=f"subscription of {doc_id}")
        elif isinstance(code, int) and code >= 500 and not link.is_retrying:
            link.is_retrying = True
            self._scope.spawn(self._subscribe_again(link), name="subscribe again")

    def passed(self, doc_id: str, link: Link) -> None:
        """A document's pass has ended well. Were its subscription not granted before, the right to
        it has come back, or else it would be shown as synced and receive nothing.
        """
        if link.is_current and not link.is_retrying and self._is_missing(doc_id, link):
            self._scope.spawn(
                self._subscribe_passed(doc_id, link), name=f"subscription of {doc_id}"
            )

    async def _subscribe_passed(self, doc_id: str, link: Link) -> None:
        await self.subscribe(link)
        if link.is_current and not self._is_missing(doc_id, link):
            self._docs.change(doc_id, transitions.pull_requested)

    def _is_missing(self, doc_id: str, link: Link) -> bool:
        try:
            return not self._subscriptions.are_granted(link, doc_id)
        except Exception:  # the application's filter, which `subscribe` reports
            return False

    async def _subscribe_and_pull(self, link: Link) -> None:
        await self.subscribe(link)
        self._pull_all(link)

    async def _subscribe(self, link: Link) -> None:
        await self._subscriptions.subscribe_missing(
            link, lambda: self._docs, self._connection.subscribe
        )
        self._subscribed()
        self.ask_access([doc_id for doc_id in self._docs if self._wants_access(doc_id)])

    async def _subscribe_again(self, link: Link) -> None:
        attempt = 0
        while True:
            await asyncio.sleep(reconnect_wait(attempt, self._random.random()))
            attempt += 1
            if not link.is_current:
                return
            try:
                await self._subscribe(link)
            except Exception:  # it was reported once
                continue
            link.is_retrying = False
            self._pull_all(link)
            return

    def _pull_all(self, link: Link) -> None:
        # All: a filter may have mapped any of them to what is subscribed now.
        if link.is_current:
            for doc_id in self._docs:
                self._docs.change(doc_id, transitions.pull_requested)
