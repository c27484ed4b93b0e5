"""The site of the documentation: each page and each public name is there once, and it builds."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

import patches
import patches_server

ROOT = Path(__file__).parent.parent
REFERENCE = sorted((ROOT / "docs" / "reference").glob("*.md"))


def load_builder() -> ModuleType:
    path = ROOT / "docs" / "site" / "build.py"
    spec = importlib.util.spec_from_file_location("site_build", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


BUILDER = load_builder()


def test_each_page_is_in_the_navigation_once() -> None:
    assert sorted(BUILDER.navigation()) == sorted(page.as_posix() for page in BUILDER.pages())


def referenced() -> list[str]:
    return [name for page in REFERENCE for name in re.findall(r"(?m)^::: (\S+)$", page.read_text())]


def test_s65_each_public_name_is_on_one_reference_page() -> None:
    named = Counter(name.rpartition(".")[2] for name in referenced() if name[-1] != ".")
    public = [*patches.__all__, *patches_server.__all__]
    assert {name: named[name] for name in public if named[name] != 1} == {}


@pytest.mark.parametrize("name", referenced())
def test_what_the_reference_names_is_there_and_documented(name: str) -> None:
    try:
        found = importlib.import_module(name)
    except ModuleNotFoundError:
        module, _, attribute = name.rpartition(".")
        found = getattr(importlib.import_module(module), attribute)
    assert inspect.getdoc(found), name


@pytest.mark.parametrize(
    ("page", "link", "on_site"),
    [
        ("README.md", "[a](getting-started.md)", "[a](getting-started.md)"),
        ("README.md", "[a](../examples/board.py)", "[a](examples/board.py)"),
        ("getting-started.md", "[a](README.md#b)", "[a](index.md#b)"),
        ("scale/README.md", "[a](../README.md)", "[a](../index.md)"),
        ("scale/README.md", "[a](README.md)", "[a](README.md)"),
        ("collections/client.md", "[a](../../examples/board.py)", "[a](../examples/board.py)"),
    ],
)
def test_links_lead_where_the_site_has_their_targets(page: str, link: str, on_site: str) -> None:
    assert BUILDER.with_links_of_the_site(Path(page), link) == on_site


@pytest.mark.long
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("zensical", reason="the extra `docs` is not installed")
    site = BUILDER.build(tmp_path)
    assert "open_doc" in (site / "reference" / "client" / "index.html").read_text()
    assert (site / "examples" / "board.py").exists()
    full = (site / "llms-full.txt").read_text()
    assert "doc.change" in full
    assert len(full.encode()) < 300_000
    listed = re.findall(r"\]\(([^)]+)\)", (site / "llms.txt").read_text())
    assert [page for page in listed if not (ROOT / "docs" / page).exists()] == []
