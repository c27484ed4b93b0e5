"""The recorded cases of `docs/internals/json-patch.md`, every one of every file."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from patches import fractional_index, text
from patches.errors import PatchError
from patches.json_patch import (
    ABSENT,
    JSONPatch,
    PathProxy,
    apply_bitmask,
    apply_patch,
    bitmask,
    combine_bitmasks,
    compose_patch,
    invert_patch,
    pointer,
    soft_filter,
    transform_patch,
)
from patches.model.json_values import Json, json_equal
from tests.conformance.ties import check_with_ties, recorded_transform
from tests.support.conformance import Case, ConformanceTally, case_files, load_cases

HERE = Path(__file__).parent

METHODS: Final = {"addUpdates": "add_updates"}
OPTIONS: Final = {
    "strict": "strict",
    "rigid": "rigid",
    "partial": "partial",
    "atPath": "at_path",
    "legacyTextOverrunPadding": "legacy_text_overrun_padding",
}


def run_apply(case: Case) -> Json:
    errors: list[tuple[str, int]] = []
    overruns: list[int] = []
    opts = dict(case.get("opts", {}))
    silent = opts.pop("silent", False)
    result = apply_patch(
        case["state"],
        case["ops"],
        on_error=lambda message, index: errors.append((message, index)),
        on_text_overrun=overruns.append,
        **{OPTIONS[name]: value for name, value in opts.items()},
    )
    reported = [] if silent else [message for message, _ in errors]  # ours has `on_error` or not
    assert reported == case.get("errors", [])
    if "aborted" in case:
        assert errors[-1][1] == case["aborted"]
    assert sum(overruns) == case.get("overrun", 0)
    if case.get("same"):
        assert result is case["state"]
    for path in case.get("shared", []):
        assert at(result, path) is at(case["state"], path), f"{path} is not shared"
    return result


def at(state: Json, path: str) -> Json:
    for key in pointer.parse(path):
        state = state[int(key)] if isinstance(state, list) else state[key]
    return state


def run_transform(case: Case) -> Json:
    incoming = case["incoming"]
    result = transform_patch(
        case["state"],
        case["committed"],
        incoming,
        other_ops_first=case.get("otherOpsFirst", False),
    )
    if len(case["committed"]) == 1 and json_equal(result, incoming):
        assert result is incoming, "the same list comes back if nothing changes"
    return result


def run_builder(case: Case) -> Json:
    patch = JSONPatch()
    for method, *arguments in case["calls"]:
        options: dict[str, Any] = {}
        if len(arguments) > 1 and method in ("add", "replace", "copy"):
            options = arguments.pop() if len(arguments) > 2 else {}
        getattr(patch, METHODS.get(method, method))(*arguments, **options)
    return patch.to_json()


def run_path_proxy(case: Case) -> Json:
    path = PathProxy()
    for key in case["keys"]:
        path = path[key]
    return str(path)


def run_fractional_index(case: Case) -> Json:
    count = {"count": case["count"]} if "count" in case else {}
    return fractional_index.fractional_index(case["a"], case["b"], **count)


def run_sort(case: Case) -> Json:
    entries = fractional_index.sort_by_order(case["items"], field=case["field"])
    return [list(entry) for entry in entries]


def run_heal(case: Case) -> Json:
    return fractional_index.heal_duplicate_orders(case["items"], field=case["field"])


RUNNERS: Final[dict[str, Callable[[Case], Json]]] = {
    "apply": run_apply,
    "transform": run_transform,
    "compose": lambda case: compose_patch(case["ops"]),
    "invert": lambda case: invert_patch(case["state"], case["ops"]),
    "softFilter": lambda case: soft_filter(case["state"], case["ops"]),
    "delta.compose": lambda case: text.compose(case["a"], case["b"]),
    "delta.transform": lambda case: text.transform(case["a"], case["b"], priority=case["priority"]),
    "delta.invert": lambda case: text.invert(case["change"], case["base"]),
    "delta.transformPosition": lambda case: text.transform_position(
        case["a"], case["position"], priority=case["priority"]
    ),
    "bit.mask": lambda case: bitmask(case["index"], case["value"]),
    "bit.apply": lambda case: apply_bitmask(case["num"], case["mask"]),
    "bit.combine": lambda case: combine_bitmasks(case["a"], case["b"]),
    "fractionalIndex": run_fractional_index,
    "fractionalIndex.sort": run_sort,
    "fractionalIndex.heal": run_heal,
    "builder": run_builder,
    "pathProxy": run_path_proxy,
}


def run_case(case: Case) -> None:
    run = RUNNERS[case["fn"]]
    before = copy.deepcopy(case)
    try:
        if "error" in case:
            check_error(case["error"], case, run)
        else:
            check_result(case, run(case))
    finally:
        assert json_equal(case, before), "an argument was changed"


def run_recorded_case(case: Case) -> None:
    """A case that may differ by the rule "ties": only a transform can."""
    assert case["fn"] == "transform"
    result = recorded_transform(
        case["state"],
        case["committed"],
        case["incoming"],
        other_ops_first=case.get("otherOpsFirst", False),
    )
    check_result(case, result)


def check_error(expected: dict[str, Any], case: Case, run: Callable[[Case], Json]) -> None:
    with pytest.raises(PatchError) as caught:
        run(case)
    if expected.get("engine"):
        return
    message: str = expected["message"]
    if message.endswith("cannot be inverted."):
        assert str(caught.value).startswith(message)
    else:
        assert str(caught.value) == message


def check_result(case: Case, result: Json) -> None:
    if case.get("expectAbsent"):
        assert result is ABSENT
        return
    assert json_equal(result, case["expect"]), f"got {result!r}, expected {case['expect']!r}"


@pytest.mark.parametrize(
    "path", case_files("json-patch", default=HERE), ids=lambda path: str(path.stem)
)
def test_recorded_cases(path: Path, conformance: ConformanceTally) -> None:
    check_with_ties(conformance, "json-patch", load_cases(path), run_case, run_recorded_case)
