"""Typed documents as their users see them (`docs/typed.md`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypedDict

import pytest

from patches import Document, Patches, PatchesError, UndoManager
from patches.errors import InvalidRequestError, StateReadOnlyError, StateTypeError
from patches.testing.fixtures import PatchesClient, ServerFixture
from patches.typed import Counter, RichText
from tests.support.plans import CLASSES, EMPTY, ItemData, ItemDict, PlanData, PlanDict

ALGORITHMS = ("ot", "lww")


@dataclass
class Older:
    """`PlanData` before it had items, dates and views."""

    title: str = ""


@dataclass
class Counted:
    views: Counter = 0
    tags: list[str] = field(default_factory=list)
    body: RichText = field(default_factory=RichText)
    sizes: dict[str, list[int]] = field(default_factory=dict)

    @property
    def first(self) -> str:
        return self.tags[0] if self.tags else "none"

    def tag(self, name: str) -> Counted:
        self.tags.append(name)
        return self


class Strict(TypedDict):
    title: str
    items: list[ItemDict]


async def test_s02_four_kinds_of_classes_edit_one_document(
    patches_server: ServerFixture, patches_client: PatchesClient
) -> None:
    docs: list[Document[Any]] = []
    for kind, (cls, item) in CLASSES.items():
        client = await patches_client(kind)
        doc = await client.open_doc("plan", type=cls)
        docs.append(doc)
        await patches_server.settled()
        with doc.edit() as draft:
            draft.items.append(item(id=kind))
        await client.sync.settled(5)
    client = await patches_client("dict")
    last = await client.open_doc("plan", type=PlanDict, default=EMPTY)
    await patches_server.settled()
    with last.edit() as draft:
        draft["items"].append({"id": "dict", "done": True})
        draft["title"] = "Four"
    await patches_server.settled()
    assert [item["id"] for item in last.state["items"]] == [*CLASSES, "dict"]
    for doc in docs:
        assert doc.raw == last.raw
        assert (doc.state.title, doc.state.items[3].done) == ("Four", True)
        assert isinstance(doc.state, doc.type)


async def test_s03_increments_of_a_counter_add_up(
    patches_server: ServerFixture, patches_client: PatchesClient
) -> None:
    clients = [await patches_client(name) for name in ("a", "b", "c")]
    docs = [await client.open_doc("count", type=Counted) for client in clients]
    await patches_server.settled()
    for client in clients:
        await client.sync.disconnect()
    for doc in docs:
        with doc.edit() as draft:
            draft.views += 3
            assert draft.views == 3
    for client in clients:
        await client.sync.connect()
    await patches_server.settled()
    assert [doc.state.views for doc in docs] == [9, 9, 9]


@pytest.mark.parametrize("kind", CLASSES)
async def test_s04_an_edit_of_one_item_leaves_the_others_the_same_objects(kind: str) -> None:
    cls, item = CLASSES[kind]
    async with Patches() as patches:
        doc = await patches.open_doc("plan", type=cls)
        doc.change(lambda draft: draft.items.extend(item(id=f"i{at}") for at in range(2_000)))
        old = doc.state

        def finish(draft: Any) -> None:
            draft.items[1_000].done = True

        doc.change(finish)
        new = doc.state
        assert [at for at in range(2_000) if new.items[at] is not old.items[at]] == [1_000]
        assert (old.items[1_000].done, new.items[1_000].done) == (False, True)
        doc.change(lambda draft: draft.items.pop(0))
        assert all(a is b for a, b in zip(doc.state.items, new.items[1:], strict=True))


WRONG: dict[str, tuple[Callable[[Any], object], str]] = {
    "a value": (lambda draft: setattr(draft, "title", 3), "/title"),
    "a member of an item": (lambda draft: setattr(draft.items[0], "done", "yes"), "/items/0/done"),
    "an item of another class": (lambda draft: draft.items.append({"id": "x"}), "/items/1"),
    "an increment": (lambda draft: setattr(draft, "views", draft.views + 0.5), "/views"),
}


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("kind", CLASSES)
async def test_s05_an_edit_that_does_not_fit_changes_nothing(kind: str, case: str) -> None:
    cls, item = CLASSES[kind]
    edit, path = WRONG[case]
    async with Patches() as patches:
        doc = await patches.open_doc("plan", type=cls)
        doc.change(lambda draft: draft.items.append(item(id="a")))
        before, seen = doc.raw, [doc.state]
        doc.subscribe(seen.append)

        def change(draft: Any) -> None:
            draft.title = "fits"
            edit(draft)

        with pytest.raises(StateTypeError) as caught:
            doc.change(change)
        assert caught.value.path == path
        assert doc.raw is before
        assert len(seen) == 2


DICT_WRONG: dict[str, tuple[Callable[[Any], object], str]] = {
    "a value": (lambda draft: draft.update(title=3), "/title"),
    "a misspelt key": (lambda draft: draft.update(titel="x"), "/titel"),
    "an item without a key": (lambda draft: draft["items"].append({"id": "x"}), "/items/1/done"),
    "a required member taken out": (lambda draft: draft["items"][0].pop("id"), "/items/0/id"),
    "a value moved": (lambda draft: draft.move("/title", "/items/0/done"), "/items/0/done"),
    "a value copied": (lambda draft: draft.copy("/title", "/items/0/done"), "/items/0/done"),
    "half an increment": (lambda draft: draft.increment("views", 0.5), "/views"),
    "a text": (lambda draft: draft.text("due").insert(0, "x"), "/due"),
}


@pytest.mark.parametrize("case", DICT_WRONG)
async def test_s05_an_edit_of_a_typed_dict_that_does_not_fit_changes_nothing(case: str) -> None:
    edit, path = DICT_WRONG[case]
    async with Patches() as patches:
        doc = await patches.open_doc("plan", type=PlanDict, default=EMPTY)
        doc.change(lambda draft: draft["items"].append({"id": "a", "done": False}))
        before = doc.raw
        with pytest.raises(StateTypeError) as caught:
            doc.change(edit)
        assert caught.value.path == path
        assert doc.raw is before


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_s05_operations_and_whole_states_are_checked_as_well(algorithm: str) -> None:
    async with Patches() as patches:
        doc = await patches.open_doc("plan", type=PlanData, algorithm=algorithm)
        doc.change(lambda draft: setattr(draft, "title", "x"))
        with pytest.raises(StateTypeError, match="/title: expected str, found the number 3"):
            doc.apply([{"op": "replace", "path": "/title", "value": 3}])
        with pytest.raises(StateTypeError, match="/items/0/id"):
            doc.set(PlanData("x", items=[ItemData(3)]))  # type: ignore[arg-type]  # wrong
        assert doc.raw == {"title": "x"}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_s06_received_state_that_does_not_fit_stops_nothing(
    algorithm: str, patches_server: ServerFixture, patches_client: PatchesClient
) -> None:
    name = "lww/plan" if algorithm == "lww" else "plan"
    ann, bob = await patches_client("ann"), await patches_client("bob")
    typed = await ann.open_doc(name, type=PlanData, algorithm=algorithm)
    untyped = await bob.open_doc(name, algorithm=algorithm)
    typed.change(lambda draft: setattr(draft, "title", "first"))
    await patches_server.settled()
    states: list[PlanData] = []
    misfits: list[PatchesError] = []
    typed.subscribe(states.append)
    typed.on_misfit(misfits.append)
    untyped.change(lambda draft: draft.update(title=3))
    await patches_server.settled()
    misfit = typed.misfit
    assert isinstance(misfit, StateTypeError)
    assert (misfit.path, misfit.expected) == ("/title", "str")
    assert misfits == [misfit]
    assert ann.sync.synced[name].status == "synced"
    with pytest.raises(StateTypeError):
        _ = typed.state
    with pytest.raises(StateTypeError):
        await anext(aiter(typed))
    assert typed.raw == {"title": 3}
    typed.change(lambda draft: setattr(draft, "due", "now"))  # elsewhere, which still works
    untyped.change(lambda draft: draft.update(title="good"))
    await patches_server.settled()
    assert typed.misfit is None
    assert [state.title for state in states] == ["first", "good"]
    assert typed.state == PlanData("good", due="now")


async def test_the_last_state_that_fitted_can_be_shown(
    patches_server: ServerFixture, patches_client: PatchesClient
) -> None:
    ann, bob = await patches_client("ann"), await patches_client("bob")
    typed = await ann.open_doc("plan", type=PlanData, on_misfit="last")
    untyped = await bob.open_doc("plan")
    typed.change(lambda draft: setattr(draft, "title", "first"))
    await patches_server.settled()
    reported: list[Exception] = []
    ann.patches.on_error(lambda error, _context: reported.append(error))
    assert typed.state.title == "first"
    untyped.change(lambda draft: draft.update(title=3))
    await patches_server.settled()
    assert typed.state.title == "first"
    assert reported == [typed.misfit]


async def test_s07_an_older_program_keeps_what_it_does_not_know(
    patches_server: ServerFixture, patches_client: PatchesClient
) -> None:
    new, old = await patches_client("new"), await patches_client("old")
    newer = await new.open_doc("plan", type=PlanData)
    newer.set(PlanData("x", [ItemData("a")], 3, "now"))
    await patches_server.settled()
    older = await old.open_doc("plan", type=Older)
    await patches_server.settled()
    older.change(lambda draft: setattr(draft, "title", "edited"))
    older.set(Older("set"))
    await patches_server.settled()
    assert newer.state == PlanData("set", [ItemData("a")], 3, "now")


async def test_unknown_members_stay_with_their_item() -> None:
    async with Patches() as patches:
        doc = await patches.open_doc("plan", type=PlanData)
        raw = [{"id": "a", "colour": "red"}, {"id": "b", "colour": "blue"}]
        doc._shown.replace({"items": raw})
        state = doc.state
        doc.set(PlanData(items=[state.items[1], ItemData("c"), ItemData("a", done=True)]))
        assert doc.raw["items"] == [
            {"id": "b", "colour": "blue"},
            {"id": "c", "done": False},
            {"id": "a", "colour": "red", "done": True},
        ]


async def test_defaults_belong_to_the_reader() -> None:
    async with Patches() as patches:
        doc = await patches.open_doc("c", type=Counted)
        assert doc.state == Counted()
        with doc.edit() as draft:
            assert (draft.tags, draft.first, draft.views) == ([], "none", 0)
        assert doc.raw == {}
        with doc.edit() as draft:
            draft.tag("a").tag("b")
            draft.sizes["s"] = [1]
            draft.sizes["s"].append(2)
            draft.body.append("Dear all")
            assert draft.first == "a"
            assert isinstance(draft, Counted)
        assert doc.state == Counted(0, ["a", "b"], RichText("Dear all"), {"s": [1, 2]})
        assert set(doc.raw) == {"tags", "sizes", "body"}


async def test_two_who_write_below_a_default_keep_both_writes(
    patches_server: ServerFixture, patches_client: PatchesClient
) -> None:
    clients = [await patches_client(name) for name in ("a", "b")]
    docs = [await client.open_doc("c", type=Counted) for client in clients]
    dicts = [
        await client.open_doc("d", type=PlanDict, default={**EMPTY, "title": "new"})
        for client in clients
    ]
    for client in clients:
        await client.sync.disconnect()
    for name, doc, plan in zip("ab", docs, dicts, strict=True):
        with doc.edit() as draft:
            draft.tags.append(name)
        with plan.edit() as draft:
            draft["items"].append({"id": name, "done": False})
    for client in clients:
        await client.sync.connect()
    await patches_server.settled()
    assert [sorted(doc.state.tags) for doc in docs] == [["a", "b"]] * 2
    assert [sorted(item["id"] for item in d.state["items"]) for d in dicts] == [["a", "b"]] * 2
    assert dicts[0].raw.keys() == {"items"}
    assert dicts[0].state["title"] == "new"


async def test_an_empty_document_without_a_default_says_what_to_do() -> None:
    async with Patches() as patches:
        doc = await patches.open_doc("plan", type=Strict)
        with pytest.raises(StateTypeError, match="document 'plan' is empty; pass default="):
            _ = doc.state
        with pytest.raises(StateTypeError):
            await patches.open_doc("other", type=Strict, default={"title": 3})
        assert patches.get_open_doc("other") is None


async def test_a_document_has_one_type_while_it_is_open() -> None:
    async with Patches() as patches:
        doc = await patches.open_doc("plan", type=PlanData)
        assert await patches.open_doc("plan", type=PlanData) is doc
        with pytest.raises(InvalidRequestError, match="is open as PlanData, not Counted"):
            await patches.open_doc("plan", type=Counted)
        with pytest.raises(InvalidRequestError, match="is open as PlanData, not plain JSON"):
            await patches.open_doc("plan")
        await patches.close_doc("plan")
        await patches.close_doc("plan")
        plain = await patches.open_doc("plan")
        with pytest.raises(InvalidRequestError, match="is open as plain JSON, not PlanData"):
            await patches.open_doc("plan", type=PlanData)
        plain.change(lambda draft: draft.update(title="x"))


async def test_an_opening_can_be_entered() -> None:
    async with Patches() as patches:
        async with patches.open_doc("plan", type=PlanData) as doc:
            doc.set(PlanData("x"))
        assert doc.is_closed
        async with patches.open_doc("plain") as plain:
            plain.change(lambda draft: draft.update(a=1))
        assert plain.is_closed


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_typed_edits_are_undone(algorithm: str) -> None:
    async with Patches() as patches:
        doc = await patches.open_doc("plan", type=PlanDict, default=EMPTY, algorithm=algorithm)
        undo = UndoManager(doc, group_within=0)
        doc.change(lambda draft: draft.update({"title": "a"}))
        doc.change(lambda draft: draft.update({"views": 3}))
        assert undo.undo()
        assert undo.undo()
        assert doc.state == EMPTY
        assert undo.redo()
        assert doc.state["title"] == "a"


async def test_a_state_outside_of_a_draft_is_read_only() -> None:
    async with Patches(debug=True) as patches:
        doc = await patches.open_doc("c", type=Counted)
        with pytest.raises(StateReadOnlyError):
            doc.state.body.append("x")
        plan = await patches.open_doc("plan", type=PlanDict, default=EMPTY)
        plan.change(lambda draft: draft.update({"title": "a", "items": [], "views": 1}))
        with pytest.raises(StateReadOnlyError):
            plan.state["title"] = "b"


async def test_values_of_classes_go_into_untyped_documents_if_asked() -> None:
    async with Patches(encode_values=True) as patches:
        doc = await patches.open_doc("d")
        doc.change(lambda draft: draft.update(item=ItemData("a"), pair=(1, b"x")))
        doc.change(lambda draft: draft.setdefault("more", []).append(ItemData("b", done=True)))
        assert doc.state == {
            "item": {"id": "a", "done": False},
            "pair": [1, "eA=="],
            "more": [{"id": "b", "done": True}],
        }
