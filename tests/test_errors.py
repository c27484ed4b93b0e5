"""The tree of errors: every class keeps its facts when it is pickled or copied."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Iterator
from typing import Any

import pytest

from patches import errors
from patches.errors import JSONRPCParseError, PatchesError, StatusError


def classes(cls: type[PatchesError] = PatchesError) -> Iterator[type[PatchesError]]:
    yield cls
    for sub in cls.__subclasses__():
        yield from classes(sub)


VALUES: dict[str, Any] = {
    "code": 418,
    "status": 418,
    "rev": 3,
    "index": 2,
    "size": 10,
    "limit": 5,
    "attempts": 5,
    "cause": ValueError("why"),
    "data": {"reason": "X"},
    "change_ids": ["c1", "c2"],
    "missing_ids": ["c1"],
    "committed_changes": [],
    "final": True,
    "is_new": True,
}


def made(cls: type[PatchesError]) -> PatchesError:
    """An error of a class, with something for each parameter of its constructor."""
    try:
        parameters = inspect.signature(cls).parameters.values()
    except ValueError:
        return cls("message")
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for each in parameters:
        if each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD):
            continue
        annotation = str(each.annotation)
        value = VALUES.get(each.name, 7 if "int" in annotation else f"{each.name} \ud83d")
        if annotation.startswith("Mapping") and each.name == "op":
            value = {"op": "add", "path": "/p"}
        if each.kind is each.KEYWORD_ONLY:
            kwargs[each.name] = value
        else:
            args.append(value)
    return cls(*args, **kwargs) if args or kwargs else cls("message")


ALL = sorted(set(classes()), key=lambda cls: cls.__name__)


def facts(error: PatchesError) -> dict[str, Any]:
    return {key: repr(value) for key, value in vars(error).items()}


@pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("protocol", [2, pickle.HIGHEST_PROTOCOL])
def test_an_error_survives_pickling_and_copying(cls: type[PatchesError], protocol: int) -> None:
    error = made(cls)
    error.add_note("while syncing")
    for again in (
        pickle.loads(pickle.dumps(error, protocol)),
        copy.copy(error),
        copy.deepcopy(error),
    ):
        assert type(again) is cls
        assert str(again) == str(error)
        assert facts(again) == facts(error)
        assert (again.code, again.data) == (error.code, error.data)
        with pytest.raises(cls):
            raise again


def test_every_class_ends_in_error_and_is_in_one_package() -> None:
    ours = [cls for cls in ALL if cls.__module__.startswith(f"{errors.__name__}.")]
    assert len(ours) > 40
    assert [c.__name__ for c in ours if not c.__name__.endswith("Error")] == []
    package = [c for c in ALL if c.__module__.startswith(("patches.", "patches_server."))]
    assert sorted(package, key=str) == sorted(ours, key=str)


def test_the_tree_in_the_docstring_names_every_public_class() -> None:
    assert errors.__doc__ is not None
    names = {cls.__name__ for cls in ALL if not cls.__name__.startswith("_")}
    ours = {name for name in names if hasattr(errors, name)}
    assert [name for name in sorted(ours) if name not in errors.__doc__] == []


def test_the_raw_frame_of_a_parse_error_is_kept() -> None:
    assert pickle.loads(pickle.dumps(JSONRPCParseError("{"))).raw == "{"
    error = pickle.loads(pickle.dumps(StatusError(400, "no", {"changeId": "c", "scope": "change"})))
    assert (error.change_id, error.scope) == ("c", "change")
