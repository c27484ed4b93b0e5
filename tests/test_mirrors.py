"""Tests mirror the product: who changes a module that decides finds its tests by its name.

`patches/net/rpc.py` has `tests/net/test_rpc.py`, `patches_server/ot/commit.py` has
`tests/server/ot/test_commit.py`. A module with many branches whose tests have another name has a
row here that says which.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
#: A module with as many branches decides something.
MANY = 40
#: What tests use is tested by its use.
EXEMPT = ("patches/testing",)
#: A module, and the tests that hold it, below `tests`.
ELSEWHERE = {
    "patches/algorithms/collections/algorithm.py": "collections/test_stream.py",
    "patches/algorithms/collections/overlay.py": "collections/test_overlay.py",
    "patches/algorithms/collections/queries.py": "collections/test_queries.py",
    "patches/algorithms/collections/subsets.py": "collections/test_subsets.py",
    "patches/algorithms/collections/transactions.py": "collections/test_crashes.py",
    "patches/algorithms/collections/writing_doc.py": "collections/test_writes.py",
    "patches/algorithms/lww/state.py": "algorithms/lww/test_derived_state.py",
    "patches/algorithms/ot/edit_runs.py": "algorithms/ot/test_walk.py",
    "patches/algorithms/ot/stored_docs.py": "algorithms/ot/test_algorithm.py",
    "patches/algorithms/ot/unsaved.py": "algorithms/ot/test_doc.py",
    "patches/algorithms/replay/algorithm.py": "replay/test_scenarios.py",
    "patches/algorithms/replay/doc.py": "replay/test_scenarios.py",
    "patches/algorithms/replay/steps.py": "replay/test_scenarios_recovery.py",
    "patches/documents/anchored.py": "documents/anchors/test_anchors.py",
    "patches/documents/anchors/positions.py": "documents/anchors/test_following.py",
    "patches/documents/draft/container.py": "documents/draft/test_containers.py",
    "patches/documents/draft/sequence.py": "documents/draft/test_containers.py",
    "patches/documents/undo/steps.py": "documents/undo/test_manager.py",
    "patches/json_patch/compose.py": "json_patch/test_transform.py",
    "patches/json_patch/handlers.py": "json_patch/test_apply.py",
    "patches/json_patch/javascript.py": "json_patch/test_patch.py",
    "patches/json_patch/reverse.py": "documents/undo/test_laws.py",
    "patches/json_patch/transform/moved.py": "json_patch/test_transform.py",
    "patches/json_patch/transform/passes.py": "json_patch/test_transform.py",
    "patches/json_patch/transform/superseded.py": "json_patch/test_laws.py",
    "patches/json_patch/working_copy.py": "json_patch/test_apply.py",
    "patches/rows/annotations.py": "rows/test_schema.py",
    "patches/sync/document/steps.py": "sync/document/test_worker.py",
    "patches/sync/documents.py": "sync/test_races_tracking.py",
    "patches/sync/patches_sync.py": "sync/test_end_to_end.py",
    "patches/sync/presence/hub.py": "sync/presence/test_presence.py",
    "patches/typed/containers.py": "typed/test_build.py",
    "patches/typed/drafts.py": "typed/test_documents.py",
    "patches/typed/records.py": "typed/test_documents.py",
    "patches/typed/shape.py": "typed/test_documents.py",
    "patches/text/algebra.py": "text/test_laws.py",
    "patches/text/diff.py": "text/test_delta.py",
    "patches/text/ops.py": "text/test_laws.py",
    "patches_server/collections/engines/postgres_transaction.py": (
        "server/collections/engines/test_postgres.py"
    ),
    "patches_server/collections/engines/sqlite_transaction.py": (
        "server/collections/engines/test_sqlite.py"
    ),
    "patches_server/collections/interests.py": "server/collections/test_random_histories.py",
    "patches_server/lww/stores/memory.py": "server/lww/stores/test_stores.py",
    "patches_server/lww/stores/sqlite_rows.py": "server/lww/stores/test_stores.py",
    "patches_server/ot/stores/checkup.py": "durability/test_doctor.py",
    "patches_server/ot/submission.py": "server/ot/test_commit.py",
    "patches_server/service/server.py": "server/service/test_session.py",
}
_BRANCHES = (ast.If, ast.Match, ast.For, ast.While, ast.IfExp, ast.BoolOp, ast.comprehension)


def branches(path: Path) -> int:
    return sum(isinstance(node, _BRANCHES) for node in ast.walk(ast.parse(path.read_text())))


def mirror_of(module: str) -> str:
    package, *folders, name = module.split("/")
    place = ["server"] if package == "patches_server" else []
    return "/".join([*place, *folders, f"test_{name}"])


def deciding() -> list[str]:
    found = []
    for package in ("patches", "patches_server"):
        for path in sorted((ROOT / package).rglob("*.py")):
            module = path.relative_to(ROOT).as_posix()
            if not module.startswith(EXEMPT) and branches(path) >= MANY:
                found.append(module)
    return found


@pytest.mark.parametrize("module", deciding())
def test_a_module_that_decides_has_tests_of_its_name_or_a_row(module: str) -> None:
    tests = ELSEWHERE.get(module, mirror_of(module))
    assert (ROOT / "tests" / tests).exists(), f"{module} has no tests/{tests}"


def test_no_row_is_left_over() -> None:
    for module, tests in ELSEWHERE.items():
        assert (ROOT / module).exists(), module
        assert (ROOT / "tests" / tests).exists(), tests
        assert not (ROOT / "tests" / mirror_of(module)).exists(), f"{module} has a mirror now"
