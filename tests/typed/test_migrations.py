"""Documents of an older shape become those of the newest."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from patches import Patches
from patches.errors import ShapeTooNewError
from patches.testing.fixtures import PatchesClient, ServerFixture
from patches.testing.migrations import check_migrations
from patches.typed import Migrations


@dataclass
class Person:
    first: str = ""
    last: str = ""
    tags: dict[str, bool] = field(default_factory=dict)
    note: str = ""
    v: int = 1


def split_name(draft: Any) -> None:
    if "name" in draft:
        first, _, last = draft.pop("name").partition(" ")
        draft.update(first=first, last=last)


def tags_to_members(draft: Any) -> None:
    if isinstance(draft.get("tags"), list) or "tags" in draft:
        draft["tags"] = {str(tag): True for tag in draft["tags"]}


SHAPES = Migrations(current=3, at="/v", steps={1: split_name, 2: tags_to_members})
OLD = {"name": "Ann Lee", "tags": ["a", "b"]}
NEW = {"first": "Ann", "last": "Lee", "tags": {"a": True, "b": True}, "v": 3}


@pytest.mark.parametrize("algorithm", ["ot", "lww"])
async def test_s09_two_who_migrate_offline_and_edit_converge_to_one_migration(
    algorithm: str, patches_server: ServerFixture, patches_client: PatchesClient
) -> None:
    name = "lww/person" if algorithm == "lww" else "person"
    author = await patches_client("author")
    old = await author.open_doc(name, algorithm=algorithm)
    old.change(lambda draft: draft.update(OLD))
    await patches_server.settled()
    clients = [await patches_client(each) for each in ("ann", "bob")]
    for client in clients:
        await client.patches.track_docs([name], algorithm)
    await patches_server.settled()
    docs = []
    for client in clients:
        await client.sync.disconnect()
        docs.append(await client.open_doc(name, type=Person, migrations=SHAPES))
    assert [doc.raw for doc in docs] == [NEW, NEW]
    docs[0].change(lambda draft: setattr(draft, "note", "from ann"))
    docs[1].change(lambda draft: draft.tags.update(c=True))
    for client in clients:
        await client.sync.connect()
    await patches_server.settled()
    merged = {**NEW, "note": "from ann", "tags": {"a": True, "b": True, "c": True}}
    assert [doc.raw for doc in (*docs, old)] == [merged] * 3
    assert docs[0].state == Person("Ann", "Lee", merged["tags"], "from ann", 3)  # type: ignore[arg-type]


async def test_a_document_that_arrives_later_is_migrated_then(
    patches_server: ServerFixture, patches_client: PatchesClient
) -> None:
    author = await patches_client("author")
    (await author.open_doc("person")).change(lambda draft: draft.update(OLD))
    await patches_server.settled()
    ann = await patches_client("ann")
    doc = await ann.open_doc("person", type=Person, migrations=SHAPES)
    await patches_server.settled()
    assert doc.raw == NEW
    doc.change(lambda draft: setattr(draft, "note", "x"))
    await patches_server.settled()
    document = await patches_server.documents("person")
    made = (await document.get_changes_since("person", 0))[1:]
    sent = [(change.metadata.get("shape"), change.metadata.get("migration")) for change in made]
    assert sent == [(3, [1, 3]), (3, None)]


async def test_a_newer_shape_is_neither_read_nor_edited() -> None:
    async with Patches() as patches:
        async with patches.open_doc("person") as plain:
            plain.change(lambda draft: draft.update(v=4))
        doc = await patches.open_doc("person", type=Person, migrations=SHAPES)
        message = "document 'person' has shape 4, this program knows 3; update it"
        with pytest.raises(ShapeTooNewError, match=message):
            _ = doc.state
        with pytest.raises(ShapeTooNewError):
            doc.change(lambda draft: setattr(draft, "note", "x"))
        with pytest.raises(ShapeTooNewError):
            doc.set(Person())
        assert doc.raw == {"v": 4}


async def test_an_empty_document_is_not_migrated() -> None:
    async with Patches() as patches:
        doc = await patches.open_doc("person", type=Person, migrations=SHAPES)
        assert doc.raw == {}


def append(draft: Any) -> None:
    draft["tags"].append("new")


def count(draft: Any) -> None:
    draft.increment("n")


def test_s10_steps_that_happen_twice_are_found() -> None:
    check_migrations(SHAPES, [OLD])
    for step, path in ((append, "/tags"), (count, "/n")):
        with pytest.raises(AssertionError, match=rf"step 1: .* differ from one at '{path}"):
            check_migrations(Migrations(2, "/v", {1: step}), [{"tags": ["a"], "n": 1}])


def test_steps_that_do_not_lead_there_are_refused() -> None:
    with pytest.raises(ValueError, match=r"need the steps \[1, 2\], got \[2\]"):
        Migrations(3, "/v", {2: append})
    with pytest.raises(ValueError, match="a member of the document"):
        Migrations(1, "/a/b")
