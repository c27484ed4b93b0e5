"""The author of a change: written by the server where sign-in says who it is."""

from __future__ import annotations

from typing import Any

import pytest

from patches.model.change import Change, ChangeInput
from patches.testing.local_server import LocalServer
from patches_server.auth.access import Principal
from patches_server.documents.authors import author_of, id_of, signed_by
from tests.support.raw_peer import RawPeer

CLAIM = {"author": "somebody else"}


def commit_of(n: int, base_rev: int) -> list[dict[str, Any]]:
    op = {"op": "replace", "path": f"/n{n}", "value": n}
    return [{"id": f"c{n}", "ops": [op], "baseRev": base_rev, "rev": base_rev + 1, **CLAIM}]


@pytest.mark.parametrize(
    ("principal", "options", "author"),
    [
        (Principal(id="ann"), {}, "ann"),
        (None, {}, "somebody else"),
        (Principal(id="ann"), {"stamp_author": False}, "somebody else"),
        ("a string has no id", {}, "somebody else"),
    ],
)
async def test_a_principals_id_replaces_what_the_client_says(
    principal: object, options: Any, author: str
) -> None:
    async with LocalServer(**options) as local:
        peer = RawPeer(local.server.connect(principal))
        for n in range(3):  # the long way, then in the turn in which it came
            answer = await peer.result("commitChanges", "d", commit_of(n, n))
            assert answer["changes"][-1]["author"] == author
        stored = await local.services["ot"].documents.get_changes_since("d", 0)
        assert [author_of(change) for change in stored] == [author] * 3


async def test_lww_rows_keep_their_authors_and_do_not_send_them() -> None:
    async with LocalServer() as local:
        peer = RawPeer(local.server.connect(Principal(id="ann")))
        other = RawPeer(local.server.connect(Principal(id="bob")))
        await peer.result("commitChanges", "lww/d", commit_of(0, 0))
        await other.result("commitChanges", "lww/d", commit_of(1, 1))
        answer = await peer.result("getDoc", "lww/d")
        assert "author" not in str(answer)
        rows = await local.services["lww"].documents.store.load_rows("lww/d", now=0)  # type: ignore[attr-defined]  # it is an LWWServer
        assert {row.path: row.author for row in rows.rows} == {"/n0": "ann", "/n1": "bob"}
        await local.server.edit("lww/d", lambda draft: draft.update(n0=5), author="job")
        rows = await local.services["lww"].documents.store.load_rows("lww/d", now=0)  # type: ignore[attr-defined]  # it is an LWWServer
        assert {row.path: row.author for row in rows.rows} == {"/n0": "job", "/n1": "bob"}


def test_only_strings_are_authors() -> None:
    change = Change(id="c", ops=[], base_rev=0, rev=1, created_at=1, metadata={"author": 5})
    assert author_of(change) is None
    assert id_of(Principal(id="ann")) == "ann"
    assert id_of("ann") is None
    (signed,) = signed_by("ann", [ChangeInput(id="c", ops=[], metadata={"a": 1, **CLAIM})])
    assert signed.metadata == {"a": 1, "author": "ann"}
