"""The tree of errors: every class keeps its facts when it is pickled or copied."""

from __future__ import annotations

import ast
import copy
import importlib
import inspect
import pickle
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import patches
import patches_server
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
    for package in (patches, patches_server):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    every = [c for c in set(classes()) if c.__module__.startswith(("patches.", "patches_server."))]
    assert sorted(every, key=str) == sorted(ours, key=str)


def test_the_tree_in_the_docstring_names_every_public_class() -> None:
    assert errors.__doc__ is not None
    names = {cls.__name__ for cls in ALL if not cls.__name__.startswith("_")}
    ours = {name for name in names if hasattr(errors, name)}
    assert [name for name in sorted(ours) if name not in errors.__doc__] == []


def test_the_raw_frame_of_a_parse_error_is_kept() -> None:
    assert pickle.loads(pickle.dumps(JSONRPCParseError("{"))).raw == "{"
    error = pickle.loads(pickle.dumps(StatusError(400, "no", {"changeId": "c", "scope": "change"})))
    assert (error.change_id, error.scope) == ("c", "change")


ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "errors.md"


def rows() -> dict[str, list[str]]:
    """The rows of the page's tables, by each name in backticks of their first cell."""
    found = {}
    for line in PAGE.read_text("utf-8").splitlines():
        if line.startswith("|"):
            cells = [cell.strip() for cell in line.strip("|").split(" | ")]
            for name in re.findall(r"`([A-Za-z_]+)`", cells[0]):
                found[name] = cells
    return found


def test_every_error_is_on_the_page_with_what_to_do() -> None:
    table = rows()
    classes_there = {cls.__name__ for cls in ALL if cls in vars(errors).values()}
    classes_there -= {"PatchesError"}  # the whole page is about it
    assert sorted(classes_there - table.keys()) == []
    assert [name for name in sorted(classes_there) if not all(table[name])] == []
    gone = {name for name in table if name.endswith("Error")} - classes_there
    assert gone == set()


def words_on_the_wire() -> Iterator[str]:
    """What code puts into `data.reason` and `data.code`, and codes that are words."""
    for package in ("patches", "patches_server"):
        for path in (ROOT / package).rglob("*.py"):
            if "testing" in path.relative_to(ROOT).parts:
                continue
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                values: list[ast.expr | None] = []
                if isinstance(node, ast.Dict):
                    keys = [getattr(key, "value", None) for key in node.keys]
                    pairs = zip(keys, node.values, strict=True)
                    values = [value for key, value in pairs if key in ("reason", "code")]
                elif isinstance(node, ast.Call):
                    values = [word.value for word in node.keywords if word.arg == "reason"]
                    if getattr(node.func, "id", "") in ("Refused", "_refused"):
                        values += node.args
                elif isinstance(node, ast.Assign | ast.AnnAssign):
                    values = [node.value]
                for value in values:
                    if isinstance(value, ast.Constant) and isinstance(value.value, str):
                        is_code = (
                            isinstance(node, ast.Assign | ast.AnnAssign) and "_" in value.value
                        )
                        if re.fullmatch(r"[A-Z][A-Z_]{3,}", value.value) and (
                            is_code or not isinstance(node, ast.Assign | ast.AnnAssign)
                        ):
                            yield value.value


def test_every_word_on_the_wire_is_on_the_page() -> None:
    words = {*words_on_the_wire(), errors.ALGORITHM_REASON}
    assert {"HISTORY", "STORAGE", "ROW_EXISTS", "MERGE_PARTIAL_PROGRESS"} <= words
    assert sorted(words - rows().keys()) == []
