"""Runs recorded cases: every case of every file that is found, counted in one line per suite.

A suite is a folder (`json-patch`, `ot`, `lww`, `transcripts`) below the one that
`PATCHES_CONFORMANCE_DIR` names, or else below the checkout's own. In a test module:

    @pytest.mark.parametrize("path", case_files("ot", default=HERE), ids=lambda path: path.stem)
    def test_recorded_cases(path: Path, conformance: ConformanceTally) -> None:
        conformance.check("ot", load_cases(path), run_case)

`run_case(case)` raises for a case that does not hold, and for one that it cannot run. A test that
runs its cases in a way of its own (asynchronously, say) calls `conformance.record` instead.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

import pytest

Case: TypeAlias = dict[str, Any]

_PLUGIN: Final = "conformance-tally"
_SHOWN_FAILURES: Final = 10


def conformance_dir(suite: str, *, default: Path) -> Path:
    """The folder of a suite's cases: below `PATCHES_CONFORMANCE_DIR`, or else below `default`."""
    return Path(os.environ.get("PATCHES_CONFORMANCE_DIR") or default) / suite


def case_files(suite: str, *, default: Path, pattern: str = "*.json") -> list[Path]:
    """All the files of a suite, by name."""
    return sorted(conformance_dir(suite, default=default).glob(pattern))


def load_cases(path: Path) -> list[Case]:
    """The cases of a file: a list, or an object with a list `cases`. Lone surrogates survive."""
    content = json.loads(path.read_text(encoding="utf-8"))
    cases = content.get("cases") if isinstance(content, dict) else content
    if not isinstance(cases, list) or not all(isinstance(case, dict) for case in cases):
        raise ValueError(f"{path}: expected a list of cases, or an object with a list `cases`")
    return cases


class ConformanceTally:
    """A pytest plugin that counts the cases that were run, also by the workers of pytest-xdist."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()
        self._notes: dict[str, str] = {}

    def record(self, suite: str, cases: int, note: str = "", *, failures: int = 0) -> None:
        """Count `cases` of a suite as run; the last `note` is shown beside the count."""
        self._counts[suite] += cases
        self._failures[suite] += failures
        if note:
            self._notes[suite] = note

    def check(self, suite: str, cases: Sequence[Case], run_case: Callable[[Case], None]) -> None:
        """Run every case, count them, and fail with the first few that do not hold."""
        failures = [f"{case.get('name')}: {error}" for case, error in _failures(cases, run_case)]
        self.record(suite, len(cases), failures=len(failures))
        if failures:
            shown = "\n".join(failures[:_SHOWN_FAILURES])
            pytest.fail(f"{len(failures)} of {len(cases)} cases fail:\n{shown}", pytrace=False)

    def merge(self, tallied: Mapping[str, Sequence[Any]]) -> None:
        """Add what another process has counted."""
        for suite, (count, failures, note) in tallied.items():
            self.record(suite, count, note, failures=failures)

    def lines(self) -> Iterator[str]:
        """One line per suite, such as `json-patch: 2577 cases`."""
        for suite, count in sorted(self._counts.items()):
            failed = f", {self._failures[suite]} failed" if self._failures[suite] else ""
            note = f" ({self._notes[suite]})" if suite in self._notes else ""
            yield f"{suite}: {count} cases{failed}{note}"

    def as_plain(self) -> dict[str, list[Any]]:
        """What was counted, in plain values that travel between processes."""
        return {
            suite: [count, self._failures[suite], self._notes.get(suite, "")]
            for suite, count in self._counts.items()
        }

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        worker_output = getattr(session.config, "workeroutput", None)
        if worker_output is not None:
            worker_output["conformance"] = self.as_plain()

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        self.merge(getattr(node, "workeroutput", {}).get("conformance", {}))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        lines = list(self.lines())
        if lines:
            terminalreporter.section("recorded cases")
            for line in lines:
                terminalreporter.line(line)


def recorded_method(world: object, name: str) -> Callable[..., Any]:
    """What carries out a recorded call: `do_get_doc` for `getDoc`, `do_store_list_versions` for
    `store.listVersions`. Raises `AttributeError` for one that `world` cannot carry out.
    """
    snake = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.replace(".", "_")).lower()
    method: Callable[..., Any] = getattr(world, f"do_{snake}")
    return method


def register(config: pytest.Config) -> None:
    """Add the tally to a run; call it from `pytest_configure` of the top `conftest.py`."""
    config.pluginmanager.register(ConformanceTally(), _PLUGIN)


def tally_of(config: pytest.Config) -> ConformanceTally:
    """The run's tally."""
    tally = config.pluginmanager.get_plugin(_PLUGIN)
    assert isinstance(tally, ConformanceTally), "the top conftest.py registers the tally"
    return tally


def _failures(
    cases: Sequence[Case], run_case: Callable[[Case], None]
) -> Iterator[tuple[Case, BaseException]]:
    for case in cases:
        try:
            run_case(case)
        except Exception as error:  # a case that cannot be run has failed, whatever it raised
            yield case, error if str(error) else RuntimeError(repr(error))
