"""How a commit is carried out: again after a lost race, within the room, and never at its cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from patches.errors import ChangeRefusedError, PatchesError, RevConflictError, StorageError
from patches.limits import Limits
from patches.model.change import ChangeInput
from patches.model.json_values import Json
from patches.runtime import Runtime
from patches_server.documents.offload import Offloader
from patches_server.lww.committer import LWWCommitter
from patches_server.lww.decided import CommitCall, Committed
from patches_server.lww.ordinary import COMPACT_EVERY
from patches_server.lww.stores.memory import LWWMemoryServerStore

NOW = 1_700_000_000_000


def a_call(change_id: str, path: str = "/a", value: Json = 1, **fields: Any) -> CommitCall:
    change = ChangeInput(id=change_id, ops=[{"op": "replace", "path": path, "value": value}])
    return CommitCall("d", [change], NOW, **fields)


def a_committer(store: LWWMemoryServerStore, **limits: Any) -> LWWCommitter:
    bounds = Limits(**limits)
    return LWWCommitter(
        store,
        change_id_ttl=1_000,
        removal_ttl=1_000,
        limits=bounds,
        offload=Offloader(Runtime(), bounds),
    )


class Raced(LWWMemoryServerStore):
    """Somebody else writes before each of so many saves."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times
        self.saves = 0

    async def save_rows(self, doc_id: str, rows: Sequence[Any], **options: Any) -> None:
        self.saves += 1
        if self.times:
            self.times -= 1
            other = LWWCommitter(
                _Plain(self),  # the same rows, without the race
                change_id_ttl=1_000,
                removal_ttl=1_000,
                limits=Limits(),
                offload=Offloader(Runtime(), Limits()),
            )
            await other.commit(a_call(f"other{self.times}", f"/other{self.times}"))
        await super().save_rows(doc_id, rows, **options)


class _Plain:
    def __init__(self, store: Raced) -> None:
        self._store = store
        self.keeps_change_ids, self.branches = True, None

    def __getattr__(self, name: str) -> Any:
        return getattr(super(Raced, self._store), name)


async def paths(store: LWWMemoryServerStore) -> set[str]:
    return {row.path for row in (await store.load_rows("d", now=NOW)).rows}


async def test_a_commit_that_lost_a_race_is_decided_again() -> None:
    store = Raced(2)
    done = await a_committer(store).commit(a_call("mine"))
    assert (done.rev, done.head_id, store.saves) == (3, "mine", 3)
    assert await paths(store) == {"/a", "/other0", "/other1"}


async def test_it_gives_up_after_five_races() -> None:
    store = Raced(5)
    with pytest.raises(RevConflictError):
        await a_committer(store).commit(a_call("mine"))
    assert store.saves == 5
    assert "/a" not in await paths(store)


async def test_the_change_that_does_not_fit_is_named_and_final() -> None:
    store = LWWMemoryServerStore()
    committer = a_committer(store, max_doc_bytes=300)
    fits = ChangeInput(id="fits", ops=[{"op": "replace", "path": "/a", "value": "x" * 40}])
    large = ChangeInput(id="large", ops=[{"op": "replace", "path": "/b", "value": "x" * 290}])
    with pytest.raises(ChangeRefusedError) as refused:
        await committer.commit(CommitCall("d", [fits, large], NOW))
    assert refused.value.code == 413
    assert refused.value.data == {
        "changeId": "large", "scope": "change", "limit": "max_doc_bytes", "final": True,
    }  # fmt: skip
    assert await paths(store) == set()
    await committer.commit(CommitCall("d", [fits], NOW))
    smaller = a_call("smaller", "/a", "x" * 10)
    assert (await committer.commit(smaller)).rev == 2


async def test_a_compaction_that_fails_does_not_fail_the_commit(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Stuck(LWWMemoryServerStore):
        tried = 0

        async def drop_removals(self, doc_id: str, **options: Any) -> int:
            Stuck.tried += 1
            raise StorageError("locked")

    committer = a_committer(Stuck())
    for number in range(COMPACT_EVERY):
        await committer.commit(a_call(f"c{number}", value=number))
    assert Stuck.tried == 1
    assert "could not be compacted" in caplog.text


async def test_a_reviewer_sees_each_change_with_the_states_around_it() -> None:
    seen: list[tuple[str, Json, Json]] = []

    async def review(change: Any, before: Json, after: Json) -> None:
        seen.append((change.id, before, after))
        if change.id == "no":
            raise PatchesError("no")

    store = LWWMemoryServerStore()
    committer = a_committer(store)
    changes = [a_call("one").changes[0], a_call("two", "/b", 2).changes[0]]
    await committer.commit(CommitCall("d", changes, NOW, review=review))
    assert seen == [("one", {}, {"a": 1}), ("two", {"a": 1}, {"a": 1, "b": 2})]
    with pytest.raises(PatchesError, match="no"):
        await committer.commit(a_call("no", "/c", 3, review=review))
    assert await paths(store) == {"/a", "/b"}


async def test_what_is_not_ordinary_is_not_done_at_once() -> None:
    store = LWWMemoryServerStore()
    committer = a_committer(store)
    await committer.commit(a_call("first"))
    done = committer.commit_at_once(a_call("second", "/b", 2))
    assert isinstance(done, Committed)
    assert (done.rev, done.head_id) == (2, "second")
    structural = ChangeInput(id="s", ops=[{"op": "move", "from": "/a", "path": "/c"}])
    malformed = ChangeInput(id="m", ops=[{"op": "replace", "path": "no pointer", "value": 1}])
    for change in (structural, malformed):
        assert committer.commit_at_once(CommitCall("d", [change], NOW)) is None

    class Wrapped(LWWMemoryServerStore):
        """A store of another class may have more to do for a commit."""

    assert a_committer(Wrapped()).commit_at_once(a_call("third")) is None
    assert await paths(store) == {"/a", "/b"}
