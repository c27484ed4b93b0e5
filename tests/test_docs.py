"""The documentation runs: every Python block of every page, and every public name is on a page.

The blocks of a page share a namespace and run in order, `await` allowed at the top. One that calls
`asyncio.run` is a whole program, and runs beside this loop. A block that is not to run (it needs
what a test has not) is fenced as `python no-run`.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
from pathlib import Path
from types import CodeType

import pytest

import patches
import patches_server

ROOT = Path(__file__).parent.parent
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs" / "collections").glob("*.md")),
    *sorted((ROOT / "docs" / "internals").glob("*.md")),
]
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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
async def test_the_programs_of_a_page_run(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "__page__"}
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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


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
        number = re.escape(section)
        if section and not re.search(rf"(?m)^#+ {number}\.? |\*\*(?:[\d.]+, )*{number}\b", text):
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
