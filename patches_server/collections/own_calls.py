"""`OwnCalls`: what an application does with documents from the server: jobs, agents, webhooks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeVar

from patches.algorithms.collections.declaration import CREATED, USER, Collections
from patches.errors import OpsRefusedError
from patches.model.ids import random_id, uuid7
from patches.model.json_values import Json
from patches.runtime import Millis, Runtime
from patches_server.collections.calls import Caller
from patches_server.collections.engines.engine import Transaction
from patches_server.collections.jobs import Jobs
from patches_server.collections.live import Job
from patches_server.collections.mutations import check_size, new_row
from patches_server.collections.rules import Sql, validate
from patches_server.collections.streams import Streams, Writing

T = TypeVar("T")

DAY_MS: Final = 86_400_000


class OwnCalls:
    """The part of a server that an application calls."""

    declared: Collections
    streams: Streams
    _jobs: Jobs
    _runtime: Runtime
    _retention_ms: int

    async def write(
        self, doc_id: str, work: Callable[[Sql], T], *, as_user: str | None = None
    ) -> T:
        """Run any SQL as one change, and broadcast it. Returns what `work` returns.

        Raises what it raises; nothing is left of it then.
        """
        return await self._make(doc_id, lambda tx: work(tx.sql), as_user)

    async def push(
        self, doc_id: str, table: type | str, *, as_user: str | None = None, **columns: Json
    ) -> str:
        """Add one row, made by the server; its key. It need not pass `validate_update`.

        A record of a store is `user_id`'s, or the user's of a document `user/<id>`. Raises
        `InvalidRowError`, `InvalidError`.
        """
        found = self.declared.table_of(table)
        key = columns.get(found.key)
        if found.kind != "table":
            columns = {**self._made_here(doc_id, columns), **columns}
            key = columns[USER] if found.kind == "singular" else key
        if not isinstance(key, str):
            key = self._new_key()
        row = new_row(found, {**columns, found.key: key})
        check_size(found.name, row)
        if found.kind == "table":
            validate(found, "insert", row, None)
        await self._make(doc_id, lambda tx: tx.insert(found, row), as_user)
        return key

    async def touch(self, doc_id: str, table: type | str) -> None:
        """Send every row of a table again, such as after a migration."""
        found = self.declared.table_of(table)
        await self._make(doc_id, lambda tx: tx.touch(found), None)

    def stream(
        self, doc_id: str, table: type | str, *, as_user: str | None = None, **columns: Json
    ) -> Writing:
        """A row in progress, shown to those who may see it, and committed when its block is left.

        An error in the block takes it back. See `Writing`.
        """
        found = self.declared.table_of(table)
        if found.kind != "table":
            columns = {**self._made_here(doc_id, columns), **columns}
        columns.setdefault(found.key, self._new_key())
        row = new_row(found, columns)

        async def save(row: dict[str, Json]) -> None:
            await self._make(doc_id, lambda tx: tx.insert(found, row), as_user)

        return Writing(self.streams, doc_id, found, row, save)

    async def compact(self, doc_id: str) -> int:
        """Forget deletions that are older than the retention, and old changes; how many."""
        return await self._jobs.run(doc_id, self._swept)

    async def new_history(self, doc_id: str) -> None:
        """Begin another history, such as after a backup was restored: all copies are fetched anew.

        What clients have not sent yet is kept and sent.
        """

        def begin(job: Job) -> None:
            job.tx.new_epoch(random_id(self._runtime.random, 16))
            job.look_again(job.interests.clear())

        await self._jobs.run(doc_id, begin)

    async def access_changed(self, user_id: str) -> None:
        """The claims of a user have changed: copies of what it saw before are fetched anew."""

        def look_again(job: Job) -> None:
            connections = job.interests.of_user(user_id)
            job.interests.leave(connections)
            job.look_again(connections)

        for doc_id in self._jobs.doc_ids:
            await self._jobs.run(doc_id, look_again)

    async def _make(self, doc_id: str, work: Callable[[Transaction], T], as_user: str | None) -> T:
        """One change of the server's own."""
        caller, change_id = Caller(doc_id=doc_id, user_id=as_user), self._new_id()

        def run(job: Job) -> T:
            results: list[T] = []
            job.commit(change_id, caller, lambda: results.append(work(job.tx)))
            return results[-1]

        return await self._jobs.run(doc_id, run)

    def _swept(self, job: Job) -> int:
        return job.tx.sweep(
            deleted_before=job.now - self._retention_ms, committed_before=job.now - 30 * DAY_MS
        )

    def _made_here(self, doc_id: str, columns: Mapping[str, Json]) -> dict[str, Json]:
        """The columns of a store's record that are not given."""
        owner = {} if USER in columns else {USER: self._owner_in(doc_id)}
        return {CREATED: self._now(), **owner}

    def _owner_in(self, doc_id: str) -> str:
        kind, slash, owner = doc_id.partition("/")
        if kind == "user" and slash and owner:
            return owner
        raise OpsRefusedError(f"whose record is it? give user_id=, as {doc_id!r} is no user/<id>")

    def _new_key(self) -> str:
        return uuid7(self._runtime.random, self._now())

    def _new_id(self) -> str:
        return random_id(self._runtime.random, 20)

    def _now(self) -> Millis:
        return self._runtime.wall_ms()
