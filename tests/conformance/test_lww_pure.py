"""The recorded cases of the pure LWW functions."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from patches.algorithms.lww import (
    consolidate_field_op,
    consolidate_ops,
    convert_delta_ops,
    merge_server_with_local,
)
from patches.model.change import Change
from patches.model.json_values import Json, json_equal
from tests.support.conformance import Case, ConformanceTally, conformance_dir, load_cases

HERE: Final = Path(__file__).parent


def consolidated(case: Case) -> Json:
    result = consolidate_ops(case["existing"], case["incoming"])
    return {
        "opsToSave": result.ops_to_save,
        "pathsToDelete": result.paths_to_delete,
        "opsToReturn": result.ops_to_return,
    }


def merged(case: Case) -> Json:
    changes = [Change.from_wire(wire) for wire in case["serverChanges"]]
    shown = merge_server_with_local(changes, case["localOps"])
    if not case["localOps"]:
        assert shown is changes
    return [change.to_wire() for change in shown]


FUNCTIONS: Final[Mapping[str, Callable[[Case], Any]]] = {
    "consolidate-field-op": lambda case: consolidate_field_op(case["existing"], case["incoming"]),
    "consolidate-ops": consolidated,
    "convert-delta-ops": lambda case: convert_delta_ops(case["ops"]),
    "merge-server-with-local": merged,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_pure_functions_give_what_was_recorded(
    name: str, conformance: ConformanceTally
) -> None:
    def run_case(case: Case) -> None:
        before = copy.deepcopy(case)
        result = FUNCTIONS[name](case)
        assert json_equal(case, before), "an argument was changed"
        assert json_equal(result, case["result"]), f"got {result}, recorded {case['result']}"

    path = conformance_dir("lww", default=HERE) / f"{name}.json"
    conformance.check("lww", load_cases(path), run_case)
