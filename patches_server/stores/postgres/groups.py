"""`SaveGroups`: saves of many documents in one statement.

What waits while a statement is under way goes into the next one; no group waits to fill. A document
is in one statement at a time. Its saves that were decided one upon the other are one save, and
otherwise they take effect in the order in which they were begun.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, TypeAlias, TypeVar

S = TypeVar("S")

MAX_DOCUMENTS: Final = 64
MAX_BYTES: Final = 4 * 1024 * 1024
#: Of one document.
MAX_CHAIN: Final = 64

#: A save and whoever waits for it.
Waiting: TypeAlias = "tuple[S, asyncio.Future[None]]"


class SaveGroups(Generic[S]):
    """Carries out saves in groups, at most `writers` at once.

    `run(chains)` saves a chain of each document, and gives for each save of each chain `None` or
    why it was refused. `follows(before, save)`: whether one was decided upon the other.
    """

    def __init__(
        self,
        run: Callable[[list[list[S]]], Awaitable[list[list[Exception | None]]]],
        *,
        writers: int,
        follows: Callable[[S, S], bool],
        size_of: Callable[[S], int],
    ) -> None:
        self._run, self._writers = run, writers
        self._follows, self._size_of = follows, size_of
        self._waiting: OrderedDict[str, deque[Waiting[S]]] = OrderedDict()
        self._busy: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_called = False

    def begin(self, doc_id: str, save: S) -> asyncio.Future[None]:
        """Queue a save. The future is done once it is stored, or raises why it is not."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        self._waiting.setdefault(doc_id, deque()).append((save, done))
        if not self._is_called:
            self._is_called = True
            loop.call_soon(self._start)
        return done

    async def close(self) -> None:
        """Wait for what is under way."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    def _start(self) -> None:
        self._is_called = False
        while len(self._tasks) < self._writers:
            group = self._next_group()
            if not group:
                return
            task = asyncio.get_running_loop().create_task(self._carry_out(group), name="saves")
            self._tasks.add(task)

    def _next_group(self) -> dict[str, list[Waiting[S]]]:
        group: dict[str, list[Waiting[S]]] = {}
        size = 0
        for doc_id in list(self._waiting):
            if doc_id in self._busy:
                continue
            chain, added = self._next_chain(self._waiting[doc_id])
            group[doc_id] = chain
            if not self._waiting[doc_id]:
                del self._waiting[doc_id]
            else:
                self._waiting.move_to_end(doc_id)
            size += added
            if len(group) >= MAX_DOCUMENTS or size >= MAX_BYTES:
                break
        self._busy.update(group)
        return group

    def _next_chain(self, queue: deque[Waiting[S]]) -> tuple[list[Waiting[S]], int]:
        chain = [queue.popleft()]
        size = self._size_of(chain[0][0])
        while queue and len(chain) < MAX_CHAIN and self._follows(chain[-1][0], queue[0][0]):
            size += self._size_of(queue[0][0])
            if size > MAX_BYTES:
                break
            chain.append(queue.popleft())
        return chain, size

    async def _carry_out(self, group: dict[str, list[Waiting[S]]]) -> None:
        chains = [[save for save, _ in chain] for chain in group.values()]
        try:
            outcomes: Sequence[Sequence[Exception | None]] = await self._run(chains)
        except Exception as exc:  # boundary: whoever waits gets it
            outcomes = [[exc] * len(chain) for chain in chains]
        finally:
            self._busy.difference_update(group)
            task = asyncio.current_task()
            if task is not None:
                self._tasks.discard(task)
        for chain, outcome in zip(group.values(), outcomes, strict=True):
            for (_, done), error in zip(chain, outcome, strict=True):
                if done.done():
                    continue
                if error is None:
                    done.set_result(None)
                else:
                    done.set_exception(error)
                    done.exception()  # a caller that has gone will not fetch it
        self._start()
