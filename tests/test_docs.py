"""The documentation runs: every Python block of every page, and every public name is on a page.

The blocks of a page share a namespace and run in order, `await` allowed at the top. One that calls
`asyncio.run` is a whole program, and runs beside this loop. A block that is not to run (it needs
what a test has not) is fenced as `python no-run`.
"""

from __future__ import annotations

import ast
import asyncio
import dataclasses
import importlib.util
import inspect
import re
import sys
from pathlib import Path
from types import CodeType, ModuleType

import pytest

import patches
import patches_server
from patches import Limits, Patches, PatchesSync
from patches_server import (
    LWWServer,
    OTBranchManager,
    OTServer,
    PatchesHistoryManager,
    create_server,
)
from patches_server.cli.main import _parser

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
CODE = [
    path
    for folder in ("patches", "patches_server", "tests", "examples", "benchmarks")
    for suffix in ("*.py", "*.js", "*.md")
    for path in sorted((ROOT / folder).rglob(suffix))
]
_CITED = re.compile(r"`(docs/[\w/-]+\.md)`(?:,? (?:sections? )?([\d.]+\d|\d))?")
_BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def compiled(page: Path) -> list[CodeType]:
    text = page.read_text()
    blocks = []
    for match in _BLOCK.finditer(text):
        line = text[: match.start()].count("\n") + 1
        code = compile(
            "\n" * line + match.group(1),
            str(page),
            "exec",
            flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
        )
        blocks.append(code)
    return blocks


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix().removeprefix("docs/")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
async def test_the_programs_of_a_page_run(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    module = ModuleType("__page__")  # a class finds the names in its annotations there
    monkeypatch.setitem(sys.modules, "__page__", module)
    namespace = module.__dict__
    async with asyncio.timeout(60):
        for code in compiled(page):  # the project's own documentation
            if "run" in code.co_names and not code.co_flags & inspect.CO_COROUTINE:
                await asyncio.to_thread(eval, code, namespace)
                continue
            result = eval(code, namespace)
            if inspect.isawaitable(result):
                await result


def test_every_public_name_is_on_a_page() -> None:
    text = "\n".join(page.read_text() for page in PAGES)
    names = [*patches.__all__, *patches_server.__all__]
    assert [name for name in names if not re.search(rf"\b{re.escape(name)}\b", text)] == []


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as code hosts make them."""
    headings = re.findall(r"(?m)^#+ (.+)$", re.sub(r"(?ms)^```.*?^```", "", page.read_text()))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)]*))?\)", page.read_text()):
        if "://" in target:
            continue
        path = page.parent / target if target else page
        assert path.exists(), target
        assert not anchor or anchor in anchors(path), f"{target}#{anchor}"


def has_section(text: str, number: str) -> bool:
    each = re.escape(number)
    return bool(re.search(rf"(?m)^#+ {each}\.? |\*\*(?:[\d.]+, )*{each}\b", text))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_sections_that_a_page_cites_are_there(page: Path) -> None:
    """`[OT](ot.md) 14`: that page has a section 14."""
    for target, numbers in re.findall(
        r"\]\(([\w/.-]+\.md)\) (\d+(?:\.\d+)?(?: (?:to|and) \d+)?)(?=[\s,.;:)|])", page.read_text()
    ):
        for number in re.findall(r"\d+(?:\.\d+)?", numbers):
            assert has_section((page.parent / target).read_text(), number), f"{target} {number}"


MODULES = [
    path.relative_to(ROOT).as_posix()
    for folder in ("patches", "patches_server", "tests", "examples", "benchmarks")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in {".py", ".js", ".html"} or path.is_dir()
]


#: Programs that a page asks its reader to save.
SAVED_BY_READERS = {"add.py", "offline.py", "shopping.py", "vote.py", "watch.py"}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_modules_that_a_page_names_exist(page: Path) -> None:
    text = re.sub(r"(?ms)^```.*?^```", "", page.read_text())
    named = re.findall(r"`((?:[a-z_]+/)*[a-z_-]+\.(?:py|js))`", text)
    named += re.findall(r"`((?:patches|patches_server|tests|examples|benchmarks)/[\w/]*)`", text)
    gone = [
        name
        for name in named
        if name not in SAVED_BY_READERS
        and not any(f"/{module}".endswith(f"/{name.rstrip('/')}") for module in MODULES)
    ]
    assert gone == []


def test_every_page_that_code_cites_is_in_the_repository_and_has_the_section() -> None:
    cited = {
        (page, section, str(path.relative_to(ROOT)))
        for path in CODE
        for page, section in _CITED.findall(path.read_text("utf-8"))
    }
    assert len(cited) > 100
    lost = []
    for page, section, where in sorted(cited):
        if not (ROOT / page).exists():
            lost.append(f"{where}: {page}")
            continue
        text = (ROOT / page).read_text("utf-8")
        if section and not has_section(text, section):
            lost.append(f"{where}: {page} {section}")
    assert lost == []


def test_no_page_outside_the_repository_is_cited() -> None:
    names = "|".join(name + r"\.md" for name in ("spec/[a-z-]+", "design", "style", "structure"))
    gone = re.compile(rf"(?<![\w/])({names})")
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in [*CODE, *PAGES]
        for match in gone.finditer(path.read_text("utf-8"))
    ]
    assert found == []


def test_the_commands_on_the_pages_exist() -> None:
    text = "\n".join(page.read_text() for page in PAGES)
    modules = set(re.findall(r"python -m (\w[\w.]*\w)", text))
    assert "benchmarks.keystroke" in modules
    assert [name for name in sorted(modules) if importlib.util.find_spec(name) is None] == []
    targets = set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text()))
    assert set(re.findall(r"`make ([a-z-]+)", text)) <= targets


def test_the_options_of_the_command_are_on_its_page() -> None:
    options = set(re.findall(r"--[a-z-]+", _parser().format_help())) - {"--help"}
    page = (ROOT / "docs" / "server.md").read_text()
    table = set(re.findall(r"--[a-z-]+", page[page.index("## The command line") :]))
    short = {"--verbose"}  # shown as `-v`
    assert options - short - table == set()


@pytest.mark.parametrize(
    ("page", "made"),
    [
        ("server.md", create_server),
        ("client.md", Patches),
        ("sync.md", PatchesSync),
        ("ot-server.md", OTServer),
        ("lww-server.md", LWWServer),
        ("branches.md", OTBranchManager),
        ("versions.md", PatchesHistoryManager),
    ],
)
def test_the_parameters_on_a_page_are_those_of_the_code(page: str, made: type) -> None:
    text = (ROOT / "docs" / page).read_text()
    shown = re.search(rf"`{made.__name__}\(([^`]*\*, [^`]*)\)`", text)
    assert shown is not None
    names = re.findall(r"(?:^|,)\s*(\w+)(?==|,|$)", shown[1])
    assert names == list(inspect.signature(made).parameters)


def test_every_limit_is_on_its_page() -> None:
    text = (ROOT / "docs" / "limits.md").read_text()
    names = [field.name for field in dataclasses.fields(Limits)]
    assert [name for name in names if f"`{name}`" not in text] == []


def test_every_page_and_example_is_in_a_list() -> None:
    lists = [ROOT / "docs" / "README.md", ROOT / "docs" / "internals" / "README.md"]
    listed = {
        (page.parent / target).resolve()
        for page in lists
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text())
    }
    shown = [*(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").glob("*.py")]
    assert [name_of(page) for page in shown if page.resolve() not in {*listed, *lists}] == []
