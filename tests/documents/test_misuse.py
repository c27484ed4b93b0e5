"""What a document says when it is used in a way that would lose an edit without a word."""

from __future__ import annotations

import asyncio
import copy
import gc
import pickle
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from patches import Patches
from patches.algorithms.lww import LWWBatcher
from patches.documents.document import Document
from patches.documents.guard import guarded
from patches.errors import (
    PatchError,
    PatchesError,
    StateReadOnlyError,
    WrongLoopError,
    WrongThreadError,
)
from patches.json_patch import create_json_patch
from patches.model.codec import encode
from patches_server import LWWServer, MemoryBackend, OTServer

STATE = {"title": "a", "items": [1, {"deep": True}], "o": {"k": []}}


@pytest.fixture(params=["ot", "lww"])
async def doc(request: pytest.FixtureRequest) -> Any:
    async with Patches(debug=False) as patches:
        doc = await patches.open_doc("plan", algorithm=request.param)
        doc.set(STATE)
        yield doc


# ---- functions whose edits never run -------------------------------------------------------------


def generator(draft: Any) -> Iterator[None]:
    draft["title"] = "b"
    yield


async def async_function(draft: Any) -> None:
    draft["title"] = "b"


async def async_generator(draft: Any) -> Any:
    draft["title"] = "b"
    yield


LAZY: list[Callable[[Any], Any]] = [
    generator,
    async_function,
    async_generator,
    lambda draft: (draft.pop(key) for key in list(draft)),
    lambda draft: map(draft.pop, list(draft)),
]


@pytest.mark.parametrize("fn", LAZY)
async def test_a_function_whose_edits_have_not_run_raises(
    doc: Document, fn: Callable[[Any], Any]
) -> None:
    with pytest.raises(PatchError, match=r"generator|async"):
        doc.change(fn)
    assert doc.state == STATE


async def test_the_other_functions_that_edit_refuse_them_too() -> None:
    def lazy(patch: Any, *_root: Any) -> Iterator[None]:
        patch.replace("/a", 1)
        yield

    with pytest.raises(PatchError, match="generator"):
        create_json_patch(lazy)
    with pytest.raises(PatchError, match="generator"):
        LWWBatcher().change(lazy)
    backend = MemoryBackend()
    for server in (OTServer(backend), LWWServer(backend)):
        with pytest.raises(PatchError, match="generator"):
            await server.change("d", lazy)


async def test_change_takes_a_function(doc: Document) -> None:
    with pytest.raises(TypeError, match=r"change takes a function: .* doc\.set\("):
        doc.change({"title": "b"})  # type: ignore[arg-type]  # a mistake
    with pytest.raises(TypeError, match="on_update takes a function, not None"):
        doc.subscribe(None)  # type: ignore[arg-type]  # a mistake


# ---- a document taken for its state --------------------------------------------------------------


async def test_a_document_is_not_its_state(doc: Any) -> None:
    way_out = (
        r"a document has no 'title'; read doc\.state\['title'\], edit with: .*draft\['title'\]"
    )
    with pytest.raises(AttributeError, match=way_out):
        doc.title = "b"
    with pytest.raises(AttributeError, match=way_out):
        _ = doc.title
    with pytest.raises(TypeError, match=way_out):
        doc["title"] = "b"
    with pytest.raises(TypeError, match=way_out):
        _ = doc["title"]
    with pytest.raises(TypeError, match=way_out):
        del doc["title"]
    with pytest.raises(AttributeError, match=r"doc\.set"):
        doc.state = {}
    assert not hasattr(doc, "title")
    assert doc.state == STATE


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda draft: draft.items.append(1), r"for the member write draft\['items'\]\.append"),
        (lambda draft: draft.items[0], r"for the member write draft\['items'\]\[0\]"),
        (lambda draft: draft.o.keys.clear(), r"draft\['keys'\]\.clear"),
        (lambda draft: draft.text.insert(0, "x"), r"draft\['text'\]\.insert"),
    ],
)
async def test_a_member_with_the_name_of_a_method(
    doc: Document, edit: Callable[[Any], Any], message: str
) -> None:
    with pytest.raises((AttributeError, TypeError), match=message):
        doc.change(edit)


async def test_methods_of_drafts_stay_methods(doc: Document) -> None:
    with doc.edit() as draft:
        assert list(draft.keys()) == ["title", "items", "o"]
        assert dict(draft.items())["title"] == "a"
        draft.update(title="b")
        assert draft.update.__name__ == "update"
        assert draft.update.__doc__
    assert doc.state == {**STATE, "title": "b"}


# ---- writes to the state -------------------------------------------------------------------------


async def test_in_debug_mode_the_state_refuses_writes(tmp_path: Path) -> None:
    async with Patches(debug=True) as patches:
        doc = await patches.open_doc("plan")
        doc.set(STATE)
        shown: list[Any] = []
        doc.subscribe(shown.append)
        writes: list[tuple[Callable[[Any], Any], str]] = [
            (lambda state: state.update(title="b"), "draft = …"),
            (lambda state: state.__setitem__("title", "b"), r"draft\['title'\] = "),
            (lambda state: state["items"].append(2), r"draft\['items'\] = "),
            (lambda state: state["items"][1].pop("deep"), r"draft\['items'\]\[1\]\['deep'\] = "),
            (lambda state: state["o"]["k"].sort(), r"draft\['o'\]\['k'\] = "),
            (lambda state: state["items"].__delitem__(0), r"draft\['items'\]\[0\] = "),
        ]
        for state in (doc.state, shown[0]):
            for write, place in writes:
                with pytest.raises(StateReadOnlyError, match=f"read-only; .*{place}"):
                    write(state)
        assert doc.state == STATE
        assert doc.state is doc.state
        assert isinstance(doc.state, dict)
        doc.set({**doc.state, "items": doc.state["items"] + [3], "o": doc.state["o"].copy()})
        assert doc.state["items"] == [1, {"deep": True}, 3]
        async for state in doc:
            assert state is doc.state
            break


def test_a_guarded_state_is_otherwise_plain() -> None:
    state = guarded(STATE)
    assert encode(state) == encode(STATE)
    for again in (copy.copy(state), copy.deepcopy(state), pickle.loads(pickle.dumps(state))):
        assert again == STATE
        again["items"].append(1)
    assert state == STATE
    assert guarded("x") == "x"


async def test_outside_debug_mode_the_state_is_the_state() -> None:
    async with Patches(debug=False) as patches:
        doc = await patches.open_doc("plan")
        doc.set(STATE)
        assert type(doc.state) is dict


# ---- threads and loops ---------------------------------------------------------------------------


def edits_of(doc: Document) -> list[Callable[[], object]]:
    def edit() -> None:
        with doc.edit() as draft:
            draft["title"] = "b"

    return [
        lambda: doc.change(lambda draft: draft.update(title="b")),
        edit,
        lambda: doc.apply([{"op": "replace", "path": "/title", "value": "b"}]),
        lambda: doc.set({}),
    ]


async def test_an_edit_from_another_thread_raises_and_changes_nothing(doc: Document) -> None:
    raised: list[BaseException] = []

    def work() -> None:
        flush: Callable[[], object] = lambda: asyncio.run(doc.flush())  # noqa: E731  # typed
        for edit in [*edits_of(doc), flush]:
            try:
                edit()
            except BaseException as exc:
                raised.append(exc)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert [type(exc) for exc in raised] == [WrongThreadError] * 5
    assert "doc.threadsafe" in str(raised[0])
    assert doc.state == STATE
    assert [len(ops) for ops in doc.unsaved] in ([3], [])


def test_another_event_loop_gets_a_defined_error() -> None:
    first = asyncio.new_event_loop()
    patches = Patches()
    doc = first.run_until_complete(patches.open_doc("plan"))

    async def elsewhere() -> None:
        for edit in edits_of(doc):
            with pytest.raises(WrongLoopError, match="another event loop"):
                edit()
        for call in (patches.open_doc("plan"), patches.track_docs(["b"]), doc.flush()):
            with pytest.raises(WrongLoopError, match="another event loop"):
                await call

    asyncio.run(elsewhere())
    with pytest.raises(WrongLoopError, match="none is running"):
        doc.set({"a": 1})
    assert doc.state == {}
    first.run_until_complete(patches.close())
    first.close()


async def test_a_synchronous_context_manager_is_refused() -> None:
    with pytest.raises(TypeError, match="async with"):
        with Patches():
            pass


# ---- not closing ---------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_what_is_not_closed_warns_and_says_what_is_lost(tmp_path: Path) -> None:
    async def forget() -> None:
        patches = Patches(tmp_path / "notes.db")
        doc = await patches.open_doc("plan")
        doc.change(lambda draft: draft.update(title="b"))

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        asyncio.run(forget())
        gc.collect()
    messages = [str(each.message) for each in told if issubclass(each.category, ResourceWarning)]
    ours = [message for message in messages if "Patches(" in message]
    assert len(ours) == 1
    assert "notes.db" in ours[0]
    assert "was not closed and lost 1 edit of 'plan'; use 'async with'" in ours[0]


def test_what_is_closed_or_was_never_used_does_not_warn(tmp_path: Path) -> None:
    async def use() -> None:
        Patches()
        async with Patches(tmp_path / "notes.db") as patches:
            doc = await patches.open_doc("plan")
            doc.change(lambda draft: draft.update(title="b"))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asyncio.run(use())
        gc.collect()


async def test_a_closed_document_says_so() -> None:
    async with Patches() as patches:
        doc = await patches.open_doc("plan")
        await patches.close_doc("plan")
        for edit in edits_of(doc):
            with pytest.raises(PatchesError, match="is closed"):
                edit()
