"""The runner of recorded cases."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.conformance import (
    Case,
    ConformanceTally,
    case_files,
    load_cases,
    recorded_method,
)


def write(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def test_files_are_found_where_the_setting_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    ours, theirs = write(here / "ot" / "a.json", []), write(there / "ot" / "b.json", [])
    monkeypatch.delenv("PATCHES_CONFORMANCE_DIR", raising=False)
    assert case_files("ot", default=here) == [ours]
    monkeypatch.setenv("PATCHES_CONFORMANCE_DIR", str(there))
    assert case_files("ot", default=here) == [theirs]


def test_both_shapes_of_a_file_are_read_and_others_refused(tmp_path: Path) -> None:
    cases = [{"name": "\ud83d"}]
    assert load_cases(write(tmp_path / "list.json", cases)) == cases
    assert load_cases(write(tmp_path / "object.json", {"cases": cases})) == cases
    odd: list[object] = [{}, {"cases": {}}, [5]]
    for content in odd:
        with pytest.raises(ValueError, match="expected a list of cases"):
            load_cases(write(tmp_path / "odd.json", content))


def test_all_cases_run_and_what_cannot_be_run_has_failed() -> None:
    ran: list[str] = []

    def run(case: Case) -> None:
        ran.append(case["name"])
        assert case["ok"], "not as recorded"

    tally = ConformanceTally()
    cases: list[Case] = [{"name": "a", "ok": False}, {"name": "b", "ok": True}, {"name": "c"}]
    with pytest.raises(pytest.fail.Exception, match="2 of 3 cases fail") as caught:
        tally.check("ot", cases, run)
    assert ran == ["a", "b", "c"]
    assert "a: not as recorded" in str(caught.value)
    assert list(tally.lines()) == ["ot: 3 cases, 2 failed"]


def test_what_workers_counted_is_added_up() -> None:
    worker, controller = ConformanceTally(), ConformanceTally()
    worker.record("lww", 3, "2 differ")
    controller.record("lww", 4)
    controller.merge(worker.as_plain())
    controller.record("json-patch", 1)
    assert list(controller.lines()) == ["json-patch: 1 cases", "lww: 7 cases (2 differ)"]


@pytest.mark.parametrize("name", ["getDoc", "store.listVersions", "change"])
def test_a_recorded_call_is_carried_out_by_the_method_of_that_name(name: str) -> None:
    class World:
        def do_get_doc(self) -> str:
            return "getDoc"

        def do_store_list_versions(self) -> str:
            return "store.listVersions"

        def do_change(self) -> str:
            return "change"

    assert recorded_method(World(), name)() == name
    with pytest.raises(AttributeError):
        recorded_method(World(), f"{name}Twice")
