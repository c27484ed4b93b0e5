"""Builds the site of the documentation: `python docs/site/build.py [FOLDER]`, or `make docs`.

The pages are plain Markdown and read well without it. The site adds the navigation, a search, and
the reference, which is made of the docstrings. Beside the pages it has `llms.txt`, a list of all
pages, and `llms-full.txt`, their whole text (https://llmstxt.org).
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
CONFIG = DOCS / "site" / "zensical.toml"
#: What pages link to outside of `docs`; the site has copies of it.
BESIDE = ("CHANGELOG.md", "benchmarks", "examples")
#: Pages that `llms-full.txt` leaves out.
_APART = frozenset(
    "README comparison decisions durability lww-server ot-server performance protocol security "
    "simulation status stores".split()
)
_LINK = re.compile(r"(\]\()((?:\.\./)*)([\w./-]+)")


def pages() -> list[Path]:
    """Every page, as a path below `docs`."""
    return sorted(path.relative_to(DOCS) for path in DOCS.rglob("*.md"))


def in_navigation(entries: Any) -> Iterator[str]:
    """The pages of a navigation, from its start to its end."""
    for entry in entries:
        if isinstance(entry, str):
            yield entry
            continue
        for target in entry.values():
            yield from in_navigation([target] if isinstance(target, str) else target)


def navigation() -> list[str]:
    """The pages in the order of the site's navigation; the first is `README.md`."""
    entries = tomllib.loads(CONFIG.read_text("utf-8"))["project"]["nav"]
    return ["README.md" if name == "index.md" else name for name in in_navigation(entries)]


def title(page: Path) -> str:
    """The first heading of a page."""
    return (DOCS / page).read_text("utf-8").splitlines()[0].removeprefix("# ")


def with_links_of_the_site(page: Path, text: str) -> str:
    """`text` with the links of `page` changed to lead where the site has their targets."""

    def moved(match: re.Match[str]) -> str:
        start, up, target = match.groups()
        if up and target.split("/")[0] in BESIDE:
            up = up.removeprefix("../")
        if target == "README.md" and up.count("../") == len(page.parents) - 1:
            target = "index.md"
        return f"{start}{up}{target}"

    return _LINK.sub(moved, text)


def on_the_site(page: Path) -> str:
    """The text of a page as the generator takes it."""
    text = with_links_of_the_site(page, (DOCS / page).read_text("utf-8"))
    return text.replace("```python no-run\n", "```python\n")  # a word for the tests


def put_together(folder: Path) -> None:
    """Copy the pages, and what they link to, into `folder`."""
    for page in pages():
        target = folder / ("index.md" if page == Path("README.md") else page)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(on_the_site(page), "utf-8")
    shutil.copytree(DOCS / "images", folder / "images")
    for path in (ROOT / "examples").glob("*.py"):
        (folder / "examples").mkdir(exist_ok=True)
        shutil.copy(path, folder / "examples")
    changes = (ROOT / "CHANGELOG.md").read_text("utf-8").replace("](docs/", "](")
    (folder / "CHANGELOG.md").write_text(changes, "utf-8")
    target = folder / "benchmarks" / "peers"
    target.mkdir(parents=True)
    shutil.copy(ROOT / "benchmarks" / "peers" / "README.md", target)


def write_lists(folder: Path) -> None:
    """Write `llms.txt` and `llms-full.txt`, for readers that take text alone."""
    readme = (ROOT / "README.md").read_text("utf-8")
    about = readme.split("\n\n")[1].replace("\n", " ")
    guides = [Path(name) for name in navigation() if not name.startswith("reference/")]
    listed = "\n".join(f"- [{title(page)}]({page.as_posix()})" for page in guides)
    (folder / "llms.txt").write_text(f"# Patches\n\n> {about}\n\n## Pages\n\n{listed}\n", "utf-8")
    whole = [readme, *((DOCS / page).read_text("utf-8") for page in guides if _is_guide(page))]
    (folder / "llms-full.txt").write_text("\n\n".join(whole), "utf-8")


def _is_guide(page: Path) -> bool:
    """Whether a page is needed to write a program: nothing about the insides, nor about others."""
    return page.parts[0] != "internals" and page.stem not in _APART


def build(folder: Path) -> Path:
    """Make the site anew; its folder. Raises `CalledProcessError` where the generator warns."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    put_together(folder / "pages")
    paths = 'docs_dir = "pages"\nsite_dir = "site"\n'
    settings = CONFIG.read_text("utf-8").replace("[project]\n", f"[project]\n{paths}", 1)
    settings += f'\n[project.plugins.mkdocstrings.handlers.python]\npaths = ["{ROOT}"]\n'
    (folder / "zensical.toml").write_text(settings, "utf-8")
    generator = [sys.executable, "-m", "zensical", "build", "--strict"]
    subprocess.run(generator, cwd=folder, check=True)
    write_lists(folder / "site")
    return folder / "site"


if __name__ == "__main__":
    site = build(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "docs")
    sys.stdout.write(f"{site / 'index.html'}\n")
