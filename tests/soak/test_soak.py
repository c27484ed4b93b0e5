"""`benchmarks/soak.py` with a short setting: many clients, real websockets that are cut."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize("lww", [0, 10], ids=["ot", "lww"])
def test_fifty_clients_over_sockets_that_are_cut_end_equal(lww: int) -> None:
    options = "--json --seconds 4 --docs 10 --docs-per-client 2 --edits-per-s 150"
    options += f" --lww {lww} --seed {lww}"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "benchmarks.soak", *options.split()],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not [word for word in ("Traceback", "Warning") if word in done.stderr], done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["problems"] == []
    assert figures["edits"] > 0
    assert figures["cuts"] > 0
