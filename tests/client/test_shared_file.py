"""Real processes that share one client file. `benchmarks/shared_file.py` runs more and longer."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.shared_file import MODES, run


@pytest.mark.parametrize("mode", MODES)
async def test_three_processes_lose_nothing_and_keep_each_authors_order(
    tmp_path: Path, mode: str
) -> None:
    figures = await run(tmp_path, mode, 3, 60)
    assert figures.edits == 2 * 3 * 60
