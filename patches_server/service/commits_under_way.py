"""`CommitsUnderWay`: a commit that is sent again is not carried out again beside itself.

A client that gets no answer in time, or loses its connection, sends the same changes again. While
the first commit is still being carried out, the repetition waits for it and gets the same answer:
carried out a second time, a commit that takes long would take twice as long, and be sent once more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Generic, TypeAlias, TypeVar

from patches.errors import UnavailableError
from patches.model import codec
from patches.model.change import Change, ChangeInput
from patches_server.documents.context import CallContext

T = TypeVar("T")

#: A document, the options of the commit, and what identifies each of its changes.
Key: TypeAlias = tuple[str, bytes, tuple[tuple[object, ...], ...]]


@dataclass(slots=True)
class _UnderWay(Generic[T]):
    answer: asyncio.Future[T]
    given_up: list[Callable[[], bool]] = field(default_factory=list)

    def has_given_up(self) -> bool:
        """Whether nobody waits for the answer any more."""
        return all(has_given_up() for has_given_up in self.given_up)


class CommitsUnderWay(Generic[T]):
    """The commits that a server process is carrying out. Owned by its `Calls`."""

    def __init__(self) -> None:
        self._under_way: Final[dict[Key, _UnderWay[T]]] = {}

    async def run(
        self, key: Key, context: CallContext, commit: Callable[[CallContext], Awaitable[T]]
    ) -> T:
        """What `commit` gives, or what it gives to the call that carries out the same commit.

        `commit` is called with a context that says whether anybody still waits.
        """
        first = self._under_way.get(key)
        if first is not None:
            first.given_up.append(context.has_given_up)
            context.keep_waiting()  # sent away, it would come again, for as long as this takes
            return await asyncio.shield(first.answer)
        mine = self._under_way[key] = _UnderWay(asyncio.get_running_loop().create_future())
        mine.given_up.append(context.has_given_up)
        try:
            result = await commit(replace(context, has_given_up=mine.has_given_up))
        except Exception as exc:
            mine.answer.set_exception(exc)
            raise
        else:
            mine.answer.set_result(result)
            return result
        finally:
            del self._under_way[key]
            if not mine.answer.done():  # cancelled: the server is closing
                closing = UnavailableError("the server is going away", {"reason": "CLOSING"})
                mine.answer.set_exception(closing)
            if not mine.answer.cancelled():
                mine.answer.exception()  # nobody else may wait for it


def key_of(doc_id: str, changes: Sequence[Change | ChangeInput], context: CallContext) -> Key:
    """What makes a commit the same as another one: the same changes on the same revision.

    The time distinguishes changes to which two clients happen to give one id.
    """
    options = codec.encode(dict(context.options)) if context.options else b""
    return doc_id, options, tuple((each.id, each.base_rev, each.created_at) for each in changes)
