"""What an import loads. Counted in new interpreters, by modules and not by time."""

from __future__ import annotations

import ast
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import patches

EDGE = ("aiohttp", "asyncio", "concurrent.futures", "logging", "orjson", "random", "sqlite3", "ssl")
OPTIONAL = ("aiohttp", "click", "jsonpatch", "jsonpointer", "jwt", "sqlite3")


def loaded_by(statement: str) -> set[str]:
    """The modules that are loaded after `statement`, less those of a bare interpreter."""
    program = (
        f"import sys\nbefore = set(sys.modules)\n{statement}\nprint(*(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    return set(done.stdout.split())


def of_ours(loaded: set[str]) -> set[str]:
    return {name for name in loaded if name.split(".")[0] in ("patches", "patches_server")}


def test_the_package_by_itself_loads_nothing() -> None:
    assert of_ours(loaded_by("import patches")) == {"patches"}


@pytest.mark.parametrize(
    ("module", "most"),
    [
        ("patches.errors", 10),
        ("patches.limits", 12),
        ("patches.fractional_index", 11),
        ("patches.text", 21),
        ("patches.json_patch", 44),
        ("patches.model.change", 16),
    ],
)
def test_the_pure_core_loads_nothing_of_the_edge(module: str, most: int) -> None:
    loaded = loaded_by(f"import {module}")
    unwanted = {*EDGE, *OPTIONAL} - ({"orjson"} if module == "patches.model.change" else set())
    if module == "patches.model.change":  # which encodes changes and makes their ids
        unwanted.discard("random")
    assert sorted(loaded & unwanted) == []
    assert len(of_ours(loaded)) <= most


def test_the_client_loads_no_library_that_it_may_do_without() -> None:
    loaded = loaded_by("from patches import Patches, PatchesSync")
    assert sorted(loaded & set(OPTIONAL)) == []
    assert len(of_ours(loaded)) <= 150


def test_a_client_without_a_file_loads_no_sqlite() -> None:
    assert "sqlite3" not in loaded_by(
        "import asyncio\n"
        "from patches import Patches\n"
        "async def main():\n"
        "    async with Patches() as patches:\n"
        "        for algorithm in ('ot', 'lww'):\n"
        "            (await patches.open_doc(algorithm, algorithm=algorithm)).set({})\n"
        "asyncio.run(main())"
    )


# ---- the names of the package, which are imported at their first use -----------------------------


def names_for_type_checkers() -> dict[str, str]:
    tree = ast.parse(Path(patches.__file__).read_text())
    [block] = [
        node
        for node in tree.body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    return {
        alias.name: str(node.module)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def test_what_a_type_checker_sees_is_what_is_imported() -> None:
    assert names_for_type_checkers() == patches._HOMES
    assert sorted(patches._HOMES) == patches.__all__


@pytest.mark.parametrize("name", patches.__all__)
def test_every_public_name_is_there_and_listed(name: str) -> None:
    value = getattr(patches, name)
    assert value.__name__ == name
    assert name in dir(patches)
    assert pickle.loads(pickle.dumps(value)) is value


def test_a_module_of_the_package_is_an_attribute() -> None:
    program = "import patches; print(patches.errors.PatchesError.__name__, patches.sync.__name__)"
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert done.stdout.split() == ["PatchesError", "patches.sync"]


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    for name in ("Nothing", "nothing", "__wrapped__"):
        assert not hasattr(patches, name)
    with pytest.raises(AttributeError, match="module 'patches' has no attribute 'nothing'"):
        patches.nothing  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'Nothing'"):
        exec("from patches import Nothing")
