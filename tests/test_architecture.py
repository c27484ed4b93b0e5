"""The ladder of `docs/internals/README.md`: imports point down, and pure modules stay pure."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

#: What everything may use: the public names at the top of `patches`, and the pure model.
BASE = frozenset(
    {
        "patches.errors",
        "patches.limits",
        "patches.model",
        "patches.options",
        "patches.runtime",
    }
)
ALGORITHM = BASE | {
    "patches.aio",
    "patches.algorithms.base",
    "patches.algorithms.histories",
    "patches.algorithms.recovery",
    "patches.algorithms.tables",
    "patches.documents",
    "patches.json_patch",
    "patches.stores",
    "patches.text",
}
DOCUMENTS = frozenset({"patches", "patches_server.documents"})
SERVICE = frozenset(
    {
        "patches",
        "patches_server.auth",
        "patches_server.bus",
        "patches_server.documents",
        "patches_server.wire",
    }
)

#: Each folder or module: what of this project it may import, beside itself. The longest prefix of
#: a module's name counts. A new folder gets a row here.
MAY_IMPORT: dict[str, frozenset[str]] = {
    **dict.fromkeys(BASE, BASE),
    "patches.change": BASE,
    "patches.aio": BASE,
    "patches.text": BASE,
    "patches.json_patch": BASE | {"patches.text"},
    "patches.json_patch.transform": BASE | {"patches.json_patch", "patches.text"},
    "patches.fractional_index": BASE,
    "patches.history": BASE | {"patches.documents.draft", "patches.json_patch", "patches.text"},
    "patches.rows": BASE | {"patches.json_patch"},
    "patches.documents.draft": BASE | {"patches.json_patch", "patches.text"},
    "patches.documents.undo": BASE
    | {
        "patches.aio",
        "patches.documents.reversals",
        "patches.documents.watchers",
        "patches.json_patch",
        "patches.text",
    },
    "patches.documents.anchors": BASE
    | {
        "patches.documents.reversals",
        "patches.documents.watchers",
        "patches.json_patch",
        "patches.text",
    },
    "patches.documents": BASE
    | {"patches.aio", "patches.history", "patches.json_patch", "patches.text"},
    "patches.typed": BASE
    | {"patches.documents.draft", "patches.documents.shape", "patches.json_patch", "patches.text"},
    "patches.stores": BASE | {"patches.aio"},
    "patches.stores.memory": BASE | {"patches.stores.backend"},
    "patches.stores.sqlite": BASE | {"patches.stores.backend"},
    "patches.algorithms": BASE | {"patches.aio", "patches.documents", "patches.stores"},
    "patches.algorithms.ot": ALGORITHM,
    "patches.algorithms.lww": ALGORITHM,
    "patches.algorithms.replay": ALGORITHM | {"patches.rows"},
    "patches.algorithms.collections": ALGORITHM | {"patches.rows"},
    "patches.algorithms.collections.stores": ALGORITHM
    | {"patches.algorithms.collections", "patches.rows"},
    "patches.algorithms.ot.stores": ALGORITHM | {"patches.algorithms.ot"},
    "patches.algorithms.lww.stores": ALGORITHM | {"patches.algorithms.lww"},
    "patches.algorithms.replay.stores": ALGORITHM | {"patches.algorithms.replay", "patches.rows"},
    "patches.net": BASE | {"patches.aio"},
    "patches.cli": BASE
    | {
        "patches.client",
        "patches.documents",
        "patches.history",
        "patches.json_patch",
        "patches.sync",
        "patches.text",
    },
    "patches.client": BASE
    | {
        "patches.aio",
        "patches.algorithms",
        "patches.documents",
        "patches.stores",
        "patches.typed",
    },
    "patches.sync": BASE
    | {
        "patches.aio",
        "patches.algorithms.base",
        "patches.client",
        "patches.documents",
        "patches.json_patch",
        "patches.net",
        "patches.text",
    },
    "patches.sync.document": BASE
    | {
        "patches.aio",
        "patches.algorithms.base",
        "patches.documents",
        "patches.json_patch",
        "patches.net",
        "patches.sync.link",
    },
    "patches.sync.history": BASE
    | {
        "patches.aio",
        "patches.client",
        "patches.documents.draft",
        "patches.json_patch",
        "patches.net",
        "patches.text",
    },
    "patches.sync.presence": BASE
    | {"patches.aio", "patches.documents", "patches.json_patch", "patches.text"},
    "patches.blocking": BASE
    | {
        "patches.aio",
        "patches.client",
        "patches.documents",
        "patches.net",
        "patches.sync",
    },
    "patches": frozenset({"patches"}),
    "patches.testing": frozenset({"patches", "patches_server"}),
    "patches.testing.contracts": frozenset({"patches", "patches_server"}),
    "patches.testing.sim": frozenset({"patches", "patches_server"}),
    "patches.testing.sim.families": frozenset({"patches", "patches_server"}),
    "patches_server.documents": frozenset({"patches"}),
    "patches_server.ot": DOCUMENTS,
    "patches_server.ot.branches": DOCUMENTS | {"patches_server.ot"},
    "patches_server.ot.stores": DOCUMENTS | {"patches_server.ot", "patches_server.stores"},
    "patches_server.replay": DOCUMENTS,
    "patches_server.replay.stores": DOCUMENTS | {"patches_server.replay", "patches_server.stores"},
    "patches_server.lww": DOCUMENTS,
    "patches_server.lww.stores": DOCUMENTS | {"patches_server.lww", "patches_server.stores"},
    "patches_server.collections": DOCUMENTS | {"patches_server.collections.engines"},
    "patches_server.collections.engines": DOCUMENTS | {"patches_server.stores"},
    "patches_server.stores": DOCUMENTS,
    "patches_server.stores.memory": DOCUMENTS,
    "patches_server.bus": frozenset({"patches"}),
    "patches_server.stores.postgres": DOCUMENTS
    | {"patches_server.bus", "patches_server.stores.checksums"},
    "patches_server.stores.sqlite": DOCUMENTS | {"patches_server.stores.checksums"},
    "patches_server.algorithms": DOCUMENTS
    | {"patches_server.lww", "patches_server.ot", "patches_server.replay"},
    "patches_server.wire": frozenset({"patches", "patches_server.documents"}),
    "patches_server.auth": frozenset({"patches", "patches_server.documents"}),
    "patches_server.service.rates": frozenset({"patches"}),
    "patches_server.service.stats": frozenset({"patches"}),
    "patches_server.service.fanout": SERVICE
    | {"patches_server.service.rates", "patches_server.service.stats"},
    "patches_server.service": SERVICE,
    "patches_server.demo": SERVICE | {"patches_server.service"},
    "patches_server.http": frozenset({"patches", "patches_server"}),
    "patches_server.cli": frozenset({"patches", "patches_server"}),
    "patches_server": frozenset({"patches", "patches_server"}),
}

PURE = (
    "patches.text",
    "patches.json_patch",
    "patches.fractional_index",
    "patches.history",
    "patches.rows",
    "patches.typed",
    "patches.model.checks",
    "patches.documents.draft",
    "patches.model.json_values",
    "patches.algorithms.ot",
    "patches.algorithms.lww",
    "patches.algorithms.replay",
    "patches.algorithms.collections",
    # What a document server decides by: the commit, the merge, and what they are made of.
    "patches_server.documents.measure",
    "patches_server.documents.checkup",
    "patches_server.documents.records",
    "patches_server.ot.bounds",
    "patches_server.ot.branches.duplication_guard",
    "patches_server.ot.branches.merge_frame",
    "patches_server.ot.commit",
    "patches_server.ot.proposal",
    "patches_server.ot.recent",
    "patches_server.ot.rows",
    "patches_server.ot.submission",
    "patches_server.lww.commit",
    "patches_server.lww.encoding",
    "patches_server.lww.holdings",
    "patches_server.lww.rows",
    "patches_server.lww.sizes",
    "patches_server.lww.state",
    "patches_server.lww.structural",
    "patches_server.replay.judge",
    "patches_server.replay.views",
    "patches_server.wire.checks",
    "patches_server.wire.frames",
    "patches_server.service.rates",
)
#: In a pure folder, the modules that do: they hold the store and the locks.
NOT_PURE = (
    "patches.rows.working_copy",
    "patches.algorithms.ot.algorithm",
    "patches.algorithms.ot.doc",
    "patches.algorithms.ot.quarantine",
    "patches.algorithms.ot.saving",
    "patches.algorithms.ot.tiers",
    "patches.algorithms.ot.stored_docs",
    "patches.algorithms.lww.algorithm",
    "patches.algorithms.lww.stored_docs",
    "patches.algorithms.replay.algorithm",
    "patches.algorithms.replay.doc",
    "patches.algorithms.lww.doc",
    "patches.algorithms.ot.stores.replay",
    "patches.algorithms.collections.algorithm",
    "patches.algorithms.collections.doc",
    "patches.algorithms.collections.shown_doc",
    "patches.algorithms.collections.writing_doc",
    "patches.algorithms.collections.queries",
    "patches.algorithms.collections.writes",
    "patches.typed.codecs",  # for the class `UUID`; it makes none
)
EDGE = frozenset({"asyncio", "time", "random", "secrets", "uuid", "os", "logging", "aiohttp"})
CLOCKS = {("time", "time"), ("time", "monotonic"), ("datetime", "now"), ("time", "time_ns")}


def modules(*packages: str) -> Iterator[tuple[str, Path]]:
    for package in packages:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            yield ".".join(part for part in parts if part != "__init__"), path


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def imports(path: Path) -> frozenset[str]:
    """The modules that `path` imports at run time; `if TYPE_CHECKING` blocks do not count."""
    return frozenset(_imports(path))


def _imports(path: Path) -> Iterator[str]:
    tree = parsed(path)
    skipped: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            skipped.update(child for part in node.body for child in ast.walk(part))
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            assert node.module is not None
            submodules = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (
                name if (ROOT / name.replace(".", "/")).with_suffix(".py").exists() else node.module
                for name in submodules
            )


def below(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


def row_of(module: str) -> str:
    return max((row for row in MAY_IMPORT if below(module, row)), key=len)


@pytest.mark.parametrize(
    ("module", "path"), list(modules("patches", "patches_server")), ids=lambda value: str(value)
)
def test_imports_point_down(module: str, path: Path) -> None:
    row = row_of(module)
    for imported in imports(path):
        if imported.split(".")[0] not in ("patches", "patches_server"):
            continue
        allowed = below(imported, row) or any(below(imported, name) for name in MAY_IMPORT[row])
        assert allowed, f"{module} ({row}) imports {imported}"
        if not below(module, "patches.testing"):
            assert not below(imported, "patches.testing"), f"{module} imports {imported}"
        if below(module, "patches") and not below(module, "patches.testing"):
            assert not below(imported, "patches_server"), f"{module} imports {imported}"


def test_every_folder_has_a_row_and_says_what_lives_there() -> None:
    folders = {
        module: path
        for module, path in modules("patches", "patches_server")
        if path.name == "__init__.py"
    }
    assert [name for name in folders if name not in MAY_IMPORT] == []
    unsaid = [name for name, path in folders.items() if not ast.get_docstring(parsed(path))]
    assert unsaid == []
    for package in ("patches", "patches_server"):
        holding = {path.parent for path in (ROOT / package).rglob("*.py")}
        assert [path for path in sorted(holding) if not (path / "__init__.py").exists()] == []


def test_every_row_is_of_something_that_is_there() -> None:
    names = {module for module, _ in modules("patches", "patches_server")}
    rows = set(MAY_IMPORT).union(*MAY_IMPORT.values())
    assert sorted(rows - names) == []


def test_no_module_imports_itself_by_way_of_others() -> None:
    files = dict(modules("patches", "patches_server"))
    graph = {module: set(imports(path)) & files.keys() for module, path in files.items()}
    assert circles(graph) == []


def test_no_folder_imports_itself_by_way_of_others() -> None:
    """By the rows above. A folder and the folder that it is in count as one room."""
    graph: dict[str, set[str]] = {row: set() for row in MAY_IMPORT}
    for module, path in modules("patches", "patches_server"):
        if path.name == "__init__.py":
            continue  # what it names again for others is used by nobody below
        row = row_of(module)
        for imported in imports(path):
            if imported.split(".")[0] in ("patches", "patches_server"):
                other = row_of(imported)
                if not below(other, row) and not below(row, other):
                    graph[row].add(other)
    assert circles(graph) == []


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """The groups of nodes that lead back to themselves."""
    reach = {node: set(targets) for node, targets in graph.items()}
    for middle in graph:
        for targets in reach.values():
            if middle in targets:
                targets |= reach[middle]
    groups = {
        tuple(sorted(other for other in reach[node] if node in reach[other]))
        for node in graph
        if node in reach[node]
    }
    return [list(group) for group in sorted(groups)]


def test_circles_are_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [["b", "c"]]


PURE_MODULES = [
    (module, path)
    for module, path in modules("patches", "patches_server")
    if any(below(module, pure) for pure in PURE) and module not in NOT_PURE
]


@pytest.mark.parametrize(("module", "path"), PURE_MODULES, ids=lambda value: str(value))
def test_pure_modules_import_no_edge_and_wait_for_nothing(module: str, path: Path) -> None:
    found = {name.split(".")[0] for name in imports(path)} & EDGE
    assert not found, f"{module} imports {sorted(found)}"
    if below(module, "patches_server"):
        tree = ast.parse(path.read_text())
        assert not any(isinstance(node, ast.AsyncFunctionDef) for node in ast.walk(tree)), module


def test_every_pure_module_that_is_named_exists() -> None:
    found = {module for module, _ in modules("patches", "patches_server")}
    assert set(PURE) <= found
    assert set(NOT_PURE) <= found


def test_the_clock_is_read_in_one_place() -> None:
    for module, path in modules("patches", "patches_server"):
        if module == "patches.runtime":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert (node.value.id, node.attr) not in CLOCKS, f"{module}:{node.lineno}"


def test_the_coordinator_names_no_algorithm() -> None:
    for module, path in modules("patches"):
        if below(module, "patches.sync") or module in (
            "patches.client.patches",
            "patches.client.change_queue",
        ):
            named = {
                name
                for name in imports(path)
                if below(name, "patches.algorithms.ot") or below(name, "patches.algorithms.lww")
            }
            assert not named, f"{module} imports {sorted(named)}"
