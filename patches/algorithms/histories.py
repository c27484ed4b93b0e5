"""`Histories`: the histories of an algorithm's documents, in memory beside the store.

Each is read from the store on first use, and again when another process that shares the store has
written the copy: the server judges by the newest change of the copy, and it has to be that of the
revision that it is asked about.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final

from patches.errors import OutdatedAnswerError
from patches.model.history import History
from patches.model.json_values import Json

#: Of the version of a stored copy, the low bits count the writes since a snapshot was installed.
_BITS_SINCE_INSTALL: Final = 24


def version_after_install(version: int) -> int:
    """The version of a stored copy after a snapshot has replaced the one at `version`."""
    return (installation_of(version) + 1) << _BITS_SINCE_INSTALL


def installation_of(version: int) -> int:
    """The number of the installation that a stored copy stems from."""
    return version >> _BITS_SINCE_INSTALL


def check_not_outdated(doc_id: str, *, asked_at: int | None, head: int, rev: int) -> None:
    """Raise `OutdatedAnswerError` for a snapshot at `head` that was asked for at `asked_at`, if a
    copy has received more since and is at `rev`.

    One that was ahead of the snapshot before is on a history that is no more.
    """
    if asked_at is not None and asked_at <= head < rev:
        raise OutdatedAnswerError(doc_id, rev=rev, is_replaced=False)


@dataclass(frozen=True, slots=True)
class Copy:
    """The copy of a document: its history, and which installation of a snapshot it stems from."""

    history: History
    installation: int


class Histories:
    """Owned by the algorithm of that name. `load` reads a copy, `save_token` stores a token.

    What the server says is about the copy that it was asked about. `is_asked_about`: whether
    that is the one in the store: another process may have installed a snapshot since.
    """

    def __init__(
        self,
        algorithm: str,
        load: Callable[[str], Awaitable[Copy]],
        save_token: Callable[[str, str | None], Awaitable[None]],
    ) -> None:
        self._algorithm, self._load, self._save_token = algorithm, load, save_token
        self._known: dict[str, Copy] = {}
        self._asked: dict[str, int] = {}  # the installations that questions to the server are about
        #: Whether the server gives tokens; `None`: it was not asked yet.
        self._are_given: bool | None = None

    async def of(self, doc_id: str) -> History:
        """The history of a document's copy."""
        return (await self._copy_of(doc_id)).history

    async def _copy_of(self, doc_id: str) -> Copy:
        known = self._known.get(doc_id)
        if known is None:
            known = self._known[doc_id] = await self._load(doc_id)
        return known

    async def options(self, doc_id: str) -> dict[str, Json]:
        """The options of a request that reads: what the copy here is, so that the server can refuse
        one that is of another history, or another algorithm.
        """
        copy = await self._copy_of(doc_id)
        self._asked[doc_id] = copy.installation
        return {"algorithm": self._algorithm, **copy.history.options()}

    def is_asked_about(self, doc_id: str, installation: int) -> bool:
        """Whether what the server says is about the copy of this installation. True before the
        first question.
        """
        return self._asked.get(doc_id, installation) == installation

    def asked_about(self, doc_id: str) -> int | None:
        """The installation that what the server says is about; `None` before the first question."""
        return self._asked.get(doc_id)

    async def commit_options(self, doc_id: str) -> dict[str, Json] | None:
        """The options of a commit; none to a server that gives no tokens, which forwards them."""
        return None if self._are_given is False else await self.options(doc_id)

    async def receive_token(self, doc_id: str, token: str | None, *, is_given: bool) -> None:
        """A server has named the history of a copy that it took for its own."""
        self._are_given = is_given
        if not is_given:
            return
        known = await self.of(doc_id)
        if token != known.token:
            await self._save_token(doc_id, token)
            copy = await self._copy_of(doc_id)
            self._known[doc_id] = replace(
                copy, history=History(token, copy.history.last_rev, copy.history.last_id)
            )

    def advance(self, doc_id: str, rev: int, change_id: str | None) -> None:
        """A copy has received a change, and that is stored."""
        known = self._known.get(doc_id)
        if known is not None and rev >= known.history.last_rev:
            self._known[doc_id] = replace(known, history=known.history.after(rev, change_id))

    def put(self, doc_id: str, history: History, installation: int) -> None:
        """A copy was replaced by what the server has, and that is stored."""
        self._known[doc_id] = Copy(history, installation)
        self._asked[doc_id] = installation
        if history.token is not None:
            self._are_given = True

    def seen_at(self, doc_id: str, rev: int) -> None:
        """The stored copy is at a revision. If another process has brought it there, what is known
        here is older than what will be asked about.
        """
        known = self._known.get(doc_id)
        if known is not None and known.history.last_rev != rev:
            self.forget(doc_id)

    def forget(self, doc_id: str) -> None:
        """Another process has written the copy: read it from the store for the next question."""
        self._known.pop(doc_id, None)

    def drop(self, doc_id: str) -> None:
        """There is no copy any more."""
        self._known.pop(doc_id, None)
        self._asked.pop(doc_id, None)
