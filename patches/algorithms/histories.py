"""`Histories`: the histories of an algorithm's documents, in memory beside the store.

Each is read from the store on first use. Another process that shares the store may have stored a
later one since: what is kept here is then older and still true, so the server judges by it
correctly.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from patches.model.history import History
from patches.model.json_values import Json


class Histories:
    """Owned by the algorithm of that name. `load` reads a history, `save_token` stores a token."""

    def __init__(
        self,
        algorithm: str,
        load: Callable[[str], Awaitable[History]],
        save_token: Callable[[str, str | None], Awaitable[None]],
    ) -> None:
        self._algorithm, self._load, self._save_token = algorithm, load, save_token
        self._known: dict[str, History] = {}
        #: Whether the server gives tokens; `None`: it was not asked yet.
        self._are_given: bool | None = None

    async def of(self, doc_id: str) -> History:
        """The history of a document's copy."""
        known = self._known.get(doc_id)
        if known is None:
            known = self._known[doc_id] = await self._load(doc_id)
        return known

    async def options(self, doc_id: str) -> dict[str, Json]:
        """The options of a request that reads: what the copy here is, so that the server can refuse
        one that is of another history, or another algorithm.
        """
        return {"algorithm": self._algorithm, **(await self.of(doc_id)).options()}

    async def commit_options(self, doc_id: str) -> dict[str, Json] | None:
        """The options of a commit; none to a server that gives no tokens: it tells all of them."""
        return None if self._are_given is False else await self.options(doc_id)

    async def receive_token(self, doc_id: str, token: str | None, *, is_given: bool) -> None:
        """A server has named the history of a copy that it took for its own."""
        self._are_given = is_given
        if not is_given:
            return
        known = await self.of(doc_id)
        if token != known.token:
            await self._save_token(doc_id, token)
            known = self._known.get(doc_id, known)
            self._known[doc_id] = History(token, known.last_rev, known.last_id)

    def advance(self, doc_id: str, rev: int, change_id: str | None) -> None:
        """A copy has received a change, and that is stored."""
        known = self._known.get(doc_id)
        if known is not None and rev >= known.last_rev:
            self._known[doc_id] = known.after(rev, change_id)

    def put(self, doc_id: str, history: History) -> None:
        """A copy was replaced, and that is stored."""
        self._known[doc_id] = history
        if history.token is not None:
            self._are_given = True

    def forget(self, doc_id: str) -> None:
        """Read it from the store again, if it is asked for."""
        self._known.pop(doc_id, None)
