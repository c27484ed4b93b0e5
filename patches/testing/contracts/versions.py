"""The contract of a `VersionStore`."""

from __future__ import annotations

from typing import Any, Final

import pytest

from patches_server.documents.records import ListVersionsOptions, Version
from patches_server.documents.version_store import VersionStore

NOW: Final = 1_700_000_000_000


def a_version(version_id: str, end_rev: int, **fields: Any) -> Version:
    """A version of one revision."""
    values: dict[str, Any] = {
        "origin": "main",
        "start_rev": end_rev,
        "started_at": NOW + end_rev,
        "ended_at": NOW + end_rev,
    }
    return Version(id=version_id, end_rev=end_rev, **{**values, **fields})


async def listed(store: VersionStore, **options: Any) -> str:
    """The ids of the versions that a list gives, as one word."""
    versions = await store.list_versions("d", ListVersionsOptions(**options))
    return "".join(version.id for version in versions)


class VersionStoreContract:
    """Every version store passes these. Subclass it and give a `store` fixture, empty at first."""

    async def test_a_version_and_its_state_come_back(self, store: VersionStore) -> None:
        state = '{"text":"é \\ud83d"}'.encode()
        version = a_version(
            "v", 3, parent_id="u", group_id="g", metadata={"name": "First", "tags": [1]}
        )
        await store.create_version("d", version, state)
        assert await store.load_version("d", "v") == version
        assert await store.load_version_state("d", "v") == state
        assert await store.list_versions("d") == [version]

    async def test_what_is_unknown_is_none(self, store: VersionStore) -> None:
        await store.create_version("d", a_version("v", 1), b"{}")
        assert await store.load_version("d", "w") is None
        assert await store.load_version("e", "v") is None
        assert await store.load_version_state("e", "v") is None
        assert await store.list_versions("e") == []

    async def test_a_state_may_be_missing(self, store: VersionStore) -> None:
        await store.create_version("d", a_version("v", 1), None)
        assert await store.load_version("d", "v") is not None
        assert await store.load_version_state("d", "v") is None

    async def test_an_id_that_is_there_is_left_as_it_is(self, store: VersionStore) -> None:
        await store.create_version("d", a_version("v", 1), b"1")
        await store.create_version("d", a_version("v", 2), b"2")
        assert await store.load_version("d", "v") == a_version("v", 1)
        assert await store.load_version_state("d", "v") == b"1"

    async def test_metadata_is_merged(self, store: VersionStore) -> None:
        await store.create_version("d", a_version("v", 1, metadata={"name": "x", "n": 1}), b"{}")
        await store.update_version("d", "v", {"name": "y", "new": None})
        await store.update_version("d", "none", {"name": "y"})
        expected = a_version("v", 1, metadata={"name": "y", "n": 1, "new": None})
        assert await store.load_version("d", "v") == expected
        assert await store.load_version_state("d", "v") == b"{}"

    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ({}, "abcd"),
            ({"reverse": True}, "dcba"),
            ({"limit": 2}, "ab"),
            ({"limit": 0}, ""),
            ({"limit": 1, "reverse": True}, "d"),
            ({"start_after": 2}, "cd"),
            ({"end_before": 3}, "ab"),
            ({"start_after": 1, "end_before": 4}, "bc"),
            ({"start_after": 4, "reverse": True}, "cba"),
            ({"end_before": 1, "reverse": True}, "dcb"),
            ({"start_after": 4, "end_before": 1, "reverse": True}, "cb"),
            ({"origin": "branch"}, "bd"),
            ({"origin": "branch", "group_id": "g"}, "d"),
            ({"order_by": "startedAt"}, "dcba"),
            ({"order_by": "startedAt", "reverse": True}, "abcd"),
            ({"order_by": "startedAt", "start_after": NOW + 7}, "ba"),
            ({"order_by": "startRev"}, "dabc"),
        ],
        ids=str,
    )
    async def test_a_list_is_filtered_ordered_and_cut(
        self, store: VersionStore, options: dict[str, Any], expected: str
    ) -> None:
        await store.create_version("d", a_version("a", 1, started_at=NOW + 9), b"1")
        await store.create_version("d", a_version("b", 2, started_at=NOW + 8, origin="branch"), b"")
        await store.create_version("d", a_version("c", 3, started_at=NOW + 7), b"3")
        last = a_version("d", 4, started_at=NOW + 6, start_rev=0, origin="branch", group_id="g")
        await store.create_version("d", last, b"4")
        await store.create_version("e", a_version("x", 2), b"5")
        assert await listed(store, **options) == expected

    async def test_among_equals_the_order_is_that_of_creation(self, store: VersionStore) -> None:
        for version_id in "zay":
            await store.create_version("d", a_version(version_id, 1), b"{}")
        assert await listed(store) == "zay"
        assert await listed(store, reverse=True) == "yaz"
        assert await listed(store, reverse=True, limit=1) == "y"
